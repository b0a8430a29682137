@file:OptIn(ExperimentalSerializationApi::class)

package dfkit.core

import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonNamingStrategy
import kotlinx.serialization.json.JsonObject

/** The version of manifest.json that is read; what each field means says manifest.schema.json of the bundle. */
internal const val MANIFEST_VERSION = 4

/** The version of the clip contract that is read. */
internal const val CLIP_SPEC_VERSION = 1

/** Keys are as in Python, and unknown ones are refused: what they ask for would not be done. */
internal val ManifestJson = Json { namingStrategy = JsonNamingStrategy.SnakeCase }

/** Content of manifest.json, as far as a phone needs it. */
@Serializable
internal class Manifest(
    val schemaVersion: Int,
    val name: String,
    val dfkitVersion: String,
    val clipSpec: ClipSpec,
    val modalities: List<String>,
    val network: JsonObject,
    val backends: Map<String, Backend>,
    val operatingPoint: OperatingPoint,
    val calibration: Calibration,
    val aggregation: Aggregation = Aggregation(),
    val decisionMuted: DecisionEntry? = null,
    val familiarity: Familiarity? = null,
    val files: Map<String, FileEntry>,
    val faceModels: Map<String, FaceModelEntry>,
    val serving: Serving? = null,
    val metrics: JsonObject? = null,
    val calibrationSet: JsonObject? = null,
    val warnings: List<String> = emptyList(),
    val versions: Map<String, String> = emptyMap(),
) {
    val decision get() = Decision(operatingPoint, calibration, aggregation)
    val takesSound get() = "audio" in modalities
}

@Serializable
internal class FileEntry(val bytes: Long, val sha256: String)

@Serializable
internal class FaceModelEntry(
    val bytes: Long,
    val sha256: String,
    val role: String? = null,
    val file: String? = null,
    val source: String? = null,
    val license: String? = null,
)

/** One input or output of a graph: real = (stored - zeroPoint) * scale. */
@Serializable
internal class TensorEntry(
    val name: String,
    val tensor: String,
    val shape: List<Int>,
    val dtype: String,
    val scale: Double = 1.0,
    val zeroPoint: Int = 0,
) {
    val size get() = shape.fold(1) { product, side -> product * side }
}

@Serializable
internal class Signature(
    val file: String,
    val key: String,
    val inputs: List<TensorEntry>,
    val outputs: List<TensorEntry>,
)

@Serializable
internal class Backend(
    val recipe: String,
    val encode: Signature?,
    val score: Signature,
    val opset: Int? = null,
    val irVersion: Int? = null,
    val runtimes: Map<String, String> = emptyMap(),
    val operators: Map<String, Map<String, Int>> = emptyMap(),
    val constantBytes: Map<String, Long> = emptyMap(),
    val int8Share: Double? = null,
)

@Serializable
internal class OperatingPoint(
    val threshold: Double,
    val reviewLow: Double,
    val reviewHigh: Double,
    val name: String,
    val interval: List<Double>? = null,
)

@Serializable
internal class Calibration(
    val calibrationTemperature: Double = 1.0,
    val fittedOn: String = "not fitted",
    val interval: List<Double>? = null,
)

@Serializable
internal class Aggregation(
    val name: String = "mean",
    val k: Int = 1,
    val chosenOn: String = "",
)

@Serializable
internal class DecisionEntry(
    val operatingPoint: OperatingPoint,
    val calibration: Calibration,
    val aggregation: Aggregation = Aggregation(),
) {
    val decision get() = Decision(operatingPoint, calibration, aggregation)
}

@Serializable
internal class Familiarity(
    val spreads: Map<String, FeatureSpread> = emptyMap(),
    val maxDistance: Double? = null,
    val fittedOn: String = "",
    val differences: Map<String, Double> = emptyMap(),
)

@Serializable
internal class FeatureSpread(
    val mean: List<Double>,
    val axes: List<List<Int>>,
    val scales: List<Double>,
)

@Serializable
internal class AudioSpec(
    val sampleRate: Int,
    val nFft: Int,
    val hopLength: Int,
    val centered: Boolean,
    val nMels: Int,
    val nMfcc: Int,
    val amin: Double,
    val topDb: Double,
)

@Serializable
internal class PictureSpec(
    val facePx: Int,
    val lipPx: Int,
    val faceScale: Double,
    val lipScale: Double,
)

@Serializable
internal class TrackSpec(val lookAheadS: Double, val maxGapS: Double, val maxFaces: Int)

/** The clip contract: what training and serving agree on. */
@Serializable
internal class ClipSpec(
    val schemaVersion: Int,
    val preset: String,
    val fps: Double,
    val numFrames: Int,
    val hopS: Double,
    val audio: AudioSpec,
    val picture: PictureSpec,
    val track: TrackSpec,
) {
    /** Seconds of a clip. */
    val clipS get() = numFrames / fps

    /** Grid points between the starts of two clips. */
    val hopFrames get() = Math.rint(hopS * fps).toInt()

    /** Samples of a clip. */
    val numSamples get() = (numFrames - 1) * audio.hopLength + audio.nFft
    val maxGapFrames get() = (track.maxGapS * fps).toInt()
    val lookAheadFrames get() = (track.lookAheadS * fps).toInt()

    /** First sample of the clip that starts at a grid point, counted from the first picture; may be negative. */
    internal fun firstSample(start: Int): Long =
        Math.rint(start / fps * audio.sampleRate).toLong() - audio.nFft / 2

    /** First grid points of the clips of a video of so many grid points; none of one shorter than a clip. */
    internal fun clipStarts(numGridFrames: Int): List<Int> {
        val last = numGridFrames - numFrames
        if (last < 0) return emptyList()
        val starts = (0..last step hopFrames).toList()
        return if (starts.last() == last) starts else starts + last
    }
}
