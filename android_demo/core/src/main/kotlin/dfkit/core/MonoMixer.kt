package dfkit.core

import kotlin.math.abs

/**
 * Mixes channels into one, and hears whether there is anything: card 10.
 *
 * @param channels FFmpeg's names of the channels in order, such as FL, FR, FC.
 */
internal class MonoMixer(channels: List<String>, private val rate: Int, private val rules: SoundServing) {
    private val weights = channels.map { rules.channelWeights[it] }.let { named ->
        val isUsable = named.size > 1 && named.all { it != null } && named.any { it != 0.0 }
        FloatArray(named.size) { (if (isUsable) checkNotNull(named[it]) else 1.0 / named.size).toFloat() }
    }
    private var peak = 0f
    private var mixedPower = 0.0
    private var separatePower = 0.0
    private var numHeard = 0
    private var wasLoud = false

    /** Whether a stretch of about a second was more than silence, and more than channels that cancel each other out. */
    val isAudible get() = wasLoud || isLoud()

    /** Interleaved samples in [-1, 1] to mono; what is no number is silence. */
    fun mix(interleaved: FloatArray): FloatArray {
        val count = interleaved.size / weights.size
        val mono = FloatArray(count) { i ->
            var sum = 0f
            for (channel in weights.indices) {
                val part = weights[channel] * finite(interleaved[i * weights.size + channel])
                separatePower += part.toDouble() * part
                sum += part
            }
            peak = maxOf(peak, abs(sum))
            mixedPower += sum.toDouble() * sum
            sum
        }
        numHeard += count
        if (numHeard >= rate) endStretch()
        return mono
    }

    private fun finite(sample: Float): Float = when {
        sample.isNaN() -> rules.nanAs.toFloat()
        sample.isInfinite() -> (if (sample > 0) rules.infiniteAs else -rules.infiniteAs).toFloat()
        else -> sample
    }

    private fun isLoud() = peak > rules.digitalSilence && mixedPower > rules.cancelledShare * separatePower

    private fun endStretch() {
        wasLoud = wasLoud || isLoud()
        peak = 0f
        mixedPower = 0.0
        separatePower = 0.0
        numHeard = 0
    }
}
