package dfkit.core

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlinx.serialization.Serializable

/** What dfkit says of the same inputs; `python -m tools.android.golden` writes it before the tests run. */
object Golden {
    val folder = File(property("dfkit.golden"))
    val bundleFolder = File(property("dfkit.bundle"))
    val phoneFolder = File(property("dfkit.phone"))
    val decision = File(property("dfkit.decision"))
    val bundle by lazy { Bundle.open(FolderFiles(bundleFolder)) }
    val engine = TfliteEngine()

    val videos: List<RawVideo> by lazy {
        File(folder, "videos").listFiles().orEmpty().filter { it.isDirectory }.sorted().map { RawVideo(it) }
    }

    fun floats(path: String) = readFloats(File(folder, path))

    private fun property(name: String) =
        checkNotNull(System.getProperty(name)) { "-D$name is not set; run make android in the project's folder" }
}

internal fun readFloats(file: File) = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN).toFloats()

@Serializable
class RawAnswer(val status: String, val verdict: String?, val pFake: Double?, val clips: List<List<Double>>)

@Serializable
internal class RawSound(val rate: Int, val channels: List<String>, val blocks: List<List<Double>>)

@Serializable
internal class RawShares(val pictures: Double, val sound: Double)

@Serializable
internal class RawFacts(
    val name: String,
    val matrix: Int,
    val width: Int = 0,
    val height: Int = 0,
    val chromaWidth: Int = 0,
    val chromaHeight: Int = 0,
    val fullRange: Boolean = false,
    val rotationDeg: Int = 0,
    val isMirrored: Boolean = false,
    val aspect: Double = 1.0,
    val timesS: List<Double>,
    val lastDurationS: Double,
    val sound: RawSound?,
    val faces: List<List<Double>>,
    val read: RawShares,
    val answer: RawAnswer,
)

/** A video as Python decoded it, with what Python says of it. */
class RawVideo(private val folder: File) : VideoFile {
    internal val facts = ManifestJson.decodeFromString(RawFacts.serializer(), File(folder, "video.json").readText())
    internal val lips get() = File(folder, "lips.rgb").readBytes()

    val name get() = facts.name

    /** What Python says of it. */
    val answer get() = facts.answer

    override fun toString() = facts.name

    override fun open(): VideoReader {
        if (facts.timesS.isEmpty()) throw UnreadableException("${facts.name} has no picture")
        return Reader()
    }

    private inner class Reader : VideoReader {
        private val pictures = File(folder, "pictures.yuv").inputStream().buffered()
        private val samples = facts.sound?.let { readFloats(File(folder, "sound.f32")) }
        private val format = PictureFormat(facts.matrix, facts.fullRange, facts.rotationDeg, facts.isMirrored, facts.aspect)
        private var nextPicture = 0
        private var nextBlock = 0
        private var nextSample = 0

        override val sound = facts.sound?.let { SoundFormat(it.rate, it.channels) }
        override val lastDurationS get() = facts.lastDurationS
        override val read get() = ReadShares(facts.read.pictures, facts.read.sound)

        override fun nextPicture(): TimedPicture? {
            val tS = facts.timesS.getOrNull(nextPicture++) ?: return null
            val y = plane(facts.width, facts.height)
            val u = plane(facts.chromaWidth, facts.chromaHeight)
            return TimedPicture(tS, Picture(y, u, plane(facts.chromaWidth, facts.chromaHeight), format))
        }

        private fun plane(width: Int, height: Int) = Plane(pictures.readNBytes(width * height), width, height)

        override fun nextSound(): TimedSound? {
            val (tS, count) = facts.sound?.blocks?.getOrNull(nextBlock++) ?: return null
            val size = count.toInt() * facts.sound.channels.size
            val block = checkNotNull(samples).copyOfRange(nextSample, nextSample + size)
            nextSample += size
            return TimedSound(tS, block)
        }

        override fun close() = pictures.close()
    }
}
