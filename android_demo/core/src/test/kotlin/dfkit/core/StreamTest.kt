package dfkit.core

import kotlin.random.Random
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** A speaker whose sound comes without drift: pieces of it have times that follow from the first one. */
private const val TALK = "golden_head"

class StreamTest {
    private val video = Golden.videos.single { it.facts.name == TALK }
    private val detector = Detector(Golden.bundle, Golden.engine)

    @Test
    fun `random pieces give what the whole gives`() {
        val whole = checkNotNull(detector.detect(video))
        assertTrue(whole.clips.isNotEmpty())
        repeat(3) { seed ->
            val answer = pushInPieces(Random(seed))
            assertEquals(whole.verdict, answer.verdict)
            assertEquals(whole.pFake, answer.pFake)
            assertEquals(whole.curve, answer.curve)
            whole.clips.zip(answer.clips).forEach { (a, b) -> assertArrayEquals(a.frameLogits, b.frameLogits) }
            assertEquals(whole.clips.size, answer.clips.size)
        }
    }

    /** Pictures and pieces of sound of any size, the one ahead of the other by up to a second. */
    private fun pushInPieces(random: Random): Answer = video.open().use { reader ->
        val format = checkNotNull(reader.sound)
        val sound = PieceReader(reader, format)
        val stream = detector.openStream(format)
        var pictureS = 0.0
        while (true) {
            while (sound.tS < pictureS + random.nextDouble(-1.0, 1.0)) {
                val piece = sound.next(random.nextInt(1, 5000)) ?: break
                stream.pushSound(piece.tS, piece.samples)
            }
            val next = reader.nextPicture() ?: break
            pictureS = next.tS
            stream.pushPicture(next.tS, next.picture)
        }
        generateSequence { sound.next(2000) }.forEach { stream.pushSound(it.tS, it.samples) }
        stream.finish(reader.lastDurationS, reader.read)
    }

    @Test
    fun `progress is told, and false stops`() {
        val times = mutableListOf<Double>()
        val answer = detector.detect(video) { tS, _ -> times.add(tS) && times.size < 10 }
        assertEquals(null, answer)
        assertEquals(10, times.size)
        assertTrue(times.zipWithNext().all { (a, b) -> a < b })
    }

    @Test
    fun `time that goes back is refused`() {
        val stream = detector.openStream(null)
        val picture = video.open().use { checkNotNull(it.nextPicture()).picture }
        stream.pushPicture(1.0, picture)
        assertThrows(IllegalArgumentException::class.java) { stream.pushPicture(1.0, picture) }
        assertThrows(IllegalArgumentException::class.java) { stream.pushPicture(12.0, picture) }
    }

    @Test
    fun `sound that runs far ahead is refused`() {
        val stream = detector.openStream(SoundFormat(16000, listOf("FC")))
        repeat(30) { stream.pushSound(it.toDouble(), FloatArray(16000)) }
        assertThrows(IllegalArgumentException::class.java) { repeat(3) { stream.pushSound(30.0 + it, FloatArray(16000)) } }
    }
}

/** Cuts a track's sound into pieces of its own. */
private class PieceReader(reader: VideoReader, private val format: SoundFormat) {
    private val blocks = generateSequence { reader.nextSound() }.toList()
    private val samples = blocks.fold(FloatArray(0)) { all, block -> all + block.samples }
    private var next = 0
    val tS get() = blocks[0].tS + next.toDouble() / format.channels.size / format.rate

    fun next(count: Int): TimedSound? {
        if (next >= samples.size) return null
        val end = minOf(next + count * format.channels.size, samples.size)
        return TimedSound(tS, samples.copyOfRange(next, end)).also { next = end }
    }
}
