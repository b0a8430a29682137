@file:OptIn(kotlinx.serialization.ExperimentalSerializationApi::class)

package dfkit.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.sqrt
import kotlinx.serialization.Serializable
import kotlinx.serialization.SerializationException

private const val GOLDEN_FILE = "golden/golden.json"
private const val GOLDEN_VERSION = 2

@Serializable
internal class ArrayFile(val file: String, val shape: List<Int>, val dtype: String)

@Serializable
internal class OutputLimits(
    val tolerance: Double,
    val smallestDifference: Double,
    val noise: Double,
    val power: Boolean,
    val reason: String,
)

@Serializable
internal class GoldenCase(
    val name: String,
    val inputs: Map<String, ArrayFile>,
    val outputs: Map<String, Map<String, ArrayFile>>,
)

@Serializable
internal class GoldenControl(
    val name: String,
    val part: String,
    val output: String,
    val cases: Map<String, Int>,
    val answers: Map<String, ArrayFile>,
)

@Serializable
internal class GoldenSet(
    val name: String,
    val graphs: Map<String, Map<String, String>> = emptyMap(),
    val limits: Map<String, Map<String, OutputLimits>>,
    val encode: List<GoldenCase> = emptyList(),
    val score: List<GoldenCase> = emptyList(),
    val controls: List<GoldenControl> = emptyList(),
) {
    fun casesOf(part: String) = if (part == "encode") encode else score
}

@Serializable
internal class GoldenIndex(val schemaVersion: Int, val peak: Double, val sets: List<GoldenSet>)

/**
 * One output of one golden case against the stored one.
 *
 * @property rms root mean square difference; NaN where there is no number.
 * @property largest difference of a single value.
 * @property tolerance of [rms].
 * @property hasPower whether passing proves anything.
 */
class OutputReplay internal constructor(
    val vectors: String,
    val part: String,
    val case: String,
    val output: String,
    val rms: Double,
    val largest: Double,
    val tolerance: Double,
    val hasPower: Boolean,
    val passed: Boolean,
)

/**
 * Comparison of all outputs of all golden cases on this device.
 *
 * @property numControls wrong answers that were held against the tolerances.
 * @property faults wrong answers that pass, and outputs that no vector with power decides.
 */
class ReplayReport internal constructor(val outputs: List<OutputReplay>, val numControls: Int, val faults: List<String>) {
    /** Whether every output is decided, all are within tolerance, and no wrong answer is. */
    val passed get() = outputs.isNotEmpty() && numControls > 0 && faults.isEmpty() && outputs.all { it.passed }
}

/**
 * Replays a bundle's golden vectors: the same inputs have to give the same outputs here as where it was exported, and
 * wrong answers have to fail. Card 15.
 */
class GoldenReplay(private val bundle: Bundle, private val engine: Engine, private val threads: Int = 1) {
    private val index: GoldenIndex = try {
        ManifestJson.decodeFromString(GoldenIndex.serializer(), bundle.read(GOLDEN_FILE).decodeToString())
    } catch (error: SerializationException) {
        throw BundleException("$GOLDEN_FILE in ${bundle.where} does not follow the schema: ${error.message}", FIX_COPY, error)
    }

    init {
        if (index.schemaVersion != GOLDEN_VERSION) {
            throw BundleException("$GOLDEN_FILE has version ${index.schemaVersion}, expected $GOLDEN_VERSION", "export the model again")
        }
    }

    /** @throws BundleException a graph or an array cannot be loaded. */
    fun run(): ReplayReport {
        val outputs = index.sets.filter { it.graphs.isEmpty() || BACKEND in it.graphs }.flatMap { replay(it) }
        val controls = index.sets.flatMap { set -> set.controls.filter { BACKEND in it.answers }.map { set to it } }
        val judged = controls.filter { (set, control) -> limits(set)[control.output]?.power == true }
        val passing = judged.filter { (set, control) -> passes(set, control) }
            .map { (set, control) -> "${set.name} ${control.part} ${control.output}: the wrong answer '${control.name}' passes" }
        return ReplayReport(outputs, judged.size, passing + undecided(outputs))
    }

