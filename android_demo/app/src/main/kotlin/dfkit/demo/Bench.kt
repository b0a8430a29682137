package dfkit.demo

import android.content.Context
import dfkit.core.Benchmark
import dfkit.core.BenchmarkReport
import dfkit.core.Bundle
import dfkit.core.TfliteEngine
import dfkit.core.ZipFiles
import java.io.File
import org.json.JSONObject

/** What the benchmark's screen shows. */
sealed interface BenchState {
    object Idle : BenchState
    object Starting : BenchState
    class Running(val progress: Benchmark.Progress) : BenchState
    class Done(val report: BenchmarkReport) : BenchState
    object Cancelled : BenchState
    class Failed(val failure: Failure) : BenchState
}

/**
 * What is asked of a benchmark.
 *
 * @property bundle a bundle's .zip; null for the one that the app brings.
 * @property sustainedS work without a pause, s.
 * @property answer where the JSON goes; null where only the screen shows it.
 */
class BenchRequest(
    val sustainedS: Double,
    val bundle: File? = null,
    val repeats: Int = 100,
    val threads: Int = 1,
    val answer: File? = null,
)

/** The benchmark. All functions are called on the main thread. */
object Bench {
    private val worker = Worker<BenchState>(BenchState.Idle) { BenchState.Failed(it) }

    val state get() = worker.state

    /** Is told of each new state. */
    var listener by worker::listener

    val isBusy get() = state is BenchState.Running || state === BenchState.Starting

    /**
     * Measures; what ran before is stopped.
     *
     * @param importMs from the start of the process; null where it was at work before.
     */
    fun start(context: Context, request: BenchRequest, importMs: Double?) {
        val app = context.applicationContext
        worker.start(BenchState.Starting) { ticket ->
            val open = { if (request.bundle == null) openBundle(app) else Bundle.open(ZipFiles(request.bundle)) }
            val benchmark = Benchmark(TfliteEngine(), request.threads, open, heat = { readHeat(app) })
            answering(request.answer) {
                benchmark.run(readDevice(app), importMs, request.repeats, request.sustainedS) { progress ->
                    ticket.show(BenchState.Running(progress))
                    !ticket.isStopped
                }
            }?.let { BenchState.Done(it) } ?: BenchState.Cancelled
        }
    }

    /** Writes what was measured, or why nothing was, for whoever waits on the other side of the cable. */
    private fun answering(file: File?, measure: () -> BenchmarkReport?): BenchmarkReport? {
        if (file == null) return measure()
        try {
            val report = measure()
            writeWhole(file, report?.toJson() ?: errorJson("it was stopped on the phone"))
            return report
        } catch (error: Exception) {
            writeWhole(file, errorJson(error.message ?: "$error"))
            throw error
        }
    }

    private fun errorJson(why: String) = JSONObject().put("schema_version", 1).put("error", why).toString()

    /** A file that is seen is complete. */
    private fun writeWhole(file: File, text: String) {
        val part = File(file.path + ".part")
        part.writeText(text)
        check(part.renameTo(file)) { "$part could not be renamed" }
    }

    fun cancel() = worker.stop(BenchState.Cancelled)

    /** As after the app's start; for tests. */
    internal fun reset() = worker.reset()
}
