package dfkit.core

import kotlin.math.PI
import kotlin.math.cos

/** Weights of a Hann window over 2 half + 1 pictures, from its centre outwards. */
internal fun smoothingWeights(half: Int) = DoubleArray(half + 1) { 0.5 + 0.5 * cos(PI * it / (half + 1)) }

/** Landmarks of one track in a window of pictures, gaps closed: card 8.1 and 8.2. Null where the face is absent. */
internal fun fillGaps(window: Array<FloatArray?>, now: Int, maxGap: Int): Array<FloatArray?> {
    val filled = window.copyOf()
    val rows = window.indices.filter { window[it] != null }
    for ((before, after) in rows.zipWithNext()) {
        if (after - before in 2..maxGap + 1) interpolate(filled, before, after)
    }
    for (row in 0..now) {
        if (filled[row] != null) continue
        val earlier = rows.lastOrNull { it < row }
        val later = rows.firstOrNull { it > row }
        val nearest = earlier ?: later ?: continue
        if (kotlin.math.abs(nearest - row) <= maxGap) filled[row] = window[nearest]
    }
    return filled
}

private fun interpolate(filled: Array<FloatArray?>, before: Int, after: Int) {
    val from = checkNotNull(filled[before])
    val to = checkNotNull(filled[after])
    for (row in before + 1 until after) {
        val share = (row - before).toFloat() / (after - before)
        filled[row] = FloatArray(from.size) { from[it] + (to[it] - from[it]) * share }
    }
}

/** Weighted mean around one picture: card 8.4. Pairs before and after count together, so that nothing lags. */
internal fun smoothAt(filled: Array<FloatArray?>, now: Int, weights: DoubleArray): FloatArray {
    val shares = DoubleArray(filled.size)
    shares[now] = weights[0]
    for (offset in 1 until weights.size) {
        val before = now - offset
        val after = now + offset
        if (before >= 0 && after < filled.size && filled[before] != null && filled[after] != null) {
            shares[before] = weights[offset]
            shares[after] = weights[offset]
        }
    }
    val total = shares.sum()
    val result = FloatArray(checkNotNull(filled[now]).size)
    for (row in shares.indices.filter { shares[it] > 0 }) {
        val share = (shares[row] / total).toFloat()
        val values = checkNotNull(filled[row])
        for (i in result.indices) result[i] += share * values[i]
    }
    return result
}
