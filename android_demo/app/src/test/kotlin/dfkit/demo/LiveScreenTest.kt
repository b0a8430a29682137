package dfkit.demo

import android.Manifest
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.os.Looper
import android.provider.Settings
import android.util.Range
import android.util.Size
import android.view.View
import android.widget.ImageView
import dfkit.core.Golden
import dfkit.core.Picture
import dfkit.core.SoundFormat
import dfkit.core.TimedPicture
import dfkit.core.TimedSound
import java.util.concurrent.locks.LockSupport
import kotlin.concurrent.thread
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadows.ShadowCameraCharacteristics

private const val FPS = 25.0
private val NEEDED = arrayOf(Manifest.permission.CAMERA, Manifest.permission.RECORD_AUDIO)

/** Permissions, states and drawing, with the golden head in the camera's place. Camera2 itself runs on phones alone. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class LiveScreenTest {
    private val played = Played()

    @Before
    fun start() {
        Live.reset()
        Live.openSource = { played }
    }

    @After
    fun end() {
        Live.reset()
        Live.openSource = ::CameraSource
    }

    /** The golden head there and back again, so that nothing jumps, as fast as it is judged. */
    private class Played : LiveSource {
        private val pictures: List<Picture>
        private val samples: FloatArray
        override val sound: SoundFormat
        @Volatile var numSeen = Int.MAX_VALUE
        @Volatile private var isStopped = false
        @Volatile var isOpen = false
        private var player: Thread? = null

        init {
            Golden.videos.single { it.name == "golden_head" }.open().use { reader ->
                pictures = generateSequence { reader.nextPicture() }.map { it.picture }.toList()
                samples = generateSequence { reader.nextSound() }.fold(FloatArray(0)) { all, block -> all + block.samples }
                sound = checkNotNull(reader.sound)
            }
        }

        override fun start(feed: Feed) {
            isOpen = true
            isStopped = false
            player = thread {
                var number = 0
                while (!isStopped && number < numSeen) {
                    if (feed.hasRoom) play(feed, number++) else LockSupport.parkNanos(1_000_000)
                }
            }
        }

        private fun play(feed: Feed, number: Int) {
            val turn = number % (2 * pictures.size)
            val perPicture = (sound.rate / FPS).toInt() * sound.channels.size
            val from = (number % (samples.size / perPicture)) * perPicture
            feed.hear(TimedSound(100 + number / FPS, samples.copyOfRange(from, from + perPicture)))
            feed.see(TimedPicture(100 + number / FPS, pictures[if (turn < pictures.size) turn else 2 * pictures.size - 1 - turn]))
        }

        override fun stop() {
            isStopped = true
            player?.join()
            isOpen = false
        }
    }

    private fun open() = Robolectric.buildActivity(LiveActivity::class.java).setup()

    private fun allow() = shadowOf(RuntimeEnvironment.getApplication()).grantPermissions(*NEEDED)

    private fun ActivityController<LiveActivity>.answerPermissions() {
        val asked = shadowOf(get()).lastRequestedPermission
        assertEquals(NEEDED.toList(), asked.requestedPermissions.toList())
        get().onRequestPermissionsResult(asked.requestCode, asked.requestedPermissions, IntArray(0))
    }

    @Test
    fun `it asks, watches with a running curve, and judges at the end`() {
        val screen = open()
        screen.draw("live")
        screen.press(R.id.start)
        assertFalse(played.isOpen)
        allow()
        screen.answerPermissions()
        assertEquals(screen.get().getString(R.string.live_opening), screen.text(R.id.message))
        awaitUntil("three scores") { (Live.state as? LiveState.Watching)?.let { it.curve.size >= 3 } ?: !Live.isBusy }
        val watching = Live.state as LiveState.Watching
        assertTrue(watching.curve.zipWithNext().all { (a, b) -> b.tS - a.tS in 0.99..1.01 })
        assertTrue(screen.text(R.id.verdict), screen.text(R.id.verdict).startsWith("Now 0.") || screen.text(R.id.verdict) == "Now 1.00")
        assertTrue(screen.get().findViewById<View>(R.id.curve).contentDescription.startsWith("Score over time, ${watching.curve.size} points"))
        assertTrue(screen.isSeen(R.id.image) && screen.get().findViewById<ImageView>(R.id.image).drawable != null)
        screen.draw("live_watching")
        screen.press(R.id.end)
        awaitUntil("the answer") { !Live.isBusy }
        val answer = (Live.state as LiveState.Done).answer
        assertFalse(played.isOpen)
        // The same face in the same pictures as in the file, though the sound lies otherwise behind the first 2.4 s.
        val first = Golden.videos.single { it.name == "golden_head" }.answer.clips.first()
        assertEquals(first[2], answer.clips.first().pFake, 0.02)
        assertTrue(screen.text(R.id.message), "Looked at 100 % of the pictures" in screen.text(R.id.message))
        assertFalse(screen.isSeen(R.id.image))
        screen.draw("live_done")
        val before = screen.text(R.id.message)
        screen.recreate()
        assertEquals(before, screen.text(R.id.message))
    }

    @Test
    fun `who says no is told why it is asked, and for good is led to the settings`() {
        val screen = open()
        screen.press(R.id.start)
        screen.answerPermissions()
        assertEquals(screen.get().getString(R.string.live_denied), screen.text(R.id.message))
        screen.draw("live_denied")
        val packages = shadowOf(RuntimeEnvironment.getApplication().packageManager)
        NEEDED.forEach { packages.setShouldShowRequestPermissionRationale(it, true) }
        screen.press(R.id.start)
        screen.answerPermissions()
        NEEDED.forEach { packages.setShouldShowRequestPermissionRationale(it, false) }
        screen.recreate()
        screen.press(R.id.start)
        assertEquals(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, shadowOf(screen.get()).nextStartedActivity.action)
        allow()
        screen.stop().start()
        assertEquals("", screen.text(R.id.message))
        assertFalse(Live.isBusy)
    }

    @Test
    fun `the camera is given back when the screen is left`() {
        allow()
        val screen = open()
        screen.press(R.id.start)
        awaitUntil("pictures") { Live.state is LiveState.Watching }
        screen.pause().stop()
        awaitUntil("the camera is closed") { !Live.isBusy }
        assertFalse(played.isOpen)
        screen.start().resume()
        assertTrue(screen.isSeen(R.id.start))
        assertTrue(screen.text(R.id.message).isNotEmpty())
    }

    @Test
    @Config(qualifiers = "ko-w360dp-h720dp-night-xhdpi")
    fun `a phone without a camera says so, in Korean`() {
        allow()
        Live.openSource = ::CameraSource
        val screen = open()
        screen.press(R.id.start)
        awaitUntil("no camera") {
            shadowOf(Looper.getMainLooper()).idle()
            !Live.isBusy
        }
        assertEquals(screen.get().getString(R.string.live_no_camera), screen.text(R.id.message))
        screen.draw("live_no_camera_ko")
    }

    @Test
    fun `the front camera is opened, and closed with the screen`() {
        allow()
        val characteristics = ShadowCameraCharacteristics.newCameraCharacteristics()
        shadowOf(characteristics).set(CameraCharacteristics.LENS_FACING, CameraCharacteristics.LENS_FACING_FRONT)
        shadowOf(characteristics).set(CameraCharacteristics.SENSOR_ORIENTATION, 270)
        val manager = RuntimeEnvironment.getApplication().getSystemService(CameraManager::class.java)
        shadowOf(manager).addCamera("1", characteristics)
        val feed = Feed()
        val source = CameraSource(RuntimeEnvironment.getApplication())
        source.start(feed)
        awaitUntil("the microphone is heard") { feed.take(1) is Feed.Heard }
        source.stop()
        assertFalse(Thread.getAllStackTraces().keys.any { it.name in setOf("camera", "microphone") && it.isAlive })
        assertFalse(generateSequence { feed.take(1) }.any { it is Feed.Broken })
    }

    @Test
    fun `a camera that falls silent or fails is told`() {
        allow()
        played.numSeen = 3
        val screen = open()
        screen.press(R.id.start)
        awaitUntil("lost") { !Live.isBusy }
        assertEquals(screen.get().getString(R.string.live_camera_lost), screen.text(R.id.message))
        assertFalse(played.isOpen)
        for (fault in LiveFault.entries) {
            Live.openSource = { object : LiveSource by played { override fun start(feed: Feed) = feed.fail(fault) } }
            screen.press(R.id.start)
            awaitUntil("failed") { !Live.isBusy }
            assertEquals(fault, (Live.state as LiveState.Broken).fault)
            assertTrue(screen.text(R.id.message).isNotEmpty())
        }
    }

    @Test
    fun `a phone that lags behind says that it is too slow`() {
        allow()
        val late = object : LiveSource by played {
            override fun start(feed: Feed) {
                val picture = Golden.videos.single { it.name == "golden_head" }.open().use { checkNotNull(it.nextPicture()).picture }
                (0 until 200).forEach { feed.see(TimedPicture(it / FPS, picture)) }
            }
        }
        Live.openSource = { late }
        val screen = open()
        screen.press(R.id.start)
        awaitUntil("too slow") { !Live.isBusy }
        assertEquals(screen.get().getString(R.string.live_too_slow), screen.text(R.id.message))
    }

    @Test
    fun `size, rate and rotation are those that the model needs`() {
        val sizes = listOf(4000 to 3000, 1920 to 1080, 640 to 480, 320 to 240, 1280 to 720).map { Size(it.first, it.second) }
        assertEquals(Size(640, 480), chooseSize(sizes))
        assertEquals(Size(320, 240), chooseSize(listOf(Size(320, 240), Size(176, 144))))
        val ranges = listOf(15 to 15, 15 to 30, 30 to 30, 24 to 60, 7 to 30).map { Range(it.first, it.second) }
        assertEquals(Range(30, 30), chooseFps(ranges))
        assertEquals(null, chooseFps(listOf(Range(10, 20))))
        // The usual front camera of a phone that is held upright, and turned to the left.
        assertEquals(listOf(270, 0, 90), listOf(uprightDeg(270, 0, true), uprightDeg(270, 90, true), uprightDeg(90, 0, false)))
    }
}
