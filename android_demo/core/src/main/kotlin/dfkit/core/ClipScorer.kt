package dfkit.core

/** A face of one picture after the encoder: features in place of pictures. */
private class EncodedFace(
    val trackId: Int,
    val index: Int,
    val isInterpolated: Boolean,
    val landmarks: FloatArray,
    val features: Map<String, FloatArray>,
)

/**
 * Encodes each face once and scores each clip as soon as it is complete; overlapping clips share features. Card 11.
 *
 * @param sound null scores with samples of zeros, which is how training hides sound.
 * @param pFake from a margin.
 */
internal class ClipScorer(
    private val bundle: Bundle,
    private val graphs: Graphs,
    private val sound: Sound?,
    private val pFake: (Double) -> Double,
) {
    private val spec = bundle.spec
    private val recent = sortedMapOf<Int, ArrayDeque<EncodedFace>>()
    private val waiting = ArrayDeque<List<EncodedFace>>()
    private var lastStart = -1

    /** Clips that wait for their sound, s; 0 where none does. */
    val lagS get() = if (waiting.isEmpty()) 0.0 else (waiting.last()[0].index - waiting.first()[0].index) / spec.fps

    /**
     * Takes all faces of one grid point.
     *
     * @param index the point, in rising order without holes; negative while the look-ahead fills.
     * @return clips that are complete now, in order of start, then of track.
     */
    fun push(faces: List<FaceFrame>, index: Int): List<ClipScore> {
        for (face in faces) recent.getOrPut(face.trackId) { ArrayDeque() }.addLast(encode(face))
        recent.values.forEach { while (it.size > spec.numFrames) it.removeFirst() }
        val oldest = index - spec.numFrames + 1
        recent.values.removeAll { it.last().index < oldest }
        if (oldest >= 0 && oldest % spec.hopFrames == 0) take(oldest)
        val scores = scoreWaiting()
        // No later clip starts before the one that would end here.
        sound?.forget(spec.firstSample(if (waiting.isEmpty()) oldest else waiting.first()[0].index))
        return scores
    }

    /** Scores the clips that end with the video; the sound must have ended, too. */
    fun finish(numGridFrames: Int): List<ClipScore> {
        val last = spec.clipStarts(numGridFrames).lastOrNull()
        if (last != null && last != lastStart) take(last)
        return scoreWaiting()
    }

    /** Scores the clips whose sound has come. */
    fun scoreWaiting(): List<ClipScore> {
        val scores = mutableListOf<ClipScore>()
        while (waiting.isNotEmpty() && hasSound(waiting.first())) scores += score(waiting.removeFirst())
        return scores
    }

    private fun take(start: Int) {
        lastStart = start
        for (faces in recent.values) {
            val isWhole = faces.size == spec.numFrames && faces.first().index == start
            if (isWhole && faces.count { it.isInterpolated } <= spec.maxGapFrames) waiting += faces.toList()
        }
    }

    private fun hasSound(faces: List<EncodedFace>) =
        sound == null || sound.has(spec.firstSample(faces[0].index) + spec.numSamples)

    private fun encode(face: FaceFrame) = EncodedFace(
        face.trackId, face.index, face.isInterpolated, face.landmarks,
        graphs.encode(mapOf("face" to face.face, "lip" to face.lip)),
    )

    private fun score(faces: List<EncodedFace>): ClipScore {
        val features = faces.map { it.features }
        val inputs = features[0].keys.associateWith { name -> joined(features.map { it.getValue(name) }) } + mapOf(
            "landmarks" to joined(faces.map { it.landmarks }),
            "pcm" to (sound?.read(spec.firstSample(faces[0].index), spec.numSamples) ?: FloatArray(spec.numSamples)),
        )
        val logits = graphs.score(inputs)
        val startS = faces[0].index / spec.fps
        if (logits.values.any { values -> values.any { !it.isFinite() } }) {
            throw ModelAnswerException("the model of ${bundle.where} gives no finite logits for the clip at $startS s")
        }
        val clipLogits = logits.getValue("clip_logits")
        return ClipScore(
            faces[0].trackId, faces[0].index, startS, startS + spec.clipS, pFake(marginOf(clipLogits, 0)), clipLogits,
            logits.getValue("frame_logits"), bundle.manifest.familiarity?.distance(features),
        )
    }
}

/** Logit of fake less logit of real, of the pair with that number. */
internal fun marginOf(logits: FloatArray, pair: Int) = logits[2 * pair + 1].toDouble() - logits[2 * pair]

/** Arrays end to end. */
internal fun joined(parts: List<FloatArray>): FloatArray {
    val result = FloatArray(parts.sumOf { it.size })
    var next = 0
    for (part in parts) {
        part.copyInto(result, next)
        next += part.size
    }
    return result
}
