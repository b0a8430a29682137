package dfkit.core

/** What a video is called. */
enum class Verdict { REAL, FAKE, REVIEW }

/** Whether there is a verdict, or the first reason why there is none. */
enum class Status { OK, UNREADABLE, NO_AUDIO, TOO_SHORT, NO_FACE, MODEL_ERROR }

/**
 * Scores of one clip of one face.
 *
 * @property startS seconds from the first picture; its end likewise.
 * @property pFake in [0, 1].
 * @property clipLogits 2 values, of real and of fake.
 * @property frameLogits T * 2 values.
 */
class ClipScore internal constructor(
    val trackId: Int,
    internal val startIndex: Int,
    val startS: Double,
    val endS: Double,
    val pFake: Double,
    val clipLogits: FloatArray,
    val frameLogits: FloatArray,
    internal val distance: Double?,
)

/** Places on the axis of p_fake where the verdict changes. */
data class Thresholds(val fakeFrom: Double, val reviewFrom: Double, val reviewTo: Double)

/** One place of the curve: seconds from the first picture, and p_fake in [0, 1]. */
data class CurvePoint(val tS: Double, val pFake: Double)

/**
 * What is said of a video. It never invents a score: without [Status.OK] there is no verdict.
 *
 * @property pFake of the video, in [0, 1]: that of its most suspicious face.
 * @property trackId that face.
 * @property reasons why it is [Verdict.REVIEW] whatever the score is.
 * @property clips scored clips of all faces, by time.
 * @property curve p_fake of each grid point that a clip of the face covers.
 * @property worstClip the most suspicious clip of all faces.
 * @property read how much of the file was read.
 * @property heard whether sound took part.
 */
class Answer internal constructor(
    val status: Status,
    val verdict: Verdict? = null,
    val pFake: Double? = null,
    val trackId: Int? = null,
    val reasons: List<Reason> = emptyList(),
    val clips: List<ClipScore> = emptyList(),
    val curve: List<CurvePoint> = emptyList(),
    val worstClip: ClipScore? = null,
    val read: ReadShares = ReadShares(),
    val heard: Boolean = true,
)
