"""Says whether the faces of a video are fake, from a dfkit model bundle alone: an example for whoever writes an app.

    python predict_from_bundle.py BUNDLE VIDEO [VIDEO ...]

prints one JSON object per video: path, status, verdict, p_fake. It was written from MODEL_CARD.md alone ("Serving it:
the exact contract", whose section numbers stand in brackets) and the manifest, and imports nothing of dfkit: only the
standard library, numpy, PyAV and ai-edge-litert. It shows what has to be done, not how to do it fast.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

RUNTIME = "ai-edge-litert"


class NoVerdictError(Exception):
    """The video gets no verdict; the first argument is the status."""


@dataclass
class Bundle:
    """A bundle's manifest and its loaded graphs."""

    manifest: dict[str, Any]
    detector: Interpreter
    landmarker: Interpreter
    encode: Any  # signature runner, or None for a model without pictures
    score: Any  # signature runner
    spec: dict[str, Any]  # clip_spec
    serving: dict[str, Any]
    graphs: dict[str, Any]  # description of `encode` and `score`
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
    encode, score = graphs.get("encode"), graphs["score"]
    return Bundle(
        manifest=manifest,
        detector=load_face_model(folder, manifest, "detector"),
        landmarker=load_face_model(folder, manifest, "landmarks"),
        encode=Interpreter(str(folder / encode["file"])).get_signature_runner(encode["key"]) if encode else None,
        score=Interpreter(str(folder / score["file"])).get_signature_runner(score["key"]),
        spec=spec,
        serving=manifest["serving"],
        graphs=graphs,
        max_gap=int(spec["track"]["max_gap_s"] * spec["fps"]),
        look_ahead=int(spec["track"]["look_ahead_s"] * spec["fps"]),
    )


def load_face_model(folder: Path, manifest: dict[str, Any], role: str) -> Interpreter:
    """The face model with that role."""
    entry = next(entry for entry in manifest["face_models"].values() if entry["role"] == role)
    interpreter = Interpreter(str(folder / entry["file"]))
    interpreter.allocate_tensors()
    return interpreter


@dataclass
class Picture:
    """One decoded picture of the file and its place in time."""

    frame: av.VideoFrame
    start: float  # s
    duration: float  # s


def open_stream(bundle: Bundle, path: Path, kind: str) -> tuple[Any, Any]:
    """The container and the first video or audio stream that counts, with a decoder; (None, None) without one."""
    try:
        whitelist = ",".join(bundle.serving["pictures"]["demuxers"])
        container = av.open(f"file:{path.resolve()}", options={"format_whitelist": whitelist})
    except (av.FFmpegError, OSError):
        return None, None
    for stream in container.streams:
        if stream.type != kind or stream.disposition & av.stream.Disposition.attached_pic:
            continue
        if stream.codec_context is not None:
            return container, stream
        if kind == "video":  # the first video stream decides, the first audio stream that has a decoder (10)
            break
    container.close()
    return None, None


def decoded_frames(container: Any, stream: Any, ends_at_damage: bool) -> Iterator[Any]:
    """Frames in the order of showing. Packets that cannot be decoded are passed over, unless the first of them after a
    decoded frame ends the reading (2.2 and 10.2); an error of the container always does."""
    any_decoded = False
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if any_decoded and ends_at_damage:
                return
            continue
        any_decoded = any_decoded or bool(frames)
        yield from frames


def timed_pictures(bundle: Bundle, path: Path) -> Iterator[Picture]:
    """Pictures with start and duration (2.1 and 2.2); `unreadable` without one."""
    rules = bundle.serving["pictures"]
    container, stream = open_stream(bundle, path, "video")
    if stream is None:
        raise NoVerdictError("unreadable")
    step = float(1 / stream.average_rate) if stream.average_rate else rules["default_step_s"]
    last: Picture | None = None
    with container:
        for frame in decoded_frames(container, stream, ends_at_damage=True):
            size = frame.width, frame.height
            if max(size) > rules["max_side_px"] or math.prod(size) > rules["max_area_px"]:
                raise NoVerdictError("unreadable")
            default = last.start + step if last else 0.0
            start = default if frame.pts is None else float(frame.pts * frame.time_base)
            if last and start <= last.start:
                continue
            if last and start - last.start > rules["max_hole_s"]:
                break
            duration = float(frame.duration * frame.time_base) if frame.duration else step
            last = Picture(frame, start, min(duration, rules["max_hole_s"]))
            yield last
    if last is None:
        raise NoVerdictError("unreadable")


