package dfkit.core

/** A picture at a grid point: its index and the picture's time since the first one, s. */
internal class GridPicture<P>(val index: Int, val tS: Double, val picture: P)

/** Chooses the picture nearest in time to each grid point: card 2.4. */
internal class GridPicker<P : Any>(private val fps: Double, private val rules: PictureServing) {
    private class Timed<P>(val tS: Double, val picture: P)

    private var before: Timed<P>? = null
    private var index = 0
    private var stepS = 1 / fps
    private var originS = 0.0

    /**
     * Takes the next picture.
     *
     * @param tS its time, s, on any clock that rises.
     * @return the grid points that the picture before it serves.
     */
    fun push(tS: Double, picture: P): List<GridPicture<P>> {
        val last = before
        if (last == null) originS = tS
        require(last == null || (tS > last.tS && tS - last.tS <= rules.maxHoleS)) {
            "a picture at $tS s follows one at ${last?.tS} s; times rise, by ${rules.maxHoleS} s at most"
        }
        before = Timed(tS, picture)
        if (last == null) return emptyList()
        stepS = tS - last.tS
        val middle = (last.tS + tS) / 2 - originS
        val served = mutableListOf<GridPicture<P>>()
        while (index / fps <= middle + rules.tieToleranceS) served += GridPicture(index++, last.tS - originS, last.picture)
        return served
    }

    /**
     * Ends the stream.
     *
     * @param lastDurationS how long the last picture is shown; null takes the time between the last two.
     * @return the grid points that the last picture serves.
     */
    fun finish(lastDurationS: Double?): List<GridPicture<P>> {
        val last = before ?: return emptyList()
        val shownS = minOf(lastDurationS ?: stepS, rules.maxHoleS)
        val end = maxOf(((last.tS - originS + shownS) * fps + rules.endTolerance).toInt(), 1)
        val served = (index until end).map { GridPicture(it, last.tS - originS, last.picture) }
        index = maxOf(index, end)
        return served
    }
}
