package dfkit.core

import java.nio.ByteBuffer

/** Runs model files. Another runtime takes part by implementing this. */
interface Engine {
    /** Name of the runtime in the manifest's `runtimes`. */
    val runtime: String

    /** Its version, such as 2.21.0. */
    val version: String

    /**
     * Loads a model.
     *
     * @param content bytes of a .tflite.
     * @param threads of the interpreter.
     * @param where named in errors.
     * @throws BundleException the runtime cannot load it.
     */
    fun load(content: ByteArray, threads: Int, where: String): LoadedModel
}

/** A loaded model. Not thread-safe: an interpreter keeps its tensors between calls. */
interface LoadedModel : AutoCloseable {
    /**
     * One of its signatures.
     *
     * @param key its name; null takes the model's first graph, whose tensors are named "0", "1", ... in order.
     * @throws BundleException the model has no such signature.
     */
    fun signature(key: String?): GraphCall
}

/** A graph that is ready to be called. */
interface GraphCall {
    /** Bytes of each input by name. */
    val inputBytes: Map<String, Int>

    /** Bytes of each output by name. */
    val outputBytes: Map<String, Int>

    /**
     * Runs the graph.
     *
     * @param inputs stored values of each input, little-endian, from position to limit.
     * @return stored values of each output, little-endian; valid until the next call.
     */
    fun run(inputs: Map<String, ByteBuffer>): Map<String, ByteBuffer>
}