def grid_frames(bundle: Bundle, path: Path) -> Iterator[av.VideoFrame]:
    """The picture of each grid point (2.3)."""
    rules, fps = bundle.serving["pictures"], bundle.spec["fps"]
    pictures = timed_pictures(bundle, path)
    shown = next(pictures)
    origin, taken = shown.start, 0
    for picture in pictures:
        middle = (shown.start + picture.start) / 2 - origin + rules["tie_tolerance_s"]
        while taken / fps <= middle:
            yield shown.frame
            taken += 1
        shown = picture
    total = max(1, int((shown.start - origin + shown.duration) * fps + rules["end_tolerance"]))
    while taken < total:
        yield shown.frame
        taken += 1


@dataclass
class RgbReader:
    """Turns frames into upright RGB pictures of one size (3)."""

    bundle: Bundle
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)
    size: tuple[int, int] | None = None  # width, height before turning; fixed by the first picture
    shrink: int = 1
    last: tuple[av.VideoFrame, np.ndarray] | None = None  # a repeated picture is converted once

    def read(self, frame: av.VideoFrame) -> np.ndarray:
        """The upright picture, (H, W, 3) uint8."""
        if self.last and self.last[0] is frame:
            return self.last[1]
        rules = self.bundle.serving["pictures"]
        if self.size is None:
            while frame.width * frame.height > rules["max_tracked_px"] * self.shrink**2:
                self.shrink += 1
            self.size = (frame.width // self.shrink, frame.height // self.shrink)
        untagged = "ITU709" if frame.height >= rules["untagged_hd_from"] else "ITU601"
        matrix = rules["matrices"].get(str(int(frame.colorspace)), untagged)
        is_full = int(frame.color_range) == int(ColorRange.JPEG) or frame.format.name.startswith("yuvj")
        rgb = self.reformatter.reformat(
            frame,
            *self.size,
            format="rgb24",
            src_colorspace=Colorspace[matrix],
            src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR,
        ).to_ndarray()
        self.last = (frame, np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90) % 4)))
        return self.last[1]


