package dfkit.demo

import android.annotation.SuppressLint
import android.media.AudioFormat
import android.media.AudioRecord
import android.media.AudioTimestamp
import android.media.MediaRecorder
import android.os.SystemClock
import dfkit.core.SoundFormat
import dfkit.core.TimedSound

/** The one rate that every phone has. */
private const val RATE = 44_100
private const val BLOCK = 2_048

/** Reads the microphone on a thread of its own until it is stopped. */
internal class Microphone private constructor(private val record: AudioRecord, private val isBootTime: Boolean, private val feed: Feed) {
    @Volatile
    private var isStopped = false
    private val thread = Thread(::read, "microphone").apply { start() }

    fun stop() {
        isStopped = true
        thread.join()
        record.release()
    }

    private fun read() {
        val block = ShortArray(BLOCK)
        var numRead = 0L
        while (!isStopped) {
            val count = record.read(block, 0, BLOCK)
            if (count < 0) return feed.fail(LiveFault.NO_MICROPHONE)
            if (count == 0) continue
            val samples = FloatArray(count) { block[it] / 32768f }
            feed.hear(TimedSound(timeS(numRead, count), samples))
            numRead += count
        }
        record.stop()
    }

    /** Time of a block's first sample on the camera's clock, s. */
    private fun timeS(numBefore: Long, count: Int): Double {
        val known = AudioTimestamp()
        val base = if (isBootTime) AudioTimestamp.TIMEBASE_BOOTTIME else AudioTimestamp.TIMEBASE_MONOTONIC
        if (record.getTimestamp(known, base) == AudioRecord.SUCCESS) {
            return known.nanoTime / 1e9 + (numBefore - known.framePosition).toDouble() / RATE
        }
        val nowNs = if (isBootTime) SystemClock.elapsedRealtimeNanos() else System.nanoTime()
        return nowNs / 1e9 - count.toDouble() / RATE
    }

    companion object {
        val FORMAT = SoundFormat(RATE, listOf("FC"))

        /** Starts; null where the phone gives no microphone. The permission is there. */
        @SuppressLint("MissingPermission")
        fun open(isBootTime: Boolean, feed: Feed): Microphone? {
            val least = AudioRecord.getMinBufferSize(RATE, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_16BIT)
            if (least <= 0) return null
            val record = AudioRecord(
                MediaRecorder.AudioSource.CAMCORDER, RATE, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_16BIT,
                maxOf(least, 8 * BLOCK),
            )
            if (record.state != AudioRecord.STATE_INITIALIZED) {
                record.release()
                return null
            }
            record.startRecording()
            if (record.recordingState != AudioRecord.RECORDSTATE_RECORDING) {
                record.release()
                return null
            }
            return Microphone(record, isBootTime, feed)
        }
    }
}
