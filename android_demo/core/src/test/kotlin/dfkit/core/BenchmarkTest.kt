package dfkit.core

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.double
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

private val DEVICE = Device("maker", "one", "chip", "14", 34, "arm64-v8a", 8, 8.0, "0.1.0", "2026-01-01T00:00:00Z")

class BenchmarkTest {
    /** A clock that goes a step further with each look. */
    private var stepNs = 1_000_000L
    private var lookedAt = 0L
    private var heats = 0

    private val benchmark = Benchmark(
        Golden.engine,
        open = { Golden.bundle },
        heat = { Heat("none", 30.0 + heats++) },
        nanoTime = { stepNs * lookedAt++ },
    )

    @Test
    fun `stages are those of Python, by a clock that is known`() {
        val report = checkNotNull(benchmark.run(DEVICE, importMs = 12.0, repeats = 4, sustainedS = 0.0))
        assertEquals(listOf("encode_one", "encode_clip", "score", "clip", "next_clip"), report.latencyMs.getValue(report.primary).keys.toList())
        val stages = report.latencyMs.getValue(report.primary)
        val numFrames = Golden.bundle.spec.numFrames
        assertEquals(4 * numFrames, stages.getValue("encode_one").num)
        assertEquals(1.0, stages.getValue("encode_one").p99Ms)
        // Two looks at each picture and one at the end; then one behind the score.
        assertEquals(2.0 * numFrames + 1, stages.getValue("encode_clip").p50Ms)
        assertEquals(1.0, stages.getValue("score").p50Ms)
        assertEquals(2.0 * numFrames + 2, report.clip.p90Ms)
        assertEquals(4, report.clip.num)
        assertEquals(12.0, report.coldStart.importMs)
        assertTrue(report.golden.passed && report.golden.numControls > 0)
        assertTrue(checkNotNull(report.coldStart.peakMb) >= checkNotNull(report.coldStart.baselineMb))
        assertEquals(emptyList<HeatWindow>(), report.sustained)
    }

    @Test
    fun `work without a pause is told by windows, each with its heat`() {
        stepNs = 20_000_000
        val report = checkNotNull(benchmark.run(DEVICE, importMs = null, repeats = 3, sustainedS = 25.0))
        assertEquals(listOf(30.0, 31.0, 32.0), report.sustained.map { it.heat.batteryC })
        assertTrue(report.sustained.zipWithNext().all { (a, b) -> a.endS < b.endS } && report.sustained.last().endS >= 25)
        val json = Json.parseToJsonElement(report.toJson()).jsonObject
        assertEquals("phone", json.getValue("measured_by").jsonPrimitive.content)
        assertEquals(1, json.getValue("schema_version").jsonPrimitive.double.toInt())
        assertEquals(3, json.getValue("sustained").jsonArray.size)
        val clip = json.getValue("latency_ms").jsonObject.getValue(report.primary).jsonObject.getValue("clip").jsonObject
        assertEquals(report.clip.p90Ms, clip.getValue("p90_ms").jsonPrimitive.double)
        val model = Golden.bundle.graphs.score.file
        assertEquals(Golden.bundle.manifest.files.getValue(model).sha256, json.getValue("files").jsonObject.getValue(model).jsonPrimitive.content)
    }

    @Test
    fun `percentiles lie between neighbours, as numpy's`() {
        val found = Percentiles.of(listOf(40, 10, 30, 20).map { it * 1_000_000L })
        assertEquals(listOf(25.0, 37.0, 39.7), listOf(found.p50Ms, found.p90Ms, found.p99Ms).map { Math.round(it * 10) / 10.0 })
    }

    @Test
    fun `false stops it, in either part`() {
        assertEquals(null, benchmark.run(DEVICE, null, repeats = 3, sustainedS = 0.0) { false })
        var sustained = false
        assertEquals(null, benchmark.run(DEVICE, null, repeats = 3, sustainedS = 100.0) {
            sustained = it.part == Benchmark.Part.SUSTAINED
            !sustained
        })
        assertTrue(sustained)
        assertFalse(heats > 0)
    }
}
