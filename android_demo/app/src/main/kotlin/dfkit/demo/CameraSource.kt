package dfkit.demo

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.hardware.display.DisplayManager
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.util.Range
import android.util.Size
import android.view.Display
import android.view.Surface
import dfkit.core.PictureFormat
import dfkit.core.TimedPicture

/** Faces are found in pictures of this many px a side; more only costs time. */
private const val MIN_SIDE_PX = 480

/** The contract's pictures a second. */
private const val WANTED_FPS = 25

/** Pictures that the camera may fill while others are copied. */
private const val MAX_IMAGES = 4

/** What Camera2 gives as YUV_420_888: BT.601 (ITU-T H.273 number 6), 0 to 255. */
private const val CAMERA_MATRIX = 6

/** How long the end of a session waits for the camera to be closed, ms. */
private const val CLOSE_MS = 3_000L

/**
 * The phone's front camera, or the only one there is, with its microphone. Pictures are copied and judged, and go nowhere
 * else: nothing is stored. All but [start] and [stop] happens on a thread of its own.
 */
internal class CameraSource(private val context: Context) : LiveSource {
    private val manager = context.getSystemService(CameraManager::class.java)
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private var microphone: Microphone? = null
    private var reader: ImageReader? = null
    private var camera: CameraDevice? = null
    private var isStopped = false

    /** Whether the camera was asked for and has not answered. */
    private var isOpening = false

    override val sound get() = Microphone.FORMAT

    override fun start(feed: Feed) {
        handler.post { open(feed) }
    }

    override fun stop() {
        handler.post {
            isStopped = true
            // A camera that is just being opened is closed as soon as it answers: nobody else could close it.
            if (!isOpening) close()
        }
        thread.join(CLOSE_MS)
    }

    private fun close() {
        microphone?.stop()
        camera?.close()
        reader?.close()
        thread.quitSafely()
    }

    /** The camera has answered. */
    private fun answered(device: CameraDevice, fault: LiveFault?, feed: Feed) {
        isOpening = false
        camera = device
        if (fault != null) feed.fail(fault)
        if (isStopped) close()
    }

    // The screen asked for the permission; one that was taken back meanwhile ends the process.
    @SuppressLint("MissingPermission")
    private fun open(feed: Feed) {
        if (isStopped) return
        try {
            val id = chooseCamera() ?: return feed.fail(LiveFault.NO_CAMERA)
            val known = manager.getCameraCharacteristics(id)
            val isBootTime = known[CameraCharacteristics.SENSOR_INFO_TIMESTAMP_SOURCE] ==
                CameraCharacteristics.SENSOR_INFO_TIMESTAMP_SOURCE_REALTIME
            microphone = Microphone.open(isBootTime, feed) ?: return feed.fail(LiveFault.NO_MICROPHONE)
            val images = openReader(known, feed)
            isOpening = true
            manager.openCamera(id, Opened(feed, known, images), handler)
        } catch (error: CameraAccessException) {
            isOpening = false
            feed.fail(faultOf(error))
        } catch (_: SecurityException) {
            isOpening = false
            feed.fail(LiveFault.CAMERA_LOST)
        }
    }

    private fun faultOf(error: CameraAccessException) = when (error.reason) {
        CameraAccessException.CAMERA_IN_USE, CameraAccessException.MAX_CAMERAS_IN_USE -> LiveFault.CAMERA_IN_USE
        else -> LiveFault.CAMERA_LOST
    }

    private fun chooseCamera(): String? {
        val ids = manager.cameraIdList.toList()
        return ids.find { facing(it) == CameraCharacteristics.LENS_FACING_FRONT } ?: ids.firstOrNull()
    }

    private fun facing(id: String) = manager.getCameraCharacteristics(id)[CameraCharacteristics.LENS_FACING]

