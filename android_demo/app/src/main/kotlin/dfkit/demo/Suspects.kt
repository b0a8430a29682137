package dfkit.demo

import dfkit.core.ClipScore
import dfkit.core.Detector
import dfkit.core.Preview
import dfkit.core.TimedPicture
import dfkit.core.VideoFile
import dfkit.core.VideoReader

/** Longer side of a picture that is kept, px. */
private const val SIDE_PX = 200

/** Between pictures that are kept, s. */
private const val EVERY_S = 0.2

/** A clip is scored at the latest so long behind its end, s: look-ahead and sound. */
private const val LATE_S = 3.0
private const val NUM_SHOTS = 3

/** A picture of the video, seconds from the first one. */
class Shot(val tS: Double, val preview: Preview)

/** Keeps pictures of the most suspicious clip while a video goes by; how much is kept does not grow with its length. */
internal class Suspects(private val detector: Detector, private val clipS: Double) {
    private val recent = ArrayDeque<Shot>()
    private var highest = Double.NEGATIVE_INFINITY
    private var firstS = Double.NaN

    /** Of the most suspicious clip so far, by time. */
    var shots = emptyList<Shot>()
        private set

    /** The same video, looked at on the way. */
    fun watching(video: VideoFile) = object : VideoFile {
        override fun open(): VideoReader {
            recent.clear()
            highest = Double.NEGATIVE_INFINITY
            firstS = Double.NaN
            val reader = video.open()
            return object : VideoReader by reader {
                override fun nextPicture() = reader.nextPicture()?.also { see(it) }
            }
        }
    }

    private fun see(picture: TimedPicture) {
        if (firstS.isNaN()) firstS = picture.tS
        val tS = picture.tS - firstS
        if (recent.isNotEmpty() && tS - recent.last().tS < EVERY_S) return
        recent += Shot(tS, detector.preview(picture.picture, SIDE_PX))
        while (recent.first().tS < tS - clipS - LATE_S) recent.removeFirst()
    }

    /** Takes a scored clip. */
    fun judge(clip: ClipScore) {
        if (clip.pFake <= highest) return
        highest = clip.pFake
        val within = recent.filter { it.tS >= clip.startS && it.tS <= clip.endS }
        shots = if (within.size <= NUM_SHOTS) within else List(NUM_SHOTS) { within[it * (within.size - 1) / (NUM_SHOTS - 1)] }
    }
}
