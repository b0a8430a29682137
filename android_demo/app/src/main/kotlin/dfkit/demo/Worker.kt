package dfkit.demo

import android.os.Handler
import android.os.Looper
import android.system.ErrnoException
import android.system.OsConstants
import android.util.Log
import dfkit.core.BundleException
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicBoolean

private const val TAG = "dfkit"

/** Why work ended without an answer. */
sealed interface Failure {
    class BadModel(val why: String) : Failure
    object NoSpace : Failure
    object NoMemory : Failure

    /** A mistake of the app; the log has its traceback. */
    class Mistake(val why: String) : Failure

    companion object {
        internal fun of(error: Throwable): Failure = when {
            error is BundleException -> BadModel(error.message.orEmpty())
            isNoSpace(error) -> NoSpace
            error is OutOfMemoryError -> NoMemory
            else -> Mistake(error.toString()).also { Log.e(TAG, "work ended", error) }
        }

        private fun isNoSpace(error: Throwable) =
            generateSequence(error) { it.cause }.any { it is ErrnoException && it.errno == OsConstants.ENOSPC }
    }
}

/**
 * One piece of work at a time, whichever Activity looks at it: it outlives turning the phone.
 *
 * All functions but those of [Ticket] are called on the main thread.
 *
 * @param idle the state before anything was asked for.
 * @param failed the state of work that ended without an answer.
 */
internal class Worker<S : Any>(private val idle: S, private val failed: (Failure) -> S) {
    private val main = Handler(Looper.getMainLooper())
    private val thread = Executors.newSingleThreadExecutor()
    private var current = Ticket()

    var state: S = idle
        private set

    /** Is told of each new state. */
    var listener: (() -> Unit)? = null

    /** What a piece of work is known by; its functions are called on the worker. */
    inner class Ticket {
        private val stopped = AtomicBoolean()

        /** Whether nobody waits for the work any more. */
        val isStopped get() = stopped.get()

        /** Shows how far it is; what was stopped is silent. */
        fun show(next: S) {
            main.post { if (!isStopped) set(next) }
        }

        internal fun stop() = stopped.set(true)
    }

    /** Starts work; what ran before is stopped. */
    fun start(first: S, work: (Ticket) -> S) {
        current.stop()
        val ticket = Ticket().also { current = it }
        set(first)
        thread.execute { ticket.show(outcome { work(ticket) }) }
    }

    /** Stops what runs. */
    fun stop(last: S) {
        current.stop()
        set(last)
    }

    /** As after the app's start; for tests. */
    fun reset() = stop(idle)

    // Whatever goes wrong is a message, not the end of the app.
    private fun outcome(work: () -> S): S = try {
        work()
    } catch (error: Exception) {
        failed(Failure.of(error))
    } catch (error: OutOfMemoryError) {
        failed(Failure.of(error))
    }

    private fun set(next: S) {
        state = next
        listener?.invoke()
    }
}
