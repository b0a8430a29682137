package dfkit.core

import kotlin.math.abs
import kotlin.math.log10
import kotlin.math.sqrt
import kotlin.random.Random
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

class ResamplerTest {
    private val rules = Golden.bundle.serving.sound
    private val rateOut = Golden.bundle.spec.audio.sampleRate

    private fun resample(waveform: FloatArray, rate: Int, sizes: Sequence<Int>): FloatArray {
        val resampler = Resampler(rate, rateOut, rules)
        var result = FloatArray(0)
        var next = 0
        for (size in sizes) {
            if (next >= waveform.size) break
            val end = minOf(next + size, waveform.size)
            result += resampler.push(waveform.copyOfRange(next, end))
            next = end
        }
        return result + resampler.flush(waveform.size.toLong())
    }

    @ParameterizedTest
    @ValueSource(ints = [8000, 11025, 16000, 22050, 44100, 48000, 96000])
    fun `sound is that of Python to -60 dB of its own level`(rate: Int) {
        val found = resample(Golden.floats("resample/${rate}_in.f32"), rate, generateSequence { 1024 })
        val expected = Golden.floats("resample/${rate}_out.f32")
        assertEquals(expected.size, found.size)
        val noise = sqrt(found.indices.sumOf { val d = found[it].toDouble() - expected[it]; d * d })
        val level = sqrt(expected.sumOf { it.toDouble() * it })
        val db = 20 * log10(maxOf(noise / level, 1e-10))
        println("resampled from $rate Hz: $db dB")
        assertTrue(db < -60, "$db dB")
    }

    @ParameterizedTest
    @ValueSource(ints = [8000, 44100, 48000])
    fun `pieces of any size give the whole`(rate: Int) {
        val waveform = Golden.floats("resample/${rate}_in.f32")
        val whole = resample(waveform, rate, sequenceOf(waveform.size))
        repeat(20) { seed ->
            val random = Random(seed)
            assertArrayEquals(whole, resample(waveform, rate, generateSequence { random.nextInt(1, 3000) }))
        }
        assertTrue(whole.any { abs(it) > 0.1f })
    }
}
