package dfkit.demo

import android.content.Context
import android.net.Uri
import dfkit.core.Answer
import dfkit.core.Bundle
import dfkit.core.Detector
import dfkit.core.GoldenReplay
import dfkit.core.ReplayReport
import dfkit.core.TfliteEngine

/** Where the app's bundle lies among its assets. */
const val BUNDLE_FOLDER = "bundle"

/** What the first screen shows. */
sealed interface State {
    /** Nothing was asked for. */
    object Idle : State

    /** A video is being read: how far, and how far there is to go, s; 0 where the file does not say. */
    class Running(val tS: Double, val durationS: Double) : State

    /** The golden vectors are being replayed. */
    object Checking : State

    /** @property shots pictures of the most suspicious clip; none without a verdict. */
    class Done(val answer: Answer, val bundle: Bundle, val shots: List<Shot>) : State
    class Checked(val report: ReplayReport) : State
    object Cancelled : State
    class Failed(val failure: Failure) : State
}

/** Judging a video, and checking the phone. All functions are called on the main thread. */
object Analysis {
    private val worker = Worker<State>(State.Idle) { State.Failed(it) }

    val state get() = worker.state

    /** Is told of each new state. */
    var listener by worker::listener

    /** Opens what was picked; tests stand in for the phone's decoders. */
    internal var openVideo: (Context, Uri) -> PickedVideo = ::DecodedVideo

    val isBusy get() = state is State.Running || state === State.Checking

    /** Judges a video; what ran before is stopped. */
    fun judge(context: Context, uri: Uri) {
        val app = context.applicationContext
        worker.start(State.Running(0.0, 0.0)) { ticket ->
            val bundle = openBundle(app)
            val video = openVideo(app, uri)
            Detector(bundle, TfliteEngine()).use { detector ->
                val suspects = Suspects(detector, bundle.clipS)
                val answer = detector.detect(suspects.watching(video)) { tS, scores ->
                    scores.forEach { suspects.judge(it) }
                    ticket.show(State.Running(tS, video.durationS))
                    !ticket.isStopped
                }
                // The last clips are scored behind the last picture.
                answer?.worstClip?.let { suspects.judge(it) }
                if (answer == null) State.Cancelled else State.Done(answer, bundle, if (answer.worstClip == null) emptyList() else suspects.shots)
            }
        }
    }

    /** Replays the bundle's golden vectors. */
    fun check(context: Context) {
        val app = context.applicationContext
        worker.start(State.Checking) { State.Checked(GoldenReplay(openBundle(app), TfliteEngine()).run()) }
    }

    /** Stops what runs. */
    fun cancel() = worker.stop(State.Cancelled)

    /** As after the app's start; for tests. */
    internal fun reset() = worker.reset()
}

/** The bundle that the app brings. */
internal fun openBundle(context: Context) = Bundle.open(AssetFiles(context.assets, BUNDLE_FOLDER))
