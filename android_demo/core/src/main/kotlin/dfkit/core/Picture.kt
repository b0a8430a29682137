package dfkit.core

import java.nio.ByteBuffer

/**
 * One of a decoded picture's planes: rows of 8-bit samples without padding.
 *
 * @property samples height * width bytes, row by row.
 */
class Plane(val samples: ByteArray, val width: Int, val height: Int) {
    init {
        require(width > 0 && height > 0 && samples.size == width * height) {
            "a plane of $width x $height px takes ${width * height} bytes, got ${samples.size}"
        }
    }

    internal fun at(column: Int, row: Int): Int = samples[row * width + column].toInt() and 0xFF

    companion object {
        /**
         * Copies a plane out of a decoder's memory.
         *
         * @param source from the plane's first sample on; its position is left alone.
         * @param rowStride bytes from a row to the next.
         * @param pixelStride bytes from a sample to the next; 2 where U and V alternate.
         */
        fun copyOf(source: ByteBuffer, rowStride: Int, pixelStride: Int, width: Int, height: Int): Plane {
            val samples = ByteArray(width * height)
            val from = source.duplicate()
            val start = source.position()
            val row = ByteArray((width - 1) * pixelStride + 1)
            for (y in 0 until height) {
                from.position(start + y * rowStride)
                from.get(row)
                for (x in 0 until width) samples[y * width + x] = row[x * pixelStride]
            }
            return Plane(samples, width, height)
        }
    }
}

/**
 * How a stream's pictures are shown.
 *
 * @property matrix number of the YUV matrix (ITU-T H.273), such as 1 for BT.709 and 6 for BT.601; 2 where the stream says
 *   nothing.
 * @property fullRange whether Y spans 0 to 255, else 16 to 235.
 * @property rotationDeg clockwise degrees by which the picture is turned to be shown; a multiple of 90.
 * @property isMirrored whether left and right change places after turning, as of a front camera.
 * @property aspect width of a pixel by its height.
 */
data class PictureFormat(
    val matrix: Int = 2,
    val fullRange: Boolean = false,
    val rotationDeg: Int = 0,
    val isMirrored: Boolean = false,
    val aspect: Double = 1.0,
)

/**
 * A decoded picture: planes of Y, U and V, of which U and V may be smaller by a whole number, rounded up.
 *
 * It is not copied, and is kept until the look-ahead of half a second has passed.
 */
class Picture(val y: Plane, val u: Plane, val v: Plane, val format: PictureFormat = PictureFormat())

/** A picture with all that is needed to sample it: card 3. */
internal class ShownPicture(private val planes: List<Plane>, private val geometry: Geometry, private val color: ColorMatrix) {
    /** Side to side as shown, px. */
    val width get() = geometry.shownWidth

    /** Top to bottom as shown, px. */
    val height get() = geometry.shownHeight

    /**
     * Samples an affine part, bilinearly: card 3.4.
     *
     * @param map from column and row of the result to x and y in the shown picture, as indices.
     * @param side of the result, px.
     * @param blackOutside whether it is black outside of the picture; else its edge goes on.
     * @param averageFrom pixels of a plane per pixel of the result from which on blocks are averaged first (3.5); 0 never.
     * @return side * side * 3 bytes of RGB, row by row.
     */
    fun sample(map: Affine, side: Int, blackOutside: Boolean, averageFrom: Int = 0): ByteArray {
        val black = intArrayOf(color.black, 128, 128)
        val parts = planes.mapIndexed { number, plane ->
            val placed = geometry.ontoPlane(map, plane)
            val (source, onto) = if (averageFrom > 0) averageBlocks(plane, placed, side, averageFrom) else plane to placed
            warp(source, onto, side, if (blackOutside) black[number] else null)
        }
        return color.toRgb(parts[0], parts[1], parts[2])
    }

    /** Luma of single pixels on a coarse grid, grid * grid values of 0 to 255: card 4. */
    fun sampleLuma(grid: Int): IntArray {
        val plane = planes[0]
        val scale = (255.0 / color.lumaSpan).toFloat()
        return IntArray(grid * grid) { cell ->
            val x = ((2 * (cell % grid) + 1) * width / (2 * grid)) + 0.5
            val y = ((2 * (cell / grid) + 1) * height / (2 * grid)) + 0.5
            val (column, row) = geometry.codedPixel(x, y)
            ((plane.at(column, row) - color.black) * scale + 0.5f).coerceIn(0f, 255f).toInt()
        }
    }
}

/** Turns pictures of one stream into shown ones; all are shown at the size of the first. */
internal class PictureMaker(private val rules: PictureServing) {
    private var first: Geometry? = null

    /** What the sides of the first picture were divided by: larger ones than `max_tracked_px` are made smaller. */
    var shrink = 0
        private set

    /** @throws UnreadableException it is larger than what is read. */
    fun make(picture: Picture): ShownPicture {
        val whole = picture.y
        val area = whole.width.toLong() * whole.height
        if (maxOf(whole.width, whole.height) > rules.maxSidePx || area > rules.maxAreaPx) {
            throw UnreadableException(
                "a picture of ${whole.width} x ${whole.height} px, ${rules.maxSidePx} px a side and ${rules.maxAreaPx} at most",
            )
        }
        if (shrink == 0) shrink = wholeShrink(area, rules.maxTrackedPx.toLong())
        val planes = listOf(picture.y, picture.u, picture.v).map { it.shrunk(shrink) }
        val made = Geometry.of(planes[0].width, planes[0].height, picture.format, rules)
        val shown = first ?: made.also { first = it }
        val color = ColorMatrix.of(picture.format, whole.height, rules)
        return ShownPicture(planes, made.shownAs(shown), color)
    }
}

/** The smallest whole number by which sides are divided until the area fits. */
private fun wholeShrink(area: Long, maxArea: Long): Int = generateSequence(1) { it + 1 }.first { area <= maxArea * it * it }

/** Means of blocks of factor * factor samples; what is left over at the right and below is dropped. */
private fun Plane.shrunk(factor: Int): Plane {
    if (factor == 1) return this
    val columns = maxOf(width / factor, 1)
    val rows = maxOf(height / factor, 1)
    val result = ByteArray(columns * rows) { place ->
        val x0 = place % columns * factor
        val y0 = place / columns * factor
        var sum = 0
        for (y in 0 until factor) for (x in 0 until factor) sum += at(minOf(x0 + x, width - 1), minOf(y0 + y, height - 1))
        ((sum + factor * factor / 2) / (factor * factor)).toByte()
    }
    return Plane(result, columns, rows)
}
