package dfkit.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.cos
import kotlin.math.exp
import kotlin.math.sin

/** Values of a detection: 2 corners, then key points, x and y each. */
private const val FIRST_KEY_POINT = 4

/**
 * The face networks of a bundle: where faces are (card 5), and the landmarks of each (card 6).
 *
 * @param bundle verified.
 * @param engine runs them, on one thread.
 */
internal class FaceNetworks(private val bundle: Bundle, private val engine: Engine) : AutoCloseable {
    private val loaded = mutableMapOf<String, FaceNetwork>()
    private val landmarkRules = checkNotNull(bundle.serving.landmarks)

    /** Whether there is a second detector, for distant faces. It is loaded when it is first run. */
    val hasFullRange = bundle.serving.fullRangeDetector != null && fileOf(FULL_RANGE) != null

    /** Landmark regions of the faces that a detector finds, best first. Up to the regions all is float32. */
    fun detect(picture: ShownPicture, role: String): List<Region> {
        val rules = checkNotNull(if (role == FULL_RANGE) bundle.serving.fullRangeDetector else bundle.serving.detector)
        val side = maxOf(picture.width, picture.height)
        val whole = Region(picture.width / 2.0, picture.height / 2.0, side.toDouble(), 0.0)
        val levels = picture.sample(whole.map(rules.inputPx), rules.inputPx, blackOutside = true)
        val (scores, boxes) = network(role, rules.inputPx, rules.inputRange).run(levels)
        val shiftX = ((picture.width - side) / 2.0).toFloat()
        val shiftY = ((picture.height - side) / 2.0).toFloat()
        return mergeDetections(decodeDetections(scores, boxes, rules), rules.mergeIou).map { found ->
            val places = FloatArray(found.values.size) { found.values[it] * side + if (it % 2 == 0) shiftX else shiftY }
            val box = Box(places[0].toDouble(), places[1].toDouble(), places[2].toDouble(), places[3].toDouble())
            val (right, left) = rules.eyes.map { FIRST_KEY_POINT + 2 * it }
            Region.around(box, rules.roiScale, places[left] - places[right], places[left + 1] - places[right + 1])
        }
    }

    /** The landmarks of the face in a region, x, y, x, y, ... in px of the picture; null where none is there. */
    fun findLandmarks(picture: ShownPicture, region: Region): FloatArray? {
        val rules = landmarkRules
        val levels = picture.sample(region.map(rules.inputPx), rules.inputPx, blackOutside = false)
        val (presence, values) = network(LANDMARKS, rules.inputPx, rules.inputRange).run(levels)
        if (sigmoid(presence[0].toDouble()) < rules.minPresence) return null
        val cosine = cos(region.angle)
        val sine = sin(region.angle)
        val landmarks = FloatArray(2 * rules.numPoints)
        for (point in 0 until rules.numPoints) {
            val x = values[point * rules.valuesPerPoint].toDouble() / rules.inputPx - 0.5
            val y = values[point * rules.valuesPerPoint + 1].toDouble() / rules.inputPx - 0.5
            landmarks[2 * point] = ((cosine * x - sine * y) * region.side + region.x).toFloat()
            landmarks[2 * point + 1] = ((sine * x + cosine * y) * region.side + region.y).toFloat()
        }
        return landmarks
    }

    /** Where a face is looked for in the next picture: card 6.5. */
    fun landmarkRegion(landmarks: FloatArray): Region {
        val (from, to) = landmarkRules.eyes.map { 2 * it }
        val dx = landmarks[to] - landmarks[from]
        val dy = landmarks[to + 1] - landmarks[from + 1]
        return Region.around(Box.around(landmarks), landmarkRules.roiScale, dx, dy)
    }

    private fun fileOf(role: String) = bundle.manifest.faceModels.values.firstOrNull { it.role == role }?.file

    private fun network(role: String, px: Int, range: List<Double>) = loaded.getOrPut(role) {
        val file = checkNotNull(fileOf(role)) { "roles were checked when the bundle was opened" }
        FaceNetwork(engine.load(bundle.read(file), 1, file), px, range)
    }

    override fun close() = loaded.values.forEach { it.close() }

