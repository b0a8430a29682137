"""Says whether the faces of a video are fake, from a dfkit model bundle alone: an example for whoever writes an app.

    python predict_from_bundle.py BUNDLE VIDEO [VIDEO ...]

prints one JSON object per video: path, status, verdict, p_fake. It was written from MODEL_CARD.md alone ("Serving it:
the exact contract", whose section numbers stand in brackets) and the manifest, and imports nothing of dfkit: only the
standard library, numpy, PyAV and ai-edge-litert. It shows what has to be done, not how to do it fast.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

RUNTIME = "ai-edge-litert"


class NoVerdictError(Exception):
    """The video gets no verdict; the first argument is the status."""


@dataclass
class Bundle:
    """A bundle's manifest and its loaded graphs."""

    manifest: dict[str, Any]
    face_models: dict[str, Interpreter]  # by role
    runners: dict[str, Any]  # signature runners: `score`, and `encode` but for a model without pictures
    spec: dict[str, Any]  # clip_spec
    serving: dict[str, Any]
    graphs: dict[str, Any]  # description of what the runners take and give
    max_gap: int  # G of sections 7, 8 and 11, grid points
    look_ahead: int  # A of section 8, grid points


def load_bundle(folder: Path) -> Bundle:
    """Reads and checks a bundle, loads its graphs."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if present != {*manifest["files"], "manifest.json"}:
        raise ValueError(f"{folder} lacks files or has others than the manifest lists")
    for name, expected in manifest["files"].items():
        content = (folder / name).read_bytes()
        if len(content) != expected["bytes"] or hashlib.sha256(content).hexdigest() != expected["sha256"]:
            raise ValueError(f"{folder / name} is not the file that the manifest describes")
    if manifest["serving"].get("whole_video") is not None:
        raise ValueError("models of whole videos (preset uniform50) are not served by this example")
    if "tflite" not in manifest["backends"]:
        raise ValueError("the bundle has no TensorFlow Lite graphs")
    graphs, spec = manifest["backends"]["tflite"], manifest["clip_spec"]
    smallest, installed = graphs["runtimes"].get(RUNTIME, "0"), metadata.version(RUNTIME)
    if [int(n) for n in installed.split(".")[:3]] < [int(n) for n in smallest.split(".")]:
        raise ValueError(f"{RUNTIME} {installed} is installed, the bundle needs {smallest} at least")
    face_models = {e["role"]: Interpreter(str(folder / e["file"])) for e in manifest["face_models"].values()}
    signatures = {part: graphs[part] for part in ("encode", "score") if graphs.get(part)}
    runners = {k: Interpreter(str(folder / s["file"])).get_signature_runner(s["key"]) for k, s in signatures.items()}
    max_gap, look_ahead = (int(spec["track"][key] * spec["fps"]) for key in ("max_gap_s", "look_ahead_s"))
    return Bundle(manifest, face_models, runners, spec, manifest["serving"], signatures, max_gap, look_ahead)


@dataclass
class Media:
    """What a look through a file's packets tells (2.1, 2.2 and 14)."""

    path: Path
    video: int  # index of the stream
    step: float  # s
    begin: float  # start of a first picture without a time, s
    aspect: float
    times: list[float]  # of all pictures' packets, sorted, s
    pictures_s: float  # how long the pictures should last
    sounds: dict[int, float]  # how long each sound track should last, the one to be taken first, by index


def open_container(bundle: Bundle, path: Path) -> Any:
    """The opened file; `unreadable` where it cannot be."""
    try:
        whitelist = ",".join(bundle.serving["pictures"]["demuxers"])
        return av.open(f"file:{path.resolve()}", options={"format_whitelist": whitelist})
    except (av.FFmpegError, OSError):
        raise NoVerdictError("unreadable") from None


def decoded(container: Any, streams: list[Any], as_packets: bool = False) -> Iterator[Any]:
    """Packets, or frames in the order of showing; what cannot be decoded is passed over, an error of the container ends
    the reading (2.3 and 10.2)."""
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        if as_packets and packet.size:
            yield packet
        elif not as_packets:
            with contextlib.suppress(av.FFmpegError):
                yield from packet.decode()


def look_through(bundle: Bundle, path: Path) -> Media:
    """Reads the packets once; `unreadable` without a video stream that has a decoder."""
    rules, flags = bundle.serving["pictures"], av.stream.Disposition
    with open_container(bundle, path) as container:
        streams = [s for s in container.streams if s.type in ("video", "audio") and s.codec_context is not None]
        streams = [s for s in streams if not s.disposition & flags.attached_pic]
        streams.sort(key=lambda s: not s.disposition & flags.default)
        packets: dict[int, list[Any]] = {s.index: [] for s in streams}
        for packet in decoded(container, streams, as_packets=True):
            packets[packet.stream.index].append(packet)
        spans = {s.index: span_of(rules, packets[s.index]) for s in streams}
        films = [s for s in streams if s.type == "video"]
        enough = [s for least in (rules["min_pictures"], 1) for s in films if len(packets[s.index]) >= least]
        if not enough:
            raise NoVerdictError("unreadable")
        film, stated = enough[0], 0.0
        if set(rules["stating_demuxers"]) & set(container.format.name.split(",")) and container.duration:
            stated = container.duration / 1e6 - max(spans.values())

        def length(stream: Any) -> float:
            """Seconds by packets, or by the header where that states notably more (14.1)."""
            packet_s = spans[stream.index]
            if stream.frames and len(packets[stream.index]) >= stream.frames:
                return packet_s
            header = float(stream.duration * stream.time_base) if stream.duration and stated > 0 else packet_s + stated
            return header if header > packet_s + bundle.serving["evidence"]["missing_s"] else packet_s

        step = float(1 / film.average_rate) if film.average_rate else rules["default_step_s"]
        shown = [time_of(packet) for packet in packets[film.index]]
        times = sorted(t for t in shown if t is not None)
        untimed = (len(shown) - len(times)) * step
        begin = times[0] - untimed if times else 0.0
        sounds = {s.index: length(s) for s in streams if s.type == "audio" and packets[s.index]}
        aspect = float(film.sample_aspect_ratio or 1)
        return Media(path, film.index, step, begin, aspect, times, length(film) + untimed, sounds)


