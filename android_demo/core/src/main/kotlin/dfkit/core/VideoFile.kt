package dfkit.core

/** A file's pictures cannot be read, or not one of them. */
class UnreadableException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** A video that can be read from its beginning. An app implements it with its decoder. */
interface VideoFile {
    /**
     * Starts reading.
     *
     * @throws UnreadableException the file has no pictures that can be decoded.
     */
    fun open(): VideoReader
}

/** Sound of a file: Hz, and FFmpeg's names of its channels in order, such as FL, FR. */
class SoundFormat(val rate: Int, val channels: List<String>)

/** A decoded picture and its time, s. */
class TimedPicture(val tS: Double, val picture: Picture)

/** Decoded sound, interleaved samples in [-1, 1], and the time of its first sample on the pictures' clock, s. */
class TimedSound(val tS: Double, val samples: FloatArray)

/** Reads one video from front to back. */
interface VideoReader : AutoCloseable {
    /** Null where there is no sound that can be decoded. */
    val sound: SoundFormat?

    /** The next picture in order of showing; null at the end. @throws UnreadableException none can be decoded. */
    fun nextPicture(): TimedPicture?

    /** The next block of sound; null at the end. */
    fun nextSound(): TimedSound?

    /** How long the last picture is shown, s; null where the file does not say. Known at the end. */
    val lastDurationS: Double?

    /** How much of the file was read. Known at the end. */
    val read: ReadShares
}
