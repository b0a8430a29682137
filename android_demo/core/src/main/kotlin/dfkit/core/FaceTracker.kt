package dfkit.core

/** Landmarks of a followed face in one picture, x, y, x, y, ... in px. */
internal class TrackedFace(val trackId: Int, val landmarks: FloatArray)

/** Faces that the tracker saw in one picture; [scene] rises by one at each cut. */
internal class TrackedPicture(val scene: Int, val faces: List<TrackedFace>)

/** Follows faces from picture to picture; causal. Card 7. */
internal class FaceTracker(private val bundle: Bundle, private val networks: FaceNetworks) {
    private class Track(val id: Int, var landmarks: FloatArray) {
        /** Pictures since it was last seen. */
        var missing = 0
    }

    private val rules = checkNotNull(bundle.serving.tracker)
    private val cuts = checkNotNull(bundle.serving.cuts)
    private val maxFaces = bundle.spec.track.maxFaces
    private var tracks = listOf<Track>()
    private var nextId = 0
    private var scene = 0
    private var sinceDetection = 0
    private var sinceFullRange = rules.fullRangeEvery ?: 0
    private var lastLuma: IntArray? = null

    /** Takes the next picture. */
    fun update(picture: ShownPicture): TrackedPicture {
        endSceneAtCut(picture)
        val faces = follow(picture)
        sinceFullRange++
        if (mustDetect(faces.size)) {
            sinceDetection = 0
            findNew(picture, faces, FaceNetworks.SHORT_RANGE)
            val every = rules.fullRangeEvery
            if (faces.isEmpty() && networks.hasFullRange && every != null && sinceFullRange >= every) {
                sinceFullRange = 0
                findNew(picture, faces, FaceNetworks.FULL_RANGE)
            }
        } else {
            sinceDetection++
        }
        ageMissing(faces.map { it.trackId }.toSet())
        return TrackedPicture(scene, faces.sortedBy { it.trackId })
    }

    private fun endSceneAtCut(picture: ShownPicture) {
        val luma = picture.sampleLuma(cuts.grid)
        val before = lastLuma
        lastLuma = luma
        if (before != null && isCut(before, luma, cuts)) {
            tracks = emptyList()
            scene++
        }
    }

    private fun follow(picture: ShownPicture): MutableList<TrackedFace> {
        val faces = mutableListOf<TrackedFace>()
        for (track in tracks.filter { it.missing == 0 }) {
            val landmarks = findFree(picture, networks.landmarkRegion(track.landmarks), faces) ?: continue
            track.landmarks = landmarks
            faces += TrackedFace(track.id, landmarks)
        }
        return faces
    }

    private fun mustDetect(numFollowed: Int): Boolean {
        if (numFollowed >= maxFaces) return false
        // A face just lost is looked for at once and, being missing, in every picture until it is given up.
        return numFollowed < maxOf(1, tracks.size) || sinceDetection + 1 >= rules.detectEvery
    }

    private fun findNew(picture: ShownPicture, faces: MutableList<TrackedFace>, role: String) {
        for (region in networks.detect(picture, role).take(maxFaces)) {
            if (faces.size >= maxFaces || isTaken(region, faces)) continue
            val landmarks = findFree(picture, region, faces) ?: continue
            faces += TrackedFace(takeTrack(landmarks, faces.map { it.trackId }.toSet()), landmarks)
        }
    }

    /** Landmarks in a region, where a face is there that is none of those already found. */
    private fun findFree(picture: ShownPicture, region: Region, faces: List<TrackedFace>): FloatArray? =
        networks.findLandmarks(picture, region)?.takeUnless { isTaken(networks.landmarkRegion(it), faces) }

    private fun isTaken(region: Region, faces: List<TrackedFace>) =
        faces.any { region.upright.iou(networks.landmarkRegion(it.landmarks).upright) > rules.sameRegionIou }

    /** Id of the lost track that found landmarks belong to, or of a new one. */
    private fun takeTrack(landmarks: FloatArray, seen: Set<Int>): Int {
        val box = Box.around(landmarks)
        val lost = tracks.filter { it.id !in seen }.maxByOrNull { box.iou(Box.around(it.landmarks)) }
        if (lost != null && box.iou(Box.around(lost.landmarks)) > rules.sameFaceIou) {
            lost.landmarks = landmarks
            return lost.id
        }
        tracks = tracks + Track(nextId, landmarks)
        return nextId++
    }

    private fun ageMissing(seen: Set<Int>) {
        tracks.forEach { it.missing = if (it.id in seen) 0 else it.missing + 1 }
        tracks = tracks.filter { it.missing <= bundle.spec.maxGapFrames }
    }
}
