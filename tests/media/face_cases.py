"""Cases on which dfkit's face tracker is held against MediaPipe; read by the tests and by tools/face_reference.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from dfkit.media.video import read_frames

GOLDEN = Path(__file__).parents[1] / "golden" / "faces"
NUM_FRAMES = 75
"""The first 3 s on the 25 fps grid."""
FIXED_POINT = 16.0
"""Golden landmarks are int16 in 1/16 pixel, as differences from frame to frame."""
MISSING = -32768
"""Golden x and y where there is no face."""

CLIPS = (
    "aniportrait-aragaki-driving-real.mp4",
    "aniportrait-num18-driving-real.mp4",
    "aniportrait-cxk-gen.mp4",
    "aniportrait-kara-gen.mp4",
    "aniportrait-solo-gen.mp4",
    "dfrf-cnn2-25fps.mp4",
    "dfrf-french.mp4",
    "ditto-talkinghead-clip-eynxzhyslui-p0-c0-f20600-20730.mp4",
    "ditto-talkinghead-clip-uwzrskqj-g-p0-c2-f8754-8865.mp4",
    "ditto-talkinghead-clip-xchmk9joypy-p0-c0-f6905-7009.mp4",
    "latentsync-demo1-video.mp4",
    "latentsync-demo2-video.mp4",
    "linly-talker-answer.mp4",
    "lipnet-bbaf2n.mpg",
    "lipnet-lwbsza.mpg",
    "lipnet-sbia1a.mpg",
    "liveportrait-d11.mp4",
    "liveportrait-d20.mp4",
    "sadtalker-art-0-japanese.mp4",
    "sadtalker-still1.mp4",
    "talking-face-pc-avs-00015.mp4",
    "talking-face-pc-avs-00067.mp4",
    "talking-face-pc-avs-00098.mp4",
    "talking-face-pc-avs-00473.mp4",
    "talking-face-pc-avs-517600055.mp4",
    "talking-face-pc-avs-620900105.mp4",
    "video-retalking-2.mp4",
    "video-retalking-4.mp4",
    "wav2lip-hd-kennedy-low.mp4",
)


DISTANT_CLIPS = (
    "lipnet-bbaf2n.mpg",
    "liveportrait-d11.mp4",
    "talking-face-pc-avs-00473.mp4",
    "wav2lip-hd-kennedy-low.mp4",
    "ditto-talkinghead-clip-xchmk9joypy-p0-c0-f6905-7009.mp4",
    "latentsync-demo1-video.mp4",
)
DISTANT_SIZES = ((1280, 720), (640, 360))
DISTANT_SHARES = (0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15)
"""Width of the landmarks' box as a share of the picture's width."""
DISTANT_PLACES = ((0.25, 0.3), (0.7, 0.6))
"""Centre of the face as shares of width and height."""


@dataclass(frozen=True)
class DistantFace:
    """A picture with one small face."""

    name: str
    share: float
    face: tuple[float, float, float]
    """x and y of its centre and its width, px."""
    rgb: np.ndarray


def distant_faces(shared: Path) -> Iterator[DistantFace]:
    """First pictures of real clips, made small and put at two places of larger grey pictures."""
    for clip in DISTANT_CLIPS:
        rgb = next(_first(shared / "clips" / clip))
        landmarks = decode_golden(np.load(GOLDEN / f"{Path(clip).stem}.npz")["landmarks"])[0, 0]
        for size in DISTANT_SIZES:
            for share in DISTANT_SHARES:
                for place in DISTANT_PLACES:
                    face = (place[0] * size[0], place[1] * size[1], share * size[0])
                    name = f"{Path(clip).stem}, {share:.0%} of {size[0]} x {size[1]}, at {place}"
                    yield DistantFace(name, share, face, shrink_into(rgb, landmarks, face, size))


def shrink_into(
    rgb: np.ndarray, landmarks: np.ndarray, face: tuple[float, float, float], size: tuple[int, int]
) -> np.ndarray:
    """A picture made smaller (or larger) and put into a grey one, so that its face comes to lie at a place.

    Args:
        rgb: (H, W, 3) uint8.
        landmarks: (468, 2) of its face.
        face: Centre x, y and width that the face shall have, px.
        size: Width and height of the result.
    """
    scale = face[2] / np.ptp(landmarks[:, 0])
    width, height = (max(1, round(length * scale)) for length in rgb.shape[1::-1])
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    shift = np.rint(np.array(face[:2]) - landmarks.mean(axis=0) * scale)
    # Whole pixels: nothing is sampled a second time.
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    return cv2.warpAffine(small, matrix, size, flags=cv2.INTER_NEAREST, borderValue=(90, 90, 90))


def distant_head(num_frames: int, *, share: float = 0.05, size: tuple[int, int] = (640, 360)) -> Iterator[np.ndarray]:
    """The synthetic head as a distant one: its face is so large a share of the picture's width."""
    heads = synthetic_head(num_frames)
    # The head's face is about 100 px wide in its picture of 256 px.
    side = round(256 * share * size[0] / 100)
    left, top = (size[0] - side) // 3, (size[1] - side) // 2
    for head in heads:
        picture = np.full((size[1], size[0], 3), 90, np.uint8)
        picture[top : top + side, left : left + side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
        yield picture


@dataclass(frozen=True)
class FaceCase:
    """Pictures and the number of faces that both trackers are told to follow."""

    name: str
    max_faces: int
    frames: Callable[[], Iterator[np.ndarray]]
    needs_shared: bool = True


def list_cases(shared: Path) -> list[FaceCase]:
    """All cases; the pictures are read only when asked for."""
    clips = shared / "clips"
    cases = [FaceCase(Path(name).stem, 1, lambda name=name: _first(clips / name)) for name in CLIPS]
    left, right = clips / "lipnet-bbaf2n.mpg", clips / "lipnet-lwbsza.mpg"
    cases.append(FaceCase("two-people", 2, lambda: _side_by_side(left, right)))
    cases.append(FaceCase("hand-over-mouth", 1, lambda: _cover_mouth(left)))
    cases.append(FaceCase("leaves-and-returns", 1, lambda: _leave(right)))
    cases.append(FaceCase("glasses", 1, lambda: _wear_glasses(left)))
    cases.append(FaceCase("synthetic-head", 1, synthetic_head, needs_shared=False))
    return cases


def decode_golden(stored: np.ndarray) -> np.ndarray:
    """(frames, faces, 468, 2) float64 pixels, NaN where there is no face."""
    values = np.cumsum(stored.astype(np.int32), axis=0)
    return np.where(values == MISSING, np.nan, values / FIXED_POINT)


def encode_golden(landmarks: np.ndarray) -> np.ndarray:
    """Inverse of `decode_golden`, to 1/32 pixel; differences wrap within int32."""
    fixed = np.where(np.isnan(landmarks), MISSING, np.rint(np.nan_to_num(landmarks) * FIXED_POINT))
    return np.diff(fixed.astype(np.int32), axis=0, prepend=0)


def _first(path: Path) -> Iterator[np.ndarray]:
    for _, _, rgb in islice(read_frames(path, 25.0, num_threads=1), NUM_FRAMES):
        yield rgb


def _side_by_side(left: Path, right: Path) -> Iterator[np.ndarray]:
    for a, b in zip(_first(left), _first(right), strict=False):
        yield np.ascontiguousarray(np.concatenate([a, b], axis=1))


def _cover_mouth(path: Path) -> Iterator[np.ndarray]:
    # A skin-coloured ellipse that rises over the mouth, stays, and sinks again.
    for index, rgb in enumerate(_first(path)):
        picture = rgb.copy()
        height, width = picture.shape[:2]
        rise = np.clip(min(index - 15, 60 - index) / 10, 0, 1)
        centre = (int(width * 0.5), int(height * (1.15 - 0.4 * rise)))
        cv2.ellipse(picture, centre, (width // 9, height // 9), 20, 0, 360, (196, 150, 130), -1)
        yield picture


def _leave(path: Path) -> Iterator[np.ndarray]:
    # The picture slides out to the right, stays away for more than half a second, and comes back.
    for index, rgb in enumerate(_first(path)):
        width = rgb.shape[1]
        shift = int(width * np.clip(min(index - 10, 60 - index) / 15, 0, 1))
        yield np.ascontiguousarray(np.concatenate([np.full_like(rgb[:, :shift], 90), rgb[:, : width - shift]], 1))


def _wear_glasses(path: Path) -> Iterator[np.ndarray]:
    # Dark rings at the place of the eyes in this clip.
    for rgb in _first(path):
        picture = rgb.copy()
        height, width = picture.shape[:2]
        for x in (0.43, 0.56):
            cv2.circle(picture, (int(width * x), int(height * 0.47)), width // 20, (20, 20, 20), 3, cv2.LINE_AA)
        cv2.line(
            picture,
            (int(width * 0.48), int(height * 0.47)),
            (int(width * 0.51), int(height * 0.47)),
            (20, 20, 20),
            3,
        )
        yield picture


def hide_face(rgb: np.ndarray) -> np.ndarray:
    """The synthetic head with the blocks of its face shuffled: no face, but no cut, as the histogram stays."""
    block, first, count = 10, 50, 15
    hidden = rgb.copy()
    places = np.random.default_rng(0).permutation(count * count)
    for place, source in enumerate(places):
        y, x = (first + block * int(v) for v in divmod(place, count))
        from_y, from_x = (first + block * int(v) for v in divmod(int(source), count))
        hidden[y : y + block, x : x + block] = rgb[from_y : from_y + block, from_x : from_x + block]
    return hidden


def synthetic_head(num_frames: int = NUM_FRAMES, *, size: int = 256) -> Iterator[np.ndarray]:
    """NASA's portrait of Eileen Collins (public domain, shipped with scikit-image), moved, turned and scaled."""
    from skimage import data

    portrait = data.astronaut()
    for index in range(num_frames):
        phase = 2 * np.pi * index / 50
        matrix = cv2.getRotationMatrix2D((225.0, 110.0), 12 * np.sin(phase), 1.0 + 0.15 * np.sin(phase / 2))
        matrix[:, 2] += (size / 2 - 225 + 20 * np.cos(phase), size / 2 - 110 + 12 * np.sin(2 * phase))
        yield cv2.warpAffine(portrait, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
