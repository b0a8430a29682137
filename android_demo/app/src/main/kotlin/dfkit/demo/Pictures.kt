package dfkit.demo

import android.graphics.Bitmap
import android.media.Image
import dfkit.core.Picture
import dfkit.core.PictureFormat
import dfkit.core.Plane
import dfkit.core.Preview

/** Copies an image of YUV_420_888, without padding and without what lies outside of its crop. */
internal fun pictureOf(image: Image, format: PictureFormat) =
    Picture(planeOf(image, 0), planeOf(image, 1), planeOf(image, 2), format)

private fun planeOf(image: Image, number: Int): Plane {
    val crop = image.cropRect
    val from = image.planes[number]
    val step = if (number == 0) 1 else 2
    val left = crop.left / step
    val top = crop.top / step
    val source = from.buffer.duplicate()
    source.position(top * from.rowStride + left * from.pixelStride)
    return Plane.copyOf(
        source, from.rowStride, from.pixelStride, (crop.width() + step - 1) / step, (crop.height() + step - 1) / step,
    )
}

internal fun bitmapOf(preview: Preview): Bitmap =
    Bitmap.createBitmap(preview.argb, preview.width, preview.height, Bitmap.Config.ARGB_8888)
