"""Format of `golden/video.json`: a short video, and what every step from its file to a verdict has to give.

Arrays lie beside it as raw little-endian files, as those of golden.json do. Features and logits are judged by the
limits of golden.json's set `shipped`, as there: how far INT8 answers of two implementations of the operators lie apart
depends on the weights, so that no one number fits every model. Where an output has no power there, only what is grossly
off fails here; the stressed vectors of golden.json decide.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, Field, PositiveFloat, ValidationError

from dfkit.errors import NOT_JSON, BundleError, one_line
from dfkit.runtime.bundle import FIX_COPY, Bundle
from dfkit.runtime.golden_index import PEAK, ArrayFile, OutputLimits
from dfkit.runtime.manifest import validation_faults

VIDEO_INDEX = "golden/video.json"


class VideoTolerance(BaseModel, frozen=True, extra="forbid"):
    """What passes, stage by stage; features and logits have limits of their own."""

    times_s: PositiveFloat = 0.001
    """Largest difference of a picture's time."""
    seen_mean_levels: PositiveFloat = 0.25
    """Mean absolute difference of what the face detector sees; half a level of brightness moves boxes beyond their
    tolerance."""
    boxes_px: PositiveFloat = 0.05
    """Largest difference of a box's centre or side."""
    crops_mean_levels: PositiveFloat = 1.0
    """Mean absolute difference of a crop."""
    sound_db: Annotated[float, Field(lt=0)] = -90.0
    """Root mean square of the difference against full scale."""
    p_fake: PositiveFloat = 0.01
    """Difference of the video's p_fake."""


class PictureCase(BaseModel, frozen=True, extra="forbid"):
    """Planes of a picture, (H, W) uint8 each, and what the face detector sees of it, (128, 128, 3) uint8 RGB."""

    grid: int
    y: ArrayFile
    u: ArrayFile
    v: ArrayFile
    seen: ArrayFile


class CropCase(BaseModel, frozen=True, extra="forbid"):
    """A crop from a stored picture: centre and side of the box in its pixels."""

    picture: int
    """Place in `pictures`."""
    kind: Literal["face", "lip"]
    x: float
    y: float
    side: float
    crop: ArrayFile


class EncodeCase(BaseModel, frozen=True, extra="forbid"):
    """Features of the stored crops of one picture."""

    crops: dict[Literal["face", "lip"], int]
    """Places in `crops`."""
    features: dict[str, dict[str, ArrayFile]]
    """By backend, then by output."""


class ScoreCase(BaseModel, frozen=True, extra="forbid"):
    """Logits of the first clip, from stored inputs."""

    inputs: dict[str, ArrayFile]
    """What `score` takes: features of its pictures, its sound, its landmarks."""
    logits: dict[str, dict[str, ArrayFile]]
    """By backend: `frame_logits` and `clip_logits`."""


class Answer(BaseModel, frozen=True, extra="forbid"):
    """What one backend says of the whole file."""

    clip_starts: tuple[int, ...]
    """First grid points of the clips."""
    clip_logits: tuple[tuple[float, float], ...]
    status: Literal["ok"]
    verdict: Literal["real", "fake", "review"]
    p_fake: float
    distance: float | None = None
    """Of its features from those of the real training videos; None where it is not measured."""


class GoldenVideo(BaseModel, frozen=True, extra="forbid"):
    """Content of video.json."""

    schema_version: Literal[2] = 2
    file: str
    """The video, relative to video.json."""
    license: str
    tolerance: VideoTolerance = VideoTolerance()
    limits: dict[str, dict[str, OutputLimits]]
    """Of features and logits, by backend, then by output: those of golden.json's set `shipped`."""
    peak: PositiveFloat = PEAK
    """How many times its tolerance there a single value may differ."""
    times_s: tuple[float, ...]
    """Of the picture at each grid point, since the first one."""
    planes: tuple[tuple[str, str, str], ...]
    """SHA-256 of the decoded Y, U and V of the picture at each grid point, rows without padding."""
    pictures: tuple[PictureCase, ...]
    boxes: ArrayFile
    """(grid points, 6) float32: face box x, y, side, then lip box; pixels, x and y of the centre."""
    crops: tuple[CropCase, ...]
    sound: ArrayFile | None
    """(num_samples,) float32 of the first clip; none for a model without sound."""
    encode: tuple[EncodeCase, ...]
    score: ScoreCase
    answers: dict[str, Answer]
    """By backend."""


def read_video_index(bundle: Bundle) -> GoldenVideo | None:
    """The golden video of a bundle; None where it has none.

    Raises:
        BundleError: It does not follow the schema.
    """
    if VIDEO_INDEX not in bundle.manifest.files:
        return None
    try:
        return GoldenVideo.model_validate(json.loads(bundle.read(VIDEO_INDEX)))
    # It is a ValueError, as those of JSON are.
    except ValidationError as error:
        faults = [f"{VIDEO_INDEX} in {bundle.path} does not follow the schema:", *validation_faults(error)]
        raise BundleError("\n  ".join(faults), fix=FIX_COPY) from error
    except NOT_JSON as error:
        raise BundleError(f"{VIDEO_INDEX} in {bundle.path} is not JSON: {one_line(error)}", fix=FIX_COPY) from error
