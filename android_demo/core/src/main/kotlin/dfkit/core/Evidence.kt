package dfkit.core

import kotlin.math.abs
import kotlin.math.sqrt

/** How much of a file was read: shares in [0, 1]. */
data class ReadShares(val pictures: Double = 1.0, val sound: Double = 1.0)

/**
 * Why a score is no verdict.
 *
 * @property found what was measured; NaN where nothing was.
 * @property needed what is needed.
 */
data class Reason(val kind: Kind, val found: Double, val needed: Double) {
    /** Kinds of thin evidence: card 14.3 and 14.4. */
    enum class Kind { PICTURES_READ, SOUND_READ, FEW_PICTURES, STILL_PICTURE, SMALL_FACE, DARK_FACE, UNLIKE_TRAINING }
}

/** Medians over the different pictures of a track: card 14.2. */
internal class FaceEvidence(val facePx: Double, val luma: Double, val change: Double, val picturesPerS: Double)

/** Measures what the faces of a video are like, as they go by. */
internal class FaceMeter(private val bundle: Bundle) {
    private class Seen(val sizes: MutableList<Double>, val lumas: MutableList<Double>, val changes: MutableList<Double>) {
        var numFrames = 0
        var last: FaceFrame? = null
        var lastSample = IntArray(0)
    }

    private val rules = checkNotNull(bundle.serving.evidence)
    private val weights = checkNotNull(bundle.serving.cuts).lumaWeights
    private val tracks = mutableMapOf<Int, Seen>()

    /** Takes faces in order of time. */
    fun push(faces: List<FaceFrame>, shrink: Int) = faces.forEach { take(it, shrink) }

    private fun take(face: FaceFrame, shrink: Int) {
        val seen = tracks.getOrPut(face.trackId) { Seen(mutableListOf(), mutableListOf(), mutableListOf()) }
        seen.numFrames++
        val last = seen.last
        if (last != null && last.tS == face.tS) return // the same picture once more
        val sample = sampleOf(face.face)
        seen.sizes += face.boxes.face.side / bundle.spec.picture.faceScale * shrink
        seen.lumas += sample.indices.sumOf { sample[it] * weights[it % 3].toDouble() } / (sample.size / 3) / weights.sum()
        if (last != null && last.scene == face.scene) {
            seen.changes += sample.indices.sumOf { abs(sample[it] - seen.lastSample[it]) } / sample.size.toDouble()
        }
        seen.last = face
        seen.lastSample = sample
    }

    private fun sampleOf(face: ByteArray): IntArray {
        val px = bundle.spec.picture.facePx
        val places = (0 until px step rules.sampleStep).toList()
        val sample = IntArray(places.size * places.size * 3)
        var next = 0
        for (row in places) for (column in places) for (channel in 0..2) {
            sample[next++] = face[(row * px + column) * 3 + channel].toInt() and 0xFF
        }
        return sample
    }

    /** What a track's faces are like. */
    fun ofTrack(trackId: Int): FaceEvidence {
        val seen = tracks.getValue(trackId)
        val perS = seen.sizes.size.toDouble() / seen.numFrames * bundle.spec.fps
        return FaceEvidence(median(seen.sizes), median(seen.lumas), median(seen.changes), perS)
    }
}

/** NaN of nothing. */
internal fun median(values: List<Double>): Double {
    val sorted = values.sorted()
    return if (sorted.isEmpty()) Double.NaN else (sorted[(sorted.size - 1) / 2] + sorted[sorted.size / 2]) / 2
}

/** Why a score rests on too little: card 14.3. A value that is no number is a reason, too. */
internal fun thinEvidence(rules: EvidenceServing, read: ReadShares, hasSound: Boolean, face: FaceEvidence): List<Reason> = listOfNotNull(
    below(Reason.Kind.PICTURES_READ, read.pictures, rules.minReadShare),
    if (hasSound) below(Reason.Kind.SOUND_READ, read.sound, rules.minReadShare) else null,
    below(Reason.Kind.FEW_PICTURES, face.picturesPerS, rules.minPicturesPerS)
        ?: below(Reason.Kind.STILL_PICTURE, face.change, rules.minChange),
    below(Reason.Kind.SMALL_FACE, face.facePx, rules.minFacePx),
    below(Reason.Kind.DARK_FACE, face.luma, rules.minFaceLuma),
)

private fun below(kind: Reason.Kind, found: Double, needed: Double) = if (found >= needed) null else Reason(kind, found, needed)

/**
 * How far a clip's features lie from those of the real training videos: card 14.4. Null where nothing is judged.
 *
 * @param features of its pictures, C values each, by output of `encode`.
 */
internal fun Familiarity.distance(features: List<Map<String, FloatArray>>): Double? {
    if (maxDistance == null) return null
    // A NaN is no familiar clip: it must not be outvoted.
    return spreads.map { (name, spread) -> spread.distance(features.map { it.getValue(name) }) }
        .reduce { a, b -> if (a.isNaN() || b.isNaN()) Double.NaN else maxOf(a, b) }
}

private fun FeatureSpread.distance(features: List<FloatArray>): Double {
    val deviation = DoubleArray(mean.size) { c -> features.sumOf { it[c].toDouble() } / features.size - mean[c] }
    val along = axes.map { axis -> axis.indices.sumOf { axis[it] / 1000.0 * deviation[it] } }
    val off = DoubleArray(mean.size) { c -> deviation[c] - axes.indices.sumOf { k -> along[k] * axes[k][c] / 1000.0 } }
    val values = along + sqrt(off.sumOf { it * it })
    return sqrt(values.indices.sumOf { (values[it] / scales[it]) * (values[it] / scales[it]) } / values.size)
}
