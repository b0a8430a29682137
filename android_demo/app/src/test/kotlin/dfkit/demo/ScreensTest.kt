package dfkit.demo

import android.content.Intent
import android.net.Uri
import android.view.View
import android.widget.Button
import android.widget.LinearLayout
import dfkit.core.Golden
import dfkit.core.RawVideo
import dfkit.core.VideoFile
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** The screen as a person meets it, on the real framework, model and golden videos; each is drawn to a PNG. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ScreensTest {
    private val asked = Uri.parse("content://videos/1")

    @Before
    fun start() = Analysis.reset()

    @After
    fun end() = Analysis.reset()

    private class Picked(video: VideoFile) : PickedVideo, VideoFile by video {
        override val durationS = 2.4
    }

    private fun video(name: String): RawVideo = Golden.videos.single { it.name == name }

    /** Opens the app as another app's "share" does. */
    private fun share(video: RawVideo): ActivityController<MainActivity> {
        Analysis.openVideo = { _, _ -> Picked(video) }
        val intent = Intent(Intent.ACTION_SEND).setType("video/mp4").putExtra(Intent.EXTRA_STREAM, asked)
        return Robolectric.buildActivity(MainActivity::class.java, intent).setup()
    }

    private fun open() = Robolectric.buildActivity(MainActivity::class.java).setup()

    private fun await() = awaitUntil("answer") { !Analysis.isBusy }

    @Test
    fun `nothing is picked`() {
        val screen = open()
        assertEquals("", screen.text(R.id.message))
        assertTrue(screen.get().findViewById<Button>(R.id.pick).isEnabled)
        screen.draw("start")
        screen.press(R.id.pick)
        val started = shadowOf(screen.get()).nextStartedActivity
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, started.action)
        assertEquals("video/*", started.type)
    }

    @Test
    fun `a shared video gets its verdict, and keeps it when the phone is turned`() {
        val screen = share(video("golden_head"))
        assertTrue(Analysis.isBusy)
        assertFalse(screen.get().findViewById<Button>(R.id.pick).isEnabled)
        screen.draw("running")
        await()
        val verdict = checkNotNull(video("golden_head").answer.verdict)
        val expected = mapOf("real" to R.string.verdict_real, "fake" to R.string.verdict_fake, "review" to R.string.verdict_review)
        assertEquals(screen.get().getString(expected.getValue(verdict)), screen.text(R.id.verdict))
        assertTrue(screen.text(R.id.message), "%.2f of 1".format(video("golden_head").answer.pFake) in screen.text(R.id.message))
        assertTrue(screen.get().findViewById<View>(R.id.curve).contentDescription.startsWith("Score over time, 60 points"))
        val shots = screen.get().findViewById<LinearLayout>(R.id.shots)
        val times = (0 until shots.childCount).map { shots.getChildAt(it).contentDescription.toString() }
        assertEquals(3, times.toSet().size)
        assertTrue("$times", times.all { it.startsWith("Picture at ") })
        screen.draw("verdict")
        val before = screen.text(R.id.message)
        screen.recreate()
        assertEquals(before, screen.text(R.id.message))
    }

    @Test
    @Config(qualifiers = "ko-w360dp-h720dp-night-xhdpi")
    fun `in Korean, in the dark`() {
        val screen = share(video("golden_head"))
        await()
        assertTrue(screen.text(R.id.message), "점수" in screen.text(R.id.message))
        screen.draw("verdict_ko_night")
    }

    @Test
    @Config(fontScale = 2f)
    fun `in large letters`() {
        val screen = share(video("golden_head"))
        await()
        screen.draw("verdict_large")
    }

    @Test
    fun `a video without a verdict says why`() {
        for ((name, said) in listOf("nomoov" to R.string.status_unreadable, "zeros" to R.string.status_no_audio, "no_face" to R.string.status_no_face)) {
            val video = Golden.videos.find { it.name == name } ?: continue
            Analysis.reset()
            val screen = share(video)
            await()
            assertEquals(screen.get().getString(said), screen.text(R.id.message))
            assertEquals("", screen.text(R.id.verdict))
            screen.draw(name)
        }
    }

    @Test
    fun `cancel stops, and another video may be picked`() {
        val screen = share(video("golden_head"))
        screen.press(R.id.cancel)
        await()
        assertEquals(screen.get().getString(R.string.cancelled), screen.text(R.id.message))
        assertTrue(screen.get().findViewById<Button>(R.id.pick).isEnabled)
    }

    @Test
    fun `after the process was ended the screen says so`() {
        val screen = share(video("golden_head"))
        val saved = android.os.Bundle()
        screen.saveInstanceState(saved).pause().stop().destroy()
        Analysis.reset()
        val again = Robolectric.buildActivity(MainActivity::class.java, screen.intent).setup(saved)
        assertEquals(again.get().getString(R.string.interrupted), again.text(R.id.message))
        assertFalse(Analysis.isBusy)
    }

    @Test
    fun `the phone is checked`() {
        val screen = open()
        screen.press(R.id.check)
        await()
        assertTrue(screen.text(R.id.message), "calculates as it should" in screen.text(R.id.message))
        screen.draw("checked")
    }
}
