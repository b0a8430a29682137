"""Makes the pictures and the sound of one forgery from its task."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dfkit.config.forge import PICTURE_METHODS, ForgeConfig
from dfkit.forge import pictures, sound, tts
from dfkit.forge.footage import Footage
from dfkit.forge.matching import head_turn, mouth_opening
from dfkit.forge.plan import Task

# Of this many stretches the liveliest is changed: a pause whose sound is shifted is not a forgery.
CANDIDATES = 12
# Of `head_turn`; at 0.45 the far cheek of a frontal donor begins to show the background behind it.
MAX_TURN_DIFFERENCE = 0.4


class NotApplicableError(Exception):
    """A method cannot be used on this footage; the text says why."""


@dataclass(frozen=True)
class Forgery:
    """A manipulated video in memory, not yet encoded."""

    frames: list[np.ndarray]
    """(H, W, 3) uint8 RGB each."""
    waveform: np.ndarray
    """(num_samples,) float32, not yet at the common loudness."""
    start_frame: int
    end_frame: int
    """The first changed picture and the one after the last; the same for sound."""
    parameters: dict[str, float | int | str] = field(default_factory=dict)


def manipulate(task: Task, footage: Footage, donor: Footage | None, config: ForgeConfig) -> Forgery:
    """Carries out one task.

    Args:
        task: Method, stretch, direction, seed.
        footage: The video that is changed.
        donor: The other person's, where the method needs one.
        config: Limits of the parameters.
    Returns:
        The changed video. Everything outside of the stretch is as it was.
    Raises:
        NotApplicableError: The footage does not allow it.
    """
    rng = np.random.default_rng([task.seed, 20])
    start, end = _choose_span(task, footage, config, rng)
    if donor is not None and task.method in PICTURE_METHODS:
        _refuse_unlike_poses(footage, donor)
    if task.method in PICTURE_METHODS:
        fade = round(float(np.random.default_rng([task.seed, 21]).uniform(*config.fade_s)) * config.fps)
        return _picture_forgery(task.method, footage, donor, start, end, rng, fade=fade)
    return _sound_forgery(task, footage, donor, start, end, config, rng)


def _refuse_unlike_poses(footage: Footage, donor: Footage) -> None:
    """A cheek that the donor's camera does not see cannot be pasted."""
    turn, donor_turn = (np.nanmedian(head_turn(each.landmarks)) for each in (footage, donor))
    if abs(turn - donor_turn) > MAX_TURN_DIFFERENCE:
        raise NotApplicableError("the donor's head is turned another way")


def _picture_forgery(
    method: str,
    footage: Footage,
    donor: Footage | None,
    start: int,
    end: int,
    rng: np.random.Generator,
    *,
    fade: int,
) -> Forgery:
    """Changes the pictures from `start` up to, not including, `end`; the sound stays.

    A part is faded in and out over `fade` pictures at either end that is not the video's: all of them are changed.
    """
    change = pictures.CHANGES[method](footage, donor, start, end, rng)
    frames = list(footage.frames)
    shares = fade_shares(end - start, fade, at_start=start > 0, at_end=end < len(frames))
    for index, share in enumerate(shares, start=start):
        frames[index] = _fade(frames[index], change.frames[index - start], share)
    return Forgery(frames, footage.waveform, start, end, {**change.parameters, "fade_frames": fade})


