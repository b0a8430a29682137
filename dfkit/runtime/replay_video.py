"""Replays a bundle's golden video stage by stage, so that a port sees at which one it departs.

Each stage is fed the stored output of the stage before where that isolates it: crops are cut out of stored pictures at
stored boxes, features are made of stored crops, logits of stored features and sound. The last rows go the whole way.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.errors import MediaError
from dfkit.measures.decision import VideoScores, judge, verdict_of
from dfkit.measures.finite import finite_or_none
from dfkit.media import crop
from dfkit.media.color import choose_matrix
from dfkit.media.picture import Picture, picture_of_planes
from dfkit.runtime import video_stages
from dfkit.runtime.backends import BACKEND_ORDER, Graphs, open_backend
from dfkit.runtime.bundle import Bundle, load_faces, open_bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.golden_index import GOLDEN_FOLDER, OutputLimits, read_array
from dfkit.runtime.golden_video import VIDEO_INDEX, Answer, GoldenVideo, PictureCase, read_video_index
from dfkit.runtime.replay import ReplayReport, compare, replay

UNTAGGED = 2
"""Matrix number of H.273 of a stream that does not say."""
DISTANCE_SHARE = 0.05
"""Of a distance of features, or of its limit, whichever is larger: what another decoder and INT8 change."""
NO_VIDEO = f"no golden video: the bundle has no {VIDEO_INDEX}, so the steps before the graphs were not replayed"


@dataclass(frozen=True)
class StageRow:
    """One comparison: passes where `found` is at most `tolerance`."""

    name: str
    found: float
    """Difference in `unit`; NaN where there is nothing to compare."""
    tolerance: float
    unit: str
    power: bool = True
    """Whether passing proves anything."""

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; a NaN is not."""
        return self.found <= self.tolerance


@dataclass(frozen=True)
class VideoReplay:
    """All stages of a bundle's golden video, in the order of the way."""

    rows: tuple[StageRow, ...]
    has_video: bool = True
    needs_video: bool = True
    """Whether the bundle's preset follows faces; `uniform50` has no golden video."""

    @property
    def passed(self) -> bool:
        """Whether every stage is within its tolerance; where a video is needed, none fails."""
        if not self.has_video:
            return not self.needs_video
        return bool(self.rows) and all(row.passed for row in self.rows)

    def summary(self) -> list[str]:
        """One line a stage, and the first that departs."""
        if not self.has_video:
            return [f"{NO_VIDEO}: FAILED" if self.needs_video else NO_VIDEO]
        lines = [
            f"video {row.name}: {row.found:.3g} {row.unit}, tolerance {row.tolerance:.3g}: "
            f"{('pass' if row.power else 'no power') if row.passed else 'FAILED'}"
            for row in self.rows
        ]
        first = next((row.name for row in self.rows if not row.passed), None)
        return lines if first is None else [*lines, f"the first stage that departs: {first}"]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every row; a difference that is not finite is None."""
        rows = [{**vars(row), "found": finite_or_none(row.found), "passed": row.passed} for row in self.rows]
        return {"passed": self.passed, "has_video": self.has_video, "rows": rows}


@dataclass(frozen=True)
class Verification:
    """A bundle's golden vectors of the graphs, and its golden video."""

    golden: ReplayReport
    video: VideoReplay

    @property
    def passed(self) -> bool:
        """Whether both pass."""
        return self.golden.passed and self.video.passed

    def summary(self) -> list[str]:
        """Lines of both."""
        return [*self.golden.summary(), *self.video.summary()]

    def to_json(self) -> dict[str, Any]:
        """The graphs' report with the video's under `video`."""
        return {**self.golden.to_json(), "passed": self.passed, "video": self.video.to_json()}


def verify_bundle(path: str | Path) -> Verification:
    """Verifies a bundle and replays its golden vectors and its golden video; see `open_bundle`, `replay`."""
    bundle = open_bundle(path)
    return Verification(replay(bundle), replay_video(bundle))


