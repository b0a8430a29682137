from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from dfkit.errors import DataError
from tests.forge.conftest import Forged
from tests.media.media_files import smooth_picture, write_media
from tools.forge.detail import detail_tests, measure_detail
from tools.forge.sheet import Pair

SIZE = (96, 128)
LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def recording(patch_sigma: float | None) -> Iterator[np.ndarray]:
    """Noise on a smooth picture; in a square of it other noise, blurred, or with half of its power more."""
    for index in range(10):
        rng = np.random.default_rng(index)
        picture = smooth_picture(*SIZE).astype(np.float64) + rng.normal(0, 12, (*SIZE, 3))
        if patch_sigma is not None:
            patch = smooth_picture(*SIZE).astype(np.float64) + rng.normal(0, 18, (*SIZE, 3))
            if patch_sigma > 0:
                patch = cv2.GaussianBlur(patch, (0, 0), patch_sigma)
            picture[30:70, 40:90] = patch[30:70, 40:90]
        yield np.clip(picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("sigma", "sharper"), [(0.0, True), (1.5, False)])
def test_the_sharper_one_is_named(sigma: float, sharper: bool, tmp_path: Path) -> None:
    twin = write_media(tmp_path / "twin.mp4", recording(None), options=LOSSLESS)
    forged = write_media(tmp_path / "forged.mp4", recording(sigma), options=LOSSLESS)
    detail = measure_detail(Pair("x", twin, forged, 0, 10, 10))
    assert detail is not None
    # Half of the noise's deviation more is 0.58 octaves.
    assert (detail.inside > 0.4) if sharper else (detail.inside < -1)
    assert abs(detail.outside) < 0.1
    (test,) = detail_tests([Pair("x", twin, forged, 0, 10, 10)])
    assert (test.sharper, test.smoother) == ((1, 0) if sharper else (0, 1))


def test_a_forged_sound_has_no_pictures_to_compare(forged: Forged) -> None:
    sounds = [pair for pair in forged.pairs if pair.method == "audio_swap"]
    assert measure_detail(sounds[0]) is None
    with pytest.raises(DataError, match="no forgery of pictures"):
        detail_tests(sounds)
