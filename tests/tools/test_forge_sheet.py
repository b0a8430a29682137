from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from dfkit.errors import DataError
from dfkit.media.facts import probe
from tests.forge.conftest import Forged
from tools.forge.sheet import contact_sheet, read_pairs, side_by_side


def test_a_contact_sheet_shows_twin_forgery_and_difference(forged: Forged, tmp_path: Path) -> None:
    pairs = [pair for pair in forged.pairs if pair.method == "face_swap"]
    sheet = cv2.imread(str(contact_sheet(pairs, tmp_path / "sheet.png", columns=4)))
    # Two blocks of a title of 22 and three rows of 200 pixels, and 6 between; pictures of 384 x 320.
    assert sheet.shape == (2 * (22 + 600 + 6), 4 * 240, 3)
    # The second column: in the first a forged part may still fade in.
    twin, made, difference = (sheet[22 + 200 * i : 222 + 200 * i, 240:480] for i in range(3))
    assert cv2.absdiff(twin, made)[40:160, 60:180].mean() > 3
    assert difference[40:160, 60:180].mean() > 3 * difference[:20].mean() + 1


def test_a_contact_sheet_of_sounds_shows_where_they_changed(forged: Forged, tmp_path: Path) -> None:
    (pair, *_) = [pair for pair in forged.pairs if pair.method == "voice_resynth"]
    sheet = cv2.imread(str(contact_sheet([pair], tmp_path / "sheet.png", columns=4)))
    assert sheet.shape == (22 + 600 + 6, 4 * 240, 3)
    assert sheet[430:600].mean() > 5, "something differs"


def test_side_by_side_holds_both(forged: Forged, tmp_path: Path) -> None:
    pair = forged.pairs[0]
    facts = probe(side_by_side(pair, tmp_path / "both.mp4"))
    twin = probe(pair.twin)
    assert (facts.width, facts.height, facts.num_frames) == (2 * twin.width, twin.height, pair.num_frames)
    assert facts.audio_codec == "aac"


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dfkit forge"):
        read_pairs(tmp_path)
    with pytest.raises(DataError):
        contact_sheet([], tmp_path / "a.png")