def replay_video(bundle: Bundle, *, open_graphs: Callable[..., Graphs] = open_backend) -> VideoReplay:
    """Runs every stage and compares.

    Args:
        bundle: Verified bundle.
        open_graphs: Loads a backend, as `open_backend` does.
    Raises:
        BundleError: The golden video does not follow its schema, or the bundle was made for other constants.
    """
    golden = read_video_index(bundle)
    if golden is None:
        # Exports of this dfkit have one; those of before version 3 say nothing of serving, either.
        needs = bundle.manifest.clip_spec.preset == "clip2s" and bundle.manifest.serving is not None
        return VideoReplay((), has_video=False, needs_video=needs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(golden.file).name
        path.write_bytes(bundle.read(f"{GOLDEN_FOLDER}/{golden.file}"))
        rows = [*_media_rows(bundle, golden, path), *_crop_rows(bundle, golden)]
        for name in BACKEND_ORDER:
            if name in bundle.manifest.backends:
                rows += _graph_rows(bundle, golden, path, open_graphs(bundle, name))
    return VideoReplay(tuple(rows))


def _media_rows(bundle: Bundle, golden: GoldenVideo, path: Path) -> Iterator[StageRow]:
    """From the file to boxes and sound."""
    spec, limits = bundle.manifest.clip_spec, golden.tolerance
    try:
        video = video_stages.decode_grid(path, spec.fps)
    except MediaError:
        yield StageRow("pictures, decoded", np.nan, 0, "pictures")
        return
    hashes = video.hashes
    pairs = list(zip(hashes, golden.planes, strict=False))
    lengths = len(hashes) - len(golden.planes)
    yield StageRow("pictures on the grid, number", abs(lengths), 0, "pictures")
    times = [abs(a - b) for a, b in zip(video.times_s, golden.times_s, strict=False)]
    yield StageRow("pictures on the grid, times", max(times), limits.times_s, "s")
    for place, plane in enumerate("YUV"):
        wrong = sum(found[place] != stored[place] for found, stored in pairs) + abs(lengths)
        yield StageRow(f"decoded {plane}", wrong, 0, "pictures of another SHA-256")
    for case in golden.pictures:
        seen = video_stages.detector_view(read_picture(bundle, case))
        difference = mean_levels(seen, read_array(bundle, case.seen))
        yield StageRow(f"detector's view of {case.grid}", difference, limits.seen_mean_levels, "grey levels")
    faces = video_stages.follow_faces(video, spec, load_faces(bundle.manifest, where=str(bundle.path)))
    boxes, stored = video_stages.box_rows(faces, len(hashes)), read_array(bundle, golden.boxes)
    for name, columns in (("face", slice(0, 3)), ("lip", slice(3, 6))):
        yield StageRow(f"{name} boxes", largest(boxes[:, columns], stored[:, columns]), limits.boxes_px, "px")
    if golden.sound is not None:
        yield _sound_row(bundle, golden, path, video.first_picture_s)


def _sound_row(bundle: Bundle, golden: GoldenVideo, path: Path, first_picture_s: float) -> StageRow:
    assert golden.sound is not None
    stored = read_array(bundle, golden.sound)
    try:
        found = video_stages.clip_sound(path, bundle.manifest.clip_spec, first_picture_s=first_picture_s, starts=[0])[0]
    except MediaError:
        return StageRow("sound of the first clip", np.nan, golden.tolerance.sound_db, "dB of full scale")
    return StageRow("sound of the first clip", decibels(found, stored), golden.tolerance.sound_db, "dB of full scale")


def _crop_rows(bundle: Bundle, golden: GoldenVideo) -> Iterator[StageRow]:
    """Crops of stored pictures at stored boxes."""
    for case in golden.crops:
        picture_case, stored = golden.pictures[case.picture], read_array(bundle, case.crop)
        picture = read_picture(bundle, picture_case)
        found = crop.crop_square(picture, crop.SquareBox(case.x, case.y, case.side), stored.shape[0])
        name = f"crop {case.kind} {picture_case.grid}, side {case.side:.1f} px"
        yield StageRow(name, mean_levels(found, stored), golden.tolerance.crops_mean_levels, "grey levels")


def read_picture(bundle: Bundle, case: PictureCase) -> Picture:
    """A stored picture; the golden video is untagged, of limited range and few lines."""
    y, u, v = (read_array(bundle, entry) for entry in (case.y, case.u, case.v))
    return picture_of_planes((y, u, v), shares=choose_matrix(UNTAGGED, len(y)), full=False)


def _graph_rows(bundle: Bundle, golden: GoldenVideo, path: Path, graphs: Graphs) -> Iterator[StageRow]:
    """Features of stored crops, logits of stored features and sound, the decision, and the whole way."""
    name = graphs.name
    for case in golden.encode:
        pictures = {str(kind): read_array(bundle, golden.crops[place].crop)[None] for kind, place in case.crops.items()}
        found = graphs.encode(pictures)
        for output, entry in case.features.get(name, {}).items():
            where = ", ".join(str(place) for place in case.crops.values())
            row = f"{name} {output} of crops {where}"
            yield _output_row(
                row, found[output][0], read_array(bundle, entry), golden.limits[name][output], golden.peak
            )
    inputs = {key: read_array(bundle, entry) for key, entry in golden.score.inputs.items()}
    frame_logits, clip_logits = graphs.score(inputs)
    for output, values in (("frame_logits", frame_logits), ("clip_logits", clip_logits)):
        stored = read_array(bundle, golden.score.logits[name][output])
        yield _output_row(f"{name} {output}", values, stored, golden.limits[name][output], golden.peak)
    yield from _answer_rows(bundle, golden.answers[name], path, graphs, golden.tolerance.p_fake)


def _output_row(row: str, found: np.ndarray, stored: np.ndarray, limit: OutputLimits, peak: float) -> StageRow:
    """As golden.json judges it: by the root mean square, or by the largest single value where a peak-th of that is
    more."""
    difference, single, _ = compare(found, stored, limit.tolerance, peak)
    # np.max keeps a NaN.
    return StageRow(row, float(np.max([difference, single / peak])), limit.tolerance, "rms", limit.power)


def _answer_rows(bundle: Bundle, answer: Answer, path: Path, graphs: Graphs, limit: float) -> Iterator[StageRow]:
    scores = VideoScores(
        np.array(answer.clip_logits, np.float32),
        np.zeros(len(answer.clip_starts), np.int64),
        np.array(answer.clip_starts) / bundle.manifest.clip_spec.fps,
    )
    decided = judge(scores, bundle.manifest.decision)
    # The rule is arithmetic: another answer to the same logits is another rule.
    yield StageRow(f"{graphs.name} decision", abs(decided.p_fake - answer.p_fake), 1e-6, "p_fake")
    result = Detector(bundle, graphs=graphs, decoder_threads=1).detect(path)
    change = np.nan if result.p_fake is None else abs(result.p_fake - answer.p_fake)
    yield StageRow(f"{graphs.name} file to p_fake", change, limit, "p_fake")
    point = bundle.manifest.operating_point
    # Where p_fake lies within its tolerance of an edge of the band, either side is right.
    nearby = {verdict_of(min(max(answer.p_fake + d, 0.0), 1.0), point) for d in (-limit, 0.0, limit)}
    familiarity = bundle.manifest.familiarity
    if answer.distance is not None and familiarity is not None and familiarity.max_distance is not None:
        few = DISTANCE_SHARE * max(answer.distance, familiarity.max_distance)
        change = np.nan if result.distance is None else abs(result.distance - answer.distance)
        yield StageRow(f"{graphs.name} file to distance", change, few, "distance")
        if answer.distance > familiarity.max_distance + few:
            nearby = {"review"}
        elif answer.distance > familiarity.max_distance - few:
            nearby |= {"review"}
    wrong = result.status != answer.status or result.verdict not in nearby
    yield StageRow(f"{graphs.name} file to status and verdict", float(wrong), 0, "wrong")


def largest(found: np.ndarray, stored: np.ndarray) -> float:
    """Largest absolute difference; NaN where a value is none or the sizes differ."""
    if found.size != stored.size or found.size == 0:
        return float("nan")
    return float(np.abs(found.astype(np.float64).reshape(stored.shape) - stored).max())


def mean_levels(found: np.ndarray | None, stored: np.ndarray) -> float:
    """Mean absolute difference of two pictures, grey levels; NaN where there is none or of another size."""
    if found is None or found.shape != stored.shape:
        return float("nan")
    return float(np.abs(found.astype(np.float64) - stored).mean())


def decibels(found: np.ndarray, stored: np.ndarray) -> float:
    """Root mean square of the difference against full scale, dB; -inf where both are equal."""
    if found.shape != stored.shape:
        return float("nan")
    power = float(np.mean((found.astype(np.float64) - stored) ** 2))
    return 10 * float(np.log10(power)) if power != 0 else float("-inf")
