"""A small voice: glottal pulses through four formants, consonants from noise and closures.

Each pulse excites damped sinusoids at the formants of the moment (the parallel formant wave functions of
Rodet 1984, "Time-domain formant-wave-function synthesis"), so that nothing has to be filtered sample by
sample. The same track of mouth openings shapes the sound and later moves the lips: they agree because they
are one. Vowel formants: Peterson and Barney 1952, table II, men.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRACK_HZ = 1000
BANDWIDTHS_HZ = (70.0, 90.0, 140.0, 220.0)
FORMANT_GAINS = (1.0, 0.5, 0.28, 0.12)
FOURTH_FORMANT_HZ = 3500.0
RESPONSE_S = 0.025
ATTACK_S = 0.0012
# Lips and jaw are slower than the voice: their targets are smoothed by a Gaussian of this width.
JAW_SIGMA_S = 0.026
FORMANT_SIGMA_S = 0.018
LEVEL_DBFS = -23.0
PEAK = 0.89


@dataclass(frozen=True)
class Phone:
    """A sound of speech: formants, shape of the mouth, strength of voice and noise."""

    formants_hz: tuple[float, float, float]
    opening: float
    """Of the mouth, 0 closed to 1 wide."""
    spread: float
    """-1 rounded lips, 1 spread."""
    voice: float
    """Amplitude of the glottal source; for vowels a factor on what the opening gives."""
    noise: float = 0.0
    noise_hz: float = 0.0
    """Centre of the noise band."""


VOWELS: dict[str, Phone] = {
    "a": Phone((730, 1090, 2440), 1.0, 0.1, 1.0),
    "ae": Phone((660, 1720, 2410), 0.85, 0.5, 1.0),
    "e": Phone((530, 1840, 2480), 0.6, 0.4, 1.0),
    "o": Phone((570, 840, 2410), 0.62, -0.7, 1.0),
    "uh": Phone((640, 1190, 2390), 0.7, 0.0, 1.0),
    "i": Phone((270, 2290, 3010), 0.32, 0.8, 1.0),
    "u": Phone((300, 870, 2240), 0.26, -1.0, 1.0),
}
CONSONANTS: dict[str, tuple[Phone, float]] = {
    # name: sound, seconds. Lips shut for m, b, p; nearly shut for f, v.
    "m": (Phone((250, 1100, 2200), 0.0, 0.0, 0.22), 0.085),
    "b": (Phone((250, 900, 2200), 0.0, 0.0, 0.07), 0.075),
    "p": (Phone((300, 900, 2200), 0.0, 0.0, 0.0), 0.095),
    "f": (Phone((300, 1100, 2300), 0.05, 0.2, 0.0, 0.06, 6000), 0.09),
    "v": (Phone((280, 1100, 2300), 0.05, 0.2, 0.12, 0.03, 5000), 0.07),
    "n": (Phone((250, 1500, 2500), 0.16, 0.2, 0.22), 0.07),
    "d": (Phone((260, 1700, 2600), 0.14, 0.2, 0.08), 0.06),
    "t": (Phone((300, 1700, 2600), 0.12, 0.2, 0.0), 0.075),
    "s": (Phone((300, 1700, 2600), 0.1, 0.5, 0.0, 0.11, 6200), 0.11),
    "l": (Phone((360, 1300, 2700), 0.22, 0.1, 0.35), 0.06),
    "g": (Phone((260, 1900, 2400), 0.2, 0.0, 0.08), 0.065),
    "w": (Phone((300, 700, 2200), 0.12, -1.0, 0.3), 0.07),
}
REST = Phone((500, 1500, 2500), 0.0, 0.0, 0.0)
BURSTS = {"p": 1200.0, "b": 900.0, "t": 4500.0, "d": 3500.0, "g": 1900.0}


@dataclass(frozen=True)
class Speech:
    """Sound, and the track of the mouth that it was made with."""

    waveform: np.ndarray
    """(num_samples,) float32."""
    sample_rate: int
    opening: np.ndarray
    """(num_track,) at `TRACK_HZ`, 0 to 1."""
    spread: np.ndarray
    """(num_track,) at `TRACK_HZ`, -1 to 1."""

    def at(self, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Opening and spread at some moments in seconds; two arrays of that length."""
        track_s = np.arange(len(self.opening)) / TRACK_HZ
        return np.interp(times_s, track_s, self.opening), np.interp(times_s, track_s, self.spread)


