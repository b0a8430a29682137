package dfkit.core

import kotlin.math.abs
import kotlin.math.floor

/** An affine map of the plane: x' = xx x + xy y + x0, y' = yx x + yy y + y0. */
internal class Affine(val xx: Double, val xy: Double, val x0: Double, val yx: Double, val yy: Double, val y0: Double)

/** From a shown picture to the decoded one: pixel aspect ratio, rotation and mirroring. Card 3.2. */
internal class Geometry private constructor(
    private val codedWidth: Int,
    private val codedHeight: Int,
    val shownWidth: Int,
    val shownHeight: Int,
    private val turn: Turn,
) {
    /** From a place in the shown picture to one in the coded; the corner of both is (0, 0). */
    private val toCoded: Affine = run {
        val (a, b, c, d) = turn
        val uprightWidth = if (turn.isSwapped) shownHeight else shownWidth
        val uprightHeight = if (turn.isSwapped) shownWidth else shownHeight
        val scaleX = codedWidth / uprightWidth.toDouble()
        val scaleY = codedHeight / uprightHeight.toDouble()
        val shiftX = if (a + b < 0) uprightWidth else 0
        val shiftY = if (c + d < 0) uprightHeight else 0
        Affine(a * scaleX, b * scaleX, shiftX * scaleX, c * scaleY, d * scaleY, shiftY * scaleY)
    }

    /** The same coded picture, shown at the size of another one. */
    fun shownAs(other: Geometry) = Geometry(codedWidth, codedHeight, other.shownWidth, other.shownHeight, turn)

    /** Takes a map onto indices of the shown picture further onto those of a plane. */
    fun ontoPlane(map: Affine, plane: Plane): Affine {
        val stepX = Math.rint(codedWidth / plane.width.toDouble())
        val stepY = Math.rint(codedHeight / plane.height.toDouble())
        val xx = toCoded.xx / stepX
        val xy = toCoded.xy / stepX
        val yx = toCoded.yx / stepY
        val yy = toCoded.yy / stepY
        return Affine(
            xx * map.xx + xy * map.yx,
            xx * map.xy + xy * map.yy,
            xx * (map.x0 + 0.5) + xy * (map.y0 + 0.5) + toCoded.x0 / stepX - 0.5,
            yx * map.xx + yy * map.yx,
            yx * map.xy + yy * map.yy,
            yx * (map.x0 + 0.5) + yy * (map.y0 + 0.5) + toCoded.y0 / stepY - 0.5,
        )
    }

    /** Column and row of the coded pixel that holds a place of the shown picture. */
    fun codedPixel(x: Double, y: Double): Pair<Int, Int> {
        val column = floor(toCoded.xx * x + toCoded.xy * y + toCoded.x0).toInt()
        val row = floor(toCoded.yx * x + toCoded.yy * y + toCoded.y0).toInt()
        return column.coerceIn(0, codedWidth - 1) to row.coerceIn(0, codedHeight - 1)
    }

    companion object {
        fun of(width: Int, height: Int, format: PictureFormat, rules: PictureServing): Geometry {
            val stated = format.aspect
            val isSquare = !(stated >= 1 / rules.maxAspect && stated <= rules.maxAspect) ||
                abs(stated - 1) < rules.squareTolerance
            val ratio = if (isSquare) 1.0 else stated
            val uprightWidth = if (ratio > 1) Math.rint(width * ratio).toInt() else width
            val uprightHeight = if (ratio > 1) height else Math.rint(height / ratio).toInt()
            val turn = Turn.of(format)
            return if (turn.isSwapped) Geometry(width, height, uprightHeight, uprightWidth, turn)
            else Geometry(width, height, uprightWidth, uprightHeight, turn)
        }
    }
}

/** Quarter turns and mirroring as a display matrix has them: x' = a x + c y, y' = b x + d y; each -1, 0 or 1. */
internal data class Turn(val a: Int, val b: Int, val c: Int, val d: Int) {
    /** Whether rows become columns. */
    val isSwapped get() = a == 0

    companion object {
        fun of(format: PictureFormat): Turn {
            val turned = when (Math.floorMod(format.rotationDeg, 360)) {
                0 -> Turn(1, 0, 0, 1)
                90 -> Turn(0, 1, -1, 0)
                180 -> Turn(-1, 0, 0, -1)
                270 -> Turn(0, -1, 1, 0)
                else -> throw IllegalArgumentException("rotation of ${format.rotationDeg} degrees, a multiple of 90 is expected")
            }
            return if (format.isMirrored) Turn(-turned.a, turned.b, -turned.c, turned.d) else turned
        }
    }
}
