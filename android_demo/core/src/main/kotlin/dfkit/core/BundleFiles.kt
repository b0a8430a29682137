package dfkit.core

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.zip.ZipException
import java.util.zip.ZipFile

internal const val FIX_COPY = "copy the bundle again from where it was exported, or run dfkit export anew"

/** Files of a bundle by name, wherever they lie. An app may bring its own, such as its assets. */
interface BundleFiles {
    /** Where they lie, for messages. */
    val where: String

    /** Names of all files, with `/`, relative to the manifest. */
    fun names(): Set<String>

    /**
     * Opens one of [names].
     *
     * @throws IOException it cannot be read.
     */
    fun open(name: String): InputStream
}

/** A bundle that lies as a folder. */
class FolderFiles(private val folder: File) : BundleFiles {
    override val where get() = folder.path

    override fun names(): Set<String> =
        folder.walkTopDown().filter { it.isFile }.map { it.relativeTo(folder).invariantSeparatorsPath }.toSet()

    override fun open(name: String): InputStream = File(folder, name).inputStream()
}

/** A bundle as one .zip, with the manifest at its top or in its one folder. Nothing is unpacked to disk. */
class ZipFiles(private val file: File) : BundleFiles {
    override val where get() = file.path
    private val zip = try {
        ZipFile(file)
    } catch (error: ZipException) {
        throw BundleException("${file.path} is not a readable .zip: ${error.message}", FIX_COPY, error)
    }
    private val entries = zip.entries().toList().filter { !it.isDirectory && !it.name.startsWith("__MACOSX/") }
    private val prefix = entries.map { it.name }.filter { it.substringAfterLast('/') == MANIFEST_FILE }
        .minByOrNull { name -> name.count { it == '/' } }.orEmpty().removeSuffix(MANIFEST_FILE)

    override fun names(): Set<String> =
        entries.map { if (it.name.startsWith(prefix)) it.name.removePrefix(prefix) else "../${it.name}" }.toSet()

    override fun open(name: String): InputStream = zip.getInputStream(zip.getEntry(prefix + name))
}

/**
 * Reads a file that should have so many bytes, and no more than one beyond: an archive may unpack to far more.
 *
 * @throws BundleException it cannot be read.
 */
internal fun BundleFiles.readAtMost(name: String, maxBytes: Long): ByteArray = try {
    open(name).use { stream ->
        val content = java.io.ByteArrayOutputStream()
        val piece = ByteArray(1 shl 16)
        while (content.size() <= maxBytes) {
            val count = stream.read(piece)
            if (count < 0) break
            content.write(piece, 0, count)
        }
        content.toByteArray()
    }
} catch (error: IOException) {
    throw BundleException("$name in $where cannot be read: ${error.message}", FIX_COPY, error)
}
