package dfkit.demo

import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import android.os.Process
import android.os.SystemClock
import dfkit.core.Device
import dfkit.core.Heat
import java.text.SimpleDateFormat
import java.util.Date
import java.util.Locale
import java.util.TimeZone

/** Android's thermal states by number. */
private val THERMAL = listOf("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")

/** What this phone says of itself. */
internal fun readDevice(context: Context) = Device(
    manufacturer = Build.MANUFACTURER,
    model = Build.MODEL,
    soc = soc(),
    android = Build.VERSION.RELEASE,
    api = Build.VERSION.SDK_INT,
    abi = Build.SUPPORTED_ABIS.first(),
    numCores = Runtime.getRuntime().availableProcessors(),
    memoryGb = memoryBytes(context) / 1e9,
    app = context.packageManager.getPackageInfo(context.packageName, 0).versionName,
    date = SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss'Z'", Locale.ROOT).apply { timeZone = TimeZone.getTimeZone("UTC") }.format(Date()),
)

// By name what came behind API 26: the build refuses what the oldest phones lack, guarded or not.
private fun soc() = if (Build.VERSION.SDK_INT >= 31) "${Build::class.java.getField("SOC_MODEL").get(null)}" else Build.HARDWARE

private fun memoryBytes(context: Context): Long {
    val info = ActivityManager.MemoryInfo()
    context.getSystemService(ActivityManager::class.java).getMemoryInfo(info)
    return info.totalMem
}

/** How warm this phone is now. */
internal fun readHeat(context: Context): Heat {
    val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
    val tenths = battery?.takeIf { it.hasExtra(BatteryManager.EXTRA_TEMPERATURE) }?.getIntExtra(BatteryManager.EXTRA_TEMPERATURE, 0)
    return Heat(thermalStatus(context), tenths?.let { it / 10.0 })
}

private fun thermalStatus(context: Context): String? {
    if (Build.VERSION.SDK_INT < 29) return null
    val found = PowerManager::class.java.getMethod("getCurrentThermalStatus").invoke(context.getSystemService(PowerManager::class.java))
    return THERMAL.getOrElse(found as Int) { "$found" }
}

/** How long ago the process started, as long as nothing was done in it. */
internal object ProcessStart {
    private var isFresh = true

    /** ms since the start for the first that asks, null for all others: they do not see a cold start. */
    fun takeMs(): Double? {
        if (!isFresh) return null
        isFresh = false
        return (SystemClock.elapsedRealtime() - Process.getStartElapsedRealtime()).toDouble()
    }
}
