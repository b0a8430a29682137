package dfkit.core

import java.io.File
import kotlinx.serialization.Serializable
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** Interpreters that are opened: one look at one shows no answer that depends on what lay in memory before. */
private val numInterpreters = System.getProperty("dfkit.interpreters")?.toInt() ?: 30

/** TensorFlow in Python has the same kernels in the same release, of another compiler. */
private const val SAME_KERNELS = 1e-4

/** What Python calculated on x86-64 is no measure to the last digits for ARM, whose INT8 kernels are others. */
private val isArm = System.getProperty("os.arch") == "aarch64"

@Serializable
private class GraphAnswer(val set: String, val part: String, val case: Int, val output: String, val file: String)

class GraphsTest {
    private val bundle = Golden.bundle
    private val index = ManifestJson.decodeFromString(GoldenIndex.serializer(), bundle.read("golden/golden.json").decodeToString())
    private val answers = ManifestJson.decodeFromString<List<GraphAnswer>>(File(Golden.folder, "graphs/answers.json").readText())

    @Test
    fun `graphs give what TensorFlow in Python gives, in 30 interpreters`() {
        val worst = mutableMapOf<String, Double>()
        repeat(numInterpreters) {
            for (set in index.sets) answersOf(set).forEach { (key, difference) -> worst.merge(key, difference, ::maxOf) }
        }
        println("${System.getProperty("os.arch")}: largest differences from TensorFlow in Python in $numInterpreters interpreters: $worst")
        assertTrue(answers.size >= 16, "only ${answers.size} answers to compare with")
        // There the bundle's own tolerances decide, in the test below.
        assertTrue(worst.values.all { if (isArm) it.isFinite() else it <= SAME_KERNELS }, "$worst")
    }

    private fun answersOf(set: GoldenSet): Map<String, Double> {
        val stand = set.graphs[BACKEND].orEmpty()
        return Graphs(bundle, Golden.engine, 1) { bundle.read(stand[it] ?: it) }.use { graphs ->
            val found = listOf("encode", "score").flatMap { part ->
                set.casesOf(part).mapIndexed { number, case -> Triple(part, number, case.run(graphs, part)) }
            }
            answers.filter { it.set == set.name }.groupBy { "${it.set} ${it.output}" }.mapValues { (_, group) ->
                group.maxOf { answer ->
                    val values = found.single { it.first == answer.part && it.second == answer.case }.third
                    Difference.of(values.getValue(answer.output), Golden.floats("graphs/${answer.file}")).largest
                }
            }
        }
    }

    private fun GoldenCase.run(graphs: Graphs, part: String): Map<String, FloatArray> {
        val content = inputs.mapValues { bundle.read("golden/${it.value.file}") }
        return if (part == "encode") graphs.encode(content) else graphs.score(content.mapValues { it.value.asFloats() })
    }

    private fun ByteArray.asFloats() = java.nio.ByteBuffer.wrap(this).order(java.nio.ByteOrder.LITTLE_ENDIAN).toFloats()

    @Test
    fun `golden vectors pass, and every wrong answer fails`() {
        val report = GoldenReplay(bundle, Golden.engine).run()
        assertTrue(report.passed, "${report.faults} ${report.outputs.filterNot { it.passed }.map { it.case to it.rms }}")
        assertTrue(report.numControls > 0)
    }
}
