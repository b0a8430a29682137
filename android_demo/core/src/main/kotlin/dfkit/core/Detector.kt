package dfkit.core

/** Sound is read so far ahead of the pictures, s: a clip's last window ends behind its last picture. */
private const val SOUND_AHEAD_S = 1.0

/**
 * Says whether the faces of a video are fake, by a bundle.
 *
 *     val bundle = Bundle.open(FolderFiles(folder))
 *     Detector(bundle, TfliteEngine()).use { detector ->
 *         val answer = detector.detect(file)
 *         println("${answer.status} ${answer.verdict} ${answer.pFake}")
 *     }
 *
 * Not thread-safe: one video or stream at a time.
 *
 * @param bundle verified.
 * @param engine runs its graphs.
 * @param threads of the interpreter.
 * @throws BundleException a graph cannot be loaded, is not the one that the manifest describes, or needs a newer runtime.
 */
class Detector(private val bundle: Bundle, engine: Engine, threads: Int = 1) : AutoCloseable {
    private val graphs = Graphs(bundle, engine, threads)
    private val networks = FaceNetworks(bundle, engine)

    /** Called with every face that became final; for tests. */
    internal var watch: ((FaceFrame) -> Unit)? = null

    /** Whether the model listens, too. */
    val takesSound get() = bundle.manifest.takesSound

    /**
     * Opens a stream of pictures and sound.
     *
     * @param sound of what will be pushed; null where there is none. A model that listens then needs to have been trained
     *   for that, or its answer is [Status.NO_AUDIO].
     */
    fun openStream(sound: SoundFormat?): DetectorStream {
        // Sound of a rate that cannot be resampled is none: card 10.
        val heard = sound?.takeIf { takesSound && it.rate in 1..bundle.serving.sound.maxRateHz }
            ?.let { Sound(it.rate, it.channels, bundle.spec.audio.sampleRate, bundle.serving.sound) }
        return DetectorStream(bundle, networks, graphs, heard).also { it.watch = watch }
    }

    /**
     * A picture as the model sees it, upright, for a screen.
     *
     * @param side of the longer side, px.
     */
    fun preview(picture: Picture, side: Int): Preview = PictureMaker(bundle.serving.pictures).make(picture).preview(side)

    /**
     * Judges a file.
     *
     * @param file what to read.
     * @param onProgress is called after each picture with its time, s, and the clips scored by it; false stops.
     * @return the answer; null where it was stopped.
     */
    fun detect(file: VideoFile, onProgress: (Double, List<ClipScore>) -> Boolean = { _, _ -> true }): Answer? {
        val answer = read(file, withSound = true, onProgress) ?: return null
        // Samples that hold nothing are no sound: such a video is scored once more with zeros, as training hid sound.
        val isMute = takesSound && !answer.heard && bundle.manifest.decisionMuted != null && answer.status != Status.UNREADABLE
        return if (isMute) read(file, withSound = false, onProgress) else answer
    }

    private fun read(file: VideoFile, withSound: Boolean, onProgress: (Double, List<ClipScore>) -> Boolean): Answer? = try {
        file.open().use { reader -> read(reader, withSound, onProgress) }
    } catch (_: UnreadableException) {
        Answer(Status.UNREADABLE)
    } catch (_: ModelAnswerException) {
        Answer(Status.MODEL_ERROR)
    }

    private fun read(reader: VideoReader, withSound: Boolean, onProgress: (Double, List<ClipScore>) -> Boolean): Answer? {
        val stream = openStream(reader.sound.takeIf { withSound })
        var before = Double.NaN
        while (true) {
            val next = reader.nextPicture() ?: break
            // Behind a hole this long nothing is read: card 2.
            if (next.tS - before > bundle.serving.pictures.maxHoleS) break
            before = next.tS
            val scores = stream.pushPicture(next.tS, next.picture) + hear(reader, stream, SOUND_AHEAD_S)
            if (!onProgress(next.tS, scores)) return null
        }
        hear(reader, stream, Double.POSITIVE_INFINITY)
        return stream.finish(reader.lastDurationS, reader.read)
    }

    private fun hear(reader: VideoReader, stream: DetectorStream, atLeastS: Double): List<ClipScore> {
        val scores = mutableListOf<ClipScore>()
        while (stream.wantsSound(atLeastS)) {
            val block = reader.nextSound()
            scores += if (block == null) stream.endSound() else stream.pushSound(block.tS, block.samples)
        }
        return scores
    }

    override fun close() {
        graphs.close()
        networks.close()
    }
}
