package dfkit.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class MonoMixerTest {
    private val rules = Golden.bundle.serving.sound

    @Test
    fun `three channels are mixed by their weights, unknown ones alike`() {
        val weights = listOf("FL", "FR", "FC").map { rules.channelWeights.getValue(it) }
        val mixed = MonoMixer(listOf("FL", "FR", "FC"), 8000, rules).mix(floatArrayOf(0.1f, 0.2f, 0.4f, 0f, 0f, -0.5f))
        val expected = floatArrayOf((0.1 * weights[0] + 0.2 * weights[1] + 0.4 * weights[2]).toFloat(), (-0.5 * weights[2]).toFloat())
        assertArrayEquals(expected, mixed, 1e-6f)
        val unknown = MonoMixer(listOf("channel 0", "channel 1", "channel 2"), 8000, rules)
        assertArrayEquals(floatArrayOf(0.2f), unknown.mix(floatArrayOf(0.1f, 0.2f, 0.3f)), 1e-6f)
    }

    @Test
    fun `what is no number is no sound, and silence is not heard`() {
        val mixer = MonoMixer(listOf("FC"), 8000, rules)
        assertArrayEquals(floatArrayOf(rules.nanAs.toFloat(), rules.infiniteAs.toFloat()), mixer.mix(floatArrayOf(Float.NaN, Float.POSITIVE_INFINITY)))
        val silent = MonoMixer(listOf("FL", "FR"), 8000, rules)
        silent.mix(FloatArray(32_000))
        assertFalse(silent.isAudible)
        silent.mix(FloatArray(32_000) { if (it % 2 == 0) 0.5f else -0.5f }) // channels that cancel each other out
        assertFalse(silent.isAudible)
        silent.mix(FloatArray(32_000) { 0.1f * (it / 2 % 2) })
        assertTrue(silent.isAudible)
    }
}
