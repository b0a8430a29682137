package dfkit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

/** By hand: which of a stream's pictures, named by their place, is nearest to each grid point of 25 a second. */
class GridPickerTest {
    private fun pick(timesS: List<Double>, lastDurationS: Double? = null): List<Int> {
        val picker = GridPicker<Int>(25.0, Golden.bundle.serving.pictures)
        val served = timesS.flatMapIndexed { place, tS -> picker.push(tS, place) } + picker.finish(lastDurationS)
        assertEquals(served.indices.toList(), served.map { it.index })
        return served.map { it.picture }
    }

    @Test
    fun `pictures on the grid are taken once each`() = assertEquals(listOf(0, 1, 2), pick(listOf(5.0, 5.04, 5.08)))

    @Test
    fun `a slow stream repeats pictures, of two equally near ones the earlier`() =
        assertEquals(listOf(0, 0, 1, 1), pick(listOf(0.0, 0.08)))

    @Test
    fun `a fast stream leaves pictures out`() = assertEquals(listOf(0, 2, 4), pick(List(6) { it * 0.02 }))

    @Test
    fun `the last picture is shown as long as it is said`() = assertEquals(listOf(0, 1, 1, 1), pick(listOf(0.0, 0.04), 0.12))
}