    private fun replay(set: GoldenSet): List<OutputReplay> {
        val stand = set.graphs[BACKEND].orEmpty()
        return Graphs(bundle, engine, threads) { bundle.read(stand[it] ?: it) }.use { graphs ->
            listOf("encode", "score").flatMap { part ->
                set.casesOf(part).flatMap { case -> replay(set, part, case, answers(graphs, part, case)) }
            }
        }
    }

    private fun answers(graphs: Graphs, part: String, case: GoldenCase): Map<String, FloatArray> =
        if (part == "encode") graphs.encode(case.inputs.mapValues { readBytes(it.value) })
        else graphs.score(case.inputs.mapValues { readFloats(it.value) })

    private fun replay(set: GoldenSet, part: String, case: GoldenCase, found: Map<String, FloatArray>): List<OutputReplay> {
        val expected = case.outputs[BACKEND].orEmpty()
        return (expected.keys + found.keys).sorted().map { name ->
            val limit = limits(set)[name]
            val known = expected[name]?.let { readFloats(it) }
            val values = found[name]
            val difference = if (limit == null || known == null || values == null) Difference.NONE else Difference.of(values, known)
            val passed = limit != null && difference.isWithin(limit.tolerance, index.peak)
            OutputReplay(
                set.name, part, case.name, name, difference.rms, difference.largest, limit?.tolerance ?: Double.NaN,
                limit?.power == true, passed,
            )
        }
    }

    private fun passes(set: GoldenSet, control: GoldenControl): Boolean {
        val case = set.casesOf(control.part)[control.cases.getValue(BACKEND)]
        val expected = readFloats(case.outputs.getValue(BACKEND).getValue(control.output))
        val wrong = readFloats(control.answers.getValue(BACKEND))
        return Difference.of(wrong, expected).isWithin(limits(set).getValue(control.output).tolerance, index.peak)
    }

    private fun undecided(outputs: List<OutputReplay>): List<String> {
        val decided = outputs.filter { it.hasPower }.map { it.part to it.output }.toSet()
        val parts = listOf("encode" to bundle.graphs.encode, "score" to bundle.graphs.score)
        return parts.flatMap { (part, signature) -> signature?.outputs.orEmpty().map { part to it.name } }
            .filter { it !in decided }.map { (part, output) -> "$part $output: no golden case with power decides it" }
    }

    private fun limits(set: GoldenSet) = set.limits[BACKEND].orEmpty()

    private fun readBytes(entry: ArrayFile): ByteArray {
        val content = bundle.read("golden/${entry.file}")
        val expected = entry.shape.fold(if (entry.dtype == "float32") Float.SIZE_BYTES else 1) { size, side -> size * side }
        if (content.size != expected) throw BundleException("golden/${entry.file} has ${content.size} bytes, not $expected", FIX_COPY)
        return content
    }

    private fun readFloats(entry: ArrayFile): FloatArray =
        ByteBuffer.wrap(readBytes(entry)).order(ByteOrder.LITTLE_ENDIAN).toFloats()
}

/** How far two arrays are apart. */
internal class Difference private constructor(val rms: Double, val largest: Double) {
    /** A NaN is within nothing. */
    fun isWithin(tolerance: Double, peak: Double) = rms <= tolerance && largest <= peak * tolerance

    companion object {
        /** Of what cannot be compared. */
        val NONE = Difference(Double.NaN, Double.NaN)

        fun of(found: FloatArray, expected: FloatArray): Difference {
            if (found.size != expected.size) return NONE
            val differences = found.indices.map { abs(found[it].toDouble() - expected[it]) }
            if (differences.any { !it.isFinite() }) return NONE
            return Difference(sqrt(differences.sumOf { it * it } / differences.size), differences.max())
        }
    }
}
