package dfkit.demo

import android.app.ActivityManager
import android.content.Intent
import android.content.Intent.ACTION_CHOOSER
import android.content.Intent.ACTION_SEND
import android.content.Intent.EXTRA_INTENT
import android.content.Intent.EXTRA_TEXT
import android.os.PowerManager
import android.widget.TableLayout
import dfkit.core.Golden
import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.json.JSONObject
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadows.ShadowEnvironment

/** The benchmark, from the screen and as `dfkit bench --adb` starts it. Its times here are those of this computer. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class BenchScreenTest {
    @get:Rule
    val folder = TemporaryFolder()

    @Before
    fun start() {
        Bench.reset()
        ShadowEnvironment.addExternalDir("shared")
    }

    @After
    fun end() = Bench.reset()

    private fun await() = awaitUntil("measured") { !Bench.isBusy }

    /** As the shell's `am start` with these extras. */
    private fun openByAdb(bundle: File? = null, seconds: Int = 0): ActivityController<BenchActivity> {
        val intent = Intent().putExtra("run", "1f").putExtra("seconds", seconds).putExtra("repeats", 3)
        if (bundle != null) intent.putExtra("bundle", bundle.path)
        return Robolectric.buildActivity(BenchActivity::class.java, intent).setup()
    }

    @Suppress("DEPRECATION")
    private fun ActivityController<BenchActivity>.answer() = JSONObject(File(get().externalMediaDirs.first(), "bench-1f.json").readText())

    private fun zipped(from: File) = folder.newFile("bundle.zip").also { target ->
        ZipOutputStream(target.outputStream()).use { zip ->
            from.walkTopDown().filter { it.isFile }.forEach {
                zip.putNextEntry(ZipEntry(it.relativeTo(from).invariantSeparatorsPath))
                zip.write(it.readBytes())
            }
        }
    }

    @Test
    fun `a bundle that was pushed is measured, and its JSON lies where the shell reads it`() {
        val power = RuntimeEnvironment.getApplication().getSystemService(PowerManager::class.java)
        shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_MODERATE)
        val activities = RuntimeEnvironment.getApplication().getSystemService(ActivityManager::class.java)
        shadowOf(activities).setMemoryInfo(ActivityManager.MemoryInfo().apply { totalMem = 8_000_000_000 })
        val screen = openByAdb(zipped(Golden.bundleFolder), seconds = 1)
        assertFalse(screen.isSeen(R.id.start_long))
        await()
        val answer = screen.answer()
        // make android holds it against what Python takes.
        File(System.getProperty("dfkit.screens"), "bench.json").apply { parentFile.mkdirs() }.writeText("$answer")
        assertEquals(1, answer.getInt("schema_version"))
        assertEquals("phone", answer.getString("measured_by"))
        assertEquals(Golden.bundle.name, answer.getString("name"))
        assertTrue(answer.getJSONObject("golden").getBoolean("passed"))
        val stages = answer.getJSONObject("latency_ms").getJSONObject(answer.getString("primary"))
        assertEquals(3, stages.getJSONObject("clip").getInt("num"))
        val window = answer.getJSONArray("sustained").getJSONObject(0)
        assertEquals("moderate", window.getJSONObject("heat").getString("status"))
        assertTrue(window.getDouble("end_s") >= 1)
        assertEquals(34, answer.getJSONObject("device").getInt("api"))
        assertTrue(screen.text(R.id.message), "thermal state: moderate" in screen.text(R.id.message))
        val clip = screen.get().findViewById<TableLayout>(R.id.times).getChildAt(1).contentDescription.toString()
        assertTrue(clip, "90 percent within %.1f".format(stages.getJSONObject("clip").getDouble("p90_ms")) in clip)
        screen.draw("bench_done")
        val before = screen.text(R.id.message)
        screen.recreate()
        assertEquals(before, screen.text(R.id.message))
        screen.press(R.id.share)
        val chooser = shadowOf(screen.get()).nextStartedActivity
        assertEquals(ACTION_CHOOSER, chooser.action)
        @Suppress("DEPRECATION")
        val send = checkNotNull(chooser.getParcelableExtra<Intent>(EXTRA_INTENT))
        assertEquals(ACTION_SEND, send.action)
        assertEquals(answer.toString(), JSONObject(checkNotNull(send.getStringExtra(EXTRA_TEXT))).toString())
    }

    @Test
    fun `what cannot be measured is told on both sides of the cable`() {
        val broken = folder.newFolder("broken")
        Golden.bundleFolder.copyRecursively(broken, overwrite = true)
        File(broken, "model.tflite").appendBytes(byteArrayOf(0))
        val screen = openByAdb(zipped(broken))
        await()
        assertTrue(screen.answer().getString("error"), "model.tflite has" in screen.answer().getString("error"))
        assertTrue(screen.text(R.id.message), "model.tflite has" in screen.text(R.id.message))
        Bench.reset()
        val missing = openByAdb(File("/data/local/tmp/none.zip"))
        await()
        assertTrue("none.zip" in missing.answer().getString("error"))
    }

    @Test
    fun `a person starts it, watches and cancels`() {
        val screen = Robolectric.buildActivity(BenchActivity::class.java).setup()
        screen.draw("bench")
        assertTrue(screen.isSeen(R.id.start_long) && screen.isSeen(R.id.start_short) && !screen.isSeen(R.id.share))
        screen.press(R.id.start_long)
        assertEquals(screen.get().getString(R.string.bench_starting), screen.text(R.id.message))
        awaitUntil("work without a pause") { screen.text(R.id.message).startsWith(screen.get().getString(R.string.bench_long_running)) }
        screen.draw("bench_running")
        screen.press(R.id.cancel)
        assertEquals(screen.get().getString(R.string.cancelled), screen.text(R.id.message))
        assertTrue(screen.isSeen(R.id.start_long))
    }

    @Test
    @Config(qualifiers = "ko-w360dp-h720dp-night-xhdpi", fontScale = 1.5f)
    fun `in Korean, in the dark, in larger letters`() {
        val screen = openByAdb()
        await()
        assertTrue(screen.text(R.id.message), "측정 기기" in screen.text(R.id.message))
        screen.draw("bench_ko_night")
    }
}
