package dfkit.demo

import android.content.Context
import dfkit.core.Answer
import dfkit.core.Bundle
import dfkit.core.ClipScore
import dfkit.core.CurvePoint
import dfkit.core.Detector
import dfkit.core.DetectorStream
import dfkit.core.Preview
import dfkit.core.TfliteEngine

/** A session ends by itself after this, s. */
private const val MAX_S = 600.0

/** A phone that lags further behind cannot do this, s. */
private const val MAX_LAG_S = 5.0

/** A camera that gives nothing for so long is lost, ms. */
private const val SILENT_MS = 5_000L
private const val PREVIEW_PX = 320

/** Of the pictures every so many is shown. */
private const val PREVIEW_EVERY = 3

/** What the live screen shows. */
sealed interface LiveState {
    object Idle : LiveState

    /** The model is loaded, the camera opened. */
    object Opening : LiveState

    /**
     * It looks and listens.
     *
     * @property tS since the first picture, s.
     * @property curve p_fake of each scored clip, of the most suspicious face, at the clip's end.
     */
    class Watching(val tS: Double, val preview: Preview?, val curve: List<CurvePoint>, val bundle: Bundle) : LiveState

    class Done(val answer: Answer, val bundle: Bundle) : LiveState
    class Broken(val fault: LiveFault) : LiveState
    class Failed(val failure: Failure) : LiveState
}

/** Judging what camera and microphone see and hear now. All functions are called on the main thread. */
object Live {
    private val worker = Worker<LiveState>(LiveState.Idle) { LiveState.Failed(it) }
    private var feed = Feed()

    val state get() = worker.state

    /** Is told of each new state. */
    var listener by worker::listener

    /** Opens camera and microphone; tests stand in for them. */
    internal var openSource: (Context) -> LiveSource = ::CameraSource

    val isBusy get() = state === LiveState.Opening || state is LiveState.Watching

    /** Starts; the permissions are there. */
    fun start(context: Context) {
        val app = context.applicationContext
        val feed = Feed().also { feed = it }
        worker.start(LiveState.Opening) { ticket ->
            val bundle = openBundle(app)
            Detector(bundle, TfliteEngine()).use { detector ->
                val source = openSource(app)
                source.start(feed)
                try {
                    Session(bundle, detector, source, feed, ticket::show).run()
                } finally {
                    source.stop()
                }
            }
        }
    }

    /** Ends; what was seen and heard so far is judged. */
    fun end() = feed.end()

    /** As after the app's start; for tests. */
    internal fun reset() {
        feed.end()
        worker.reset()
    }
}

/** From the first picture to the answer; on the worker. */
private class Session(
    private val bundle: Bundle,
    private val detector: Detector,
    source: LiveSource,
    private val feed: Feed,
    private val show: (LiveState) -> Unit,
) {
    private val stream: DetectorStream = detector.openStream(source.sound.takeIf { detector.takesSound })
    private val curve = sortedMapOf<Double, Double>()
    private var firstS = Double.NaN
    private var lastS = Double.NEGATIVE_INFINITY
    private var numPictures = 0
    private var preview: Preview? = null

    fun run(): LiveState {
        while (true) {
            when (val item = feed.take(SILENT_MS)) {
                null -> return LiveState.Broken(LiveFault.CAMERA_LOST)
                is Feed.Broken -> return LiveState.Broken(item.fault)
                is Feed.End -> return LiveState.Done(stream.finish(), bundle)
                is Feed.Heard -> if (detector.takesSound) keep(stream.pushSound(item.sound.tS, item.sound.samples))
                is Feed.Seen -> see(item)
            }
            if (feed.newestS - lastS > MAX_LAG_S && numPictures > 0) return LiveState.Broken(LiveFault.TOO_SLOW)
            if (lastS - firstS >= MAX_S) return LiveState.Done(stream.finish(), bundle)
        }
    }

    private fun see(item: Feed.Seen) {
        val tS = item.picture.tS
        // A camera's clock that does not rise is a fault of its driver; the picture before stays.
        if (tS <= lastS) return
        if (firstS.isNaN()) firstS = tS
        lastS = tS
        keep(stream.pushPicture(tS, item.picture.picture))
        if (numPictures++ % PREVIEW_EVERY == 0) preview = detector.preview(item.picture.picture, PREVIEW_PX)
        show(LiveState.Watching(tS - firstS, preview, curve.map { CurvePoint(it.key, it.value) }, bundle))
    }

    private fun keep(scores: List<ClipScore>) = scores.forEach { curve.merge(it.endS, it.pFake, ::maxOf) }
}
