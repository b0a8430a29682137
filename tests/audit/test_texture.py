"""Texture features: which faces, and the same numbers as timm's network gives."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dfkit.audit.texture import BLOCK, NUM_FACES, read_texture, video_faces
from dfkit.data.samples import ClipRecord
from tests.models.test_efficientnet_lite import REFERENCE
from tools.lite0_reference import picture


class Clips:
    """Clips of one video each picture of which is the same face."""

    def __init__(self, face: np.ndarray, num_clips: int) -> None:
        self.face = face
        self.clips = [SimpleNamespace(video_index=3, index=number) for number in range(num_clips)]

    def __getitem__(self, index: int) -> ClipRecord:
        values: Any = dict.fromkeys(ClipRecord.__dataclass_fields__)
        return ClipRecord(**{**values, "face": np.repeat(self.face[None], 50, axis=0)})


def test_texture_is_mean_and_deviation_of_timms_maps() -> None:
    face = picture(112, 112)[0].permute(1, 2, 0).numpy().astype(np.uint8)  # type: ignore[index]
    arrays = read_texture(Clips(face, 3))  # type: ignore[arg-type]
    (row,) = arrays["texture"]
    assert arrays["videos"].tolist() == [3] and row.shape == (80,)
    expected = json.loads(REFERENCE.read_text(encoding="utf-8"))["cases"][0]["blocks"][BLOCK]
    means, deviations = row[:40].astype(np.float64), row[40:].astype(np.float64)
    assert means.mean() == pytest.approx(expected["mean"], abs=1e-3)
    # The variance of all values is that within maps and that between their means; the reference divides by n - 1.
    count = 40 * 14 * 14
    variance = (np.square(deviations).mean() + means.var()) * count / (count - 1)
    assert np.sqrt(variance) == pytest.approx(expected["std"], rel=1e-4)


@pytest.mark.parametrize(("num_clips", "expected"), [(1, 16), (2, 16), (3, 18), (8, 16)])
def test_every_video_gives_about_as_many_faces(num_clips: int, expected: int) -> None:
    face = np.full((224, 224, 3), (10, 20, 30), np.uint8)
    faces = video_faces(Clips(face, num_clips), list(range(num_clips)))  # type: ignore[arg-type]
    assert faces.shape == (expected, 112, 112, 3) and expected >= NUM_FACES
    assert faces[0, 5, 5].tolist() == [10, 20, 30]
