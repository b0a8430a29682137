package dfkit.core

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor

/**
 * Samples a plane bilinearly, at places in steps of 1 / 32 px and in whole numbers, as OpenCV does: without them boxes
 * move by up to 0.2 px. Card 3.4.
 *
 * @param map from column and row of the result to indices of the plane.
 * @param side of the result, px.
 * @param outside value outside of the plane; null lets its edge go on.
 * @return side * side values of 0 to 255.
 */
internal fun warp(plane: Plane, map: Affine, side: Int, outside: Int?): IntArray {
    val result = IntArray(side * side)
    val stepX = LongArray(side) { Math.rint(map.xx * it * 1024).toLong() }
    val stepY = LongArray(side) { Math.rint(map.yx * it * 1024).toLong() }
    for (row in 0 until side) {
        val rowX = Math.rint((map.xy * row + map.x0) * 1024).toLong() + 16
        val rowY = Math.rint((map.yy * row + map.y0) * 1024).toLong() + 16
        for (column in 0 until side) {
            val x = rowX + stepX[column] shr 5
            val y = rowY + stepY[column] shr 5
            result[row * side + column] = bilinear(plane, x, y, outside)
        }
    }
    return result
}

/** The value at (x / 32, y / 32), rounded, halves up. */
private fun bilinear(plane: Plane, x: Long, y: Long, outside: Int?): Int {
    val column = (x shr 5).toInt()
    val row = (y shr 5).toInt()
    val right = (x and 31).toInt()
    val below = (y and 31).toInt()
    val top = level(plane, column, row, outside) * (32 - right) + level(plane, column + 1, row, outside) * right
    val bottom = level(plane, column, row + 1, outside) * (32 - right) + level(plane, column + 1, row + 1, outside) * right
    return top * (32 - below) + bottom * below + 512 shr 10
}

private fun level(plane: Plane, column: Int, row: Int, outside: Int?): Int {
    if (column >= 0 && row >= 0 && column < plane.width && row < plane.height) return plane.at(column, row)
    return outside ?: plane.at(column.coerceIn(0, plane.width - 1), row.coerceIn(0, plane.height - 1))
}

/**
 * Means of whole blocks of the part of a plane that a map reaches, so that nothing aliases, and the map onto them; both
 * as they were where neither axis shrinks by [from] or more. Card 3.5.
 */
internal fun averageBlocks(plane: Plane, map: Affine, side: Int, from: Int): Pair<Plane, Affine> {
    val shrinkX = (abs(map.xx) + abs(map.xy)).toInt()
    val shrinkY = (abs(map.yx) + abs(map.yy)).toInt()
    if (maxOf(shrinkX, shrinkY) < from) return plane to map
    val columns = Blocks.of(map.xx, map.xy, map.x0, side, maxOf(shrinkX, 1))
    val rows = Blocks.of(map.yx, map.yy, map.y0, side, maxOf(shrinkY, 1))
    val onto = Affine(
        map.xx / columns.step, map.xy / columns.step, columns.index(map.x0),
        map.yx / rows.step, map.yy / rows.step, rows.index(map.y0),
    )
    return blockMeans(plane, columns, rows) to onto
}

/** Blocks along one axis: of [step] samples each, [count] of them, from [first] on. */
private class Blocks(val first: Int, val step: Int, val count: Int) {
    fun index(place: Double) = (place - first + 0.5) / step - 0.5

    companion object {
        fun of(a: Double, b: Double, start: Double, side: Int, step: Int): Blocks {
            val reachA = (side - 1) * a
            val reachB = (side - 1) * b
            val low = start + (minOf(reachA, 0.0) + minOf(reachB, 0.0))
            val high = start + (maxOf(reachA, 0.0) + maxOf(reachB, 0.0))
            // A block more to either side: bilinear needs a neighbour.
            val first = floor(low).toInt() - step
            return Blocks(first, step, ceil((high - first) / step).toInt() + 2)
        }
    }
}

private fun blockMeans(plane: Plane, columns: Blocks, rows: Blocks): Plane {
    val result = ByteArray(columns.count * rows.count)
    val sums = IntArray(columns.count)
    for (row in 0 until rows.count) {
        sums.fill(0)
        for (inner in 0 until rows.step) {
            val y = (rows.first + row * rows.step + inner).coerceIn(0, plane.height - 1)
            for (column in 0 until columns.count) sums[column] += blockSum(plane, columns, column, y)
        }
        for (column in 0 until columns.count) {
            result[row * columns.count + column] = meanLevel(sums[column], columns.step, rows.step).toByte()
        }
    }
    return Plane(result, columns.count, rows.count)
}

/** Rounded as OpenCV rounds: of 2 x 2 samples halves up, else halves to even. */
private fun meanLevel(sum: Int, width: Int, height: Int): Int =
    if (width == 2 && height == 2) sum + 2 shr 2 else Math.rint(sum / (width * height).toDouble()).toInt()

private fun blockSum(plane: Plane, columns: Blocks, column: Int, y: Int): Int {
    var sum = 0
    for (inner in 0 until columns.step) {
        sum += plane.at((columns.first + column * columns.step + inner).coerceIn(0, plane.width - 1), y)
    }
    return sum
}
