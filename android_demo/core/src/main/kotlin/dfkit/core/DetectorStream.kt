package dfkit.core

private const val MAX_SOUND_LAG_S = 10.0

/**
 * Pictures with times and blocks of sound in, clip scores out; [Detector.openStream] makes it. Memory stays bounded.
 * Not thread-safe.
 */
class DetectorStream internal constructor(
    private val bundle: Bundle,
    networks: FaceNetworks,
    graphs: Graphs,
    private val sound: Sound?,
) {
    private val spec = bundle.spec
    private val decision = (if (sound == null) bundle.manifest.decisionMuted?.decision else null) ?: bundle.manifest.decision
    private val picker = GridPicker<Picture>(spec.fps, bundle.serving.pictures)
    private val maker = PictureMaker(bundle.serving.pictures)
    private val faces = FaceStream(bundle, networks)
    private val meter = FaceMeter(bundle)
    private val scorer = ClipScorer(bundle, graphs, sound, decision::pFake)
    private val clips = mutableListOf<ClipScore>()
    private var hasPictures = false
    private var numFrames = 0

    /** Called with every face that became final; for tests. */
    internal var watch: ((FaceFrame) -> Unit)? = null

    /**
     * Takes the next picture.
     *
     * @param tS its time, s, on any clock that rises.
     * @return scores of the clips that are complete now.
     * @throws IllegalArgumentException the time does not rise, or by more than `max_hole_s` of the bundle.
     * @throws UnreadableException the picture is larger than what is read.
     * @throws IllegalStateException clips wait for their sound for more than 10 s.
     */
    fun pushPicture(tS: Double, picture: Picture): List<ClipScore> {
        if (!hasPictures) sound?.firstPictureS = tS
        hasPictures = true
        return picker.push(tS, picture).flatMap { take(it) }
    }

    /**
     * Takes the next block of sound.
     *
     * @param tS time of its first sample on the pictures' clock, s.
     * @param samples interleaved, in [-1, 1].
     * @throws IllegalArgumentException it runs too far ahead of the pictures: more than `max_ahead_s` of the bundle.
     */
    fun pushSound(tS: Double, samples: FloatArray): List<ClipScore> {
        val track = checkNotNull(sound) { "a stream that was opened without sound" }
        require(track.aheadS <= bundle.serving.sound.maxAheadS) { "the sound runs ${track.aheadS} s ahead of the pictures" }
        track.push(samples, tS)
        return keep(scorer.scoreWaiting())
    }

    /** Seconds of sound that wait for pictures, and whether more may be pushed. */
    internal fun wantsSound(atLeastS: Double) = sound != null && sound.isOpen && sound.aheadS < atLeastS

    /** Says that no more sound comes: what is missing is silence. */
    fun endSound(): List<ClipScore> {
        sound?.end()
        return keep(scorer.scoreWaiting())
    }

    /**
     * Ends the video.
     *
     * @param lastDurationS how long the last picture is shown, s; null takes the time between the last two.
     * @param read how much of the file was read.
     */
    fun finish(lastDurationS: Double? = null, read: ReadShares = ReadShares()): Answer {
        picker.finish(lastDurationS).forEach { take(it) }
        endSound()
        val last = faces.flush()
        look(last)
        for (index in maxOf(numFrames - spec.lookAheadFrames, 0) until numFrames) {
            keep(scorer.push(last.filter { it.index == index }, index))
        }
        keep(scorer.finish(numFrames))
        return answer(read)
    }

    private fun take(at: GridPicture<Picture>): List<ClipScore> {
        val shown = maker.make(at.picture)
        numFrames = at.index + 1
        val final = faces.push(at.index, at.tS, shown, maker.shrink)
        look(final)
        val scores = keep(scorer.push(final, at.index - spec.lookAheadFrames))
        check(scorer.lagS <= MAX_SOUND_LAG_S) { "the sound lags ${scorer.lagS} s behind the pictures; push silence as zeros" }
        return scores
    }

    private fun look(final: List<FaceFrame>) {
        meter.push(final, maker.shrink)
        watch?.let { final.forEach(it) }
    }

    private fun keep(scores: List<ClipScore>): List<ClipScore> = scores.also { clips += it }

    private fun answer(read: ReadShares): Answer {
        val heard = sound != null && sound.isAudible
        val status = when {
            !hasPictures || isCutOff(read) -> Status.UNREADABLE
            bundle.manifest.takesSound && !heard && bundle.manifest.decisionMuted == null -> Status.NO_AUDIO
            numFrames < spec.numFrames -> Status.TOO_SHORT
            clips.isEmpty() -> Status.NO_FACE
            else -> Status.OK
        }
        return if (status == Status.OK) verdict(read, heard) else Answer(status, read = read, heard = heard)
    }

    /** Long enough, but for what cannot be read: card 13.6. */
    private fun isCutOff(read: ReadShares) =
        numFrames < spec.numFrames && read.pictures < 0.995 && numFrames / spec.fps / read.pictures >= spec.clipS

    private fun verdict(read: ReadShares, heard: Boolean): Answer {
        val scored = clips.map { ScoredClip(it.trackId, it.startS, marginOf(it.clipLogits, 0)) }
        val judged = decision.judge(scored, bundle.serving.decision.smallSum)
        val reasons = thinEvidence(checkNotNull(bundle.serving.evidence), read, heard, meter.ofTrack(judged.trackId)) +
            listOfNotNull(farFeatures(judged.trackId))
        return Answer(
            Status.OK,
            if (reasons.isEmpty()) judged.verdict else Verdict.REVIEW,
            judged.pFake,
            judged.trackId,
            reasons,
            clips.toList(),
            curve(judged.trackId),
            clips[scored.indexOf(judged.worstClip)],
            read,
            heard,
        )
    }

    private fun farFeatures(trackId: Int): Reason? {
        val limit = bundle.manifest.familiarity?.maxDistance ?: return null
        val distances = clips.filter { it.trackId == trackId }.map { it.distance ?: Double.NaN }
        val found = if (distances.any { it.isNaN() }) Double.NaN else median(distances)
        return if (found <= limit) null else Reason(Reason.Kind.UNLIKE_TRAINING, found, limit)
    }

    /** A grid point that several clips hold has the mean of their logits: card 13.5. */
    private fun curve(trackId: Int): List<CurvePoint> {
        val margins = sortedMapOf<Int, MutableList<Double>>()
        for (clip in clips.filter { it.trackId == trackId }) {
            for (i in 0 until spec.numFrames) {
                margins.getOrPut(clip.startIndex + i) { mutableListOf() } += marginOf(clip.frameLogits, i)
            }
        }
        return margins.map { (index, values) -> CurvePoint(index / spec.fps, decision.pFake(values.average())) }
    }
}
