package dfkit.core

import kotlin.math.atan2
import kotlin.math.cos
import kotlin.math.sin

/** Left, top, right and bottom, px. */
internal class Box(val left: Double, val top: Double, val right: Double, val bottom: Double) {
    val longer get() = maxOf(right - left, bottom - top)
    val x get() = (left + right) / 2
    val y get() = (top + bottom) / 2

    /** Intersection over union; 0 where both are empty. */
    fun iou(other: Box): Double {
        val width = minOf(right, other.right) - maxOf(left, other.left)
        val height = minOf(bottom, other.bottom) - maxOf(top, other.top)
        val shared = maxOf(width, 0.0) * maxOf(height, 0.0)
        val union = area + other.area - shared
        return if (union > 0) shared / union else 0.0
    }

    private val area get() = (right - left) * (bottom - top)

    companion object {
        /** Around points x, y, x, y, ... */
        fun around(points: FloatArray): Box {
            val low = floatArrayOf(points[0], points[1])
            val high = low.copyOf()
            for (i in points.indices) {
                low[i % 2] = minOf(low[i % 2], points[i])
                high[i % 2] = maxOf(high[i % 2], points[i])
            }
            return Box(low[0].toDouble(), low[1].toDouble(), high[0].toDouble(), high[1].toDouble())
        }
    }
}

/**
 * A turned square in pixels of the shown picture.
 *
 * @property angle clockwise on the screen, radians.
 */
internal class Region(val x: Double, val y: Double, val side: Double, val angle: Double) {
    /** The square without its angle. */
    val upright get() = Box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)

    /** From column and row of a picture of [px] px to the region: card 5.1. Its corner, not that of a pixel, is (0, 0). */
    fun map(px: Int): Affine {
        val scale = side / px
        val cosine = cos(angle) * scale
        val sine = sin(angle) * scale
        val half = px / 2.0
        return Affine(cosine, -sine, x - (cosine - sine) * half, sine, cosine, y - (sine + cosine) * half)
    }

    companion object {
        /** Around a box, turned level with the line from one eye to the other, of which dx and dy are given. */
        fun around(box: Box, scale: Double, dx: Float, dy: Float) =
            Region(box.x, box.y, box.longer * scale, atan2(dy.toDouble(), dx.toDouble()))
    }
}

/** An upright square, px of the shown picture; x and y are its centre. */
internal data class SquareBox(val x: Double, val y: Double, val side: Double) {
    /** From column and row of a crop of [px] px to the picture, whose pixels have their middle at whole indices: card 9. */
    fun map(px: Int): Affine {
        val step = side / px
        return Affine(step, 0.0, x - side / 2 + step / 2 - 0.5, 0.0, step, y - side / 2 + step / 2 - 0.5)
    }
}

/** Boxes of a face and its mouth. */
internal data class FaceBoxes(val face: SquareBox, val lip: SquareBox) {
    companion object {
        /** Of smoothed landmarks, x, y, x, y, ... in px: card 9. */
        fun of(landmarks: FloatArray, spec: PictureSpec, rules: BoxServing): FaceBoxes {
            val box = Box.around(landmarks)
            val longer = box.longer.coerceIn(rules.minLongerPx, rules.maxLongerPx)
            val lipX = rules.outerLip.sumOf { landmarks[2 * it].toDouble() } / rules.outerLip.size
            val lipY = rules.outerLip.sumOf { landmarks[2 * it + 1].toDouble() } / rules.outerLip.size
            return FaceBoxes(
                SquareBox(box.x, box.y, spec.faceScale * longer), SquareBox(lipX, lipY, spec.lipScale * longer),
            )
        }
    }
}
