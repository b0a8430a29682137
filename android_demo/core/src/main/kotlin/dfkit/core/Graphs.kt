package dfkit.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Thrown where the model answers NaN or infinity, which is no fault of the video. */
internal class ModelAnswerException(message: String) : Exception(message)

/**
 * The graphs of a bundle: pictures to features, and features and sound of a clip to logits. Card 12.
 *
 * @param file gives the content of a model file by the name that the manifest has.
 */
internal class Graphs(bundle: Bundle, engine: Engine, threads: Int, file: (String) -> ByteArray = bundle::read) : AutoCloseable {
    private val backend = bundle.graphs
    private val models = mutableMapOf<String, LoadedModel>()
    private val encode = backend.encode?.let { open(it, engine, threads, bundle.where, file) }
    private val score = open(backend.score, engine, threads, bundle.where, file)

    init {
        refuseOlder(bundle, engine)
    }

    private fun open(signature: Signature, engine: Engine, threads: Int, where: String, file: (String) -> ByteArray): Graph {
        val place = "$where: ${signature.file}"
        val model = models.getOrPut(signature.file) { engine.load(file(signature.file), threads, place) }
        return Graph(signature, model.signature(signature.key), place)
    }

    /**
     * Features of one picture.
     *
     * @param pictures RGB bytes by input, `face` and `lip`.
     * @return C values by output.
     */
    fun encode(pictures: Map<String, ByteArray>): Map<String, FloatArray> =
        encode?.run { name, entry, into -> into.putPicture(checkNotNull(pictures[name]), entry) }.orEmpty()

    /** Logits of one clip by output, from real values by input. */
    fun score(inputs: Map<String, FloatArray>): Map<String, FloatArray> =
        score.run { name, entry, into -> into.putReal(checkNotNull(inputs[name]) { "score takes $name" }, entry) }

    override fun close() = models.values.forEach { it.close() }
}

private fun refuseOlder(bundle: Bundle, engine: Engine) {
    val smallest = bundle.graphs.runtimes[engine.runtime] ?: return
    if (isOlder(engine.version, smallest)) {
        throw BundleException(
            "bundle ${bundle.where} needs ${engine.runtime} $smallest, this app runs ${engine.version}", "update the app",
        )
    }
}

/** Whether a version such as 2.9.1 comes before another; what follows the numbers is ignored. */
internal fun isOlder(version: String, smallest: String): Boolean {
    val (found, wanted) = listOf(version, smallest).map { text -> text.split(".", "-").mapNotNull { it.toIntOrNull() } }
    for (i in wanted.indices) {
        val difference = found.getOrElse(i) { 0 } - wanted[i]
        if (difference != 0) return difference < 0
    }
    return false
}

/** One signature with memory for its inputs, held against the manifest. */
private class Graph(private val signature: Signature, private val call: GraphCall, private val where: String) {
    private val inputs = signature.inputs.associateWith { entry ->
        require(entry, call.inputBytes)
        ByteBuffer.allocateDirect(entry.size * entry.bytesPerValue).order(ByteOrder.LITTLE_ENDIAN)
    }

    init {
        signature.outputs.forEach { require(it, call.outputBytes) }
    }

    private fun require(entry: TensorEntry, bytes: Map<String, Int>) {
        val expected = entry.size * entry.bytesPerValue
        if (bytes[entry.tensor] != expected) {
            throw BundleException(
                "$where, signature ${signature.key}: '${entry.tensor}' has ${bytes[entry.tensor]} bytes, the manifest says $expected",
                FIX_COPY,
            )
        }
    }

    fun run(fill: (String, TensorEntry, ByteBuffer) -> Unit): Map<String, FloatArray> {
        for ((entry, memory) in inputs) {
            memory.clear()
            fill(entry.name, entry, memory)
            memory.rewind()
        }
        val answers = call.run(inputs.entries.associate { (entry, memory) -> entry.tensor to memory })
        return signature.outputs.associate { it.name to answers.getValue(it.tensor).getReal(it) }
    }
}

private val TensorEntry.bytesPerValue get() = if (dtype == "float32") Float.SIZE_BYTES else 1

/** RGB levels as the graph stores level / 255; what a larger batch lacks stays black. */
private fun ByteBuffer.putPicture(levels: ByteArray, entry: TensorEntry) {
    require(entry.size % levels.size == 0 && levels.size == entry.size / entry.shape[0]) {
        "encode takes ${entry.name} of ${entry.size / entry.shape[0]} bytes, got ${levels.size}"
    }
    val table = entry.storedLevels()
    for (i in 0 until entry.size) {
        val level = if (i < levels.size) levels[i].toInt() and 0xFF else 0
        if (entry.dtype == "float32") putFloat(level / 255f) else put(table[level])
    }
}

private fun TensorEntry.storedLevels() = ByteArray(256) { level ->
    // A graph that casts by itself takes uint8 with scale 1.
    if (dtype == "uint8" && scale == 1.0) level.toByte() else store(level / 255.0)
}

private fun TensorEntry.store(real: Double): Byte {
    val (low, high) = if (dtype == "uint8") 0 to 255 else -128 to 127
    return (Math.rint(real / scale) + zeroPoint).toInt().coerceIn(low, high).toByte()
}

private fun ByteBuffer.putReal(values: FloatArray, entry: TensorEntry) {
    require(values.size == entry.size) { "score takes ${entry.name} of ${entry.size} values, got ${values.size}" }
    if (entry.dtype == "float32") asFloatBuffer().put(values) else values.forEach { put(entry.store(it.toDouble())) }
}

private fun ByteBuffer.getReal(entry: TensorEntry): FloatArray {
    if (entry.dtype == "float32") return toFloats()
    return FloatArray(entry.size) {
        val stored = get(it).toInt().let { value -> if (entry.dtype == "uint8") value and 0xFF else value }
        (stored - entry.zeroPoint) * entry.scale.toFloat()
    }
}