@dataclass(frozen=True)
class VoiceSettings:
    """What makes a voice a person's own."""

    pitch_hz: float = 150.0
    formant_scale: float = 1.0
    syllables_per_s: float = 4.0
    breathiness: float = 0.1
    """Share of the source that is noise."""


def speak(voice: VoiceSettings, *, seconds: float, sample_rate: int, seed: int) -> Speech:
    """Babbles: random syllables in short phrases.

    Args:
        voice: The person.
        seconds: Length.
        sample_rate: Hz; at least 16,000, else the frication does not fit.
        seed: Of the words, the melody and the noise.
    Returns:
        The sound at -23 dBFS RMS and the track of the mouth.
    """
    rng = np.random.default_rng([seed, 3])
    script = _script(voice, seconds, rng)
    tracks = _tracks(script, int(np.ceil(seconds * TRACK_HZ)) + 1)
    num_samples = round(seconds * sample_rate)
    pitch = _pitch(voice, len(tracks["opening"]), rng)
    waveform = _voiced(tracks, pitch, voice, num_samples, sample_rate)
    waveform += _noises(tracks, script, voice, num_samples, sample_rate, rng)
    waveform = _room(waveform, sample_rate, rng)
    return Speech(_level(waveform), sample_rate, tracks["opening"], tracks["spread"])


def _script(voice: VoiceSettings, seconds: float, rng: np.random.Generator) -> list[tuple[float, float, str, Phone]]:
    """Phones with start and end in seconds, pauses as rests."""
    script: list[tuple[float, float, str, Phone]] = []
    now, left_in_phrase = 0.0, 0

    def add(name: str, phone: Phone, length_s: float) -> None:
        nonlocal now
        script.append((now, now + length_s, name, phone))
        now += length_s

    add("rest", REST, float(rng.uniform(0.08, 0.3)))
    while now < seconds:
        if left_in_phrase == 0:
            if len(script) > 1:
                add("rest", REST, float(rng.uniform(0.16, 0.4)))
            left_in_phrase = int(rng.integers(4, 10))
        consonant = str(rng.choice(list(CONSONANTS)))
        vowel = str(rng.choice(list(VOWELS)))
        sound, length_s = CONSONANTS[consonant]
        add(consonant, sound, length_s * float(rng.uniform(0.85, 1.2)))
        long = 1.5 if left_in_phrase == 1 else 1.0
        add(vowel, VOWELS[vowel], long * float(rng.uniform(0.75, 1.3)) * max(0.06, 1 / voice.syllables_per_s - 0.08))
        left_in_phrase -= 1
    return script


def _smooth(track: np.ndarray, sigma_s: float) -> np.ndarray:
    radius = int(4 * sigma_s * TRACK_HZ)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / (sigma_s * TRACK_HZ)) ** 2)
    return np.convolve(np.pad(track, radius, mode="edge"), kernel / kernel.sum(), mode="valid")


def _tracks(script: list[tuple[float, float, str, Phone]], length: int) -> dict[str, np.ndarray]:
    names = ("opening", "spread", "voice", "noise", "noise_hz", "f1", "f2", "f3")
    tracks = {name: np.zeros(length) for name in names}
    for start_s, end_s, name, phone in script:
        span = slice(round(start_s * TRACK_HZ), round(end_s * TRACK_HZ))
        values = (phone.opening, phone.spread, phone.voice, phone.noise, phone.noise_hz, *phone.formants_hz)
        for track, value in zip(names, values, strict=True):
            tracks[track][span] = value
        if name in VOWELS:
            tracks["voice"][span] = np.nan
    vowels = np.isnan(tracks["voice"])
    tracks["opening"] = _smooth(tracks["opening"], JAW_SIGMA_S)
    tracks["spread"] = _smooth(tracks["spread"], JAW_SIGMA_S)
    # A wider mouth radiates more: the vowel's amplitude follows the opening that the lips show.
    tracks["voice"][vowels] = 0.12 + 0.88 * tracks["opening"][vowels]
    tracks["voice"] = _smooth(tracks["voice"], 0.01)
    tracks["noise"] = _smooth(tracks["noise"], 0.008)
    for name in ("f1", "f2", "f3"):
        tracks[name] = _smooth(tracks[name], FORMANT_SIGMA_S)
    return tracks


