package dfkit.core

import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource

class BundleTest {
    @TempDir
    lateinit var folder: File
    private val own by lazy { File(folder, "own").also { Golden.bundleFolder.copyRecursively(it) } }
    private val manifest get() = File(own, MANIFEST_FILE)

    private fun refused(): String {
        val error = assertThrows(BundleException::class.java) { Bundle.open(FolderFiles(own)) }
        assertTrue(error.fix.isNotBlank())
        return error.found
    }

    private fun change(from: String, to: String) {
        val text = manifest.readText()
        val changed = text.replaceFirst(Regex(from), to)
        assertTrue(changed != text, "nothing in the manifest is $from")
        manifest.writeText(changed)
    }

    @Test
    fun `every file is held against its hash`() {
        val names = Golden.bundle.manifest.files.keys
        for (name in names) {
            val file = File(own, name)
            val whole = file.readBytes()
            file.writeBytes(whole.copyOf().also { it[it.size / 2] = (it[it.size / 2].toInt() xor 1).toByte() })
            assertTrue(name in refused() && "was changed" in refused())
            file.writeBytes(whole)
        }
        Bundle.open(FolderFiles(own))
    }

    @Test
    fun `all faults are named at once`() {
        File(own, "model.tflite").appendText("more")
        File(own, "golden/golden.json").delete()
        File(own, "stranger.bin").writeText("?")
        File(own, ".DS_Store").writeText("left by a file manager")
        val found = refused()
        for (fault in listOf("model.tflite has more than", "golden/golden.json is missing", "stranger.bin is not listed")) {
            assertTrue(fault in found, found)
        }
        assertTrue("DS_Store" !in found)
    }

    @ParameterizedTest
    @CsvSource(
        delimiter = '|',
        quoteCharacter = '`',
        value = [
            "\"schema_version\": ?4 | \"schema_version\": 5 | schema_version 5, this app reads 4",
            "\"schema_version\": ?4 | \"schema_version\": 3 | schema_version 3, this app reads 4",
            "\"schema_version\": ?1 | \"schema_version\": 2 | clip_spec.schema_version 2, this app reads 1",
            "\"preset\": ?\"clip2s\" | \"preset\": \"uniform50\" | only clip2s is served",
            "\"modalities\" | \"surprise\": 1, \"modalities\" | surprise",
            "\"modalities\" | \"senses\" | senses",
            "\"role\": ?\"detector\" | \"role\": \"landmarks\" | none has the role detector",
            "\"review_low\": ?0.\\d+ | \"review_low\": 0.99 | does not hold",
            "\"tflite\": | \"pencil\": | no tflite graphs",
        ],
    )
    fun `a manifest that is not followed is refused`(from: String, to: String, found: String) {
        change(from.trim(), to.trim())
        val message = refused()
        assertTrue(found.trim() in message, message)
    }

    @Test
    fun `what is no manifest is refused`() {
        manifest.writeText("[1, 2")
        assertTrue("does not follow the schema" in refused())
        manifest.writeText("[]")
        assertTrue("not a JSON object" in refused())
        manifest.delete()
        assertTrue("holds no manifest.json" in refused())
    }

    @Test
    fun `a file outside of the bundle is refused`() {
        change("\"model.tflite\": ?\\{", "\"../model.tflite\": {")
        assertTrue("leads out of the bundle" in refused())
    }

    @Test
    fun `a bundle for a newer runtime is refused when its graphs are loaded`() {
        change("\"tensorflow\": ?\"[0-9.]+\"", "\"tensorflow\": \"99.1\"")
        val bundle = Bundle.open(FolderFiles(own))
        val error = assertThrows(BundleException::class.java) { Detector(bundle, Golden.engine) }
        assertTrue("needs tensorflow 99.1" in error.found, error.found)
    }

    @ParameterizedTest
    @CsvSource("2.9.1, 2.10.0, true", "2.21.0, 2.16.2, false", "2.21.0, 2.21.0, false", "2.21, 2.21.1, true", "3.0.0-rc1, 2.21.0, false")
    fun `versions are ordered by their numbers`(found: String, smallest: String, isOlder: Boolean) =
        assertEquals(isOlder, isOlder(found, smallest))

    @Test
    fun `what goes into the app opens, and gives the golden answers`() {
        val phone = Bundle.open(FolderFiles(Golden.phoneFolder))
        assertTrue(phone.manifest.files.size <= Golden.bundle.manifest.files.size)
        assertTrue(phone.manifest.files.keys.none { it.endsWith(".onnx") })
        val report = GoldenReplay(phone, Golden.engine).run()
        assertTrue(report.passed, "${report.faults}")
    }

    @Test
    fun `a zip is the same as its folder, and a broken one is refused`() {
        val archive = File(folder, "bundle.zip")
        pack(archive)
        val bundle = Bundle.open(ZipFiles(archive))
        assertTrue(bundle.read("model.tflite").contentEquals(Golden.bundle.read("model.tflite")))
        archive.writeBytes(archive.readBytes().let { it.copyOf(it.size / 2) })
        assertThrows(BundleException::class.java) { ZipFiles(archive) }
    }

    private fun pack(archive: File) = ZipOutputStream(archive.outputStream()).use { zip ->
        own.walkTopDown().filter { it.isFile }.forEach { file ->
            zip.putNextEntry(ZipEntry("model/${file.relativeTo(own).invariantSeparatorsPath}"))
            zip.write(file.readBytes())
        }
    }

    @Test
    fun `a model that is none, or lacks its signatures, is refused`() {
        for ((content, found) in listOf(ByteArray(1000) to "not a TensorFlow Lite file", faceModel() to "has no signature 'encode'")) {
            val error = assertThrows(BundleException::class.java) {
                Graphs(Golden.bundle, Golden.engine, 1) { content }
            }
            assertTrue(found in error.found, error.found)
        }
    }

    private fun faceModel() = Golden.bundle.read(Golden.bundle.manifest.faceModels.values.first { it.role == "landmarks" }.file!!)
}
