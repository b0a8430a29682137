package dfkit.demo

import android.content.Context
import android.content.Intent
import android.media.MediaCodec
import android.media.MediaExtractor
import android.media.MediaFormat
import android.net.Uri
import android.system.ErrnoException
import android.system.OsConstants
import dfkit.core.CurvePoint
import dfkit.core.Golden
import dfkit.core.VideoFile
import dfkit.core.VideoReader
import java.io.IOException
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
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements

/** A file with a picture track of HEVC, or one that another app no longer lends. */
@Implements(MediaExtractor::class)
class OddExtractor {
    @Implementation
    @Suppress("UNUSED_PARAMETER")
    fun setDataSource(context: Context, uri: Uri, headers: Map<String, String>?) {
        if (isRevoked) throw SecurityException("Permission Denial: reading $uri")
    }

    @Implementation
    fun getTrackCount() = 1

    @Implementation
    @Suppress("UNUSED_PARAMETER")
    fun getTrackFormat(index: Int): MediaFormat = MediaFormat.createVideoFormat("video/hevc", 1920, 1080)

    @Implementation
    @Suppress("UNUSED_PARAMETER")
    fun selectTrack(index: Int) = Unit

    companion object {
        var isRevoked = false
    }
}

/** A phone that knows no decoder: what MediaCodec says then. */
@Implements(MediaCodec::class)
class NoDecoder {
    companion object {
        @JvmStatic
        @Implementation
        fun createDecoderByType(type: String): MediaCodec =
            throw IllegalArgumentException("Failed to initialize $type, error 0xfffffffe (NAME_NOT_FOUND)")
    }
}

/** Whatever is picked, and whatever goes wrong: a message, no crash, nothing left behind. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = PHONE, shadows = [OddExtractor::class, NoDecoder::class])
class ContractTest {
    private val asked = Uri.parse("content://videos/1")

    @Before
    fun start() = Analysis.reset()

    @After
    fun end() {
        Analysis.reset()
        Analysis.openVideo = ::DecodedVideo
        val app = RuntimeEnvironment.getApplication()
        val left = listOf(app.filesDir, app.cacheDir).flatMap { it.walkTopDown().filter { file -> file.isFile } }
        assertEquals(emptyList<Any>(), left)
    }

    private fun share(): ActivityController<MainActivity> {
        val intent = Intent(Intent.ACTION_SEND).setType("video/mp4").putExtra(Intent.EXTRA_STREAM, asked)
        return Robolectric.buildActivity(MainActivity::class.java, intent).setup()
    }

    private class Picked(video: VideoFile, override val durationS: Double) : PickedVideo, VideoFile by video

    private fun picked(durationS: Double = 0.0, open: () -> VideoReader) {
        Analysis.openVideo = { _, _ -> Picked(object : VideoFile { override fun open() = open() }, durationS) }
    }

    private fun ActivityController<MainActivity>.says(id: Int) {
        awaitUntil("answer") { !Analysis.isBusy }
        assertEquals(get().getString(id), text(R.id.message))
        assertEquals("", text(R.id.verdict))
        assertTrue(isSeen(R.id.pick))
    }

    @Test
    fun `a video that may no longer be read`() {
        OddExtractor.isRevoked = true
        share().says(R.string.status_unreadable)
    }

    @Test
    @Config(qualifiers = "ko-$PHONE")
    fun `a kind that the phone cannot decode, in Korean`() {
        OddExtractor.isRevoked = false
        share().says(R.string.status_unreadable)
    }

    @Test
    fun `no space, no memory, and mistakes of the app`() {
        picked { throw RuntimeException(IOException(ErrnoException("write", OsConstants.ENOSPC))) }
        share().says(R.string.no_space)
        picked { throw OutOfMemoryError() }
        share().says(R.string.no_memory)
        picked { throw IndexOutOfBoundsException("7") }
        val screen = share()
        awaitUntil("answer") { !Analysis.isBusy }
        assertEquals(screen.get().getString(R.string.mistake, "java.lang.IndexOutOfBoundsException: 7"), screen.text(R.id.message))
    }

    @Test
    fun `of two hours the progress is shown, and it stops at once`() {
        val head = Golden.videos.single { it.name == "golden_head" }
        picked(7200.0) { head.open() }
        val screen = share()
        awaitUntil("progress") { (Analysis.state as? State.Running)?.durationS == 7200.0 }
        assertTrue(screen.text(R.id.message), "of 7200.0 s" in screen.text(R.id.message))
        screen.press(R.id.cancel)
        assertEquals(screen.get().getString(R.string.cancelled), screen.text(R.id.message))
        assertFalse(Analysis.isBusy)
    }

    @Test
    fun `a curve of two hours keeps its peaks`() {
        val points = List(180_000) { CurvePoint(it / 25.0, if (it == 90_001) 0.9 else 0.1) }
        val drawn = thinned(points)
        assertTrue("${drawn.size}", drawn.size in 500..1_000)
        assertEquals(0.9, drawn.maxOf { it.pFake }, 0.0)
        assertTrue(drawn.zipWithNext().all { (a, b) -> a.tS < b.tS })
        assertEquals(points.take(60), thinned(points.take(60)))
    }
}
