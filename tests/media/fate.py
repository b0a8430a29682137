"""References in the manner of FATE, FFmpeg's own tests: what is read of files that exist as bytes, as text.

`make fate` writes tests/golden/fate anew; the difference is to be read and to be explained where it is committed.
Not by another implementation, then: these hold what is right by other tests where it is.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path

import av
import numpy as np

from dfkit.clip import CLIP2S
from dfkit.errors import MediaError
from dfkit.media.audio import SoundReader, decode_sound, open_track
from dfkit.media.container import open_media
from dfkit.media.coverage import Coverage, read_notes
from dfkit.media.crop import SquareBox
from dfkit.media.faces import FaceModels
from dfkit.media.picture import Picture, PictureMaker
from dfkit.media.stream import FaceFrame, FaceStream
from dfkit.media.survey import SoundTrack, Survey, frame_time, survey_file
from dfkit.media.video import PictureDecoder, PictureReader

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "fate"
EXAMPLES = ("golden_head.mp4", "clips/lipnet-bbaf2n.mpg", "cases/base.mp4")
AWKWARD = tuple(
    f"cases/{name}"
    for name in (
        "base.3gp",
        "base.ts",
        "base.wmv",
        "cover_plain.mkv",
        "d11_corrupt.mp4",
        "d11_half.mp4",
        "hdr_hlg.mp4",
        "negts.mkv",
        "reset.ts",
        "sar2.mp4",
        "still.mp4",
        "surround51.mp4",
        "trunc70.mp4",
        "twotracks_silent_first.mp4",
        "vflip.mp4",
        "zeros.mp4",
    )
)
FILES = (*EXAMPLES, *AWKWARD)
EXACT_CODECS = ("h264", "hevc", "vp8", "vp9", "av1")
"""Standards that fix every bit of a decoded picture. MPEG-1, -2 and -4, H.263 and WMV leave the cosine transform open:
of them the means of the planes are compared."""
FACE_PICTURES, FACE_STEP = 31, 10
"""Pictures in which faces are followed, and from one that is written down to the next."""
TOLERANCES = {"means": 0.5, "level": 0.1, "box": 0.02, "crop": 4.0}
"""Of planes' means (grey levels; cosine transforms differ in the last bit), of levels of sound (dB; float32 of AAC), of
boxes (share of their side) and of blocks of crops (grey levels): the networks' kernels differ with the processor."""


def locate(name: str, shared: Path) -> Path:
    """Where a file lies."""
    return ROOT / "dfkit" / "export" / name if name == "golden_head.mp4" else shared / name


def reference_path(name: str) -> Path:
    """Where its reference lies."""
    return GOLDEN / f"{Path(name).name}.txt"


def describe(path: Path, models: FaceModels) -> list[str]:
    """All lines of a file's reference."""
    survey = survey_file(path)
    return [*describe_pictures(path, num_threads=0), *describe_sound(survey), *describe_faces(survey, models)]


def describe_pictures(path: Path, *, num_threads: int) -> list[str]:
    """Stream, segments and decoded pictures, and how much was read."""
    survey = survey_file(path)
    decoder = PictureDecoder(survey, num_threads=num_threads)
    maker = PictureMaker(aspect=survey.aspect)
    lines: list[str] = []
    with open_media(path) as container:
        codec = container.streams[survey.video_index or 0].codec_context.name
    for number, decoded in enumerate(decoder):
        picture = maker.make(decoded.frame, segment=decoded.segment)
        if number == 0:
            lines += [_describe_stream(survey, codec, decoded.frame, picture), *_describe_segments(survey)]
        content = _checksum(picture) if codec in EXACT_CODECS else _means(picture)
        lines.append(f"picture {number} {decoded.start_s:.6f} {decoded.duration_s:.6f} {content}")
    return [*lines, _describe_read("pictures", decoder.coverage)]


def _describe_stream(survey: Survey, codec: str, frame: av.VideoFrame, picture: Picture) -> str:
    turn = " ".join(str(value) for value in picture.geometry.turn)
    return (
        f"stream {survey.video_index} {codec} {frame.format.name} {frame.width}x{frame.height} "
        f"shown {picture.width}x{picture.height} turn {turn} {picture.transfer}"
    )


def _describe_segments(survey: Survey) -> list[str]:
    return [f"segment {s.epoch} {s.start_s:.3f} {s.end_s:.3f} offset {s.offset_s:.3f}" for s in survey.segments]


def _checksum(picture: Picture) -> str:
    crc = 0
    for plane in picture.planes:
        crc = zlib.crc32(np.ascontiguousarray(plane), crc)
    return f"crc {crc:08x}"


def _means(picture: Picture) -> str:
    return "means " + " ".join(f"{plane.mean():.2f}" for plane in picture.planes)


def _describe_read(what: str, coverage: Coverage) -> str:
    missing = f": {coverage.missing}" if coverage.missing else ""
    return f"read {what} {coverage.read_s:.3f} of {coverage.duration_s:.3f}{missing}"


