"""Decoded videos as raw files, each with what dfkit's detector says of it: one folder a video.

`pictures.yuv` has the planes of each different picture one after the other, `sound.f32` the decoded samples, channels
interleaved, `lips.rgb` the lip crops in the order of `faces` in video.json.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np

from dfkit.clip import ClipSpec
from dfkit.errors import DfkitError
from dfkit.media.audio import choose_sound, decode_sound, open_track
from dfkit.media.channels import channel_names, read_channels
from dfkit.media.container import open_media
from dfkit.media.geometry import make_geometry, rotation_deg
from dfkit.media.picture import Picture, picture_of_planes
from dfkit.media.stream import FaceFrame, FaceStream
from dfkit.media.survey import survey_file
from dfkit.media.video import PictureReader
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector, DetectorParts
from dfkit.runtime.evidence import FaceMeter
from dfkit.runtime.results import ClipScore, VideoResult, judge_clips

Change = Literal["rotated", "gap", "two", "no_face"]
GAP = range(30, 38)
"""Pictures whose face is covered; fewer than are interpolated."""
QUARTER_TURN = (0, 1, -1, 0)
"""Display matrix of pictures that are shown turned by 90 degrees clockwise."""
GridPicture = tuple[int, float, Picture]


@dataclass(frozen=True)
class FileVideo:
    """A file, as the detector reads it."""

    name: str
    path: Path


@dataclass(frozen=True)
class StreamVideo:
    """Pictures of a file, changed, pushed into a stream with the sound of the file."""

    name: str
    path: Path
    num_pictures: int = 75
    """Taken from its beginning."""
    change: Change | None = None
    other: Path | None = None
    """The second face, of `two`."""


@dataclass
class Recorder:
    """Writes pictures as they are read, and keeps the faces that are found in them."""

    folder: Path
    spec: ClipSpec
    file: BinaryIO
    facts: dict[str, Any] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    faces: list[FaceFrame] = field(default_factory=list)
    last: Picture | None = None
    num_frames: int = 0
    first_s: float = 0.0

    def take(self, item: GridPicture) -> None:
        """Writes the picture of a grid point, unless it is that of the point before."""
        index, t_s, picture = item
        self.num_frames = index + 1
        if picture is self.last:
            return
        self.last = picture
        self.times_s.append(t_s)
        self.facts = self.facts or _shown_as(picture)
        for plane in picture.planes:
            self.file.write(np.ascontiguousarray(plane).tobytes())

    @property
    def last_duration_s(self) -> float:
        """How long the last picture is shown, so that the grid has the same length again."""
        return self.num_frames / self.spec.fps - self.times_s[-1] if self.times_s else 0.0


def write_videos(bundle: Bundle, videos: Iterable[FileVideo | StreamVideo], out: Path) -> None:
    """Writes a folder for each video.

    Args:
        bundle: Verified.
        videos: With names of their own.
        out: Folder that exists.
    """
    writer = _Writer(bundle)
    for video in videos:
        writer.write(video, out / video.name)


class _Writer:
    """One detector whose stages are listened to."""

    def __init__(self, bundle: Bundle) -> None:
        self._manifest = bundle.manifest
        self._recorder: Recorder | None = None
        parts = DetectorParts(make_face_stream=self._make_face_stream, read_pictures=self._read_pictures)
        self._detector = Detector(bundle, backend="tflite", decoder_threads=1, parts=parts)

    def write(self, video: FileVideo | StreamVideo, folder: Path) -> None:
        folder.mkdir()
        with (folder / "pictures.yuv").open("wb") as file:
            recorder = self._recorder = Recorder(folder, self._manifest.clip_spec, file)
            answer = self._answer_of_file(video) if isinstance(video, FileVideo) else self._answer_of_stream(video)
        _write_lips(recorder.faces, folder / "lips.rgb")
        matrix = _matrix_tag(video.path) if recorder.times_s else 2
        content = {
            "name": video.name,
            "matrix": matrix,
            **recorder.facts,
            "times_s": [recorder.first_s + t for t in recorder.times_s],
            "last_duration_s": recorder.last_duration_s,
            "sound": _write_sound(video, folder / "sound.f32"),
            "faces": [_face_row(face) for face in recorder.faces],
            **answer,
        }
        (folder / "video.json").write_text(json.dumps(content), encoding="utf-8")

    def _make_face_stream(self, spec: ClipSpec, models: Any) -> FaceStream:
        assert self._recorder is not None
        return _HeardFaceStream(spec, models, self._recorder)

    def _read_pictures(self, reader: PictureReader) -> Generator[GridPicture, None, None]:
        assert self._recorder is not None
        for item in reader:
            self._recorder.first_s = reader.first_picture_s or 0.0
            self._recorder.take(item)
            yield item

    def _answer_of_file(self, video: FileVideo) -> dict[str, Any]:
        result = self._detector.detect(video.path)
        read = result.read
        shares = {
            "pictures": 1.0 if read is None else read.pictures.share,
            "sound": 1.0 if read is None or read.sound is None else read.sound.share,
        }
        return {"read": shares, "answer": _answer(result)}

    def _answer_of_stream(self, video: StreamVideo) -> dict[str, Any]:
        assert self._recorder is not None
        recorder, stream = self._recorder, self._detector.open_stream(sample_rate=_sound_rate(video.path))
        for samples, t_s in _sound_blocks(video.path):
            stream.push_sound(samples.mean(axis=0), t_s)
        clips: list[ClipScore] = []
        for index, t_s, picture in changed_pictures(video, recorder):
            recorder.take((index, t_s, picture))
            clips += stream.push_picture(recorder.first_s + t_s, picture)
        clips += stream.finish(recorder.last_duration_s)
        shares = {"pictures": 1.0, "sound": 1.0}
        if not clips:
            status = "too_short" if recorder.num_frames < self._manifest.clip_spec.num_frames else "no_face"
            return {"read": shares, "answer": {"status": status, "verdict": None, "p_fake": None, "clips": []}}
        meter = FaceMeter(self._manifest.clip_spec)
        meter.push(recorder.faces)
        return {"read": shares, "answer": _answer(judge_clips(video.name, clips, self._manifest, faces=meter))}


class _HeardFaceStream(FaceStream):
    """Tells the recorder of every face."""

    def __init__(self, spec: ClipSpec, models: Any, recorder: Recorder) -> None:
        super().__init__(spec, models)
        self._recorder = recorder

    def push(self, *args: Any, **options: Any) -> list[FaceFrame]:
        faces = super().push(*args, **options)
        self._recorder.faces += faces
        return faces

    def flush(self) -> Iterator[FaceFrame]:
        for face in super().flush():
            self._recorder.faces.append(face)
            yield face


def changed_pictures(video: StreamVideo, recorder: Recorder) -> Iterator[GridPicture]:
    """Pictures of a file on the grid, changed as the video says."""
    reader = PictureReader(video.path, recorder.spec.fps, num_threads=1)
    others = None if video.other is None else iter(PictureReader(video.other, recorder.spec.fps, num_threads=1))
    for index, t_s, picture in reader:
        if index >= video.num_pictures:
            return
        recorder.first_s = reader.first_picture_s or 0.0
        beside = next(others)[2] if others is not None and video.change == "two" else picture
        yield index, t_s, picture if video.change is None else _changed(picture, beside, video.change, index)


def _changed(picture: Picture, beside: Picture, change: Change, index: int) -> Picture:
    planes = picture.planes
    if change == "rotated":
        turned = tuple(np.ascontiguousarray(np.rot90(plane)) for plane in planes)
        height, width = turned[0].shape
        return _made(turned, make_geometry(width, height, aspect=None, turn=QUARTER_TURN))
    if change == "two":
        return _made(tuple(np.concatenate(pair, axis=1) for pair in zip(planes, beside.planes, strict=True)))
    if change == "gap" and index not in GAP:
        return picture
    rng = np.random.default_rng(index)
    covered = [plane.copy() for plane in planes]
    for plane in covered:
        height, width = plane.shape
        # Of a face only its middle, in its own grey: more would be a cut.
        part = plane[height // 4 : height * 3 // 4, width // 3 : width * 2 // 3] if change == "gap" else plane
        part[:] = np.clip(rng.normal(128 if change == "no_face" else part.mean(), 3, part.shape), 16, 235)
    return _made(tuple(covered))


def _made(planes: tuple[np.ndarray, ...], geometry: Any = None) -> Picture:
    # As the GRID examples are: untagged, of less than 720 lines, limited range.
    return picture_of_planes(planes, shares=(0.299, 0.114), full=False, geometry=geometry)


def _shown_as(picture: Picture) -> dict[str, Any]:
    """Sizes of the planes, and how the picture is shown."""
    a, b, c, d = picture.geometry.turn
    upright = picture.geometry.shown[:: -1 if picture.geometry.is_swapped else 1]
    coded = picture.geometry.coded
    is_mirrored = a * d - b * c < 0
    clockwise = (360 - rotation_deg((-a, b, -c, d) if is_mirrored else (a, b, c, d))) % 360
    return {
        "width": coded[0],
        "height": coded[1],
        "chroma_width": picture.planes[1].shape[1],
        "chroma_height": picture.planes[1].shape[0],
        "full_range": picture.luma_range == (0, 255),
        "rotation_deg": clockwise,
        "is_mirrored": is_mirrored,
        "aspect": (upright[0] / coded[0]) / (upright[1] / coded[1]),
    }


def _matrix_tag(path: Path) -> int:
    with av.open(str(path)) as container:
        return int(next(container.decode(video=0)).colorspace)


def _sound_blocks(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Decoded blocks, (channels, N) float32, with the time of the first sample."""
    survey = survey_file(path)
    track = choose_sound(survey)
    if track is None:
        return
    with open_media(path) as container:
        for frame in decode_sound(container, open_track(container, track)):
            yield read_channels(frame), float(frame.pts * frame.time_base)


