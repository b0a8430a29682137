package dfkit.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Bundle
import android.provider.Settings
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.ImageView
import android.widget.TextView
import dfkit.core.Preview
import dfkit.core.Thresholds

private const val ASK = 1
private const val DENIED = "denied"

/** Scored clips come a second apart. */
private const val MAX_GAP_S = 1.6
private val NEEDED = arrayOf(Manifest.permission.CAMERA, Manifest.permission.RECORD_AUDIO)

/** Judges what the front camera and the microphone see and hear now. */
class LiveActivity : Activity() {
    private val curve get() = findViewById<CurveView>(R.id.curve)
    private val image get() = findViewById<ImageView>(R.id.image)

    private var shownPreview: Preview? = null

    /** Whether the person said no the last time. */
    private var isDenied = false

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.live)
        isDenied = saved?.getBoolean(DENIED) == true
        ProcessStart.takeMs()
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        findViewById<Button>(R.id.start).setOnClickListener { start() }
        findViewById<Button>(R.id.end).setOnClickListener { Live.end() }
    }

    override fun onStart() {
        super.onStart()
        Live.listener = ::show
        if (isAllowed()) isDenied = false
        show()
    }

    /** What is not looked at does not look either. */
    override fun onStop() {
        Live.end()
        Live.listener = null
        super.onStop()
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putBoolean(DENIED, isDenied)
    }

    private fun isAllowed() = NEEDED.all { checkSelfPermission(it) == PackageManager.PERMISSION_GRANTED }

    private fun start() {
        when {
            isAllowed() -> Live.start(this)
            // Said for good: only the settings can change it.
            isDenied && NEEDED.none { shouldShowRequestPermissionRationale(it) } -> openSettings()
            else -> requestPermissions(NEEDED, ASK)
        }
    }

    private fun openSettings() =
        startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, Uri.fromParts("package", packageName, null)))

    override fun onRequestPermissionsResult(request: Int, permissions: Array<String>, results: IntArray) {
        if (request != ASK) return
        isDenied = !isAllowed()
        if (isDenied) show() else start()
    }

    private fun show() {
        val state = Live.state
        val watching = state as? LiveState.Watching
        val done = state as? LiveState.Done
        findViewById<View>(R.id.start).visibility = visible(!Live.isBusy)
        findViewById<View>(R.id.end).visibility = visible(watching != null)
        showPreview(watching?.preview)
        val points = watching?.curve ?: done?.answer?.curve.orEmpty()
        val bundle = watching?.bundle ?: done?.bundle
        curve.visibility = visible(points.isNotEmpty())
        if (bundle != null && points.isNotEmpty()) {
            if (watching != null) curve.show(points, bundle.thresholds.fakeFrom, MAX_GAP_S) else curve.show(points, bundle.thresholds.fakeFrom)
        }
        showVerdict(state)
        val message = findViewById<TextView>(R.id.message)
        message.text = textOf(state)
        message.visibility = visible(message.text.isNotEmpty())
    }

    private fun showPreview(preview: Preview?) {
        image.visibility = visible(preview != null)
        if (preview == null || preview === shownPreview) return
        shownPreview = preview
        image.setImageBitmap(bitmapOf(preview))
    }

    private fun showVerdict(state: LiveState) {
        val verdict = findViewById<TextView>(R.id.verdict)
        val newest = (state as? LiveState.Watching)?.curve?.lastOrNull()
        val found = (state as? LiveState.Done)?.answer?.verdict
        verdict.visibility = visible(newest != null || found != null)
        if (state is LiveState.Watching && newest != null) {
            verdict.text = getString(R.string.live_now, newest.pFake)
            verdict.setTextColor(getColor(colorOf(newest.pFake, state.bundle.thresholds)))
        } else if (found != null) {
            verdict.setText(found.text)
            verdict.setTextColor(getColor(found.color))
        }
    }

    private fun colorOf(pFake: Double, limits: Thresholds) = when {
        pFake in limits.reviewFrom..limits.reviewTo -> R.color.review
        pFake >= limits.fakeFrom -> R.color.fake
        else -> R.color.real
    }

    private fun textOf(state: LiveState): String = when (state) {
        is LiveState.Idle -> if (isDenied) getString(R.string.live_denied) else ""
        is LiveState.Opening -> getString(R.string.live_opening)
        is LiveState.Watching -> textOf(state)
        is LiveState.Done -> describe(state.answer, state.bundle, resources)
        is LiveState.Broken -> getString(state.fault.text)
        is LiveState.Failed -> describe(state.failure, resources)
    }

    private fun textOf(now: LiveState.Watching): String {
        val newest = now.curve.lastOrNull()
        val hint = when {
            // A clip, what is looked ahead, and a moment to reckon.
            now.tS - (newest?.tS ?: 0.0) > now.bundle.clipS + 2 -> R.string.live_no_face
            newest == null -> R.string.live_wait
            else -> R.string.live_goes_on
        }
        return getString(R.string.live_time, now.tS) + "\n" + getString(hint)
    }

    private fun visible(isShown: Boolean) = if (isShown) View.VISIBLE else View.GONE
}

private val LiveFault.text
    get() = when (this) {
        LiveFault.NO_CAMERA -> R.string.live_no_camera
        LiveFault.CAMERA_IN_USE -> R.string.live_camera_in_use
        LiveFault.CAMERA_LOST -> R.string.live_camera_lost
        LiveFault.NO_MICROPHONE -> R.string.live_no_microphone
        LiveFault.TOO_SLOW -> R.string.live_too_slow
    }
