@file:OptIn(ExperimentalSerializationApi::class)

package dfkit.core

import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonNamingStrategy

/** The version of the JSON that `dfkit bench` writes and `dfkit bench --import` reads. */
private const val REPORT_VERSION = 1

private val ReportJson = Json {
    namingStrategy = JsonNamingStrategy.SnakeCase
    encodeDefaults = true
}

/** Percentiles of times, ms, linear between neighbours; [num] is how many there were. */
@Serializable
class Percentiles internal constructor(val p50Ms: Double, val p90Ms: Double, val p99Ms: Double, val num: Int) {
    companion object {
        /** @param timesNs at least one. */
        internal fun of(timesNs: List<Long>): Percentiles {
            val sorted = timesNs.sorted()
            fun at(share: Double): Double {
                val place = share * (sorted.size - 1)
                val below = sorted[place.toInt()]
                val above = sorted[minOf(place.toInt() + 1, sorted.size - 1)]
                return (below + (above - below) * (place - place.toInt())) / 1e6
            }
            return Percentiles(at(0.5), at(0.9), at(0.99), sorted.size)
        }
    }
}

/**
 * Start of an app that loads a bundle.
 *
 * @property importMs from the start of the process to that of its first work; null where the app was open before.
 * @property loadMs verifying the bundle and loading the graphs.
 * @property firstMs the first clip.
 * @property baselineMb resident before the bundle is opened, MB of 10^6 bytes; null where the system does not say.
 * @property peakMb largest resident size behind the first clip, likewise.
 */
@Serializable
class ColdStart internal constructor(
    val importMs: Double?,
    val loadMs: Double,
    val firstMs: Double,
    val baselineMb: Double?,
    val peakMb: Double?,
    val num: Int = 1,
)

/**
 * How warm a device is.
 *
 * @property status the system's word, such as `none` or `severe`; null where it has none (before Android 10).
 * @property batteryC temperature of the battery, degrees Celsius; null where it is not told.
 */
@Serializable
class Heat(val status: String?, val batteryC: Double?)

/** Times of all clips of some seconds of work without a pause, and how warm the device was at their end. */
@Serializable
class HeatWindow internal constructor(val endS: Double, val clip: Percentiles, val heat: Heat)

/** Whether the device calculates as it should: what is fast and wrong counts for nothing. */
@Serializable
class GoldenResult internal constructor(val passed: Boolean, val numOutputs: Int, val numControls: Int)

/**
 * What measures, as the device says it.
 *
 * @property abi of the natives that run, such as arm64-v8a.
 * @property date UTC, ISO 8601.
 */
@Serializable
class Device(
    val manufacturer: String,
    val model: String,
    val soc: String,
    val android: String,
    val api: Int,
    val abi: String,
    val numCores: Int,
    val memoryGb: Double,
    val app: String,
    val date: String,
)

/**
 * What [Benchmark] measured, with the names and meanings of the JSON of `dfkit bench`.
 *
 * @property files SHA-256 of the model files that ran and of the face models, by name: which bundle this is.
 * @property primary the variant, such as `tflite mixed_int8`.
 * @property latencyMs by variant, then by stage.
 * @property fresh cold start by variant.
 * @property sustained work without a pause; empty where none was asked for.
 */
@Serializable
class BenchmarkReport internal constructor(
    val schemaVersion: Int = REPORT_VERSION,
    val measuredBy: String = "phone",
    val name: String,
    val files: Map<String, String>,
    val primary: String,
    val latencyMs: Map<String, Map<String, Percentiles>>,
    val fresh: Map<String, ColdStart>,
    val sustained: List<HeatWindow>,
    val golden: GoldenResult,
    val device: Device,
    val runtime: String,
    val numThreads: Int,
    val repeats: Int,
    val warnings: List<String>,
) {
    /** Times of one clip, encode and score. */
    val clip get() = latencyMs.getValue(primary).getValue("clip")

    /** Its cold start. */
    val coldStart get() = fresh.getValue(primary)

    /** The document that `dfkit bench --import` reads. */
    fun toJson(): String = ReportJson.encodeToString(serializer(), this)
}
