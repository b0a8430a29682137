package dfkit.demo

import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.Looper
import android.system.ErrnoException
import android.system.OsConstants
import dfkit.core.Answer
import dfkit.core.Bundle
import dfkit.core.BundleException
import dfkit.core.Detector
import dfkit.core.GoldenReplay
import dfkit.core.ReplayReport
import dfkit.core.TfliteEngine
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicBoolean

/** Where the app's bundle lies among its assets. */
const val BUNDLE_FOLDER = "bundle"

/** What the screen shows. */
sealed interface State {
    /** Nothing was asked for. */
    object Idle : State

    /** A video is being read: how far, and how far there is to go, s; 0 where the file does not say. */
    class Running(val tS: Double, val durationS: Double) : State

    /** The golden vectors are being replayed. */
    object Checking : State

    class Done(val answer: Answer, val bundle: Bundle) : State
    class Checked(val report: ReplayReport) : State
    object Cancelled : State
    object NoSpace : State
    class BadModel(val why: String) : State
}

/**
 * The one piece of work that runs, whichever Activity looks at it: it outlives turning the phone.
 *
 * All functions but those named otherwise are called on the main thread.
 */
object Analysis {
    private val main = Handler(Looper.getMainLooper())
    private val worker = Executors.newSingleThreadExecutor()
    private var stop = AtomicBoolean()

    var state: State = State.Idle
        private set

    /** Is told of each new state. */
    var listener: (() -> Unit)? = null

    /** Opens what was picked; tests stand in for the phone's decoders. */
    internal var openVideo: (Context, Uri) -> PickedVideo = ::DecodedVideo

    val isBusy get() = state is State.Running || state === State.Checking

    /** Judges a video; what ran before is stopped. */
    fun judge(context: Context, uri: Uri) = start(State.Running(0.0, 0.0), context) { bundle, stopped ->
        val video = openVideo(context.applicationContext, uri)
        Detector(bundle, TfliteEngine()).use { detector ->
            val answer = detector.detect(video) { tS, _ ->
                show(stopped, State.Running(tS, video.durationS))
                !stopped.get()
            }
            if (answer == null) State.Cancelled else State.Done(answer, bundle)
        }
    }

    /** Replays the bundle's golden vectors. */
    fun check(context: Context) = start(State.Checking, context) { bundle, _ ->
        State.Checked(GoldenReplay(bundle, TfliteEngine()).run())
    }

    /** Stops what runs. */
    fun cancel() {
        stop.set(true)
        set(State.Cancelled)
    }

    /** As after the app's start; for tests. */
    internal fun reset() {
        stop.set(true)
        set(State.Idle)
    }

    private fun start(first: State, context: Context, work: (Bundle, AtomicBoolean) -> State) {
        stop.set(true)
        val stopped = AtomicBoolean().also { stop = it }
        set(first)
        val assets = context.applicationContext.assets
        worker.execute { show(stopped, outcome { work(Bundle.open(AssetFiles(assets, BUNDLE_FOLDER)), stopped) }) }
    }

    /** On the worker. */
    private fun outcome(work: () -> State): State = try {
        work()
    } catch (error: BundleException) {
        State.BadModel(error.message.orEmpty())
    } catch (error: RuntimeException) {
        if (isNoSpace(error)) State.NoSpace else throw error
    }

    private fun isNoSpace(error: Throwable) =
        generateSequence(error) { it.cause }.any { it is ErrnoException && it.errno == OsConstants.ENOSPC }

    /** From the worker; what was stopped is silent. */
    private fun show(stopped: AtomicBoolean, next: State) = main.post { if (!stopped.get()) set(next) }.let { }

    private fun set(next: State) {
        state = next
        listener?.invoke()
    }
}
