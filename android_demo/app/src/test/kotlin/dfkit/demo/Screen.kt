package dfkit.demo

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.os.Looper
import android.view.View
import android.widget.Button
import android.widget.TextView
import java.io.File
import java.util.concurrent.locks.LockSupport
import org.junit.Assert.assertTrue
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController

/** After this a test counts as hung; the work itself takes seconds. */
private const val TIMEOUT_MS = 120_000L
/** Leaves the processor to the worker. */
private const val PAUSE_NS = 1_000_000L
internal const val PHONE = "w360dp-h720dp-xhdpi"

/** Runs what workers post until something holds. */
internal fun awaitUntil(what: String, holds: () -> Boolean) {
    val endMs = System.currentTimeMillis() + TIMEOUT_MS
    while (!holds()) {
        check(System.currentTimeMillis() < endMs) { "still not: $what" }
        shadowOf(Looper.getMainLooper()).idle()
        LockSupport.parkNanos(PAUSE_NS)
    }
    shadowOf(Looper.getMainLooper()).idle()
}

/** What a view says; nothing where it is not seen. */
internal fun ActivityController<out Activity>.text(id: Int): String {
    val view = get().findViewById<TextView>(id)
    return if (view.visibility == View.VISIBLE) view.text.toString() else ""
}

internal fun ActivityController<out Activity>.isSeen(id: Int) = get().findViewById<View>(id).visibility == View.VISIBLE

internal fun ActivityController<out Activity>.press(id: Int) = get().findViewById<Button>(id).performClick()

/** Draws what is seen to `build/screens`. */
internal fun ActivityController<out Activity>.draw(name: String) {
    shadowOf(Looper.getMainLooper()).idle() // lays out what became visible
    val view = get().window.decorView
    val bitmap = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
    view.draw(Canvas(bitmap))
    val file = File(System.getProperty("dfkit.screens"), "$name.png")
    file.parentFile.mkdirs()
    file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
    assertTrue("$name is blank", (0 until bitmap.height step 4).any { bitmap.getPixel(bitmap.width / 4, it) != bitmap.getPixel(0, 0) })
}
