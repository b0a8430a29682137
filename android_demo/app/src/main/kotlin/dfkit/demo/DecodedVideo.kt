package dfkit.demo

import android.content.Context
import android.media.AudioFormat
import android.media.MediaCodecInfo
import android.media.MediaFormat
import android.net.Uri
import android.os.Build
import dfkit.core.Picture
import dfkit.core.PictureFormat
import dfkit.core.ReadShares
import dfkit.core.SoundFormat
import dfkit.core.TimedPicture
import dfkit.core.TimedSound
import dfkit.core.UnreadableException
import dfkit.core.VideoFile
import dfkit.core.VideoReader
import java.io.IOException
import java.nio.ByteOrder

/** Numbers of the YUV matrix in ITU-T H.273 by those of Android. */
private val MATRICES = mapOf(
    MediaFormat.COLOR_STANDARD_BT709 to 1,
    MediaFormat.COLOR_STANDARD_BT601_PAL to 5,
    MediaFormat.COLOR_STANDARD_BT601_NTSC to 6,
    MediaFormat.COLOR_STANDARD_BT2020 to 9,
)
private const val UNSTATED = 2

// Keys that headers carry since API 26 and that have a name only since API 30.
private const val ASPECT_WIDTH = "sar-width"
private const val ASPECT_HEIGHT = "sar-height"

