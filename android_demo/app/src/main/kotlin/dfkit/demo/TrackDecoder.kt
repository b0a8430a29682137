package dfkit.demo

import android.content.Context
import android.media.MediaCodec
import android.media.MediaExtractor
import android.media.MediaFormat
import android.net.Uri
import java.io.IOException

private const val WAIT_US = 10_000L

/** Looks without an answer after which a decoder counts as hung: some 20 s. */
private const val MAX_IDLE = 2_000

/**
 * Decodes one track of a file, from front to back.
 *
 * @param kind prefix of its MIME type, `video/` or `audio/`; the first such track is taken.
 * @param configure changes the format that the decoder is given.
 */
internal class TrackDecoder private constructor(
    private val extractor: MediaExtractor,
    private val codec: MediaCodec,
    private val inputFormat: MediaFormat,
) : AutoCloseable {
    /** What one decoded piece is read from; it has to be given back with [release]. */
    class Output(val index: Int, val info: MediaCodec.BufferInfo)

    private val info = MediaCodec.BufferInfo()
    private var hasInput = true
    private var hasOutput = true

    /** Seconds of the track as its header states them; 0 where it does not. */
    val durationS = if (inputFormat.containsKey(MediaFormat.KEY_DURATION)) inputFormat.getLong(MediaFormat.KEY_DURATION) / 1e6 else 0.0

    /** What the header says, and once a piece was decoded what the decoder says. */
    val format: MediaFormat get() = if (decodedAny) codec.outputFormat else inputFormat
    private var decodedAny = false

    /** A number of the header, or a default. */
    fun headerInt(key: String, default: Int) = if (inputFormat.containsKey(key)) inputFormat.getInteger(key) else default

    val decoder get() = codec

    /**
     * The next decoded piece; null at the end.
     *
     * @throws IOException the decoder does not answer.
     * @throws MediaCodec.CodecException it failed.
     */
    fun next(): Output? {
        var idle = 0
        while (hasOutput) {
            if (hasInput) feed()
            val index = codec.dequeueOutputBuffer(info, WAIT_US)
            if (index < 0) {
                if (++idle > MAX_IDLE) throw IOException("the decoder does not answer")
                continue
            }
            if (info.flags and MediaCodec.BUFFER_FLAG_END_OF_STREAM != 0) hasOutput = false
            if (info.size == 0) {
                codec.releaseOutputBuffer(index, false)
                continue
            }
            decodedAny = true
            return Output(index, info)
        }
        return null
    }

    fun release(output: Output) = codec.releaseOutputBuffer(output.index, false)

    private fun feed() {
        val index = codec.dequeueInputBuffer(0)
        if (index < 0) return
        val size = extractor.readSampleData(checkNotNull(codec.getInputBuffer(index)), 0)
        if (size < 0) {
            hasInput = false
            codec.queueInputBuffer(index, 0, 0, 0, MediaCodec.BUFFER_FLAG_END_OF_STREAM)
        } else {
            codec.queueInputBuffer(index, 0, size, extractor.sampleTime, 0)
            extractor.advance()
        }
    }

    override fun close() {
        codec.release()
        extractor.release()
    }

    companion object {
        /**
         * Opens a track; null where the file has none of that kind.
         *
         * @throws IOException the file cannot be read, or the phone has no decoder for the track.
         * @throws SecurityException the app may no longer read it.
         */
        fun open(context: Context, uri: Uri, kind: String, configure: (MediaFormat) -> Unit = {}): TrackDecoder? {
            val extractor = MediaExtractor()
            try {
                extractor.setDataSource(context, uri, null)
                val track = (0 until extractor.trackCount)
                    .firstOrNull { extractor.getTrackFormat(it).getString(MediaFormat.KEY_MIME).orEmpty().startsWith(kind) }
                if (track == null) {
                    extractor.release()
                    return null
                }
                extractor.selectTrack(track)
                val format = extractor.getTrackFormat(track)
                configure(format)
                return TrackDecoder(extractor, start(format), format)
            } catch (error: Exception) {
                extractor.release()
                throw error
            }
        }

        private fun start(format: MediaFormat): MediaCodec {
            val kind = format.getString(MediaFormat.KEY_MIME).orEmpty()
            var codec: MediaCodec? = null
            try {
                // A kind that the phone does not know is an IllegalArgumentException here.
                codec = MediaCodec.createDecoderByType(kind)
                codec.configure(format, null, null, 0)
                codec.start()
                return codec
            } catch (error: RuntimeException) {
                codec?.release()
                throw IOException("this phone cannot decode $kind", error)
            }
        }
    }
}