def describe_sound(survey: Survey) -> list[str]:
    """Container times of the sound's frames in runs, its level in each second on the pictures' clock, what was read."""
    first_s = next(iter(PictureDecoder(survey, num_threads=1))).start_s
    try:
        with SoundReader(survey.path, sample_rate=16000, first_picture_s=first_s, survey=survey) as reader:
            assert reader.track is not None
            lines = [f"track {reader.track.text}", *_describe_frames(survey, reader.track)]
            num_seconds = int(survey.pictures_s)
            levels = [_level_db(reader.read(second * 16000, 16000)) for second in range(num_seconds)]
            lines += [f"level {second} {level:.2f}" for second, level in enumerate(levels)]
            lines += [f"note {note}" for note in read_notes(survey, reader.track)]
            return [*lines, _describe_read("sound", reader.finish())]
    except MediaError as error:
        return [f"{error.status} {error.found.removeprefix(f'{survey.path}: ')}"]


def _describe_frames(survey: Survey, track: SoundTrack) -> Iterator[str]:
    """`sound TIME RATE Hz CHANNELS channels: NUMBER frames of SAMPLES`; a new line where frames do not follow."""
    frames: list[tuple[float, int, int, int]] = []
    end_s = 0.0
    with open_media(survey.path) as container:
        for frame in decode_sound(container, open_track(container, track)):
            time_s = frame_time(frame.pts, frame.time_base)
            # What a decoder gives at the end, without a time, follows.
            frames.append(
                (end_s if time_s is None else time_s, frame.sample_rate, len(frame.layout.channels), frame.samples)
            )
            end_s = frames[-1][0] + frame.samples / frame.sample_rate
    starts = np.array([frame[0] for frame in frames])
    ends = np.array([time_s + samples / rate for time_s, rate, _, samples in frames])
    # Matroska rounds to a millisecond.
    breaks = np.concatenate([[0], np.cumsum(np.abs(starts[1:] - ends[:-1]) > 0.0015)])
    for _, run in groupby(zip(breaks, frames, strict=True), key=lambda item: (item[0], *item[1][1:])):
        members = [frame for _, frame in run]
        time_s, rate, channels, samples = members[0]
        yield f"sound {time_s:.6f} {rate} Hz {channels} channels: {len(members)} frames of {samples}"


def _level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(max(np.square(waveform, dtype=np.float64).mean(), 1e-9)))


def describe_faces(survey: Survey, models: FaceModels) -> list[str]:
    """Boxes of face and mouth, and the face crop's luma in 4 x 4 blocks."""
    stream, faces = FaceStream(CLIP2S, models), list[FaceFrame]()
    for index, t_s, picture in islice(PictureReader(survey.path, CLIP2S.fps, survey=survey), FACE_PICTURES):
        faces += stream.push(index, t_s, picture)
    faces += stream.flush()
    return [_describe_face(face) for face in faces if face.index % FACE_STEP == 0]


def _describe_face(face: FaceFrame) -> str:
    assert face.boxes is not None
    boxes = " ".join(f"{value:.1f}" for box in face.boxes for value in box)
    side = len(face.face) // 4
    blocks = face.face.mean(axis=2).reshape(4, side, 4, side).mean(axis=(1, 3))
    return f"face {face.index} track {face.track_id} boxes {boxes} crop " + " ".join(f"{v:.0f}" for v in blocks.ravel())


def differences(expected: Iterable[str], found: Iterable[str]) -> list[str]:
    """Lines in which two descriptions differ by more than the tolerances."""
    left, right = list(expected), list(found)
    lines = [f"expected {a}\n   found {b}" for a, b in zip(left, right, strict=False) if not _is_same(a, b)]
    if len(left) != len(right):
        lines.append(f"expected {len(left)} lines, found {len(right)}")
    return lines


def _is_same(expected: str, found: str) -> bool:
    if expected == found:
        return True
    for kind in ("means", "level", "boxes"):
        start, _, values = expected.partition(f"{kind} ")
        other_start, _, other_values = found.partition(f"{kind} ")
        if values and other_values and start == other_start:
            return _is_near(kind, values, other_values)
    return False


def _is_near(kind: str, expected: str, found: str) -> bool:
    (boxes, _, crop), (other_boxes, _, other_crop) = (text.partition(" crop ") for text in (expected, found))
    left, right = (np.array(text.split(), float) for text in (boxes, other_boxes))
    if left.shape != right.shape:
        return False
    if kind == "level":  # the second is a whole number
        return left[0] == right[0] and bool(abs(left[1] - right[1]) <= TOLERANCES["level"])
    if kind == "means":
        return bool(np.abs(left - right).max() <= TOLERANCES["means"])
    sides = np.repeat([SquareBox(*left[:3]).side, SquareBox(*left[3:]).side], 3)
    blocks = np.abs(np.array(crop.split(), float) - np.array(other_crop.split(), float))
    return bool((np.abs(left - right) <= TOLERANCES["box"] * sides).all() and blocks.max() <= TOLERANCES["crop"])


def main() -> int:
    """Writes all references of the files that are there; returns 1 where one is missing."""
    shared = Path(os.environ.get("DFKIT_SHARED", ROOT.parent / "shared"))
    GOLDEN.mkdir(parents=True, exist_ok=True)
    models, missing = FaceModels(), []
    for name in FILES:
        if not locate(name, shared).is_file():
            missing.append(name)
            continue
        old = reference_path(name)
        lines = describe(locate(name, shared), models)
        before = old.read_text(encoding="utf-8").splitlines() if old.exists() else []
        changes = len(differences(before, lines))
        # What is only within the tolerances of another processor stays as it was written.
        if changes or not before:
            old.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{old.name}: {len(lines)} lines, {changes} changed")
    for name in missing:
        print(f"{name} is not below {shared}: set DFKIT_SHARED to the folder that holds it", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