def time_of(item: Any) -> float | None:
    """Presentation time of a packet or a frame, else its decoding time, s."""
    ticks = item.dts if item.pts is None else item.pts
    return None if ticks is None or item.time_base is None else float(ticks * item.time_base)


def span_of(rules: dict[str, Any], packets: list[Any]) -> float:
    """Seconds from the first packet's start to the end of the last (2.2); one recording only."""
    timed = [packet for packet in packets if time_of(packet) is not None]
    clock = [float((p.pts if p.dts is None else p.dts) * p.time_base) for p in timed]
    if any(not -rules["clock_back_s"] <= later - t <= rules["max_hole_s"] for t, later in itertools.pairwise(clock)):
        raise ValueError("files of several recordings, joined, are not served by this example")
    ends = [time_of(p) + min(float((p.duration or 0) * p.time_base), rules["max_hole_s"]) for p in timed]
    return max(ends) - min(map(time_of, timed)) if timed else 0.0


@dataclass
class TimedFrame:
    """One decoded picture of the file and its place in time."""

    frame: av.VideoFrame
    start: float  # s
    duration: float  # s


def timed_frames(bundle: Bundle, media: Media) -> Iterator[TimedFrame]:
    """Pictures with start and duration (2.3); `unreadable` without one."""
    rules, last = bundle.serving["pictures"], None
    with open_container(bundle, media.path) as container:
        for frame in decoded(container, [container.streams[media.video]]):
            size = frame.width, frame.height
            if max(size) > rules["max_side_px"] or math.prod(size) > rules["max_area_px"]:
                raise NoVerdictError("unreadable")
            default = last.start + media.step if last else media.begin
            start = default if frame.pts is None else float(frame.pts * frame.time_base)
            if last is None or start > last.start:
                duration = float(frame.duration * frame.time_base) if frame.duration else media.step
                last = TimedFrame(frame, start, min(duration, rules["max_hole_s"]))
                yield last
    if last is None:
        raise NoVerdictError("unreadable")


def grid_frames(bundle: Bundle, media: Media, read: list[float] | None = None) -> Iterator[tuple[float, Any]]:
    """Time and picture of each grid point (2.4); adds to `read` the seconds that each decoded picture fills (14.1)."""
    rules, fps = bundle.serving["pictures"], bundle.spec["fps"]
    frames = timed_frames(bundle, media)
    shown = next(frames)
    origin, taken = shown.start, 0
    for frame in frames:
        middle = (shown.start + frame.start) / 2 - origin + rules["tie_tolerance_s"]
        while taken / fps <= middle:
            yield shown.start, shown.frame
            taken += 1
        if read is not None:
            between = [t for t in media.times if shown.start + 1e-6 < t < frame.start - 1e-6]
            lost = [
                t for t, end in zip(between, [*between[1:], frame.start], strict=False) if end - t >= media.step / 2
            ]
            read.append((lost[0] if lost else frame.start) - shown.start)
        shown = frame
    if read is not None:
        read.append(shown.duration)
    total = max(1, int((shown.start - origin + shown.duration) * fps + rules["end_tolerance"]))
    while taken < total:
        yield shown.start, shown.frame
        taken += 1


@dataclass
class Picture:
    """Planes of Y, U and V, and how they are shown (3)."""

    planes: list[np.ndarray]
    size: tuple[int, int]  # width and height as shown
    to_coded: np.ndarray  # (2, 3), from a place in the shown picture to one in the coded
    rgb: np.ndarray  # (3, 4) whole numbers, from Y, U, V, 1 to R, G, B times 1024
    black: int  # Y of black

    def sample(self, matrix: np.ndarray, size: int, black_outside: bool = False, average: int = 0) -> np.ndarray:
        """The part that a (2, 3) map from column and row to places of pixels reaches, (size, size, 3) uint8 (3.4)."""
        samples = []
        for plane, black in zip(self.planes, (self.black, 128, 128), strict=True):
            onto = self.to_coded / np.rint(np.divide(self.planes[0].shape, plane.shape))[::-1, None]
            placed = onto[:, :2] @ matrix
            placed[:, 2] += onto[:, :2].sum(axis=1) / 2 + onto[:, 2] - 0.5
            steps = np.abs(placed[:, :2]).sum(axis=1).astype(int)
            seen = (plane, placed)
            if average and steps.max() >= average:
                seen = block_means(plane, placed, size, np.maximum(steps, 1))
            samples.append(sample_plane(*seen, size, black if black_outside else None))
        values = np.stack([*samples, np.ones_like(samples[0])], axis=-1) @ self.rgb.T
        return np.clip((values + 512) >> 10, 0, 255).astype(np.uint8)


