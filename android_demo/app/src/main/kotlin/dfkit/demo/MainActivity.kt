package dfkit.demo

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.TextView

private const val PICK = 1
private const val WAS_BUSY = "was_busy"

/** The first screen: pick a video, watch it being read, see what is said of it. */
class MainActivity : Activity() {
    private val progress get() = findViewById<ProgressBar>(R.id.progress)
    private val verdict get() = findViewById<TextView>(R.id.verdict)
    private val message get() = findViewById<TextView>(R.id.message)
    private val curve get() = findViewById<CurveView>(R.id.curve)
    private var isInterrupted = false

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        findViewById<Button>(R.id.pick).setOnClickListener { pick() }
        findViewById<Button>(R.id.cancel).setOnClickListener { Analysis.cancel() }
        findViewById<Button>(R.id.check).setOnClickListener { Analysis.check(this) }
        findViewById<Button>(R.id.live).setOnClickListener { startActivity(Intent(this, LiveActivity::class.java)) }
        findViewById<Button>(R.id.bench).setOnClickListener { startActivity(Intent(this, BenchActivity::class.java)) }
        ProcessStart.takeMs()
        // The process was ended while it worked: what it had is gone.
        isInterrupted = saved?.getBoolean(WAS_BUSY) == true && Analysis.state === State.Idle
        if (saved == null) takeShared(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        takeShared(intent)
    }

    override fun onStart() {
        super.onStart()
        Analysis.listener = ::show
        show()
    }

    override fun onStop() {
        Analysis.listener = null
        super.onStop()
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putBoolean(WAS_BUSY, Analysis.isBusy)
    }

    private fun pick() {
        val open = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("video/*")
        startActivityForResult(open, PICK)
    }

    @Deprecated("Deprecated in Java")
    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val uri = data?.data
        if (request == PICK && result == RESULT_OK && uri != null) judge(uri)
    }

    private fun takeShared(intent: Intent) {
        if (intent.action != Intent.ACTION_SEND) return
        shared(intent)?.let { judge(it) }
    }

    // What replaces it came with API 33.
    @Suppress("DEPRECATION")
    private fun shared(intent: Intent): Uri? = intent.getParcelableExtra(Intent.EXTRA_STREAM)

    private fun judge(uri: Uri) {
        isInterrupted = false
        Analysis.judge(this, uri)
    }

    private fun show() {
        val state = Analysis.state
        val isBusy = Analysis.isBusy
        findViewById<View>(R.id.cancel).visibility = visible(isBusy)
        progress.visibility = visible(isBusy)
        findViewById<View>(R.id.pick).isEnabled = !isBusy
        listOf(R.id.live, R.id.check, R.id.bench).forEach { findViewById<View>(it).isEnabled = !isBusy }
        val answer = (state as? State.Done)?.answer
        findViewById<View>(R.id.intro).visibility = visible(answer == null)
        showVerdict(answer?.verdict)
        curve.visibility = visible(!answer?.curve.isNullOrEmpty())
        if (state is State.Done && answer != null) curve.show(answer.curve, state.bundle.thresholds.fakeFrom)
        showShots((state as? State.Done)?.shots.orEmpty())
        showProgress(state)
        val text = textOf(state)
        message.text = text
        message.visibility = visible(text.isNotEmpty())
    }

    private fun showVerdict(found: dfkit.core.Verdict?) {
        verdict.visibility = visible(found != null)
        if (found == null) return
        verdict.setText(found.text)
        verdict.setTextColor(getColor(found.color))
    }

    private fun showShots(shots: List<Shot>) {
        val row = findViewById<LinearLayout>(R.id.shots)
        row.removeAllViews()
        row.visibility = visible(shots.isNotEmpty())
        for (shot in shots) {
            val image = ImageView(this)
            image.setImageBitmap(bitmapOf(shot.preview))
            image.adjustViewBounds = true
            image.contentDescription = getString(R.string.shot, shot.tS)
            row.addView(image, LinearLayout.LayoutParams(0, ViewGroup.LayoutParams.WRAP_CONTENT, 1f))
        }
    }

    private fun showProgress(state: State) {
        val running = state as? State.Running
        progress.isIndeterminate = running == null || running.durationS <= 0
        if (running != null && running.durationS > 0) progress.progress = (1000 * running.tS / running.durationS).toInt()
    }

    private fun textOf(state: State): String = when (state) {
        is State.Idle -> if (isInterrupted) getString(R.string.interrupted) else ""
        is State.Running ->
            if (state.durationS > 0) getString(R.string.running, state.tS, state.durationS)
            else getString(R.string.running_unknown, state.tS)
        is State.Checking -> getString(R.string.self_check_running)
        is State.Done -> describe(state.answer, state.bundle, resources)
        is State.Checked -> describe(state.report, resources)
        is State.Cancelled -> getString(R.string.cancelled)
        is State.Failed -> describe(state.failure, resources)
    }

    private fun visible(isShown: Boolean) = if (isShown) View.VISIBLE else View.GONE
}
