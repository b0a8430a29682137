package other.app

import dfkit.core.Answer
import dfkit.core.Bundle
import dfkit.core.CurvePoint
import dfkit.core.Detector
import dfkit.core.FolderFiles
import dfkit.core.Golden
import dfkit.core.Picture
import dfkit.core.PictureFormat
import dfkit.core.Plane
import dfkit.core.Reason
import dfkit.core.SoundFormat
import dfkit.core.Status
import dfkit.core.TfliteEngine
import dfkit.core.Verdict
import dfkit.core.VideoReader
import java.io.File
import java.nio.ByteBuffer
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** What the README shows to another app, as an app that sees public names alone; its lines are held against the README. */
class AnotherAppTest {
    private class Frame(
        val timeS: Double,
        val y: ByteBuffer,
        val u: ByteBuffer,
        val v: ByteBuffer,
        val width: Int,
        val height: Int,
        val soundTimeS: Double,
        val sound: FloatArray,
    ) {
        val rowStride = width
        val pixelStride = 1
        val chromaRowStride = width / 2
        val chromaPixelStride = 1
    }

    /** Stands in for the other app's decoder: a picture, and the sound that comes with it. */
    private class Decoder(reader: VideoReader) {
        private val pictures = generateSequence { reader.nextPicture() }.toList()
        private val blocks = generateSequence { reader.nextSound() }.toList()
        private var number = 0
        val sampleRate = checkNotNull(reader.sound).rate
        val channels = checkNotNull(reader.sound).channels

        fun next(): Frame? {
            val next = pictures.getOrNull(number) ?: return null
            val sound = blocks.subList(number * blocks.size / pictures.size, ++number * blocks.size / pictures.size)
            val samples = sound.fold(FloatArray(0)) { all, block -> all + block.samples }
            val planes = listOf(next.picture.y, next.picture.u, next.picture.v)
            val (y, u, v) = planes.map { ByteBuffer.wrap(it.samples) }
            return Frame(next.tS, y, u, v, planes[0].width, planes[0].height, sound[0].tS, samples)
        }
    }

    private val shownAt = mutableListOf<Double>()
    private var shown: Double? = null

    private fun show(startS: Double, pFake: Double) = check(pFake in 0.0..1.0).also { shownAt += startS }

    private fun show(verdict: Verdict?, pFake: Double?, reasons: List<Reason>, curve: List<CurvePoint>) {
        check(verdict != null && reasons.size < 8 && curve.isNotEmpty())
        shown = pFake
    }

    private fun explain(status: Status): Nothing = error("$status")

    @Test
    fun `the lines of the README judge a video`() {
        val video = Golden.videos.single { it.name == "golden_head" }
        val answer = video.open().use { judge(Golden.bundleFolder, Decoder(it)) }
        assertEquals(checkNotNull(video.answer.pFake), checkNotNull(shown), 0.02)
        assertTrue(shownAt.all { start -> answer.clips.any { it.startS == start } })
    }

    private fun judge(folder: File, decoder: Decoder): Answer {
        lateinit var said: Answer
        // README
        val bundle = Bundle.open(FolderFiles(folder))   // or ZipFiles, or your own BundleFiles; hashes, schema, versions
        Detector(bundle, TfliteEngine()).use { detector ->
            val stream = detector.openStream(SoundFormat(decoder.sampleRate, decoder.channels))  // 48000, [FL, FR]
            while (true) {
                val frame = decoder.next() ?: break          // yours: planes, strides, time in seconds
                val y = Plane.copyOf(frame.y, frame.rowStride, frame.pixelStride, frame.width, frame.height)
                val u = Plane.copyOf(frame.u, frame.chromaRowStride, frame.chromaPixelStride, frame.width / 2, frame.height / 2)
                val v = Plane.copyOf(frame.v, frame.chromaRowStride, frame.chromaPixelStride, frame.width / 2, frame.height / 2)
                val format = PictureFormat(matrix = 6, fullRange = false, rotationDeg = 0)
                val scores = stream.pushPicture(frame.timeS, Picture(y, u, v, format))
                stream.pushSound(frame.soundTimeS, frame.sound)  // interleaved, in [-1, 1]
                scores.forEach { show(it.startS, it.pFake) }     // clips that are complete by now
            }
            val answer = stream.finish()
            when (answer.status) {
                Status.OK -> show(answer.verdict, answer.pFake, answer.reasons, answer.curve)
                else -> explain(answer.status)                   // it never invents a score
            }
            // README ends
            said = answer
        }
        return said
    }
}
