package dfkit.core

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.sin
import kotlin.math.sqrt

/**
 * Resamples a mono signal block by block with a polyphase FIR filter; the blocks' sizes do not change the result.
 * Card 10.3. Equal rates leave the signal as it is.
 *
 * @see "Crochiere and Rabiner, Multirate Digital Signal Processing, 1983, section 3.3; Kaiser's window design"
 */
internal class Resampler(private val rateIn: Int, private val rateOut: Int, rules: SoundServing) {
    private val divisor = gcd(rateIn, rateOut)
    private val up = rateOut / divisor
    private val down = rateIn / divisor
    private val phases = if (rateIn == rateOut) emptyArray() else designFilter(rateIn, rateOut, rules)
    private val taps = if (phases.isEmpty()) 0 else phases[0].size

    /** Inputs from the first one on that the next output needs; the first are silence before the signal. */
    private var pending = FloatArray(maxOf(taps / 2 - 1, 0))

    /** Where the next output lies after the input in the middle of its taps, in 1 / up of a sample. */
    private var phase = 0
    private var numOutputs = 0L

    /** Takes the next samples; gives the outputs that are complete by now. */
    fun push(block: FloatArray): FloatArray {
        if (rateIn == rateOut) return block.copyOf()
        pending += block
        val spare = pending.size - taps
        return if (spare < 0) FloatArray(0) else makeOutputs(((spare.toLong() * up - phase) / down + 1).toInt())
    }

    /**
     * Ends the signal with silence.
     *
     * @param total number of input samples there were.
     * @return the rest of ceil(total * up / down) outputs.
     */
    fun flush(total: Long): FloatArray {
        if (rateIn == rateOut) return FloatArray(0)
        pending += FloatArray(taps / 2 + 1)
        val all = (total * up + down - 1) / down
        return makeOutputs((all - numOutputs).toInt())
    }

    private fun makeOutputs(count: Int): FloatArray {
        if (count <= 0) return FloatArray(0)
        var start = 0
        val outputs = FloatArray(count) {
            val filter = phases[phase]
            var sum = 0f
            for (k in 0 until taps) sum += pending[start + k] * filter[k]
            val step = phase + down
            start += step / up
            phase = step % up
            sum
        }
        pending = pending.copyOfRange(minOf(start, pending.size), pending.size)
        numOutputs += count
        return outputs
    }
}

/** (up, taps) coefficients: entry [p][k] weighs x[i + k - taps / 2 + 1] where the output lies p / up after x[i]. */
internal fun designFilter(rateIn: Int, rateOut: Int, rules: SoundServing): Array<FloatArray> {
    val up = rateOut / gcd(rateIn, rateOut)
    val narrow = minOf(1.0, rateOut.toDouble() / rateIn)
    val beta = rules.kaiserBeta[0] * (rules.stopBandDb - rules.kaiserBeta[1])
    val length = (rules.stopBandDb - rules.kaiserLength[0]) / (rules.kaiserLength[1] * PI * rules.transition * narrow)
    val half = ceil(length / 2).toInt()
    val cutoff = narrow * (1 - rules.transition / 2)
    return Array(up) { phase ->
        val values = DoubleArray(2 * half) {
            val distance = it - half + 1 - phase / up.toDouble()
            val inside = 1 - (distance / half) * (distance / half)
            sinc(distance * cutoff) * besselI0(beta * sqrt(maxOf(0.0, inside)))
        }
        val sum = values.sum()
        FloatArray(values.size) { (values[it] / sum).toFloat() }
    }
}

private fun sinc(x: Double) = if (abs(x) < 1e-12) 1.0 else sin(PI * x) / (PI * x)

/** Modified Bessel function of the first kind and order 0, by its power series. */
private fun besselI0(x: Double): Double {
    var term = 1.0
    var sum = 1.0
    var k = 1
    while (term > sum * 1e-17) {
        term *= (x / (2 * k)) * (x / (2 * k))
        sum += term
        k++
    }
    return sum
}

internal fun gcd(a: Int, b: Int): Int = if (b == 0) a else gcd(b, a % b)
