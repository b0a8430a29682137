package dfkit.core

/**
 * A picture as it is shown, made small for a screen.
 *
 * @property argb height * width opaque colours, row by row, as Android's Bitmap takes them.
 */
class Preview internal constructor(val width: Int, val height: Int, val argb: IntArray)

/** @param side of the preview's longer side, px. */
internal fun ShownPicture.preview(side: Int): Preview {
    val scale = maxOf(width, height) / side.toDouble()
    val columns = (width / scale).toInt().coerceIn(1, side)
    val rows = (height / scale).toInt().coerceIn(1, side)
    val middle = (scale - 1) / 2
    val rgb = sample(Affine(scale, 0.0, middle, 0.0, scale, middle), side, blackOutside = true)
    return Preview(columns, rows, IntArray(columns * rows) { place ->
        val at = 3 * (place / columns * side + place % columns)
        fun level(channel: Int) = rgb[at + channel].toInt() and 0xFF
        (0xFF shl 24) or (level(0) shl 16) or (level(1) shl 8) or level(2)
    })
}