def _sound_rate(path: Path) -> int:
    with av.open(str(path)) as container:
        return int(container.streams.audio[0].rate)


def _write_sound(video: FileVideo | StreamVideo, path: Path) -> dict[str, Any] | None:
    """Writes what is decoded; None of a file that has no sound, or cannot be opened."""
    try:
        blocks = list(_sound_blocks(video.path))
    except DfkitError:
        return None
    if not blocks:
        return None
    with av.open(str(video.path)) as container:
        names = list(channel_names(next(container.decode(audio=0))))
    if isinstance(video, StreamVideo):  # pushed as one channel
        blocks, names = [(samples.mean(axis=0, keepdims=True), t_s) for samples, t_s in blocks], ["FC"]
    np.concatenate([samples.T.reshape(-1) for samples, _ in blocks]).astype("<f4").tofile(path)
    return {
        "rate": _sound_rate(video.path),
        "channels": names,
        "blocks": [[t_s, samples.shape[1]] for samples, t_s in blocks],
    }


def _write_lips(faces: list[FaceFrame], path: Path) -> None:
    path.write_bytes(b"".join(np.ascontiguousarray(face.lip).tobytes() for face in faces))


def _face_row(face: FaceFrame) -> list[float]:
    assert face.boxes is not None
    return [face.index, face.track_id, float(face.interpolated), *face.boxes[0], *face.boxes[1]]


def _answer(result: VideoResult) -> dict[str, Any]:
    scored = [[track.track_id, start_s, p_fake] for track in result.tracks for start_s, _, p_fake in track.clips]
    return {
        "status": result.status,
        "verdict": result.verdict,
        "p_fake": result.p_fake,
        "clips": scored,
    }
