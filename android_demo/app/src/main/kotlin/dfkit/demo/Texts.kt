package dfkit.demo

import android.content.res.Resources
import dfkit.core.Answer
import dfkit.core.Bundle
import dfkit.core.Reason
import dfkit.core.ReplayReport
import dfkit.core.Status
import dfkit.core.Verdict

internal val Verdict.text
    get() = when (this) {
        Verdict.REAL -> R.string.verdict_real
        Verdict.FAKE -> R.string.verdict_fake
        Verdict.REVIEW -> R.string.verdict_review
    }

internal val Verdict.color
    get() = when (this) {
        Verdict.REAL -> R.color.real
        Verdict.FAKE -> R.color.fake
        Verdict.REVIEW -> R.color.review
    }

private val Reason.Kind.text
    get() = when (this) {
        Reason.Kind.PICTURES_READ -> R.string.reason_pictures_read
        Reason.Kind.SOUND_READ -> R.string.reason_sound_read
        Reason.Kind.FEW_PICTURES -> R.string.reason_few_pictures
        Reason.Kind.STILL_PICTURE -> R.string.reason_still_picture
        Reason.Kind.SMALL_FACE -> R.string.reason_small_face
        Reason.Kind.DARK_FACE -> R.string.reason_dark_face
        Reason.Kind.UNLIKE_TRAINING -> R.string.reason_unlike_training
    }

/** Why there is no verdict, or what the verdict rests on. */
internal fun describe(answer: Answer, bundle: Bundle, texts: Resources): String = when (answer.status) {
    Status.OK -> describeScore(answer, bundle, texts)
    Status.NO_FACE -> texts.getString(R.string.status_no_face)
    Status.NO_AUDIO -> texts.getString(R.string.status_no_audio)
    Status.TOO_SHORT -> texts.getString(R.string.status_too_short, bundle.clipS)
    Status.UNREADABLE -> texts.getString(R.string.status_unreadable)
    Status.MODEL_ERROR -> texts.getString(R.string.status_model_error)
}

private fun describeScore(answer: Answer, bundle: Bundle, texts: Resources): String {
    val lines = (bundle.warnings + answer.reasons.map { texts.getString(it.kind.text) }).toMutableList()
    lines += texts.getString(R.string.p_fake, answer.pFake, bundle.thresholds.fakeFrom)
    answer.worstClip?.let { lines += texts.getString(R.string.most_suspicious, it.startS, it.endS) }
    if (answer.heard) lines += texts.getString(R.string.read_share, answer.read.pictures * 100, answer.read.sound * 100)
    else lines += texts.getString(R.string.without_sound)
    lines += texts.getString(R.string.model, bundle.name)
    return lines.joinToString("\n")
}

internal fun describe(report: ReplayReport, texts: Resources): String {
    if (report.passed) return texts.getString(R.string.self_check_passed, report.outputs.size, report.numControls)
    val off = report.outputs.filterNot { it.passed }.map { "${it.part} ${it.output} ${it.case}: ${it.rms} > ${it.tolerance}" }
    return texts.getString(R.string.self_check_failed, (off + report.faults).joinToString("\n"))
}

/** Why work ended without an answer. */
internal fun describe(failure: Failure, texts: Resources): String = when (failure) {
    is Failure.BadModel -> texts.getString(R.string.bad_model, failure.why)
    is Failure.NoSpace -> texts.getString(R.string.no_space)
    is Failure.NoMemory -> texts.getString(R.string.no_memory)
    is Failure.Mistake -> texts.getString(R.string.mistake, failure.why)
}