    private fun openReader(known: CameraCharacteristics, feed: Feed): ImageReader {
        val sizes = known[CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP]?.getOutputSizes(ImageFormat.YUV_420_888)
        val size = chooseSize(sizes.orEmpty().toList())
        val format = PictureFormat(CAMERA_MATRIX, fullRange = true, rotationDeg = rotationDeg(known))
        return ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, MAX_IMAGES).also { images ->
            reader = images
            images.setOnImageAvailableListener({ copyNext(it, format, feed) }, handler)
        }
    }

    private fun copyNext(images: ImageReader, format: PictureFormat, feed: Feed) {
        images.acquireNextImage()?.use { image ->
            if (feed.hasRoom) feed.see(TimedPicture(image.timestamp / 1e9, pictureOf(image, format)))
        }
    }

    private fun rotationDeg(known: CameraCharacteristics): Int {
        val display = context.getSystemService(DisplayManager::class.java).getDisplay(Display.DEFAULT_DISPLAY)
        val isFront = known[CameraCharacteristics.LENS_FACING] == CameraCharacteristics.LENS_FACING_FRONT
        return uprightDeg(known[CameraCharacteristics.SENSOR_ORIENTATION] ?: 0, degreesOf(display.rotation), isFront)
    }

    private inner class Opened(
        private val feed: Feed,
        private val known: CameraCharacteristics,
        private val images: ImageReader,
    ) : CameraDevice.StateCallback() {
        // What replaces it came with API 28.
        @Suppress("DEPRECATION")
        override fun onOpened(device: CameraDevice) {
            answered(device, null, feed)
            if (isStopped) return
            try {
                device.createCaptureSession(listOf(images.surface), Configured(device), handler)
            } catch (error: CameraAccessException) {
                feed.fail(faultOf(error))
            }
        }

        override fun onDisconnected(device: CameraDevice) = answered(device, LiveFault.CAMERA_LOST, feed)

        override fun onError(device: CameraDevice, error: Int) {
            val isInUse = error == ERROR_CAMERA_IN_USE || error == ERROR_MAX_CAMERAS_IN_USE
            answered(device, if (isInUse) LiveFault.CAMERA_IN_USE else LiveFault.CAMERA_LOST, feed)
        }

        private inner class Configured(private val device: CameraDevice) : CameraCaptureSession.StateCallback() {
            override fun onConfigured(session: CameraCaptureSession) {
                if (isStopped) return
                val request = device.createCaptureRequest(CameraDevice.TEMPLATE_RECORD)
                request.addTarget(images.surface)
                val ranges = known[CameraCharacteristics.CONTROL_AE_AVAILABLE_TARGET_FPS_RANGES].orEmpty().toList()
                chooseFps(ranges)?.let { request.set(CaptureRequest.CONTROL_AE_TARGET_FPS_RANGE, it) }
                try {
                    session.setRepeatingRequest(request.build(), null, handler)
                } catch (error: CameraAccessException) {
                    feed.fail(faultOf(error))
                }
            }

            override fun onConfigureFailed(session: CameraCaptureSession) = feed.fail(LiveFault.CAMERA_LOST)
        }
    }
}

/** The smallest size whose shorter side is long enough, else the largest. */
internal fun chooseSize(sizes: List<Size>): Size =
    sizes.filter { minOf(it.width, it.height) >= MIN_SIDE_PX }.minByOrNull { it.width * it.height }
        ?: sizes.maxByOrNull { it.width * it.height } ?: Size(640, MIN_SIDE_PX)

/** The range that never falls far below the contract's rate, and does not go far above it. */
internal fun chooseFps(ranges: List<Range<Int>>): Range<Int>? =
    ranges.filter { it.upper >= WANTED_FPS }.minWithOrNull(compareBy({ it.upper }, { -it.lower }))

/** Degrees by which a camera's picture is turned clockwise to be upright. */
internal fun uprightDeg(sensorDeg: Int, displayDeg: Int, isFront: Boolean) =
    Math.floorMod(if (isFront) sensorDeg + displayDeg else sensorDeg - displayDeg, 360)

private fun degreesOf(rotation: Int) = when (rotation) {
    Surface.ROTATION_90 -> 90
    Surface.ROTATION_180 -> 180
    Surface.ROTATION_270 -> 270
    else -> 0
}