    companion object {
        const val SHORT_RANGE = "detector"
        const val FULL_RANGE = "full_range_detector"
        private const val LANDMARKS = "landmarks"
    }
}

/** One face model: RGB levels in, its two outputs out. */
private class FaceNetwork(private val model: LoadedModel, private val px: Int, range: List<Double>) : AutoCloseable {
    private val call = model.signature(null)
    private val scale = ((range[1] - range[0]) / 255).toFloat()
    private val low = range[0].toFloat()
    private val input = ByteBuffer.allocateDirect(px * px * 3 * Float.SIZE_BYTES).order(ByteOrder.LITTLE_ENDIAN)

    /** The smaller output, then the larger one, both flat. Their names differ between converters, sizes do not. */
    fun run(levels: ByteArray): List<FloatArray> {
        val floats = input.asFloatBuffer()
        for (level in levels) floats.put((level.toInt() and 0xFF) * scale + low)
        return call.run(mapOf("0" to input)).values.map { it.toFloats() }.sortedBy { it.size }
    }

    override fun close() = model.close()
}

/** All its float32 values. */
internal fun ByteBuffer.toFloats() = FloatArray(remaining() / Float.SIZE_BYTES).also { asFloatBuffer().get(it) }

internal fun sigmoid(value: Double) = 1 / (1 + exp(-value))

/** A face as a detector gives it: its score, and left, top, right, bottom and six key points in shares of the input. */
internal class Detection(val score: Float, val values: FloatArray) {
    val box = Box(values[0].toDouble(), values[1].toDouble(), values[2].toDouble(), values[3].toDouble())
}

/** Centres of a detector's anchors, x, y, x, y, ... in 0 to 1: card 5.3. */
internal fun makeAnchors(grids: List<List<Int>>): FloatArray = grids.flatMap { (cells, perCell) ->
    (0 until cells * cells).flatMap { cell ->
        val x = (cell % cells + 0.5f) / cells
        val y = (cell / cells + 0.5f) / cells
        List(perCell) { listOf(x, y) }.flatten()
    }
}.toFloatArray()

/**
 * Detections above the least score, best first: card 5.4.
 *
 * @param rawScores A values before the sigmoid.
 * @param rawBoxes A * 16 values: centre, width and height, six key points; px from the anchor.
 */
internal fun decodeDetections(rawScores: FloatArray, rawBoxes: FloatArray, rules: DetectorServing): List<Detection> {
    val anchors = makeAnchors(rules.anchorGrids)
    val perBox = rawBoxes.size / rawScores.size
    val scores = rawScores.map { sigmoid(it.toDouble().coerceIn(-rules.scoreClip, rules.scoreClip)) }
    return scores.indices.filter { scores[it] >= rules.minScore }.sortedByDescending { scores[it] }.map { number ->
        val raw = FloatArray(perBox) { rawBoxes[number * perBox + it] / rules.inputPx }
        val x = anchors[2 * number]
        val y = anchors[2 * number + 1]
        val values = FloatArray(perBox)
        for (axis in 0..1) {
            val centre = raw[axis] + if (axis == 0) x else y
            values[axis] = centre - raw[2 + axis] / 2
            values[2 + axis] = centre + raw[2 + axis] / 2
        }
        for (i in FIRST_KEY_POINT until perBox) values[i] = raw[i] + if (i % 2 == 0) x else y
        Detection(scores[number].toFloat(), values)
    }
}

/** Overlapping detections, best first, as means weighted by their scores: card 5.5. */
internal fun mergeDetections(found: List<Detection>, minIou: Double): List<Detection> {
    val merged = mutableListOf<Detection>()
    var remaining = found
    while (remaining.isNotEmpty()) {
        val best = remaining.first()
        val (cluster, rest) = remaining.partition { it === best || best.box.iou(it.box) > minIou }
        val weight = cluster.fold(0f) { sum, each -> sum + each.score }
        val means = FloatArray(best.values.size) { i -> cluster.fold(0f) { sum, each -> sum + each.values[i] * each.score } / weight }
        merged += Detection(best.score, means)
        remaining = rest
    }
    return merged
}
