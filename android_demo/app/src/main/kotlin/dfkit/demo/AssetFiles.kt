package dfkit.demo

import android.content.res.AssetManager
import dfkit.core.BundleFiles
import java.io.InputStream

/** A bundle that lies in the app's assets. */
class AssetFiles(private val assets: AssetManager, private val folder: String) : BundleFiles {
    override val where get() = "assets/$folder"

    override fun names(): Set<String> = list(folder).map { it.removePrefix("$folder/") }.toSet()

    override fun open(name: String): InputStream = assets.open("$folder/$name")

    /** Assets do not say what is a folder; only folders have children. */
    private fun list(path: String): List<String> {
        val children = assets.list(path).orEmpty()
        return if (children.isEmpty()) listOf(path) else children.flatMap { list("$path/$it") }
    }
}
