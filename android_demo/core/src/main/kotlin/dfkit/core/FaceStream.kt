package dfkit.core

/**
 * Crops and landmarks of a face in one picture of the grid.
 *
 * @property index grid point.
 * @property tS time of the picture since the first one, s.
 * @property face face_px * face_px * 3 bytes of RGB; lip likewise.
 * @property landmarks x, y, x, y, ... in px of the source, as found.
 * @property isInterpolated whether the face was not seen here.
 */
internal class FaceFrame(
    val trackId: Int,
    val index: Int,
    val tS: Double,
    val face: ByteArray,
    val lip: ByteArray,
    val landmarks: FloatArray,
    val isInterpolated: Boolean,
    val scene: Int,
    val boxes: FaceBoxes,
)

/** Tracks and crops the faces of pictures that are pushed in; each comes out final, after the look-ahead. Cards 8, 9. */
internal class FaceStream(private val bundle: Bundle, networks: FaceNetworks) {
    private class Waiting(val index: Int, val tS: Double, val picture: ShownPicture, val scene: Int)
    private class History(val scene: Int) {
        val seen = sortedMapOf<Int, FloatArray>()
    }

    private val spec = bundle.spec
    private val boxRules = checkNotNull(bundle.serving.boxes)
    private val tracker = FaceTracker(bundle, networks)
    private val weights = smoothingWeights(minOf(checkNotNull(bundle.serving.tracker).smoothHalf, spec.lookAheadFrames))
    private val reach = weights.size + spec.maxGapFrames
    private val waiting = ArrayDeque<Waiting>()
    private val histories = sortedMapOf<Int, History>()
    private var newest = -1
    private var shrink = 1f

    /**
     * Takes the next picture.
     *
     * @param index grid point, one more than the last.
     * @param shrink what the picture's sides were divided by.
     * @return the faces of the picture that became final, by track.
     */
    fun push(index: Int, tS: Double, picture: ShownPicture, shrink: Int): List<FaceFrame> {
        this.shrink = shrink.toFloat()
        val tracked = tracker.update(picture)
        for (face in tracked.faces) {
            histories.getOrPut(face.trackId) { History(tracked.scene) }.seen[index] = face.landmarks
        }
        waiting += Waiting(index, tS, picture, tracked.scene)
        newest = index
        return if (waiting.size <= spec.lookAheadFrames) emptyList() else finish(waiting.removeFirst())
    }

    /** Ends the stream; the faces of the last pictures. */
    fun flush(): List<FaceFrame> = waiting.flatMap { finish(it) }.also { waiting.clear() }

    private fun finish(picture: Waiting): List<FaceFrame> {
        histories.values.forEach { history -> history.seen.headMap(picture.index - reach - spec.lookAheadFrames).clear() }
        histories.values.removeAll { it.seen.isEmpty() }
        return histories.mapNotNull { (id, history) ->
            if (history.scene == picture.scene) makeFace(id, history, picture) else null
        }
    }

    private fun makeFace(trackId: Int, history: History, at: Waiting): FaceFrame? {
        val first = at.index - reach
        val window = Array(newest + 1 - first) { history.seen[first + it] }
        val now = at.index - first
        val filled = fillGaps(window, now, spec.maxGapFrames)
        val landmarks = filled[now] ?: return null
        val boxes = FaceBoxes.of(smoothAt(filled, now, weights), spec.picture, boxRules)
        return FaceFrame(
            trackId, at.index, at.tS,
            face = crop(at.picture, boxes.face, spec.picture.facePx),
            lip = crop(at.picture, boxes.lip, spec.picture.lipPx),
            landmarks = FloatArray(landmarks.size) { landmarks[it] * shrink },
            isInterpolated = window[now] == null,
            scene = at.scene,
            boxes = boxes,
        )
    }

    private fun crop(picture: ShownPicture, box: SquareBox, px: Int) =
        picture.sample(box.map(px), px, blackOutside = false, averageFrom = bundle.serving.pictures.averageFrom)
}
