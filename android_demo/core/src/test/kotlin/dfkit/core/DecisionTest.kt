package dfkit.core

import kotlinx.serialization.Serializable
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.TestFactory

@Serializable
private class DecisionCases(val schemaVersion: Int, val cases: List<DecisionCase>)

@Serializable
private class DecisionCase(
    val name: String,
    val clips: List<DecisionClip>,
    val aggregation: Aggregation,
    val decision: DecisionRule,
    val answer: DecisionAnswer,
)

@Serializable
private class DecisionClip(val trackId: Int, val startS: Double, val logits: List<Double>)

@Serializable
private class DecisionRule(val threshold: Double, val reviewLow: Double, val reviewHigh: Double, val temperature: Double)

@Serializable
private class DecisionAnswer(
    val verdict: String,
    val pFake: Double,
    val trackId: Int,
    val trackPFake: Map<Int, Double>,
    val worstClipStartS: Double,
    val worstClipPFake: Double,
)

/** The file that Python's tests of `dfkit/measures/decision.py` replay, too. */
class DecisionTest {
    private val cases = ManifestJson.decodeFromString<DecisionCases>(Golden.decision.readText()).cases

    @TestFactory
    fun `the decision is that of Python`() = cases.map { case -> DynamicTest.dynamicTest(case.name) { check(case) } }

    private fun check(case: DecisionCase) {
        val rule = case.decision
        val point = OperatingPoint(rule.threshold, rule.reviewLow, rule.reviewHigh, "golden")
        val decision = Decision(point, Calibration(rule.temperature), case.aggregation)
        val clips = case.clips.map { clip -> ScoredClip(clip.trackId, clip.startS, clip.logits[1] - clip.logits[0]) }
        val judged = decision.judge(clips, Golden.bundle.serving.decision.smallSum)
        assertEquals(case.answer.verdict, judged.verdict.name.lowercase())
        assertEquals(case.answer.pFake, judged.pFake, TOLERANCE)
        assertEquals(case.answer.trackId, judged.trackId)
        assertEquals(case.answer.trackPFake.keys, judged.trackPFake.keys)
        case.answer.trackPFake.forEach { (track, pFake) -> assertEquals(pFake, judged.trackPFake.getValue(track), TOLERANCE) }
        assertEquals(case.answer.worstClipStartS, judged.worstClip.startS)
        assertEquals(case.answer.worstClipPFake, decision.pFake(judged.worstClip.margin), TOLERANCE)
    }

    private companion object {
        /** Both calculate in double precision; the order of sums is free. */
        const val TOLERANCE = 1e-12
    }
}