def block_means(plane: np.ndarray, matrix: np.ndarray, size: int, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of blocks of a plane, edge pixels going on outside, and the map to them (3.5)."""
    reach, placed, places = (size - 1) * matrix[:, :2], matrix.copy(), []
    for axis, step in enumerate(steps):
        first = math.floor(matrix[axis, 2] + np.minimum(reach[axis], 0).sum()) - step
        count = math.ceil((matrix[axis, 2] + np.maximum(reach[axis], 0).sum() - first) / step) + 2
        places.append(np.clip(first + np.arange(count * step), 0, plane.shape[1 - axis] - 1).reshape(count, step))
        placed[axis] /= step
        placed[axis, 2] = (matrix[axis, 2] - first + 0.5) / step - 0.5
    columns, rows = places
    blocks = plane[rows[:, :, None, None], columns]
    means = blocks.mean(axis=(1, 3), dtype=np.float64)
    halves_up = blocks.shape[1] == blocks.shape[3] == 2
    return (np.floor(means + 0.5) if halves_up else np.rint(means)).astype(np.uint8), placed


def sample_plane(plane: np.ndarray, matrix: np.ndarray, size: int, outside: int | None) -> np.ndarray:
    """A plane at places in steps of 1 / 32 px, all in whole numbers (3.4)."""
    height, width = plane.shape
    column, row = np.arange(size), np.arange(size)[:, None]
    fixed = (np.rint((m[1] * row + m[2]) * 1024) + 16 + np.rint(m[0] * column * 1024) for m in matrix)
    x, y = (values.astype(np.int64) >> 5 for values in fixed)
    result = np.full((size, size), 512, np.int64)
    for dx, share_x in ((0, 32 - (x & 31)), (1, x & 31)):
        for dy, share_y in ((0, 32 - (y & 31)), (1, y & 31)):
            column, row = (x >> 5) + dx, (y >> 5) + dy
            values = plane[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)].astype(np.int64)
            if outside is not None:
                is_inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                values = np.where(is_inside, values, outside)
            result += values * share_x * share_y
    return result >> 10


@dataclass
class PictureReader:
    """Turns frames into pictures of one shown size (3)."""

    bundle: Bundle
    aspect: float
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)
    shrink: int = 0
    upright: tuple[int, int] = (0, 0)  # width and height before turning; fixed by the first picture

    def read(self, frame: av.VideoFrame) -> Picture:
        """Planes and geometry of a frame."""
        rules, lines = self.bundle.serving["pictures"], frame.height
        if str(int(frame.color_trc)) in rules["transfers"] or any(c.bits > 8 for c in frame.format.components):
            raise ValueError("pictures of high dynamic range are not served by this example")
        is_full = int(frame.color_range) == int(ColorRange.JPEG) or frame.format.name.startswith("yuvj")
        hd = rules["untagged_hd"] if lines >= rules["untagged_hd_from"] else rules["untagged_sd"]
        red, blue = rules["matrices"].get(str(int(frame.colorspace)), hd)
        data = frame.side_data.get(Type.DISPLAYMATRIX)
        a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5].astype(float) if data else (1.0, 0.0, 0.0, 0.0, 1.0)
        if a * d == b * c:
            a, b, c, d = 1.0, 0.0, 0.0, 1.0
        keep = abs(a) + abs(d) >= abs(b) + abs(c)
        turn = np.array([[a * keep, b * (not keep)], [c * (not keep), d * keep]])
        turn = np.where(turn < 0, -1.0, 1.0) * [[keep, not keep], [not keep, keep]]
        if not self.shrink:
            self.shrink = math.ceil(math.sqrt(frame.width * lines / rules["max_tracked_px"]))
        if self.shrink > 1 or not frame.format.name.startswith(("yuv4", "yuvj4")):
            width, height = frame.width // self.shrink, lines // self.shrink
            name = frame.format.name if frame.format.name.startswith(("yuv4", "yuvj4")) else "yuv444p"
            frame = self.reformatter.reformat(frame, width, height, name, interpolation=Interpolation.BILINEAR)
        if self.upright == (0, 0):
            far = not 1 / rules["max_aspect"] <= self.aspect <= rules["max_aspect"]
            ratio = 1.0 if far or abs(self.aspect - 1) < rules["square_tolerance"] else self.aspect
            self.upright = round(frame.width * max(ratio, 1)), round(frame.height * max(1 / ratio, 1))
        shift = np.where(turn.sum(axis=1) < 0, self.upright, 0)
        scale = np.array([frame.width, frame.height]) / self.upright
        to_coded = np.concatenate([turn, shift[:, None]], axis=1) * scale[:, None]
        planes = [
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            for plane in frame.planes[:3]
        ]
        size = self.upright if keep else self.upright[::-1]
        return Picture(planes, size, to_coded, rgb_matrix(red, blue, is_full), 0 if is_full else 16)


def rgb_matrix(red: float, blue: float, is_full: bool) -> np.ndarray:
    """From Y, U, V, 1 to R, G, B, times 1024 (3.3)."""
    black, luma, chroma = (0, 1.0, 1.0) if is_full else (16, 255 / 219, 255 / 224)
    to_red, to_blue, green = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma, 1 - red - blue
    rows = [[luma, 0, to_red], [luma, -blue / green * to_blue, -red / green * to_red], [luma, to_blue, 0]]
    return np.rint([[1024 * c for c in (*row, -np.dot(row, (black, 128, 128)))] for row in rows]).astype(np.int64)


def luma_samples(bundle: Bundle, picture: Picture) -> np.ndarray:
    """Luma of a coarse grid of the picture (4)."""
    grid = bundle.serving["cuts"]["grid"]
    x, y = (((2 * np.arange(grid) + 1) * size) // (2 * grid) + 0.5 for size in picture.size)
    x, y = np.meshgrid(x, y)
    plane = picture.planes[0]
    column, row = (np.floor(m[0] * x + m[1] * y + m[2]).astype(int) for m in picture.to_coded)
    levels = plane[np.clip(row, 0, plane.shape[0] - 1), np.clip(column, 0, plane.shape[1] - 1)].astype(np.float32)
    scaled = (levels - picture.black) * np.float32(255 / (219 if picture.black else 255)) + 0.5
    return np.clip(scaled, 0, 255).astype(np.uint8).astype(np.int64)


def is_cut(bundle: Bundle, before: np.ndarray, now: np.ndarray) -> bool:
    """Whether a new scene begins between two pictures' luma samples."""
    rules, bins = bundle.serving["cuts"], bundle.serving["cuts"]["bins"]
    difference = np.abs(now - before).mean()
    counts, counts_now = (np.bincount((luma * bins // 256).ravel(), minlength=bins) for luma in (before, now))
    distance = np.abs(counts - counts_now).sum() / 2 / now.size
    is_possible = difference >= rules["min_difference"] and distance >= rules["min_histogram_distance"]
    return bool(is_possible or difference >= rules["sure_difference"])


@dataclass
class Region:
    """A turned square of the picture."""

    x: float  # centre, px
    y: float
    side: float
    angle: float  # radians

    def box(self) -> np.ndarray:
        """The square without its angle as left, top, right, bottom."""
        half = self.side / 2
        return np.array([self.x - half, self.y - half, self.x + half, self.y + half])


def iou(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with boxes (..., 4): left, top, right, bottom."""
    low = np.maximum(one[:2], others[..., :2])
    high = np.minimum(one[2:], others[..., 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = np.prod(others[..., 2:] - others[..., :2], axis=-1) + np.prod(one[2:] - one[:2])
    return common / np.maximum(areas - common, 1e-12)


def points_box(points: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom around points (N, 2)."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def region_around(box: np.ndarray, scale: float, eyes: np.ndarray) -> Region:
    """Square around a box, turned with the line between two eyes (2, 2)."""
    dx, dy = eyes[1] - eyes[0]
    box = box.astype(np.float64)
    x, y = (box[:2] + box[2:]) / 2
    return Region(float(x), float(y), float(scale * (box[2:] - box[:2]).max()), math.atan2(dy, dx))


def sample_region(picture: Picture, region: Region, size: int, black_outside: bool) -> np.ndarray:
    """The region as a picture of `size` px (5.1)."""
    cosine, sine = (f(region.angle) * region.side / size for f in (math.cos, math.sin))
    half = size / 2
    x, y = region.x - (cosine - sine) * half, region.y - (sine + cosine) * half
    return picture.sample(np.array([[cosine, -sine, x], [sine, cosine, y]]), size, black_outside)


def run_face_model(bundle: Bundle, role: str, picture: Picture, region: Region, black_outside: bool) -> list[Any]:
    """Flat outputs of a face model for a region, the smaller one first (5.1 to 5.3)."""
    model, (low, high) = bundle.face_models[role], bundle.serving[role]["input_range"]
    levels = sample_region(picture, region, bundle.serving[role]["input_px"], black_outside)
    values = levels.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    model.allocate_tensors()  # does nothing from the second time on
    model.set_tensor(model.get_input_details()[0]["index"], values[None])
    model.invoke()
    return sorted((model.get_tensor(detail["index"]).ravel() for detail in model.get_output_details()), key=len)


def sigmoid(value: Any) -> Any:
    """1 / (1 + exp(-value)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(value, np.float64)))


def anchor_centres(grids: list[list[int]]) -> np.ndarray:
    """Centres of the detector's anchors, (N, 2) of x, y in 0..1 (5.3)."""
    centres = []
    for cells, number in grids:
        row, column, _ = np.meshgrid(np.arange(cells), np.arange(cells), np.arange(number), indexing="ij")
        centres.append(np.stack([column.ravel() + 0.5, row.ravel() + 0.5], axis=1) / cells)
    return np.concatenate(centres)


def merge_detections(found: np.ndarray, min_iou: float) -> list[np.ndarray]:
    """Overlapping detections, best first, as means weighted by score (5.5), from rows of score, box and key points."""
    merged = []
    while len(found):
        together = iou(found[0, 1:5], found[:, 1:5]) > min_iou
        together[0] = True
        weights = found[together, :1]
        merged.append((found[together, 1:] * weights).sum(axis=0) / weights.sum())
        found = found[~together]
    return merged


def detect_faces(bundle: Bundle, picture: Picture, role: str) -> list[Region]:
    """Landmark regions of the faces that a detector finds, best first (5), in float32 up to the regions."""
    rules = bundle.serving[role]
    width, height = picture.size
    side = max(width, height)
    whole = Region(width / 2, height / 2, side, 0.0)
    raw_scores, raw_boxes = run_face_model(bundle, role, picture, whole, black_outside=True)
    scores = sigmoid(np.clip(raw_scores, -rules["score_clip"], rules["score_clip"]))
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= rules["min_score"]]
    anchors = anchor_centres(rules["anchor_grids"]).astype(np.float32)[order]
    values = raw_boxes.reshape(len(raw_scores), -1)[order] / np.float32(rules["input_px"])
    centres, half = values[:, 0:2] + anchors, values[:, 2:4] / 2
    points = values[:, 4:] + np.tile(anchors, (values.shape[1] - 4) // 2)
    found = np.concatenate([scores[order, None], centres - half, centres + half, points], axis=1).astype(np.float32)
    shift = np.array([(width - side) / 2, (height - side) / 2], np.float32)
    regions = []
    for row in merge_detections(found, rules["merge_iou"]):
        places = row.reshape(-1, 2) * np.float32(side) + shift  # two corners, then the key points
        regions.append(region_around(places[:2].ravel(), rules["roi_scale"], places[2:][rules["eyes"]]))
    return regions


def find_landmarks(bundle: Bundle, picture: Picture, region: Region) -> np.ndarray | None:
    """Landmarks (N, 2) in source pixels, None where no face is there (6)."""
    rules = bundle.serving["landmarks"]
    presence, values = run_face_model(bundle, "landmarks", picture, region, black_outside=False)
    if sigmoid(presence[0]) < rules["min_presence"]:
        return None
    points = values.reshape(rules["num_points"], rules["values_per_point"])[:, :2].astype(np.float64)
    x, y = points.T / rules["input_px"] - 0.5
    cosine, sine = math.cos(region.angle), math.sin(region.angle)
    turned = np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)
    return (turned * region.side + (region.x, region.y)).astype(np.float32)


def landmarks_region(bundle: Bundle, landmarks: np.ndarray) -> Region:
    """Where to look for the face in the next picture (6.5)."""
    rules = bundle.serving["landmarks"]
    return region_around(points_box(landmarks), rules["roi_scale"], landmarks[rules["eyes"]])


@dataclass
class Track:
    """One face through one scene."""

    id: int
    scene: int
    last: np.ndarray  # landmarks where it was last seen
    seen: dict[int, np.ndarray]  # landmarks by grid point
    missing: int = 0


@dataclass
class Tracker:
    """Follows the faces of a video from grid point to grid point."""

    bundle: Bundle
    every: list[Track] = field(default_factory=list)  # all that ever were, by id
    active: list[Track] = field(default_factory=list)
    scenes: list[int] = field(default_factory=lambda: [0])  # first grid point of each
    last_luma: np.ndarray | None = None
    last_run: dict[str, int] = field(default_factory=dict)  # grid point of a detector's last run, by its role
    count: int = 0  # grid points so far

    def step(self, picture: Picture) -> None:
        """Takes in the next grid point's picture (7, the detector by 7.2)."""
        n = self.count
        luma = luma_samples(self.bundle, picture)
        if self.last_luma is not None and is_cut(self.bundle, self.last_luma, luma):
            self.active = []
            self.scenes.append(n)
        self.last_luma = luma
        found = self.follow(picture)
        is_lost = not found or len(found) < len(self.active)
        if len(found) < self.bundle.spec["track"]["max_faces"] and (is_lost or self.is_due("detector", "detect_every")):
            self.detect(picture, "detector", found)
            has_second_stage = "full_range_detector" in self.bundle.face_models
            if not found and has_second_stage and self.is_due("full_range_detector", "full_range_every"):
                self.detect(picture, "full_range_detector", found)
        for track in self.active:
            track.missing = 0 if n in track.seen else track.missing + 1
        self.active = [track for track in self.active if track.missing <= self.bundle.max_gap]
        self.count += 1

    def is_taken(self, region: Region, found: list[np.ndarray]) -> bool:
        """Whether a face already found has that region; `found` holds the boxes of such faces' regions."""
        return any(iou(region.box(), box) > self.bundle.serving["tracker"]["same_region_iou"] for box in found)

    def find_free(self, picture: Picture, region: Region, found: list[np.ndarray]) -> np.ndarray | None:
        """Landmarks in a region if a face is there that is not taken; adds the box of its region to `found`."""
        landmarks = find_landmarks(self.bundle, picture, region)
        if landmarks is None or self.is_taken(landmarks_region(self.bundle, landmarks), found):
            return None
        found.append(landmarks_region(self.bundle, landmarks).box())
        return landmarks

    def is_due(self, role: str, every: str) -> bool:
        """Whether a detector has not run for so many grid points, or not at all."""
        return role not in self.last_run or self.count - self.last_run[role] >= self.bundle.serving["tracker"][every]

    def follow(self, picture: Picture) -> list[np.ndarray]:
        """Looks for the tracks of the last picture (7.1); boxes of the regions of those found."""
        found: list[np.ndarray] = []
        for track in self.active:
            if track.missing == 0:
                landmarks = self.find_free(picture, landmarks_region(self.bundle, track.last), found)
                if landmarks is not None:
                    track.last = track.seen[self.count] = landmarks
        return found

    def detect(self, picture: Picture, role: str, found: list[np.ndarray]) -> None:
        """Adds a detector's faces to lost or new tracks (7.3)."""
        self.last_run[role] = self.count
        max_faces = self.bundle.spec["track"]["max_faces"]
        for region in detect_faces(self.bundle, picture, role)[:max_faces]:
            if len(found) < max_faces and not self.is_taken(region, found):
                landmarks = self.find_free(picture, region, found)
                if landmarks is not None:
                    self.assign(landmarks)

    def assign(self, landmarks: np.ndarray) -> None:
        """Gives found landmarks to the unseen track that overlaps most, or to a new one."""
        best, best_iou = None, self.bundle.serving["tracker"]["same_face_iou"]
        for track in [track for track in self.active if self.count not in track.seen]:
            overlap = float(iou(points_box(landmarks), points_box(track.last)))
            if overlap > best_iou:
                best, best_iou = track, overlap
        if best is None:
            best = Track(len(self.every), len(self.scenes) - 1, landmarks, {})
            self.every.append(best)
            self.active.append(best)
        best.last = best.seen[self.count] = landmarks


@dataclass
class Face:
    """A track's face at one grid point."""

    smoothed: np.ndarray
    unsmoothed: np.ndarray
    is_interpolated: bool


def fill_window(seen: dict[int, np.ndarray], first: int, n: int, last: int, gap: int) -> dict[int, np.ndarray]:
    """Landmarks of the window's points, gaps closed (8.1 and 8.2)."""
    sightings = [k for k in range(first, last + 1) if k in seen]
    filled = {k: seen[k] for k in sightings}
    for i, j in itertools.pairwise(sightings):
        if 1 < j - i <= gap + 1:
            for k in range(i + 1, j):
                share = (k - i) / (j - i)
                filled[k] = (1 - share) * seen[i] + share * seen[j]
    for k in [k for k in range(first, n + 1) if k not in filled]:
        earlier = [i for i in sightings if i < k]
        nearest = earlier[-1:] or [j for j in sightings if j > k][:1]
        if nearest and abs(nearest[0] - k) <= gap:
            filled[k] = seen[nearest[0]]
    return filled


def face_at(bundle: Bundle, track: Track, n: int) -> Face | None:
    """The track's face at grid point n, None where it has none (8). The window may begin before the scene."""
    half = min(bundle.serving["tracker"]["smooth_half"], bundle.look_ahead)
    filled = fill_window(track.seen, n - (half + 1 + bundle.max_gap), n, n + bundle.look_ahead, bundle.max_gap)
    if n not in filled:
        return None
    total, weights = filled[n].copy(), 1.0
    for k in range(1, half + 1):
        if n - k in filled and n + k in filled:
            weight = 0.5 + 0.5 * math.cos(math.pi * k / (half + 1))
            total += weight * (filled[n - k] + filled[n + k])
            weights += 2 * weight
    return Face(total / weights, filled[n], n not in track.seen)


def track_faces(bundle: Bundle, tracker: Tracker, track: Track) -> dict[int, Face]:
    """All faces of a track by grid point."""
    ends = [*tracker.scenes[1:], tracker.count]
    first = max(tracker.scenes[track.scene], min(track.seen) - bundle.max_gap)
    last = min(ends[track.scene] - 1, max(track.seen) + bundle.max_gap)
    return {n: face for n in range(first, last + 1) if (face := face_at(bundle, track, n)) is not None}


def crop_square(picture: Picture, x: float, y: float, side: float, size: int, average_from: int) -> np.ndarray:
    """The square around (x, y) as (size, size, 3) uint8 (9)."""
    step = side / size
    left, top = (centre - side / 2 + step / 2 - 0.5 for centre in (x, y))
    return picture.sample(np.array([[step, 0, left], [0, step, top]]), size, average=average_from)


def face_boxes(bundle: Bundle, landmarks: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Centre x, y and side of the boxes `face` and `lip` of smoothed landmarks (9)."""
    rules, sizes = bundle.serving["boxes"], bundle.spec["picture"]
    box = points_box(landmarks)
    longer = float(np.clip((box[2:] - box[:2]).max(), rules["min_longer_px"], rules["max_longer_px"]))
    centres = {"face": (box[:2] + box[2:]) / 2, "lip": landmarks[rules["outer_lip"]].mean(axis=0)}
    return {name: (float(x), float(y), sizes[f"{name}_scale"] * longer) for name, (x, y) in centres.items()}


def mono_samples(bundle: Bundle, frame: av.AudioFrame) -> tuple[np.ndarray, float]:
    """Mono samples of a decoded frame, float64, full scale +-1 (10.1), and the power of its channels, weighted."""
    rules, values = bundle.serving["sound"], frame.to_ndarray()
    names = [channel.name for channel in frame.layout.channels]
    if not frame.format.is_planar:
        values = values.reshape(-1, len(names)).T
    weights = np.array([rules["channel_weights"].get(name, math.nan) for name in names])
    if len(names) == 1 or not np.isfinite(weights).all() or not weights.any():
        weights = np.full(len(names), 1 / len(names))
    levels = values.astype(np.float64) - (128 if values.dtype == np.uint8 else 0)
    full_scale = 1.0 if values.dtype.kind == "f" else 2.0 ** (8 * values.dtype.itemsize - 1)
    infinite = rules["infinite_as"]
    channels = np.nan_to_num(levels, nan=rules["nan_as"], posinf=infinite, neginf=-infinite) / full_scale
    return weights @ channels, float((weights**2 @ channels**2).sum())


def read_sound(bundle: Bundle, media: Media) -> tuple[np.ndarray, float, float]:
    """Samples at the model's rate of the first track that is not silent, the time of the first of them, s, and how much
    of the track was read (14.1); `no_audio` without any (10.1 to 10.3)."""
    for index, duration in media.sounds.items():
        samples, rate, start, read, is_silent = read_track(bundle, media.path, index)
        if not is_silent:
            return resample(bundle, samples, rate), start, read / duration if duration else 1.0
    raise NoVerdictError("no_audio")


def read_track(bundle: Bundle, path: Path, index: int) -> tuple[np.ndarray, int, float, float, bool]:
    """A track's samples end to end, their rate, the time of the first, the seconds decoded (10.2), and whether it is
    silent: no stretch of a second is loud enough for itself and for what its channels have in all."""
    rules, parts, stretch, power, is_silent = bundle.serving["sound"], [np.zeros(0)], [np.zeros(0)], 0.0, True
    rate, start, count, read = 0, 0.0, 0, 0
    with open_container(bundle, path) as container:
        for frame in decoded(container, [container.streams[index]]):
            time = float(frame.pts * frame.time_base) if frame.pts is not None else None
            samples, frame_power = mono_samples(bundle, frame)
            if not rate:
                rate, start = frame.sample_rate, time or 0.0
            if frame.sample_rate != rate or rate > rules["max_rate_hz"]:
                raise ValueError("sound that changes its rate is not served by this example")
            late = 0.0 if time is None else time - (start + count / rate)
            if abs(late) > rules["max_ahead_s"]:
                break
            read += len(samples)
            stretch, power = [*stretch, samples], power + frame_power
            if sum(map(len, stretch)) >= rate:
                is_silent, stretch, power = is_silent and not is_loud(rules, stretch, power), [np.zeros(0)], 0.0
            if late > rules["max_drift_s"]:
                samples = np.concatenate([np.zeros(round(late * rate)), samples])
            elif late < -rules["max_drift_s"]:
                samples = samples[round(-late * rate) :]
            parts.append(samples)
            count += len(samples)
    is_silent = is_silent and not is_loud(rules, stretch, power)
    return np.concatenate(parts), rate, start, read / rate if rate else 0.0, is_silent


def is_loud(rules: dict[str, Any], stretch: list[np.ndarray], power: float) -> bool:
    """Whether a stretch of sound is more than silence, and more than channels that cancel each other out."""
    mixed = np.concatenate(stretch)
    is_heard = np.abs(mixed).max(initial=0) > rules["digital_silence"]
    return bool(is_heard and (mixed**2).sum() > rules["cancelled_share"] * power)


def resample(bundle: Bundle, samples: np.ndarray, old_rate: int) -> np.ndarray:
    """Samples at the model's rate, the first at the time of the first (10.3)."""
    rules, new_rate = bundle.serving["sound"], bundle.spec["audio"]["sample_rate"]
    if old_rate == new_rate:
        return samples
    divisor = math.gcd(new_rate, old_rate)
    up, down = new_rate // divisor, old_rate // divisor
    stop_band, width, ratio = rules["stop_band_db"], rules["transition"], min(1.0, new_rate / old_rate)
    slope, offset = rules["kaiser_beta"]
    beta = slope * (stop_band - offset)
    offset, slope = rules["kaiser_length"]
    half = math.ceil((stop_band - offset) / (slope * math.pi * width * ratio) / 2)
    cutoff = ratio * (1 - width / 2)
    distance = np.arange(-half + 1, half + 1) - np.arange(up)[:, None] / up
    window = np.i0(beta * np.sqrt(np.maximum(0, 1 - (distance / half) ** 2)))
    filters = np.sinc(cutoff * distance) * window  # one row per phase
    filters /= filters.sum(axis=1, keepdims=True)
    padded = np.concatenate([np.zeros(half - 1), samples, np.zeros(half + 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half)  # row i: x[i - half + 1 .. i + half]
    total = -(-len(samples) * up // down)
    result = np.zeros(total)
    for first in range(min(up, total)):  # outputs first, first + up, ... share a phase
        start, phase = divmod(first * down, up)
        indices = start + down * np.arange(len(range(first, total, up)))
        result[first::up] = windows[indices] @ filters[phase]
    return result


def clip_sound(bundle: Bundle, samples: np.ndarray, offset: int, start: int, length: int) -> np.ndarray:
    """Samples of the clip from grid point `start` on; sample 0 lies `offset` samples after the first picture (10.5)."""
    audio = bundle.spec["audio"]
    first = round(start / bundle.spec["fps"] * audio["sample_rate"]) - audio["n_fft"] // 2 - offset
    result = np.zeros(length, np.float32)
    low, high = max(first, 0), min(first + length, len(samples))
    if low < high:
        result[low - first : high - first] = samples[low:high]
    return result


def find_clips(bundle: Bundle, count: int, faces: dict[int, dict[int, Face]]) -> list[tuple[int, int]]:
    """The clips as track and first grid point; `too_short` or `no_face` without one (11)."""
    length, hop = bundle.spec["num_frames"], round(bundle.spec["hop_s"] * bundle.spec["fps"])
    if count < length:
        raise NoVerdictError("too_short")
    clips = []
    for start in sorted({*range(0, count - length + 1, hop), count - length}):
        for track, points in faces.items():
            held = [points.get(n) for n in range(start, start + length)]
            if None not in held and sum(face.is_interpolated for face in held) <= bundle.max_gap:
                clips.append((track, start))
    if not clips:
        raise NoVerdictError("no_face")
    return clips


def store(real: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Real values (of pictures: levels / 255) as a graph's input (12)."""
    kind = np.dtype(tensor["dtype"])
    if kind.kind == "f":
        return real.astype(kind)
    is_picture = tensor["name"] in ("face", "lip")
    scale = 1 / 255 if is_picture and kind == np.uint8 and tensor["scale"] == 1 else tensor["scale"]
    stored = np.rint(real / scale) + tensor["zero_point"]
    return np.clip(stored, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)


def run_graph(bundle: Bundle, part: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs `encode` or `score`; inputs are ready for their tensors, outputs are real values by name."""
    graph = bundle.graphs[part]
    answers = bundle.runners[part](**{tensor["tensor"]: inputs[tensor["name"]] for tensor in graph["inputs"]})
    outputs = {}
    for tensor in graph["outputs"]:
        values = answers[tensor["tensor"]]
        if values.dtype.kind != "f":
            values = (values.astype(np.float64) - tensor["zero_point"]) * tensor["scale"]
        if not np.isfinite(values).all():
            raise NoVerdictError("model_error")
        outputs[tensor["name"]] = values
    return outputs


def encode_face(bundle: Bundle, crops: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features of a face as {output name: vector} (12); the rest of a larger batch is black."""
    inputs = {}
    for tensor in bundle.graphs["encode"]["inputs"]:
        levels = np.zeros(tensor["shape"], np.uint8)
        levels[0] = crops[tensor["name"]]
        inputs[tensor["name"]] = store(levels / 255, tensor)
    return {name: values[0] for name, values in run_graph(bundle, "encode", inputs).items()}


@dataclass
class Look:
    """What evidence is taken from: a face in one picture (14.2)."""

    start: float  # of the picture, s
    longer: float  # longer side of the landmarks' box, px
    sample: np.ndarray  # of the face crop, float32


def encode_faces(
    bundle: Bundle, media: Media, faces: dict[int, dict[int, Face]], clips: list[tuple[int, int]]
) -> tuple[dict[tuple[int, int], dict[str, np.ndarray]], dict[int, list[Look]]]:
    """Features by track and grid point, of all that some clip holds, and looks by track; reads the pictures again."""
    length, reader, scale = bundle.spec["num_frames"], PictureReader(bundle, media.aspect), bundle.spec["picture"]
    average_from, step = bundle.serving["pictures"]["average_from"], bundle.serving["evidence"]["sample_step"]
    needed = {(track, n) for track, start in clips for n in range(start, start + length)}
    features, looks = {}, {track: [] for track in faces}
    for n, (start, frame) in enumerate(grid_frames(bundle, media)):
        for track in [track for track in faces if n in faces[track]]:
            picture, boxes = reader.read(frame), face_boxes(bundle, faces[track][n].smoothed)
            crops = {name: crop_square(picture, *box, scale[f"{name}_px"], average_from) for name, box in boxes.items()}
            if (track, n) in needed and "encode" in bundle.runners:
                features[track, n] = encode_face(bundle, crops)
            longer = boxes["face"][2] / scale["face_scale"] * reader.shrink
            looks[track].append(Look(start, longer, crops["face"][::step, ::step].astype(np.float32)))
    return features, looks


def is_thin(bundle: Bundle, looks: list[Look], shares: list[float]) -> bool:
    """Whether a score rests on too little for a verdict (14)."""
    rules, weights = bundle.serving["evidence"], np.array(bundle.serving["cuts"]["luma_weights"])
    distinct = looks[:1] + [look for before, look in itertools.pairwise(looks) if look.start != before.start]
    changes = [np.abs(b.sample - a.sample).mean() for a, b in itertools.pairwise(distinct)]
    lumas = [(look.sample.mean(axis=(0, 1)) * weights).sum() / weights.sum() for look in distinct]
    return (
        min(shares) < rules["min_read_share"]
        or len(distinct) / len(looks) * bundle.spec["fps"] < rules["min_pictures_per_s"]
        or not changes
        or np.median(changes) < rules["min_change"]
        or np.median([look.longer for look in distinct]) < rules["min_face_px"]
        or np.median(lumas) < rules["min_face_luma"]
    )


def track_margin(bundle: Bundle, margins: list[float]) -> float:
    """Margin of a track from its clips' (13.2)."""
    rules = bundle.manifest["aggregation"]
    if rules["name"] in ("mean", "top_k"):
        counted = len(margins) if rules["name"] == "mean" else rules["k"]
        return float(np.mean(sorted(margins, reverse=True)[:counted]))
    if rules["name"] == "noisy_or":
        total = float(np.logaddexp(0.0, margins).sum())
        if total < bundle.serving["decision"]["small_sum"]:
            return float(np.logaddexp.reduce(margins))
        return total + math.log(-math.expm1(-total))
    raise ValueError(f"unknown aggregation {rules['name']}")


def decide(bundle: Bundle, margin: float) -> tuple[str, float]:
    """Verdict and p_fake of a video's margin (13.3 and 13.4)."""
    point = bundle.manifest["operating_point"]
    p_fake = float(sigmoid(margin / bundle.manifest["calibration"]["calibration_temperature"]))
    if point["review_low"] <= p_fake < point["review_high"]:
        return "review", p_fake
    return ("fake" if p_fake >= point["threshold"] else "real"), p_fake


def clip_distance(bundle: Bundle, features: list[dict[str, np.ndarray]]) -> float:
    """How far a clip's features, one entry a grid point, lie from those of real training videos (14.4)."""
    distances = []
    for name, spread in bundle.manifest["familiarity"]["spreads"].items():
        deviation = np.mean([point[name] for point in features], axis=0, dtype=np.float64).ravel() - spread["mean"]
        axes = np.array(spread["axes"]) / 1000
        along = axes @ deviation
        off = np.linalg.norm(deviation - along @ axes)
        distances.append(np.sqrt(np.mean((np.append(along, off) / spread["scales"]) ** 2)))
    return float(np.max(distances))


def measure(bundle: Bundle, path: Path) -> tuple[float, bool, Bundle]:
    """Margin of a video, whether its evidence is thin, and the bundle with the decision that holds for it;
    NoVerdictError in the order of the statuses."""
    media = look_through(bundle, path)
    origin = next(timed_frames(bundle, media)).start
    samples, sound_start, *shares = np.zeros(0), origin
    if "audio" in bundle.manifest["modalities"]:
        try:
            samples, sound_start, *shares = read_sound(bundle, media)
        except NoVerdictError:
            if bundle.manifest.get("decision_muted") is None:
                raise
            # Samples of zeros, and the decision for muted videos in place of the other (14.5).
            bundle = replace(bundle, manifest={**bundle.manifest, **bundle.manifest["decision_muted"]})
    offset = round((sound_start - origin) * bundle.spec["audio"]["sample_rate"])
    tracker, reader, read = Tracker(bundle), PictureReader(bundle, media.aspect), []
    for _, frame in grid_frames(bundle, media, read):
        tracker.step(reader.read(frame))
    shares.append(sum(read) / media.pictures_s if media.pictures_s else 1.0)
    if (
        tracker.count < bundle.spec["num_frames"]
        and shares[-1] < 0.995
        and media.pictures_s >= bundle.spec["num_frames"] / bundle.spec["fps"]
    ):
        raise NoVerdictError("unreadable")  # long enough, but for what cannot be read (14.1)
    faces = {track.id: track_faces(bundle, tracker, track) for track in tracker.every}
    clips = find_clips(bundle, tracker.count, faces)
    features, looks = encode_faces(bundle, media, faces, clips)
    max_distance = (bundle.manifest.get("familiarity") or {}).get("max_distance")
    margins: dict[int, list[float]] = {}
    distances: dict[int, list[float]] = {}
    for track, start in clips:
        points = range(start, start + bundle.spec["num_frames"])
        inputs = {}
        for tensor in bundle.graphs["score"]["inputs"]:
            name, shape = tensor["name"], tensor["shape"]
            if name == "pcm":
                values = clip_sound(bundle, samples, offset, start, math.prod(shape))
            elif name == "landmarks":
                values = np.stack([faces[track][n].unsmoothed * reader.shrink for n in points])
            else:
                values = np.stack([features[track, n][name] for n in points])
            inputs[name] = store(values.reshape(shape), tensor)
        if max_distance is not None:
            distances.setdefault(track, []).append(clip_distance(bundle, [features[track, n] for n in points]))
        logits = run_graph(bundle, "score", inputs)["clip_logits"].astype(np.float64).ravel()
        margins.setdefault(track, []).append(float(logits[1] - logits[0]))
    by_track = {track: track_margin(bundle, values) for track, values in sorted(margins.items())}
    suspect = max(by_track, key=by_track.__getitem__)
    is_far = max_distance is not None and not np.median(distances[suspect]) <= max_distance
    return by_track[suspect], is_far or is_thin(bundle, looks[suspect], shares), bundle


def predict(bundle: Bundle, path: Path) -> dict[str, Any]:
    """The answer for one video: path, status, verdict and p_fake."""
    try:
        margin, is_thin_evidence, bundle = measure(bundle, path)
    except NoVerdictError as reason:
        return {"path": str(path), "status": str(reason), "verdict": None, "p_fake": None}
    verdict, p_fake = decide(bundle, margin)
    return {"path": str(path), "status": "ok", "verdict": "review" if is_thin_evidence else verdict, "p_fake": p_fake}


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: predict_from_bundle.py BUNDLE VIDEO [VIDEO ...]")
    opened = load_bundle(Path(sys.argv[1]))
    for video in sys.argv[2:]:
        print(json.dumps(predict(opened, Path(video))), flush=True)
