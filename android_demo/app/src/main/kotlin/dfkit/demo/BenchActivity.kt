package dfkit.demo

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.view.Gravity
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TableLayout
import android.widget.TableRow
import android.widget.TextView
import dfkit.core.Benchmark
import dfkit.core.BenchmarkReport
import java.io.File

/** Work without a pause that shows whether a phone slows down when it gets warm, s. */
private const val SUSTAINED_S = 600

/**
 * Measures this phone. From a computer `dfkit bench --adb` starts it with a bundle of its own:
 *
 *     adb shell am start -S -W -n dfkit.demo/.BenchActivity --es run 1f --es bundle /data/local/tmp/x.zip --ei seconds 600
 *
 * which writes `bench-1f.json` into the app's folder below Android/media. Only the computer's shell may start it so.
 */
class BenchActivity : Activity() {
    private val progress get() = findViewById<ProgressBar>(R.id.progress)

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.bench)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        findViewById<Button>(R.id.start_long).setOnClickListener { start(BenchRequest(SUSTAINED_S.toDouble())) }
        findViewById<Button>(R.id.start_short).setOnClickListener { start(BenchRequest(0.0)) }
        findViewById<Button>(R.id.cancel).setOnClickListener { Bench.cancel() }
        findViewById<Button>(R.id.share).setOnClickListener { share() }
        if (saved == null) takeRequest(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        takeRequest(intent)
    }

    override fun onStart() {
        super.onStart()
        Bench.listener = ::show
        show()
    }

    override fun onStop() {
        Bench.listener = null
        super.onStop()
    }

    private fun takeRequest(intent: Intent) {
        val run = intent.getStringExtra("run") ?: return
        require(run.isNotEmpty() && run.all { it in "0123456789abcdef" }) { "run '$run', hexadecimal digits are expected" }
        start(
            BenchRequest(
                sustainedS = intent.getIntExtra("seconds", SUSTAINED_S).toDouble(),
                bundle = intent.getStringExtra("bundle")?.let { File(it) },
                repeats = intent.getIntExtra("repeats", 100),
                threads = intent.getIntExtra("threads", 1),
                answer = File(sharedFolder(), "bench-$run.json"),
            ),
        )
    }

    // The one folder of an app that the computer's shell reads on all phones; it takes no permission.
    @Suppress("DEPRECATION")
    private fun sharedFolder(): File = checkNotNull(externalMediaDirs.firstOrNull()) { "this phone has no shared storage" }

    private fun start(request: BenchRequest) = Bench.start(this, request, ProcessStart.takeMs())

    private fun share() {
        val report = (Bench.state as? BenchState.Done)?.report ?: return
        val send = Intent(Intent.ACTION_SEND).setType("application/json").putExtra(Intent.EXTRA_TEXT, report.toJson())
        startActivity(Intent.createChooser(send, getString(R.string.bench_share)))
    }

    private fun show() {
        val state = Bench.state
        val isBusy = Bench.isBusy
        listOf(R.id.start_long, R.id.start_short).forEach { findViewById<View>(it).visibility = visible(!isBusy) }
        listOf(R.id.cancel, R.id.progress).forEach { findViewById<View>(it).visibility = visible(isBusy) }
        findViewById<View>(R.id.share).visibility = visible(state is BenchState.Done)
        val running = (state as? BenchState.Running)?.progress
        progress.isIndeterminate = running == null
        if (running != null) progress.progress = (1000 * running.done).toInt()
        val message = findViewById<TextView>(R.id.message)
        message.text = textOf(state)
        message.visibility = visible(message.text.isNotEmpty())
        showTimes((state as? BenchState.Done)?.report)
    }

    /** A row a stage, read aloud as one sentence. */
    private fun showTimes(report: BenchmarkReport?) {
        val table = findViewById<TableLayout>(R.id.times)
        table.removeAllViews()
        table.visibility = visible(report != null)
        if (report == null) return
        table.addView(row(listOf(getString(R.string.bench_table), "50 %", "90 %", "99 %")))
        val stages = report.latencyMs.getValue(report.primary)
        for ((stage, name) in STAGES) {
            val times = stages.getValue(stage)
            val cells = listOf(times.p50Ms, times.p90Ms, times.p99Ms).map { "%.1f".format(it) }
            val said = getString(R.string.bench_times, getString(name), times.p50Ms, times.p90Ms, times.p99Ms)
            table.addView(row(listOf(getString(name)) + cells).apply { contentDescription = said })
        }
    }

    private fun row(cells: List<String>) = TableRow(this).apply {
        cells.forEachIndexed { column, text -> addView(cell(text, isNumber = column > 0)) }
    }

    private fun cell(text: String, isNumber: Boolean) = TextView(this).apply {
        setTextAppearance(android.R.style.TextAppearance_Material_Body1)
        this.text = text
        val gap = resources.getDimensionPixelSize(R.dimen.cell)
        setPadding(if (isNumber) 2 * gap else 0, gap, 0, gap)
        if (isNumber) gravity = Gravity.END
    }

    private fun textOf(state: BenchState): String = when (state) {
        is BenchState.Idle -> ""
        is BenchState.Starting -> getString(R.string.bench_starting)
        is BenchState.Running -> describe(state.progress)
        is BenchState.Done -> describe(state.report)
        is BenchState.Cancelled -> getString(R.string.cancelled)
        is BenchState.Failed -> describe(state.failure, resources)
    }

    private fun describe(now: Benchmark.Progress): String {
        if (now.part == Benchmark.Part.SHORT) return getString(R.string.bench_short_running)
        val lines = mutableListOf(getString(R.string.bench_long_running))
        now.clip?.let { lines += getString(R.string.bench_now, it.p50Ms, now.heat?.status ?: UNKNOWN) }
        return lines.joinToString("\n")
    }

    private fun describe(report: BenchmarkReport): String {
        val lines = mutableListOf<String>()
        if (!report.golden.passed) lines += getString(R.string.bench_wrong)
        val start = report.coldStart
        lines += getString(R.string.bench_start, start.loadMs, start.firstMs)
        start.peakMb?.let { lines += getString(R.string.bench_memory, start.baselineMb ?: 0.0, it) }
        val first = report.sustained.firstOrNull()
        val last = report.sustained.lastOrNull()
        if (first != null && last != null) {
            lines += getString(
                R.string.bench_sustained, last.endS / 60, first.clip.p50Ms, last.clip.p50Ms, last.heat.status ?: UNKNOWN,
            )
            last.heat.batteryC?.let { lines += getString(R.string.bench_battery, it) }
        }
        val device = report.device
        lines += getString(R.string.bench_device, device.manufacturer, device.model, device.android, device.soc, report.runtime)
        lines += getString(R.string.model, report.name)
        return lines.joinToString("\n\n")
    }

    private fun visible(isShown: Boolean) = if (isShown) View.VISIBLE else View.GONE

    private companion object {
        const val UNKNOWN = "?"
        val STAGES = listOf(
            "clip" to R.string.bench_clip,
            "next_clip" to R.string.bench_next_clip,
            "encode_one" to R.string.bench_picture,
            "score" to R.string.bench_score,
        )
    }
}
