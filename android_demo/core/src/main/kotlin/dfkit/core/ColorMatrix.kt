package dfkit.core

/** From Y, U and V to R, G and B, in whole 1 / 1024: card 3.3. */
internal class ColorMatrix private constructor(private val units: IntArray, val black: Int, val lumaSpan: Int) {
    /** Three arrays of one length to RGB bytes, three times as long. */
    fun toRgb(y: IntArray, u: IntArray, v: IntArray): ByteArray {
        val rgb = ByteArray(3 * y.size)
        for (i in y.indices) {
            for (channel in 0 until 3) {
                val at = 4 * channel
                val sum = units[at] * y[i] + units[at + 1] * u[i] + units[at + 2] * v[i] + units[at + 3]
                rgb[3 * i + channel] = (sum + 512 shr 10).coerceIn(0, 255).toByte()
            }
        }
        return rgb
    }

    companion object {
        /**
         * The matrix of a picture.
         *
         * @param lines coded, before any rotation: what a stream does not say depends on them.
         * @see "ITU-T H.273, equations 20 to 40"
         */
        fun of(format: PictureFormat, lines: Int, rules: PictureServing): ColorMatrix {
            val untagged = if (lines >= rules.untaggedHdFrom) rules.untaggedHd else rules.untaggedSd
            val (red, blue) = rules.matrices[format.matrix] ?: untagged
            val black = if (format.fullRange) 0 else 16
            val luma = if (format.fullRange) 1.0 else 255.0 / 219
            val chroma = if (format.fullRange) 1.0 else 255.0 / 224
            val vToRed = 2 * (1 - red) * chroma
            val uToBlue = 2 * (1 - blue) * chroma
            val green = 1 - red - blue
            val rows = listOf(
                listOf(luma, 0.0, vToRed),
                listOf(luma, -blue / green * uToBlue, -red / green * vToRed),
                listOf(luma, uToBlue, 0.0),
            )
            val units = rows.flatMap { (y, u, v) -> listOf(y, u, v, -(y * black + u * 128 + v * 128)) }
            return ColorMatrix(
                units.map { Math.rint(it * 1024).toInt() }.toIntArray(), black, if (format.fullRange) 255 else 219,
            )
        }
    }
}
