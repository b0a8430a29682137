from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dfkit.config.forge import DEFAULT_METHODS
from dfkit.errors import DataError
from dfkit.forge import ForgeConfig, ForgeSource, forge
from tests.forge.conftest import Forged
from tests.forge.packaged_voice import needs_packaged_voice
from tools.forge.detail import detail_tests
from tools.forge.fairness import FACTS, sign_p_value, sign_tests
from tools.forge.sheet import Pair, read_pairs

MIN_P = 0.01
EXCERPTS = ForgeConfig(max_seconds=2.2, max_side_px=320, min_face_px=24, preset="ultrafast")


def test_the_sign_test_by_hand() -> None:
    assert sign_p_value(0, 0) == 1.0
    assert sign_p_value(0, 5) == pytest.approx(2 / 32)
    assert sign_p_value(1, 9) == pytest.approx(2 * (1 + 10) / 1024)
    assert sign_p_value(5, 5) == 1.0
    # 31 pairs, 7 of them the other way: the first split that fails at 0.01 is 8 to 23.
    assert sign_p_value(7, 24) < MIN_P < sign_p_value(8, 23)


def test_it_would_notice_files_that_differ(forged: Forged) -> None:
    pairs = forged.pairs
    # Ten times the same forgery with another one's name: twins that are larger by what the recording adds.
    different = [
        Pair("x", forged.sources[0].path, pair.forged, 0, 1, 60) for pair in pairs if "ada" in pair.forged.name
    ]
    tests = {test.fact: test for test in sign_tests(different)}
    assert tests["size_bytes"].p_value < MIN_P
    assert tests["loudness_db"].p_value < MIN_P


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(DataError):
        sign_tests([])


def test_heads_and_their_forgeries_agree_in_every_fact(forged: Forged) -> None:
    tests = sign_tests(forged.pairs)
    assert [test.fact for test in tests] == list(FACTS)
    assert all(test.above + test.below + test.ties == 2 * len(DEFAULT_METHODS) for test in tests)
    for test in tests:
        assert test.p_value > MIN_P, test


def real_clips(shared: Path) -> list[ForgeSource]:
    """All 31 real ones of the first folder."""
    with (shared / "clips" / "clips.csv").open(encoding="utf-8") as file:
        real = [row for row in csv.DictReader(file) if row["label"] == "real"]
    sources = [ForgeSource(shared / "clips" / row["path"], row["group"], 0) for row in real]
    assert len(sources) == 31
    return sources


@pytest.mark.long
@pytest.mark.pipeline
@needs_packaged_voice
def test_nothing_but_the_sound_tells_synthetic_speech_from_its_twin(shared: Path, tmp_path: Path) -> None:
    """As for the other methods, with the voice of the package."""
    config = EXCERPTS.model_copy(update={"methods": ("tts_voice",)})
    assert forge(real_clips(shared), tmp_path, config).methods["tts_voice"] >= 25
    for test in sign_tests(read_pairs(tmp_path)):
        assert test.p_value > MIN_P, test


@pytest.mark.long
@pytest.mark.pipeline
def test_nothing_but_the_manipulation_tells_a_forgery_from_its_twin_on_all_real_clips(
    shared: Path, tmp_path: Path
) -> None:
    """All 31 real clips, every method; excerpts of 2.2 s at 320 pixels, to bound the time."""
    summary = forge(real_clips(shared), tmp_path, EXCERPTS)
    assert summary.num_twins == 31
    assert set(summary.methods) == set(DEFAULT_METHODS)
    pairs = read_pairs(tmp_path)
    for method in DEFAULT_METHODS:
        of_method = [pair for pair in pairs if pair.method == method]
        # Two thirds at least: donors whose head is turned another way are passed over.
        assert len(of_method) >= 20
        for test in sign_tests(of_method):
            assert test.p_value > MIN_P, (method, test)
    for test in sign_tests(pairs):
        assert test.p_value > MIN_P, ("all methods", test)
    # A blend over itself that were sharper as a rule would teach that sharp is fake.
    blends = [pair for pair in pairs if pair.method in ("self_blend", "lip_blend")]
    for detail in detail_tests(blends):
        assert detail.p_value > MIN_P, detail
