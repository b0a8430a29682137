package dfkit.core

import kotlin.math.abs

/** Whether a scene ends between two pictures' luma samples: card 4. */
internal fun isCut(before: IntArray, after: IntArray, rules: CutServing): Boolean {
    val difference = before.indices.sumOf { abs(before[it] - after[it]) } / before.size.toDouble()
    if (difference >= rules.sureDifference) return true
    if (difference < rules.minDifference) return false
    val bins = IntArray(rules.bins)
    for (luma in before) bins[luma / (256 / rules.bins)]++
    for (luma in after) bins[luma / (256 / rules.bins)]--
    return bins.sumOf { abs(it) } / (2.0 * before.size) >= rules.minHistogramDistance
}