def _pitch(voice: VoiceSettings, length: int, rng: np.random.Generator) -> np.ndarray:
    """Melody in Hz at `TRACK_HZ`: falling over a phrase, accents, a little jitter."""
    time_s = np.arange(length) / TRACK_HZ
    accents = _smooth(rng.standard_normal(length), 0.09)
    jitter = _smooth(rng.standard_normal(length), 0.004)
    melody = 0.09 * accents / accents.std() + 0.006 * jitter / jitter.std() - 0.05 * np.sin(time_s * 2.1)
    return voice.pitch_hz * np.exp(melody)


def _voiced(
    tracks: dict[str, np.ndarray], pitch: np.ndarray, voice: VoiceSettings, num_samples: int, sample_rate: int
) -> np.ndarray:
    """One formant response per glottal pulse, added up."""
    phase = np.cumsum(pitch) / TRACK_HZ
    pulses_s = np.interp(np.arange(1, int(phase[-1])), phase, np.arange(len(phase)) / TRACK_HZ)
    track_s = np.arange(len(pitch)) / TRACK_HZ
    amplitude = np.interp(pulses_s, track_s, tracks["voice"])
    formants = [voice.formant_scale * np.interp(pulses_s, track_s, tracks[f"f{k}"]) for k in (1, 2, 3)]
    formants.append(np.full(len(pulses_s), voice.formant_scale * FOURTH_FORMANT_HZ))
    length = round(RESPONSE_S * sample_rate)
    first = np.ceil(pulses_s * sample_rate).astype(int)
    offset_s = (first[:, None] + np.arange(length)) / sample_rate - pulses_s[:, None]
    response = np.zeros((len(pulses_s), length))
    for hertz, bandwidth, gain in zip(formants, BANDWIDTHS_HZ, FORMANT_GAINS, strict=True):
        decay = np.exp(-np.pi * bandwidth * offset_s)
        response += gain * decay * np.sin(2 * np.pi * hertz[:, None] * offset_s)
    response *= amplitude[:, None] * np.minimum(offset_s / ATTACK_S, 1)
    waveform = np.zeros(num_samples + length)
    for start, wave in zip(first, response, strict=True):
        if start < num_samples:
            waveform[start : start + length] += wave
    return waveform[:num_samples]


def _noises(
    tracks: dict[str, np.ndarray],
    script: list[tuple[float, float, str, Phone]],
    voice: VoiceSettings,
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Frication, the bursts of the stops, and breath in the voice."""
    time_s = np.arange(num_samples) / sample_rate
    track_s = np.arange(len(tracks["noise"])) / TRACK_HZ
    out = np.zeros(num_samples)
    for centre in sorted({phone.noise_hz for _, _, _, phone in script if phone.noise_hz}):
        envelope = np.interp(time_s, track_s, tracks["noise"] * (tracks["noise_hz"] == centre))
        out += envelope * _band_noise(num_samples, sample_rate, centre, rng)
    for centre in sorted(set(BURSTS.values())):
        envelope = np.zeros(num_samples)
        for _, end_s, name, _ in script:
            if BURSTS.get(name) == centre:
                envelope += np.where(time_s >= end_s, np.exp(-np.maximum(time_s - end_s, 0) / 0.006), 0) * 0.25
        out += envelope * _band_noise(num_samples, sample_rate, centre, rng)
    breath = 0.5 * voice.breathiness * np.interp(time_s, track_s, tracks["voice"])
    return out + breath * _band_noise(num_samples, sample_rate, 2500.0, rng)


def _band_noise(num_samples: int, sample_rate: int, centre_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit RMS around a frequency, an octave wide."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    hertz = np.fft.rfftfreq(num_samples, 1 / sample_rate)
    octaves = np.log2(np.maximum(hertz, 1) / centre_hz)
    wave = np.fft.irfft(spectrum * np.exp(-0.5 * (octaves / 0.5) ** 2), num_samples)
    return wave / np.sqrt(np.mean(wave**2))


def _room(waveform: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A small room and the hiss of a microphone: no sample of a real recording is exactly zero."""
    length = round(0.18 * sample_rate)
    tail = rng.standard_normal(length) * np.exp(-np.arange(length) / (0.035 * sample_rate))
    tail *= 0.35 / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = len(waveform) + length
    wet = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(tail, size), size)[: len(waveform)]
    hiss = _band_noise(len(waveform), sample_rate, 1500.0, rng)
    return wet + hiss * np.sqrt(np.mean(wet**2)) * 10 ** (-45 / 20)


def _level(waveform: np.ndarray) -> np.ndarray:
    gain = 10 ** (LEVEL_DBFS / 20) / np.sqrt(np.mean(waveform**2))
    return (waveform * min(gain, PEAK / np.abs(waveform).max())).astype(np.float32)
