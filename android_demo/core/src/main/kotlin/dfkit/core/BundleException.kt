package dfkit.core

/**
 * A bundle cannot be used.
 *
 * @property found what is wrong with it, and where.
 * @property fix what helps.
 */
class BundleException(val found: String, val fix: String, cause: Throwable? = null) :
    Exception("$found. Fix: $fix", cause)