/** FFmpeg's names of channels by their number, in the order in which Android's decoders give them. */
private val CHANNELS = mapOf(
    1 to listOf("FC"),
    2 to listOf("FL", "FR"),
    3 to listOf("FL", "FR", "FC"),
    4 to listOf("FL", "FR", "BL", "BR"),
    5 to listOf("FL", "FR", "FC", "BL", "BR"),
    6 to listOf("FL", "FR", "FC", "LFE", "BL", "BR"),
    8 to listOf("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
)

/** A video that somebody picked. */
interface PickedVideo : VideoFile {
    /** Seconds that its header states; 0 where it does not. Known once it was opened. */
    val durationS: Double
}

/** A video that the phone's own decoders read. */
class DecodedVideo(private val context: Context, private val uri: Uri) : PickedVideo {
    override var durationS = 0.0
        private set

    override fun open(): VideoReader = unreadableOn {
        val pictures = TrackDecoder.open(context, uri, "video/", ::askForPlanes) ?: throw UnreadableException("no moving picture")
        durationS = pictures.durationS
        DecodedReader(pictures, openSound())
    }

    /** Sound that cannot be decoded is none. */
    private fun openSound(): TrackDecoder? = try {
        TrackDecoder.open(context, uri, "audio/")
    } catch (_: IOException) {
        null
    }

    private fun askForPlanes(format: MediaFormat) {
        format.setInteger(MediaFormat.KEY_COLOR_FORMAT, MediaCodecInfo.CodecCapabilities.COLOR_FormatYUV420Flexible)
        // High dynamic range is turned into ordinary range by the decoder, where it can.
        if (Build.VERSION.SDK_INT >= 31) {
            format.setInteger(MediaFormat.KEY_COLOR_TRANSFER_REQUEST, MediaFormat.COLOR_TRANSFER_SDR_VIDEO)
        }
    }
}

/** What a revoked permission, a lost file and a decoder that gives up have in common. */
private fun <T> unreadableOn(read: () -> T): T = try {
    read()
} catch (error: IOException) {
    throw UnreadableException("the video cannot be read", error)
} catch (error: SecurityException) {
    throw UnreadableException("the video may no longer be read", error)
} catch (error: IllegalStateException) { // of which MediaCodec's own are
    throw UnreadableException("the video cannot be decoded", error)
}

private class DecodedReader(private val pictures: TrackDecoder, private val sounds: TrackDecoder?) : VideoReader {
    private var waitingSound = sounds?.let { decodeSound(it) }
    private var firstS = Double.NaN
    private var lastS = Double.NEGATIVE_INFINITY
    private var stepS = 0.0
    private var soundS = 0.0

    override val sound = waitingSound?.let { SoundFormat(rate(), channels()) }
    override val lastDurationS: Double? = null

    override val read: ReadShares
        get() = ReadShares(share(lastS - firstS + stepS, pictures.durationS), share(soundS, sounds?.durationS ?: 0.0))

    private fun share(readS: Double, statedS: Double) = if (statedS > 0) (readS / statedS).coerceIn(0.0, 1.0) else 1.0

    override fun nextPicture(): TimedPicture? = unreadableOn {
        var found: TimedPicture? = null
        while (found == null) {
            val output = pictures.next() ?: break
            val tS = output.info.presentationTimeUs / 1e6
            // A time that does not rise is damage; the picture before it stays.
            if (tS > lastS) found = TimedPicture(tS, copyPicture(output))
            pictures.release(output)
        }
        if (found != null) note(found.tS)
        found
    }

    private fun note(tS: Double) {
        if (firstS.isNaN()) firstS = tS else stepS = tS - lastS
        lastS = tS
    }

    private fun copyPicture(output: TrackDecoder.Output): Picture {
        val image = pictures.decoder.getOutputImage(output.index)
            ?: throw UnreadableException("the decoder gives no planes of 8 bits")
        return image.use { pictureOf(it, format()) }
    }

    private fun format(): PictureFormat {
        val told = pictures.format
        fun number(key: String) = if (told.containsKey(key)) told.getInteger(key) else 0
        val transfer = number(MediaFormat.KEY_COLOR_TRANSFER)
        if (transfer == MediaFormat.COLOR_TRANSFER_ST2084 || transfer == MediaFormat.COLOR_TRANSFER_HLG) {
            throw UnreadableException("high dynamic range, which this phone does not turn into ordinary range")
        }
        return PictureFormat(
            matrix = MATRICES[number(MediaFormat.KEY_COLOR_STANDARD)] ?: UNSTATED,
            fullRange = number(MediaFormat.KEY_COLOR_RANGE) == MediaFormat.COLOR_RANGE_FULL,
            rotationDeg = pictures.headerInt(MediaFormat.KEY_ROTATION, 0),
            aspect = pictures.headerInt(ASPECT_WIDTH, 1).toDouble() / pictures.headerInt(ASPECT_HEIGHT, 1),
        )
    }

    override fun nextSound(): TimedSound? {
        val next = waitingSound
        waitingSound = if (next == null || sounds == null) null else decodeSound(sounds)
        if (next != null) soundS += next.samples.size.toDouble() / channels().size / rate()
        return next
    }

    /** The next block; an error of the decoder ends the sound, and what is missing counts as not read. */
    private fun decodeSound(track: TrackDecoder): TimedSound? = try {
        track.next()?.let { output ->
            val block = TimedSound(output.info.presentationTimeUs / 1e6, samples(track, output))
            track.release(output)
            block
        }
    } catch (_: IOException) {
        null
    } catch (_: IllegalStateException) {
        null
    }

    private fun samples(track: TrackDecoder, output: TrackDecoder.Output): FloatArray {
        val bytes = checkNotNull(track.decoder.getOutputBuffer(output.index)).order(ByteOrder.nativeOrder())
        bytes.limit(output.info.offset + output.info.size).position(output.info.offset)
        val encoding = if (track.format.containsKey(MediaFormat.KEY_PCM_ENCODING)) {
            track.format.getInteger(MediaFormat.KEY_PCM_ENCODING)
        } else {
            AudioFormat.ENCODING_PCM_16BIT
        }
        if (encoding == AudioFormat.ENCODING_PCM_FLOAT) {
            return FloatArray(bytes.remaining() / 4).also { bytes.asFloatBuffer().get(it) }
        }
        val shorts = bytes.asShortBuffer()
        return FloatArray(shorts.remaining()) { shorts.get(it) / 32768f }
    }

    private fun rate() = checkNotNull(sounds).format.getInteger(MediaFormat.KEY_SAMPLE_RATE)

    private fun channels(): List<String> {
        val count = checkNotNull(sounds).format.getInteger(MediaFormat.KEY_CHANNEL_COUNT)
        return CHANNELS[count] ?: List(count) { "channel $it" }
    }

    override fun close() {
        pictures.close()
        sounds?.close()
    }
}
