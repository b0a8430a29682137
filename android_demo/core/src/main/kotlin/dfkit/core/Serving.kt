package dfkit.core

import kotlinx.serialization.Serializable
import kotlinx.serialization.json.JsonObject

// Constants of the way from a file to an answer: `serving` of the manifest. What is done with them says MODEL_CARD.md of
// the bundle; the numbers in brackets in this module's comments are its sections.

@Serializable
internal class Serving(
    val pictures: PictureServing,
    val sound: SoundServing,
    val decision: DecisionServing,
    val detector: DetectorServing? = null,
    val landmarks: LandmarkServing? = null,
    val tracker: TrackServing? = null,
    val cuts: CutServing? = null,
    val evidence: EvidenceServing? = null,
    val boxes: BoxServing? = null,
    val wholeVideo: JsonObject? = null,
    val fullRangeDetector: DetectorServing? = null,
)

@Serializable
internal class PictureServing(
    val demuxers: List<String>,
    val endTolerance: Double,
    val tieToleranceS: Double,
    val defaultStepS: Double,
    val maxHoleS: Double,
    val maxSidePx: Int,
    val maxAreaPx: Int,
    val maxTrackedPx: Int,
    val matrices: Map<Int, List<Double>>,
    val untaggedHdFrom: Int,
    val untaggedHd: List<Double>,
    val untaggedSd: List<Double>,
    val statingDemuxers: List<String>,
    val minPictures: Int,
    val clockBackS: Double,
    val maxAspect: Double,
    val squareTolerance: Double,
    val averageFrom: Int,
    val transfers: Map<Int, String>,
    val hlgWhite: Double,
    val pqWhite: Double,
    val gammas: Map<String, Double>,
    val knee: Double,
    val bt2020ToHd: List<List<Double>>,
    val bt2020ToSd: List<List<Double>>,
)

@Serializable
internal class DetectorServing(
    val inputPx: Int,
    val inputRange: List<Double>,
    val anchorGrids: List<List<Int>>,
    val scoreClip: Double,
    val minScore: Double,
    val mergeIou: Double,
    val eyes: List<Int>,
    val roiScale: Double,
)

@Serializable
internal class LandmarkServing(
    val inputPx: Int,
    val inputRange: List<Double>,
    val numPoints: Int,
    val valuesPerPoint: Int,
    val minPresence: Double,
    val eyes: List<Int>,
    val roiScale: Double,
)

@Serializable
internal class TrackServing(
    val detectEvery: Int,
    val sameRegionIou: Double,
    val sameFaceIou: Double,
    val smoothHalf: Int,
    val fullRangeEvery: Int? = null,
)

@Serializable
internal class CutServing(
    val grid: Int,
    val lumaWeights: List<Int>,
    val bins: Int,
    val minDifference: Double,
    val minHistogramDistance: Double,
    val sureDifference: Double,
)

@Serializable
internal class BoxServing(
    val outerLip: List<Int>,
    val minLongerPx: Double,
    val maxLongerPx: Double,
)

@Serializable
internal class SoundServing(
    val maxRateHz: Int,
    val maxDriftS: Double,
    val maxAheadS: Double,
    val channelWeights: Map<String, Double>,
    val digitalSilence: Double,
    val cancelledShare: Double,
    val nanAs: Double,
    val infiniteAs: Double,
    val stopBandDb: Double,
    val transition: Double,
    val kaiserBeta: List<Double>,
    val kaiserLength: List<Double>,
)

@Serializable
internal class EvidenceServing(
    val minReadShare: Double,
    val missingS: Double,
    val minPicturesPerS: Double,
    val minFacePx: Double,
    val minFaceLuma: Double,
    val minChange: Double,
    val sampleStep: Int,
)

@Serializable
internal class DecisionServing(val statuses: List<String>, val smallSum: Double)
