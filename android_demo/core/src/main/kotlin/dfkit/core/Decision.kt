package dfkit.core

import kotlin.math.exp
import kotlin.math.expm1
import kotlin.math.ln
import kotlin.math.ln1p
import kotlin.math.abs

/** One clip as the decision takes it: its track, its start in s, and its logit of fake less that of real. */
internal class ScoredClip(val trackId: Int, val startS: Double, val margin: Double)

/** What a video's clips come to. */
internal class Judgement(
    val verdict: Verdict,
    val pFake: Double,
    val trackId: Int,
    val trackPFake: Map<Int, Double>,
    val worstClip: ScoredClip,
)

/** From the logits of a video's clips to its verdict: clip, track, video. Card 13; as dfkit/measures/decision.py. */
internal class Decision(
    private val point: OperatingPoint,
    private val calibration: Calibration,
    private val aggregation: Aggregation,
) {
    /** @throws IllegalArgumentException the manifest names an aggregation that is not known here. */
    fun judge(clips: List<ScoredClip>, smallSum: Double): Judgement {
        val margins = clips.groupBy { it.trackId }.toSortedMap()
            .mapValues { (_, own) -> aggregate(own.map { it.margin }, smallSum) }
        val suspect = checkNotNull(margins.keys.maxByOrNull { margins.getValue(it) }) { "a video of no clips" }
        val pFake = pFake(margins.getValue(suspect))
        val worst = clips.sortedWith(compareByDescending<ScoredClip> { it.margin }.thenBy { it.startS }).first()
        return Judgement(verdict(pFake), pFake, suspect, margins.mapValues { pFake(it.value) }, worst)
    }

    /** Probability of fake, in [0, 1]. */
    fun pFake(margin: Double) = 1 / (1 + exp(minOf(-margin / calibration.calibrationTemperature, 700.0)))

    private fun verdict(pFake: Double) = when {
        pFake >= point.reviewLow && pFake < point.reviewHigh -> Verdict.REVIEW
        pFake >= point.threshold -> Verdict.FAKE
        else -> Verdict.REAL
    }

    private fun aggregate(margins: List<Double>, smallSum: Double): Double = when (aggregation.name) {
        "mean" -> margins.average()
        "top_k" -> margins.sortedDescending().take(aggregation.k).average()
        "noisy_or" -> noisyOr(margins, smallSum)
        else -> throw IllegalArgumentException("aggregation '${aggregation.name}', expected mean, top_k or noisy_or")
    }
}

/** The logit of 1 - product of (1 - p): log(exp(sum of softplus) - 1). */
private fun noisyOr(margins: List<Double>, smallSum: Double): Double {
    val total = margins.sumOf { maxOf(it, 0.0) + ln1p(exp(-abs(it))) }
    if (total >= smallSum) return total + ln(-expm1(-total))
    val largest = margins.max()
    return largest + ln(margins.sumOf { exp(it - largest) })
}
