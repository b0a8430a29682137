package dfkit.core

import kotlin.math.abs
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.TestFactory

private const val BOX_PX = 0.5
private const val P_FAKE = 0.02

/** Mean absolute difference of a crop, grey levels: boxes 0.2 px apart make 1.1 of the golden video's fine detail. */
private const val CROP_LEVELS = 2.0

class VideosTest {
    private val spec = Golden.bundle.spec

    @TestFactory
    fun `videos get the answer of Python, from the same boxes`() =
        Golden.videos.map { video -> DynamicTest.dynamicTest(video.facts.name) { check(video) } }

    private fun check(video: RawVideo) {
        val faces = mutableListOf<FaceFrame>()
        val answer = Detector(Golden.bundle, Golden.engine).use { detector ->
            detector.watch = { faces += it }
            checkNotNull(detector.detect(video))
        }
        val expected = video.facts.answer
        val (px, levels) = compareFaces(video, faces)
        println(
            "%-36s %-10s %-6s p_fake %.4f (%+.5f), boxes %.4f px, lips %.3f levels, %d faces".format(
                video, answer.status, answer.verdict, answer.pFake ?: Double.NaN,
                (answer.pFake ?: 0.0) - (expected.pFake ?: 0.0), px, levels, faces.size,
            ),
        )
        assertEquals(expected.status, answer.status.name.lowercase())
        assertEquals(expected.verdict, answer.verdict?.name?.lowercase())
        assertTrue(px <= BOX_PX, "boxes differ by $px px")
        assertTrue(levels <= CROP_LEVELS, "lips differ by $levels grey levels")
        val pFake = expected.pFake ?: return
        assertEquals(pFake, checkNotNull(answer.pFake), P_FAKE)
        assertEquals(expected.clips.map { it[0].toInt() to it[1] }.toSet(), answer.clips.map { it.trackId to it.startS }.toSet())
    }

    /** Largest difference of a box's centre or side, px, and of a lip crop, mean grey levels. */
    private fun compareFaces(video: RawVideo, faces: List<FaceFrame>): Pair<Double, Double> {
        val expected = video.facts.faces.map { Triple(it[0].toInt(), it[1].toInt(), it[2] == 1.0) }
        val found = faces.map { Triple(it.index, it.trackId, it.isInterpolated) }
        // Python stops at the first reason for no verdict that it meets.
        val isWhole = video.facts.answer.status !in setOf("unreadable", "no_audio")
        assertEquals(expected, if (isWhole) found else found.take(expected.size))
        val lips = video.lips
        val lipBytes = spec.picture.lipPx * spec.picture.lipPx * 3
        var px = 0.0
        var levels = 0.0
        faces.take(expected.size).forEachIndexed { number, face ->
            val boxes = listOf(face.boxes.face, face.boxes.lip).flatMap { listOf(it.x, it.y, it.side) }
            boxes.forEachIndexed { i, value -> px = maxOf(px, abs(value - video.facts.faces[number][3 + i])) }
            val sum = face.lip.indices.sumOf { abs((face.lip[it].toInt() and 0xFF) - (lips[number * lipBytes + it].toInt() and 0xFF)) }
            levels = maxOf(levels, sum / lipBytes.toDouble())
        }
        return px to levels
    }
}
