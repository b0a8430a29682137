package dfkit.demo

import dfkit.core.SoundFormat
import dfkit.core.TimedPicture
import dfkit.core.TimedSound
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger

/** Pictures that may wait; more would be old when they are shown. */
private const val MAX_PICTURES = 10

/** Why there is nothing to watch. */
enum class LiveFault { NO_CAMERA, CAMERA_IN_USE, CAMERA_LOST, NO_MICROPHONE, TOO_SLOW }

/** A camera with a microphone, or what stands in for it. */
internal interface LiveSource {
    /** What [Feed.hear] is given. */
    val sound: SoundFormat

    /** Starts to fill a feed, from threads of its own; what fails is told through it. */
    fun start(feed: Feed)

    /** Ends it; called once. */
    fun stop()
}

/** What waits to be judged: pictures and sound in the order in which they came. Any thread may fill it. */
internal class Feed {
    sealed interface Item
    class Seen(val picture: TimedPicture) : Item
    class Heard(val sound: TimedSound) : Item
    class Broken(val fault: LiveFault) : Item
    object End : Item

    private val items = LinkedBlockingQueue<Item>()
    private val numPictures = AtomicInteger()

    /** Time of the newest that came, s. */
    @Volatile
    var newestS = Double.NEGATIVE_INFINITY
        private set

    /** Whether a picture would be taken; else it need not be copied. */
    val hasRoom get() = numPictures.get() < MAX_PICTURES

    fun see(picture: TimedPicture) {
        newestS = maxOf(newestS, picture.tS)
        if (!hasRoom) return
        numPictures.incrementAndGet()
        items += Seen(picture)
    }

    fun hear(sound: TimedSound) {
        items += Heard(sound)
    }

    fun fail(fault: LiveFault) {
        items += Broken(fault)
    }

    /** Nothing behind this is judged. */
    fun end() {
        items += End
    }

    /** The next; null where nothing came for so long. */
    fun take(waitMs: Long): Item? = items.poll(waitMs, TimeUnit.MILLISECONDS)?.also { if (it is Seen) numPictures.decrementAndGet() }
}
