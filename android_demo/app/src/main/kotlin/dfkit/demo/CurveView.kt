package dfkit.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.Path
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View
import dfkit.core.CurvePoint

/** Points that are drawn: a curve of two hours has 180,000. */
private const val MAX_POINTS = 1_000

/** Of neighbours the highest, where there are more than are drawn: what is suspicious is not lost. */
internal fun thinned(points: List<CurvePoint>): List<CurvePoint> {
    val size = (points.size + MAX_POINTS - 1) / MAX_POINTS
    return if (size <= 1) points else points.chunked(size) { part -> part.maxBy { it.pFake } }
}

/** Draws p_fake against seconds, and the threshold. */
class CurveView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private var points = emptyList<CurvePoint>()
    private var threshold = 0.5
    private var maxGapS = 0.1
    private val line = paint(R.color.accent, 2.5f, Paint.Style.STROKE)
    private val axis = paint(R.color.axis, 1f, Paint.Style.STROKE)
    private val limit = paint(R.color.fake, 1f, Paint.Style.STROKE)
    private val label = paint(R.color.axis, 0f, Paint.Style.FILL).apply {
        textSize = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, 12f, resources.displayMetrics)
    }

    /**
     * Shows a curve; it is read aloud as one sentence.
     *
     * @param maxGapS points further apart are not joined.
     */
    fun show(points: List<CurvePoint>, threshold: Double, maxGapS: Double = 0.1) {
        this.points = thinned(points)
        this.threshold = threshold
        // Thinned ones lie further apart.
        this.maxGapS = maxGapS * maxOf(1.0, 2.0 * points.size / MAX_POINTS)
        val highest = points.maxByOrNull { it.pFake }
        contentDescription = highest?.let { context.getString(R.string.curve, points.size, it.pFake, it.tS) }
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        if (points.isEmpty()) return
        val left = label.measureText("0.00") + dp(6f)
        val bottom = height - label.textSize - dp(6f)
        val top = label.textSize
        val lastS = maxOf(points.last().tS, 1e-3)
        fun x(tS: Double) = (left + (width - left - dp(2f)) * tS / lastS).toFloat()
        fun y(pFake: Double) = (bottom - (bottom - top) * pFake).toFloat()
        canvas.drawLine(left, bottom, width.toFloat(), bottom, axis)
        canvas.drawLine(left, top, left, bottom, axis)
        canvas.drawLine(left, y(threshold), width.toFloat(), y(threshold), limit)
        canvas.drawText("1", 0f, y(1.0) + label.textSize / 2, label)
        canvas.drawText("0", 0f, bottom, label)
        canvas.drawText("%.2f".format(threshold), 0f, y(threshold) - dp(3f), label)
        val end = "%.1f s".format(lastS)
        canvas.drawText(end, width - label.measureText(end), height - dp(3f), label)
        canvas.drawPath(pathOf(::x, ::y), line)
    }

    /** Broken where points lie far apart; a point of its own is a dot. */
    private fun pathOf(x: (Double) -> Float, y: (Double) -> Float) = Path().apply {
        points.forEachIndexed { i, point ->
            val isJoined = i > 0 && point.tS - points[i - 1].tS <= maxGapS
            val goesOn = i + 1 < points.size && points[i + 1].tS - point.tS <= maxGapS
            if (isJoined) lineTo(x(point.tS), y(point.pFake)) else moveTo(x(point.tS), y(point.pFake))
            if (!isJoined && !goesOn) addCircle(x(point.tS), y(point.pFake), dp(1f), Path.Direction.CW)
        }
    }

    private fun paint(color: Int, widthDp: Float, style: Paint.Style) = Paint(Paint.ANTI_ALIAS_FLAG).also {
        it.color = context.getColor(color)
        it.strokeWidth = dp(widthDp)
        it.style = style
    }

    private fun dp(value: Float) = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_DIP, value, resources.displayMetrics)
}
