package dfkit.core

import java.io.File
import java.util.Random

/** Rounds before those that count. */
private const val WARM_UP_ROUNDS = 3

/** Seconds of work that share a row of the report. */
private const val WINDOW_S = 10.0

/**
 * Measures a bundle's graphs on this device, in the stages of `dfkit bench`. What comes before the crops, decoding and
 * tracking, is left out.
 *
 * @param engine runs its graphs.
 * @param threads of the interpreter.
 * @param open gives the bundle; how long that takes is part of the cold start.
 * @param heat how warm the device is now.
 * @param nanoTime a clock, ns.
 */
class Benchmark(
    private val engine: Engine,
    private val threads: Int = 1,
    private val open: () -> Bundle,
    private val heat: () -> Heat,
    private val nanoTime: () -> Long = System::nanoTime,
) {
    /**
     * What the benchmark is at.
     *
     * @property done share of the part, in [0, 1].
     * @property clip of the newest window of work without a pause.
     */
    class Progress internal constructor(val part: Part, val done: Double, val clip: Percentiles?, val heat: Heat?)

    /** Parts of a benchmark in their order. */
    enum class Part { SHORT, SUSTAINED }

    /**
     * Measures.
     *
     * @param device what measures.
     * @param importMs from the start of the process to this call; null where the process was at work before.
     * @param repeats timed clips; a round of a clip, and of the next clip of a stream.
     * @param sustainedS work without a pause behind that, s; 0 for none.
     * @param onProgress false stops.
     * @return null where it was stopped.
     * @throws BundleException the bundle cannot be used.
     */
    fun run(
        device: Device,
        importMs: Double?,
        repeats: Int,
        sustainedS: Double,
        onProgress: (Progress) -> Boolean = { true },
    ): BenchmarkReport? {
        val baselineMb = residentMb("VmRSS")
        val start = nanoTime()
        val bundle = open()
        return Graphs(bundle, engine, threads).use { graphs ->
            val loadMs = (nanoTime() - start) / 1e6
            val timer = ClipTimer(bundle, graphs, nanoTime)
            val firstMs = timer.time().getValue("clip").single() / 1e6
            val coldStart = ColdStart(importMs, loadMs, firstMs, baselineMb, residentMb("VmHWM"))
            val replayed = GoldenReplay(bundle, engine, threads).run()
            val latency = measure(timer, repeats, onProgress) ?: return null
            val windows = sustain(timer, sustainedS, onProgress) ?: return null
            val variant = "$BACKEND ${bundle.graphs.recipe}"
            BenchmarkReport(
                name = bundle.name,
                files = filesOf(bundle),
                primary = variant,
                latencyMs = mapOf(variant to latency),
                fresh = mapOf(variant to coldStart),
                sustained = windows,
                golden = GoldenResult(replayed.passed, replayed.outputs.size, replayed.numControls),
                device = device,
                runtime = "${engine.runtime} ${engine.version}",
                numThreads = threads,
                repeats = repeats,
                warnings = bundle.warnings,
            )
        }
    }

    private fun measure(timer: ClipTimer, repeats: Int, onProgress: (Progress) -> Boolean): Map<String, Percentiles>? {
        val times = linkedMapOf<String, MutableList<Long>>()
        for (turn in 0 until WARM_UP_ROUNDS + repeats) {
            val isWarm = turn >= WARM_UP_ROUNDS
            val measured = timer.time()
            if (isWarm) measured.forEach { (stage, values) -> times.getOrPut(stage) { mutableListOf() } += values }
            if (!onProgress(Progress(Part.SHORT, (turn + 1.0) / (WARM_UP_ROUNDS + repeats), null, null))) return null
        }
        return times.mapValues { Percentiles.of(it.value) }
    }

    private fun sustain(timer: ClipTimer, sustainedS: Double, onProgress: (Progress) -> Boolean): List<HeatWindow>? {
        val windows = mutableListOf<HeatWindow>()
        val start = nanoTime()
        var elapsedS = 0.0
        while (elapsedS < sustainedS) {
            val end = minOf(elapsedS + WINDOW_S, sustainedS)
            val clips = mutableListOf<Long>()
            while (elapsedS < end) {
                clips += timer.time().getValue("clip")
                elapsedS = (nanoTime() - start) / 1e9
                val last = windows.lastOrNull()
                if (!onProgress(Progress(Part.SUSTAINED, minOf(elapsedS / sustainedS, 1.0), last?.clip, last?.heat))) return null
            }
            windows += HeatWindow(elapsedS, Percentiles.of(clips), heat())
        }
        return windows
    }

    private fun filesOf(bundle: Bundle): Map<String, String> {
        val graphs = listOfNotNull(bundle.graphs.encode, bundle.graphs.score).map { it.file }
        val names = graphs + bundle.manifest.faceModels.values.mapNotNull { it.file }
        return names.toSortedSet().associateWith { bundle.manifest.files.getValue(it).sha256 }
    }
}

/** Times one clip after the other on noise by a fixed seed: the time does not depend on what the pictures show. */
private class ClipTimer(bundle: Bundle, private val graphs: Graphs, private val nanoTime: () -> Long) {
    private val spec = bundle.spec
    private val random = Random(0)
    private val pictures = List(spec.numFrames) {
        mapOf("face" to noise(spec.picture.facePx), "lip" to noise(spec.picture.lipPx))
    }
    private val others = bundle.graphs.score.inputs.filter { it.name == "pcm" || it.name == "landmarks" }.associate { entry ->
        entry.name to FloatArray(entry.size) {
            if (entry.name == "pcm") 0.1f * random.nextGaussian().toFloat() else 200 * random.nextFloat()
        }
    }

    private fun noise(side: Int) = ByteArray(side * side * 3).also { random.nextBytes(it) }

    /** Times of one clip and of the next one of a stream, ns by stage; one per picture for `encode_one`. */
    fun time(): Map<String, List<Long>> {
        val begin = nanoTime()
        val singles = mutableListOf<Long>()
        val features = pictures.mapTo(mutableListOf()) { picture ->
            val start = nanoTime()
            graphs.encode(picture).also { singles += nanoTime() - start }
        }
        val encoded = nanoTime()
        score(features)
        val end = nanoTime()
        // A stream has the features of the frames before the hop already.
        for (index in 0 until minOf(spec.hopFrames, spec.numFrames)) features[index] = graphs.encode(pictures[index])
        score(features)
        return linkedMapOf(
            "encode_one" to singles,
            "encode_clip" to listOf(encoded - begin),
            "score" to listOf(end - encoded),
            "clip" to listOf(end - begin),
            "next_clip" to listOf(nanoTime() - end),
        )
    }

    private fun score(features: List<Map<String, FloatArray>>) {
        val names = features[0].keys
        graphs.score(names.associateWith { name -> joined(features.map { it.getValue(name) }) } + others)
    }
}

/** Resident memory of this process, MB of 10^6 bytes: `VmRSS` now or `VmHWM` at most; null where the system does not say. */
private fun residentMb(field: String): Double? {
    val status = File("/proc/self/status")
    if (!status.canRead()) return null
    val line = status.readLines().find { it.startsWith("$field:") } ?: return null
    return line.split(Regex("\\s+"))[1].toLong() * 1024 / 1e6
}
