package dfkit.core

import java.security.MessageDigest
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.intOrNull
import kotlinx.serialization.json.jsonPrimitive

internal const val MANIFEST_FILE = "manifest.json"
private const val MAX_MANIFEST_BYTES = 16_000_000L
private const val MAX_BUNDLE_BYTES = 500_000_000L
private val IGNORED_FILES = setOf(".DS_Store", "Thumbs.db", "desktop.ini")

/** The backend of the manifest that phones run. */
internal const val BACKEND = "tflite"

/** A model bundle whose files were verified against its manifest. [open] makes one; nothing of it is loaded before. */
class Bundle private constructor(private val files: BundleFiles, internal val manifest: Manifest) {
    /** Where it lies, for messages. */
    val where get() = files.where

    /** The model's name. */
    val name get() = manifest.name

    /** What a reader has to know before trusting its figures, in English. */
    val warnings get() = manifest.warnings

    /** From which p_fake on a video is fake, and from where to where it is [Verdict.REVIEW]; in [0, 1]. */
    val thresholds get() = Thresholds(manifest.operatingPoint.threshold, manifest.operatingPoint.reviewLow, manifest.operatingPoint.reviewHigh)

    /** Seconds of a clip; a shorter video is [Status.TOO_SHORT]. */
    val clipS get() = spec.clipS

    internal val spec get() = manifest.clipSpec
    internal val serving get() = checkNotNull(manifest.serving) { "checked when the bundle was opened" }
    internal val graphs get() = manifest.backends.getValue(BACKEND)

    /**
     * Content of a file, hashed again: what is loaded is what was verified.
     *
     * @throws BundleException it is not in the manifest, or was changed.
     */
    fun read(name: String): ByteArray {
        val entry = manifest.files[name] ?: throw BundleException("$name is not listed in $MANIFEST_FILE", FIX_COPY)
        val content = files.readAtMost(name, entry.bytes)
        fileFault(name, content, entry)?.let { throw BundleException("bundle $where: $it", FIX_COPY) }
        return content
    }

    companion object {
        /**
         * Opens and verifies a bundle; loads no graph.
         *
         * @throws BundleException it is incomplete, changed, newer or older than what is read here, for another kind of
         *   clip, or without graphs for a phone. All changed files are named at once.
         */
        fun open(files: BundleFiles): Bundle {
            val manifest = readManifest(files)
            val faults = fileFaults(files, manifest) + graphFaults(manifest)
            if (faults.isNotEmpty()) {
                throw BundleException("bundle ${files.where} cannot be used:\n  ${faults.joinToString("\n  ")}", FIX_COPY)
            }
            return Bundle(files, manifest)
        }
    }
}

private fun readManifest(files: BundleFiles): Manifest {
    val where = "$MANIFEST_FILE in ${files.where}"
    if (MANIFEST_FILE !in files.names()) {
        throw BundleException("${files.where} holds no $MANIFEST_FILE", "name the folder that dfkit export wrote")
    }
    val text = files.readAtMost(MANIFEST_FILE, MAX_MANIFEST_BYTES).decodeToString()
    try {
        val tree = ManifestJson.parseToJsonElement(text) as? JsonObject
            ?: throw BundleException("$where is not a JSON object", FIX_COPY)
        refuseOtherVersions(tree, where)
        return ManifestJson.decodeFromJsonElement(Manifest.serializer(), tree)
    } catch (error: SerializationException) {
        throw BundleException("$where does not follow the schema: ${error.message}", FIX_COPY, error)
    }
}

private fun refuseOtherVersions(tree: JsonObject, where: String) {
    fun version(of: JsonObject?): Int? = of?.get("schema_version")?.jsonPrimitive?.intOrNull
    val found = version(tree)
    if (found != MANIFEST_VERSION) {
        throw BundleException(
            "$where has schema_version $found, this app reads $MANIFEST_VERSION",
            if ((found ?: 0) > MANIFEST_VERSION) "update the app" else "export the model again with a newer dfkit",
        )
    }
    val clip = version(tree["clip_spec"] as? JsonObject)
    if ((clip ?: 0) > CLIP_SPEC_VERSION) {
        throw BundleException("$where has clip_spec.schema_version $clip, this app reads $CLIP_SPEC_VERSION", "update the app")
    }
}

private fun fileFaults(files: BundleFiles, manifest: Manifest): List<String> {
    val total = manifest.files.values.sumOf { it.bytes }
    if (total > MAX_BUNDLE_BYTES) return listOf("its files have $total bytes, $MAX_BUNDLE_BYTES at most")
    val present = files.names()
    val faults = manifest.files.mapNotNull { (name, entry) ->
        when {
            isOutside(name) -> "files: '$name' leads out of the bundle"
            name !in present -> "$name is missing"
            else -> fileFault(name, files.readAtMost(name, entry.bytes), entry)
        }
    }
    val unlisted = (present - manifest.files.keys - MANIFEST_FILE).filter { it.substringAfterLast('/') !in IGNORED_FILES }
    return faults + unlisted.sorted().map { "$it is not listed in $MANIFEST_FILE" }
}

private fun isOutside(name: String) = name.startsWith("/") || ".." in name.split("/") || '\\' in name || ':' in name

private fun fileFault(name: String, content: ByteArray, entry: FileEntry): String? {
    if (content.size.toLong() != entry.bytes) {
        val size = if (content.size > entry.bytes) "more than ${entry.bytes}" else "${content.size}"
        return "$name has $size bytes, $MANIFEST_FILE says ${entry.bytes}"
    }
    val digest = MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }
    return if (digest == entry.sha256) null else "$name was changed: SHA-256 $digest, $MANIFEST_FILE says ${entry.sha256}"
}

/** What a phone cannot serve, and what types alone do not say. */
private fun graphFaults(manifest: Manifest): List<String> {
    val faults = mutableListOf<String>()
    val serving = manifest.serving
    if (manifest.clipSpec.preset != "clip2s" || serving == null || serving.wholeVideo != null) {
        return listOf("clip_spec.preset: '${manifest.clipSpec.preset}' samples whole videos, only clip2s is served here")
    }
    if (listOf(serving.detector, serving.landmarks, serving.tracker, serving.cuts, serving.evidence, serving.boxes).any { it == null }) {
        faults += "serving: a section of clip2s is missing"
    }
    val graphs = manifest.backends[BACKEND] ?: return faults + "backends: no $BACKEND graphs, which a phone runs"
    listOfNotNull(graphs.encode, graphs.score).filter { it.file !in manifest.files }
        .forEach { faults += "backends.$BACKEND: '${it.file}' is not among the files" }
    for (role in listOf("detector", "landmarks")) {
        if (manifest.faceModels.values.none { it.role == role }) faults += "face_models: none has the role $role"
    }
    for ((name, entry) in manifest.faceModels) {
        if (entry.file == null || manifest.files[entry.file]?.sha256 != entry.sha256) {
            faults += "face_models.$name: its file is not among the files with that hash"
        }
    }
    val points = listOfNotNull(manifest.operatingPoint, manifest.decisionMuted?.operatingPoint)
    points.filterNot { it.reviewLow <= it.threshold && it.threshold <= it.reviewHigh }
        .forEach { faults += "operating_point: ${it.reviewLow} <= ${it.threshold} <= ${it.reviewHigh} does not hold" }
    return faults
}