def luma_samples(bundle: Bundle, picture: np.ndarray) -> np.ndarray:
    """Luma of a coarse grid of the picture."""
    rules = bundle.serving["cuts"]
    grid = rules["grid"]
    rows, columns = (((2 * np.arange(grid) + 1) * size) // (2 * grid) for size in picture.shape[:2])
    sampled = picture[rows[:, None], columns].astype(np.int64)
    return (sampled @ np.array(rules["luma_weights"])) // 256


def is_cut(bundle: Bundle, before: np.ndarray, now: np.ndarray) -> bool:
    """Whether a new scene begins between two pictures' luma samples."""
    rules, bins = bundle.serving["cuts"], bundle.serving["cuts"]["bins"]
    difference = np.abs(now - before).mean()
    histograms = [np.bincount((luma * bins // 256).ravel(), minlength=bins) for luma in (before, now)]
    distance = np.abs(histograms[0] - histograms[1]).sum() / 2 / now.size
    is_possible = difference >= rules["min_difference"] and distance >= rules["min_histogram_distance"]
    return bool(difference >= rules["sure_difference"] or is_possible)


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


def sample_region(picture: np.ndarray, region: Region, size: int, black_outside: bool) -> np.ndarray:
    """The region as a picture of `size` px, positions in steps of 1 / 32 px and all in whole numbers (5.1)."""
    height, width = picture.shape[:2]
    cosine, sine = (f(region.angle) * region.side / size for f in (math.cos, math.sin))
    column, row, half = np.arange(size), np.arange(size)[:, None], size / 2
    x = np.rint((region.x - (cosine - sine) * half - sine * row) * 1024) + 16 + np.rint(cosine * column * 1024)
    y = np.rint((region.y - (sine + cosine) * half + cosine * row) * 1024) + 16 + np.rint(sine * column * 1024)
    x, y = x.astype(np.int64) >> 5, y.astype(np.int64) >> 5
    flat = picture.reshape(-1, 3)
    result = np.full((size, size, 3), 512, np.int64)
    for dx, share_x in ((0, 32 - (x & 31)), (1, x & 31)):
        for dy, share_y in ((0, 32 - (y & 31)), (1, y & 31)):
            column, row = (x >> 5) + dx, (y >> 5) + dy
            weight = share_x * share_y
            if black_outside:
                weight = weight * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            index = np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)
            result += flat[index] * weight[..., None]
    return result >> 10


def run_face_model(model: Interpreter, picture: np.ndarray, value_range: list[float]) -> list[np.ndarray]:
    """Flat outputs of a face model, the smaller one first; grey levels 0..255 go linearly to the range."""
    low, high = value_range
    values = picture.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    model.set_tensor(model.get_input_details()[0]["index"], values[None])
    model.invoke()
    outputs = [model.get_tensor(detail["index"]).ravel() for detail in model.get_output_details()]
    return sorted(outputs, key=len)


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


def detect_faces(bundle: Bundle, picture: np.ndarray) -> list[Region]:
    """Landmark regions of the faces that the detector finds, best first (5), in float32 up to the regions."""
    rules = bundle.serving["detector"]
    size = rules["input_px"]
    height, width = picture.shape[:2]
    side = max(width, height)
    sampled = sample_region(picture, Region(width / 2, height / 2, side, 0.0), size, black_outside=True)
    raw_scores, raw_boxes = run_face_model(bundle.detector, sampled, rules["input_range"])
    scores = sigmoid(np.clip(raw_scores, -rules["score_clip"], rules["score_clip"]))
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= rules["min_score"]]
    anchors = anchor_centres(rules["anchor_grids"]).astype(np.float32)[order]
    values = raw_boxes.reshape(len(raw_scores), -1)[order] / np.float32(size)
    centres, half = values[:, 0:2] + anchors, values[:, 2:4] / 2
    points = values[:, 4:] + np.tile(anchors, (values.shape[1] - 4) // 2)
    found = np.concatenate([scores[order, None], centres - half, centres + half, points], axis=1).astype(np.float32)
    shift = np.array([(width - side) / 2, (height - side) / 2], np.float32)
    regions = []
    for row in merge_detections(found, rules["merge_iou"]):
        places = row.reshape(-1, 2) * np.float32(side) + shift  # two corners, then the key points
        regions.append(region_around(places[:2].ravel(), rules["roi_scale"], places[2:][rules["eyes"]]))
    return regions


def find_landmarks(bundle: Bundle, picture: np.ndarray, region: Region) -> np.ndarray | None:
    """Landmarks (N, 2) in source pixels, None where no face is there (6)."""
    rules = bundle.serving["landmarks"]
    size = rules["input_px"]
    sampled = sample_region(picture, region, size, black_outside=False)
    presence, values = run_face_model(bundle.landmarker, sampled, rules["input_range"])
    if sigmoid(presence[0]) < rules["min_presence"]:
        return None
    points = values.reshape(rules["num_points"], rules["values_per_point"])[:, :2].astype(np.float64) / size - 0.5
    cosine, sine = math.cos(region.angle), math.sin(region.angle)
    x, y = points.T
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
    last_run: int | None = None  # grid point of the detector's last run
    count: int = 0  # grid points so far

    def step(self, picture: np.ndarray) -> None:
        """Takes in the next grid point's picture (7, the detector by 7.2)."""
        n = self.count
        luma = luma_samples(self.bundle, picture)
        if self.last_luma is not None and is_cut(self.bundle, self.last_luma, luma):
            self.active = []
            self.scenes.append(n)
        self.last_luma = luma
        found = self.follow(picture, n)
        is_lost = not found or len(found) < len(self.active)
        is_due = self.last_run is None or n - self.last_run >= self.bundle.serving["tracker"]["detect_every"]
        if len(found) < self.bundle.spec["track"]["max_faces"] and (is_lost or is_due):
            self.last_run = n
            self.detect(picture, n, found)
        for track in self.active:
            track.missing = 0 if n in track.seen else track.missing + 1
        self.active = [track for track in self.active if track.missing <= self.bundle.max_gap]
        self.count += 1

    def is_taken(self, region: Region, found: list[np.ndarray]) -> bool:
        """Whether a face already found has that region; `found` holds the boxes of such faces' regions."""
        return any(iou(region.box(), box) > self.bundle.serving["tracker"]["same_region_iou"] for box in found)

    def find_free(self, picture: np.ndarray, region: Region, found: list[np.ndarray]) -> np.ndarray | None:
        """Landmarks in a region if a face is there that is not taken; adds the box of its region to `found`."""
        landmarks = find_landmarks(self.bundle, picture, region)
        if landmarks is None or self.is_taken(landmarks_region(self.bundle, landmarks), found):
            return None
        found.append(landmarks_region(self.bundle, landmarks).box())
        return landmarks

    def follow(self, picture: np.ndarray, n: int) -> list[np.ndarray]:
        """Looks for the tracks of the last picture (7.1); boxes of the regions of those found."""
        found: list[np.ndarray] = []
        for track in self.active:
            if track.missing == 0:
                landmarks = self.find_free(picture, landmarks_region(self.bundle, track.last), found)
                if landmarks is not None:
                    track.last = track.seen[n] = landmarks
        return found

    def detect(self, picture: np.ndarray, n: int, found: list[np.ndarray]) -> None:
        """Adds the detector's faces to lost or new tracks (7.3)."""
        max_faces = self.bundle.spec["track"]["max_faces"]
        for region in detect_faces(self.bundle, picture)[:max_faces]:
            if len(found) < max_faces and not self.is_taken(region, found):
                landmarks = self.find_free(picture, region, found)
                if landmarks is not None:
                    self.assign(landmarks, n)

    def assign(self, landmarks: np.ndarray, n: int) -> None:
        """Gives found landmarks to the unseen track that overlaps most, or to a new one."""
        best, best_iou = None, self.bundle.serving["tracker"]["same_face_iou"]
        for track in [track for track in self.active if n not in track.seen]:
            overlap = float(iou(points_box(landmarks), points_box(track.last)))
            if overlap > best_iou:
                best, best_iou = track, overlap
        if best is None:
            best = Track(len(self.every), len(self.scenes) - 1, landmarks, {})
            self.every.append(best)
            self.active.append(best)
        best.last = best.seen[n] = landmarks


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
    faces = {n: face_at(bundle, track, n) for n in range(first, last + 1)}
    return {n: face for n, face in faces.items() if face is not None}


def crop_square(picture: np.ndarray, x: float, y: float, side: float, size: int, average_from: int) -> np.ndarray:
    """The square around (x, y) as (size, size, 3) uint8."""
    left, top = x - side / 2, y - side / 2
    block = int(side / size)
    if block >= average_from:
        x0, y0 = math.floor(left) - block, math.floor(top) - block
        count = math.ceil(side / block) + 3
        steps = np.arange(count * block)
        rows = np.clip(y0 + steps, 0, picture.shape[0] - 1)
        columns = np.clip(x0 + steps, 0, picture.shape[1] - 1)
        blocks = picture[rows[:, None], columns].reshape(count, block, count, block, 3)
        picture = np.rint(blocks.mean(axis=(1, 3), dtype=np.float64)).astype(np.uint8)
        left, top, side = (left - x0) / block, (top - y0) / block, side / block
    centres = (np.arange(size) + 0.5) * side / size - 0.5
    low, high, share = bilinear_axis(top + centres, picture.shape[0])
    rows_done = picture[low] * (1 - share)[:, None, None] + picture[high] * share[:, None, None]
    low, high, share = bilinear_axis(left + centres, picture.shape[1])
    crop = rows_done[:, low] * (1 - share)[:, None] + rows_done[:, high] * share[:, None]
    return np.rint(crop).astype(np.uint8)


def bilinear_axis(positions: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower index, upper index and the upper one's share, float32, along one axis; indices stay in the picture."""
    floor = np.floor(positions)
    low = np.clip(floor, 0, length - 1).astype(np.int64)
    high = np.clip(floor + 1, 0, length - 1).astype(np.int64)
    return low, high, (positions - floor).astype(np.float32)


def face_boxes(bundle: Bundle, landmarks: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Centre x, y and side of the boxes `face` and `lip` of smoothed landmarks (9)."""
    rules, sizes = bundle.serving["boxes"], bundle.spec["picture"]
    box = points_box(landmarks)
    longer = float(np.clip((box[2:] - box[:2]).max(), rules["min_longer_px"], rules["max_longer_px"]))
    centres = {"face": (box[:2] + box[2:]) / 2, "lip": landmarks[rules["outer_lip"]].mean(axis=0)}
    return {name: (float(x), float(y), sizes[f"{name}_scale"] * longer) for name, (x, y) in centres.items()}


def crop_face(bundle: Bundle, picture: np.ndarray, landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """The crops `face` and `lip` of smoothed landmarks (9)."""
    sizes, average_from = bundle.spec["picture"], bundle.serving["boxes"]["average_from"]
    boxes = face_boxes(bundle, landmarks).items()
    return {name: crop_square(picture, *box, sizes[f"{name}_px"], average_from) for name, box in boxes}


def mono_samples(bundle: Bundle, frame: av.AudioFrame) -> np.ndarray:
    """Mono samples of a decoded frame, float64, full scale +-1 (10.1)."""
    rules = bundle.serving["sound"]
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    mono = values.astype(np.float64).mean(axis=0)
    if values.dtype == np.uint8:
        mono -= 128
    if values.dtype.kind != "f":
        mono /= 2.0 ** (8 * values.dtype.itemsize - 1)
    return np.nan_to_num(mono, nan=rules["nan_as"], posinf=rules["infinite_as"], neginf=-rules["infinite_as"])


def read_sound(bundle: Bundle, path: Path) -> tuple[np.ndarray, float]:
    """Samples at the model's rate and the time of the first of them, s; `no_audio` without any (10.1 to 10.3)."""
    rules = bundle.serving["sound"]
    container, stream = open_stream(bundle, path, "audio")
    if stream is None:
        raise NoVerdictError("no_audio")
    parts: list[np.ndarray] = []
    rate, start, count = 0, 0.0, 0
    with container:
        for frame in decoded_frames(container, stream, ends_at_damage=False):
            time = float(frame.pts * frame.time_base) if frame.pts is not None else None
            samples = mono_samples(bundle, frame)
            if not parts:
                rate, start = frame.sample_rate, time or 0.0
                if rate > rules["max_rate_hz"]:
                    raise NoVerdictError("no_audio")
            elif frame.sample_rate != rate:
                break
            elif time is not None:
                late = time - (start + count / rate)
                if abs(late) > rules["max_ahead_s"]:
                    break
                if late > rules["max_drift_s"]:
                    samples = np.concatenate([np.zeros(round(late * rate)), samples])
                elif late < -rules["max_drift_s"]:
                    samples = samples[round(-late * rate) :]
            parts.append(samples)
            count += len(samples)
    if not parts:
        raise NoVerdictError("no_audio")
    return resample(bundle, np.concatenate(parts), rate), start


def filter_phases(bundle: Bundle, old_rate: int, up: int) -> tuple[np.ndarray, int]:
    """Windowed sinc filters, one row per phase, and their half length in input samples (10.3)."""
    rules = bundle.serving["sound"]
    stop_band, width = rules["stop_band_db"], rules["transition"]
    ratio = min(1.0, bundle.spec["audio"]["sample_rate"] / old_rate)
    slope, offset = rules["kaiser_beta"]
    beta = slope * (stop_band - offset)
    offset, slope = rules["kaiser_length"]
    half = math.ceil((stop_band - offset) / (slope * math.pi * width * ratio) / 2)
    cutoff = ratio * (1 - width / 2)
    distance = np.arange(-half + 1, half + 1) - np.arange(up)[:, None] / up
    window = np.i0(beta * np.sqrt(np.maximum(0, 1 - (distance / half) ** 2)))
    filters = np.sinc(cutoff * distance) * window
    return filters / filters.sum(axis=1, keepdims=True), half


def resample(bundle: Bundle, samples: np.ndarray, old_rate: int) -> np.ndarray:
    """Samples at the model's rate, the first at the time of the first (10.3)."""
    new_rate = bundle.spec["audio"]["sample_rate"]
    if old_rate == new_rate:
        return samples
    divisor = math.gcd(new_rate, old_rate)
    up, down = new_rate // divisor, old_rate // divisor
    filters, half = filter_phases(bundle, old_rate, up)
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


def run_graph(runner: Any, graph: dict[str, Any], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs one graph; inputs are ready for their tensors, outputs are real values by name."""
    answers = runner(**{tensor["tensor"]: inputs[tensor["name"]] for tensor in graph["inputs"]})
    outputs = {}
    for tensor in graph["outputs"]:
        values = answers[tensor["tensor"]]
        if values.dtype.kind != "f":
            values = (values.astype(np.float64) - tensor["zero_point"]) * tensor["scale"]
        if not np.isfinite(values).all():
            raise NoVerdictError("model_error")
        outputs[tensor["name"]] = values
    return outputs


def encode_crops(bundle: Bundle, crops: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Features of faces, each {output name: vector} (12)."""
    graph, features = bundle.graphs["encode"], []
    batch = graph["inputs"][0]["shape"][0]
    for first in range(0, len(crops), batch):
        part = crops[first : first + batch]
        inputs = {}
        for tensor in graph["inputs"]:
            levels = np.zeros(tensor["shape"], np.uint8)
            levels[: len(part)] = [crop[tensor["name"]] for crop in part]
            inputs[tensor["name"]] = store(levels / 255, tensor)
        outputs = run_graph(bundle.encode, graph, inputs)
        features += [{name: values[i] for name, values in outputs.items()} for i in range(len(part))]
    return features


def encode_faces(
    bundle: Bundle, path: Path, faces: dict[int, dict[int, Face]], clips: list[tuple[int, int]]
) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    """Features by track and grid point, of all that some clip holds; reads the pictures a second time."""
    if bundle.encode is None:
        return {}
    length, reader = bundle.spec["num_frames"], RgbReader(bundle)
    needed = {(track, n) for track, start in clips for n in range(start, start + length)}
    features = {}
    for n, frame in enumerate(grid_frames(bundle, path)):
        tracks = [track for track in faces if (track, n) in needed]
        crops = [crop_face(bundle, reader.read(frame), faces[track][n].smoothed) for track in tracks]
        for track, answer in zip(tracks, encode_crops(bundle, crops), strict=True):
            features[track, n] = answer
    return features


def track_margin(bundle: Bundle, margins: list[float]) -> float:
    """Margin of a track from its clips' (13.2)."""
    rules = bundle.manifest["aggregation"]
    if rules["name"] == "mean":
        return float(np.mean(margins))
    if rules["name"] == "top_k":
        return float(np.mean(sorted(margins, reverse=True)[: rules["k"]]))
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


def measure(bundle: Bundle, path: Path) -> float:
    """Margin of a video; NoVerdictError in the order of the statuses."""
    origin = next(timed_pictures(bundle, path)).start
    has_sound = "audio" in bundle.manifest["modalities"]
    samples, sound_start = read_sound(bundle, path) if has_sound else (np.zeros(0), origin)
    offset = round((sound_start - origin) * bundle.spec["audio"]["sample_rate"])
    tracker, reader = Tracker(bundle), RgbReader(bundle)
    for frame in grid_frames(bundle, path):
        tracker.step(reader.read(frame))
    faces = {track.id: track_faces(bundle, tracker, track) for track in tracker.every}
    clips = find_clips(bundle, tracker.count, faces)
    features = encode_faces(bundle, path, faces, clips)
    graph, margins = bundle.graphs["score"], {}
    for track, start in clips:
        points = range(start, start + bundle.spec["num_frames"])
        inputs = {}
        for tensor in graph["inputs"]:
            name, shape = tensor["name"], tensor["shape"]
            if name == "pcm":
                values = clip_sound(bundle, samples, offset, start, math.prod(shape))
            elif name == "landmarks":
                values = np.stack([faces[track][n].unsmoothed * reader.shrink for n in points])
            else:
                values = np.stack([features[track, n][name] for n in points])
            inputs[name] = store(values.reshape(shape), tensor)
        logits = run_graph(bundle.score, graph, inputs)["clip_logits"].astype(np.float64).ravel()
        margins.setdefault(track, []).append(float(logits[1] - logits[0]))
    return max(track_margin(bundle, values) for values in margins.values())


def predict(bundle: Bundle, path: Path) -> dict[str, Any]:
    """The answer for one video: path, status, verdict and p_fake."""
    try:
        verdict, p_fake = decide(bundle, measure(bundle, path))
    except NoVerdictError as reason:
        return {"path": str(path), "status": str(reason), "verdict": None, "p_fake": None}
    return {"path": str(path), "status": "ok", "verdict": verdict, "p_fake": p_fake}


def main(arguments: list[str]) -> int:
    """Command line."""
    if len(arguments) < 2:
        print("usage: predict_from_bundle.py BUNDLE VIDEO [VIDEO ...]", file=sys.stderr)
        return 2
    bundle = load_bundle(Path(arguments[0]))
    for path in arguments[1:]:
        print(json.dumps(predict(bundle, Path(path))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