def fade_shares(length: int, fade: int, *, at_start: bool, at_end: bool) -> np.ndarray:
    """How much of a change is seen in each picture of a part.

    Args:
        length: Pictures of the part.
        fade: Pictures over which it comes and goes; at most a quarter of the part each.
        at_start: Whether it comes slowly.
        at_end: Whether it goes slowly.
    Returns:
        (length,) in (0, 1].
    """
    count = min(fade, length // 4)
    rise = (np.arange(length) + 1) / (count + 1)
    shares = np.ones(length)
    if at_start:
        shares = np.minimum(shares, rise)
    if at_end:
        shares = np.minimum(shares, rise[::-1])
    return shares


def _fade(own: np.ndarray, changed: np.ndarray, share: float) -> np.ndarray:
    if share >= 1:
        return changed
    return np.clip(own + share * (changed.astype(np.float32) - own) + 0.5, 0, 255).astype(np.uint8)


def _choose_span(task: Task, footage: Footage, config: ForgeConfig, rng: np.random.Generator) -> tuple[int, int]:
    """First frame and end of what is changed."""
    visible = footage.has_face if task.method in PICTURE_METHODS else np.ones(len(footage.frames), bool)
    if not task.partial:
        if visible.all():
            return 0, len(visible)
        return _longest_run(visible, round(config.part_s[0] * config.fps))
    longest = min(config.part_s[1], 0.6 * len(visible) / config.fps)
    length = round(float(rng.uniform(config.part_s[0], longest)) * config.fps)
    starts = [int(s) for s in rng.integers(0, len(visible) - length + 1, size=CANDIDATES)]
    starts = [s for s in starts if visible[s : s + length].all()]
    if not starts:
        return _longest_run(visible, round(config.part_s[0] * config.fps))
    activity = _activity(task.method, footage, config)
    best = max(starts, key=lambda s: float(activity[s : s + length].mean()))
    return best, best + length


def _longest_run(visible: np.ndarray, at_least: int) -> tuple[int, int]:
    """First frame and end of the longest stretch in which the face is visible.

    Raises:
        NotApplicableError: It is shorter than `at_least` frames.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], visible.astype(int), [0]])))
    runs = edges.reshape(-1, 2)
    start, end = max(runs, key=lambda run: int(run[1] - run[0]), default=(0, 0))
    if end - start < at_least:
        raise NotApplicableError(f"the face is never seen for {at_least} pictures on end")
    return int(start), int(end)


def _activity(method: str, footage: Footage, config: ForgeConfig) -> np.ndarray:
    """How much happens in each frame: loudness, or how the mouth moves where that is what is changed."""
    if method in ("mouth_freeze", "lip_time", "lip_blend", "lip_render", "still_drive"):
        opening = np.nan_to_num(mouth_opening(footage.landmarks))
        return np.abs(np.gradient(opening))
    edges = np.round(np.arange(len(footage.frames) + 1) * config.sample_rate / config.fps).astype(int)
    energy = np.concatenate([[0.0], np.cumsum(np.square(footage.waveform, dtype=np.float64))])
    return np.sqrt(energy[edges[1:]] - energy[edges[:-1]])


def _sound_forgery(
    task: Task,
    footage: Footage,
    donor: Footage | None,
    start: int,
    end: int,
    config: ForgeConfig,
    rng: np.random.Generator,
) -> Forgery:
    rate = config.sample_rate
    per_frame = rate / config.fps
    seam = round(float(np.random.default_rng([task.seed, 22]).uniform(*config.seam_s)) * rate)
    span = sound.Span(round(start * per_frame), round(end * per_frame), seam)
    waveform = footage.waveform
    parameters: dict[str, float | int | str] = {"seam_s": seam / rate}
    if task.method == "audio_shift":
        if not task.partial:
            lead = sound.without_lead(waveform, sample_rate=rate, level_dbfs=config.loudness_dbfs)
            span = sound.Span(lead.start, lead.end, seam)
            start = int(span.start / per_frame)
        shifts = [task.direction * round(float(s) * rate) for s in rng.uniform(*config.shift_s, size=CANDIDATES)]
        if task.partial:
            shift = sound.level_shift(waveform, shifts, span)
        else:
            shift = sound.loud_shift(waveform, shifts, span, sample_rate=rate)
        waveform = sound.shift_sound(waveform, shift, span)
        parameters["shift_s"] = shift / rate
    elif task.method == "audio_swap":
        assert donor is not None, "the plan gives a donor to every method that needs one"
        # A whole sound starts where the donor's video starts, as its own did; a part comes from anywhere.
        offset = int(rng.integers(len(donor.waveform))) if task.partial else 0
        donor_waveform = sound.level_to(donor.waveform, config.loudness_dbfs)
        waveform = sound.swap_sound(waveform, donor_waveform, span, offset=offset - span.start * task.partial)
        parameters["donor_offset_s"] = offset / rate
        if task.voice_likeness is not None:
            parameters["voice_likeness"] = task.voice_likeness
    elif task.method == "voice_resynth":
        waveform, parameters["vocoder"] = sound.resynthesise(waveform, span, sample_rate=rate, rng=rng)
    elif task.method == "tts_voice":
        if not task.partial:
            lead = sound.without_lead(waveform, sample_rate=rate, level_dbfs=config.loudness_dbfs)
            span = sound.Span(lead.start, lead.end, seam)
            start = int(span.start / per_frame)
        waveform, said = _speak(waveform, span, task.seed, rate, rng)
        parameters.update(said)
    else:
        waveform, depth_s = sound.retime_sound(waveform, span, sample_rate=rate, sign=task.direction, rng=rng)
        parameters["largest_shift_s"] = depth_s
    return Forgery(list(footage.frames), waveform, start, end, parameters)


def _speak(
    waveform: np.ndarray, span: sound.Span, seed: int, sample_rate: int, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, int | str]]:
    """Synthetic speech in place of what was said, and the voice's name and number of syllables."""
    voice = tts.packaged_voice()
    try:
        spoken, syllables = tts.replace_speech(
            waveform, span, sample_rate=sample_rate, speaker=tts.Speaker(voice, seed), rng=rng
        )
    except tts.NoSpeechError as error:
        raise NotApplicableError(str(error)) from error
    return spoken, {"voice": voice.name, "syllables": syllables}
