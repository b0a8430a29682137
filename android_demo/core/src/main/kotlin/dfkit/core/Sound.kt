package dfkit.core

import kotlin.math.abs

/**
 * Sound as it arrives: mono, resampled, placed against the first picture, forgotten once nothing needs it.
 *
 * @param rateIn Hz of what is pushed.
 */
internal class Sound(private val rateIn: Int, channels: List<String>, private val rate: Int, private val rules: SoundServing) {
    private val mixer = MonoMixer(channels, rateIn, rules)
    private var resampler = Resampler(rateIn, rate, rules)
    private val kept = ArrayDeque<FloatArray>()
    private var numKept = 0L
    private var numDropped = 0L
    private var total = 0L
    private var originS = Double.NaN
    private var ended = false
    private var neededFrom = Long.MIN_VALUE / 4 // far before everything

    /** Time of the first picture, s; sample 0 lies there. */
    var firstPictureS = 0.0

    /** Whether anything was heard so far. */
    val isAudible get() = mixer.isAudible

    private val start: Long
        get() = if (originS.isNaN()) 0 else Math.rint((originS - firstPictureS) * rate).toLong() + numDropped

    /** Samples that arrived and are not needed yet, s. */
    val aheadS get() = (numKept - maxOf(neededFrom - start, 0)).toDouble() / rate

    init {
        require(rateIn in 1..rules.maxRateHz) { "sound at $rateIn Hz, 1 to ${rules.maxRateHz} Hz are expected" }
    }

    /**
     * Takes the next block.
     *
     * @param interleaved samples in [-1, 1].
     * @param tS time of its first sample on the pictures' clock; a block that lies further than `max_drift_s` from the end
     *   of the one before is moved to its own time.
     */
    fun push(interleaved: FloatArray, tS: Double) {
        check(!ended) { "sound after its end" }
        var mono = mixer.mix(interleaved)
        if (originS.isNaN()) originS = tS
        val lateS = tS - (originS + total.toDouble() / rateIn)
        // A decoder whose clock jumps this far has ended its sound: card 10.2.
        if (abs(lateS) > rules.maxAheadS) {
            end()
            return
        }
        if (abs(lateS) > rules.maxDriftS) {
            val shift = Math.rint(lateS * rateIn).toInt()
            mono = if (shift > 0) FloatArray(shift) + mono else mono.copyOfRange(minOf(-shift, mono.size), mono.size)
        }
        total += mono.size
        keep(resampler.push(mono))
    }

    /** Whether more may be pushed. */
    val isOpen get() = !ended

    /** Ends the sound: what is read past its end is silence. */
    fun end() {
        if (!ended) keep(resampler.flush(total))
        ended = true
    }

    /** Whether everything before a sample has arrived, or the sound has ended. */
    fun has(end: Long) = ended || (!originS.isNaN() && start + numKept >= end)

    /** Says that nothing before a sample will be read. */
    fun forget(before: Long) {
        neededFrom = maxOf(neededFrom, before)
        drop()
    }

    /** Samples from `from` on, counted from the first picture; zeros outside of the sound. */
    fun read(from: Long, count: Int): FloatArray {
        forget(from)
        val result = FloatArray(count)
        var first = start
        for (block in kept) {
            val left = maxOf(from, first)
            val right = minOf(from + count, first + block.size)
            if (right > left) {
                block.copyInto(result, (left - from).toInt(), (left - first).toInt(), (right - first).toInt())
            }
            first += block.size
        }
        return result
    }

    private fun keep(block: FloatArray) {
        if (block.isEmpty()) return
        kept += block
        numKept += block.size
        drop()
    }

    private fun drop() {
        var surplus = minOf(maxOf(neededFrom - start, 0), numKept)
        numKept -= surplus
        numDropped += surplus
        while (surplus > 0) {
            val block = kept.removeFirst()
            if (block.size > surplus) kept.addFirst(block.copyOfRange(surplus.toInt(), block.size))
            surplus -= minOf(surplus, block.size.toLong())
        }
    }
}
