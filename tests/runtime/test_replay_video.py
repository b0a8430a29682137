"""The golden video: every stage passes on the code that made it, and a mistake fails at its own stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.clip import UNIFORM50
from dfkit.doctor.golden_clip import golden_checks, model_check
from dfkit.errors import BundleError
from dfkit.export.golden_head import VIDEO, shipped_limits, video_files
from dfkit.measures.decision import Calibration
from dfkit.media import color, crop, picture, stream, video
from dfkit.runtime import replay_video as module
from dfkit.runtime import replay_video as replay_video_module
from dfkit.runtime import video_stages
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import Bundle, FolderSource, file_entry, open_bundle
from dfkit.runtime.golden_index import OutputLimits, rms
from dfkit.runtime.golden_video import VIDEO_INDEX
from dfkit.runtime.replay_video import NO_VIDEO, decibels, largest, mean_levels, replay_video
from dfkit.runtime.serving import serving_of

from .bundles import example_inputs, reseal, write_bundle


def limit(tolerance: float, *, power: bool = True) -> OutputLimits:
    reason = "" if power else "by hand"
    return OutputLimits(
        tolerance=tolerance, smallest_difference=10 * tolerance, noise=0.0, power=power, reason=reason
    )  # fmt: skip


def limits_of(graphs: Any) -> dict[str, OutputLimits]:
    """A twentieth of the features' root mean square, and 0.02 logits."""
    pictures = {kind: example_inputs(1)[kind] for kind in ("face", "lip")}
    features = {name: limit(0.05 * rms(values)) for name, values in graphs.encode(pictures).items()}
    return {**features, "frame_logits": limit(0.02), "clip_logits": limit(0.02)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two backends with the golden video."""
    path = write_bundle(tmp_path_factory.mktemp("video") / "bundle")
    bundle = open_bundle(path)
    graphs = {name: open_backend(bundle, name) for name in bundle.manifest.backends}
    limits = {name: limits_of(each) for name, each in graphs.items()}
    for name, content in video_files(bundle.manifest, graphs, limits).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
    reseal(path)
    return path


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


def failed(bundle: Bundle, **options: Any) -> list[str]:
    return [row.name for row in replay_video(bundle, **options).rows if not row.passed]


def test_every_stage_passes_where_it_was_made(bundle: Bundle, folder: Path) -> None:
    report = replay_video(bundle)
    assert report.passed and len(report.rows) == len(report.summary())
    names = " ".join(row.name for row in report.rows)
    places = [
        names.index(part)
        for part in ("grid", "decoded Y", "detector's view of 0", "face boxes", "sound", "crop face 0")
    ]
    places += [names.index(f"tflite {part}") for part in ("face_features", "frame_logits", "decision", "file to p")]
    assert places == sorted(places) and "onnx file to status" in names
    assert all(row.found == 0 or row.unit == "dB of full scale" for row in report.rows)
    index = json.loads((folder / VIDEO_INDEX).read_text(encoding="utf-8"))
    assert len(index["planes"]) == 60 and (folder / "golden" / "video.mp4").read_bytes() == VIDEO.read_bytes()
    assert VIDEO.stat().st_size < 150_000
    wide = [case for case in index["crops"] if case["side"] >= 2 * case["crop"]["shape"][0]]
    assert {case["kind"] for case in wide} == {"face", "lip"}, "block averages are part of the contract"


def test_an_export_makes_the_same_bytes_again(bundle: Bundle, folder: Path) -> None:
    graphs = {name: open_backend(bundle, name) for name in bundle.manifest.backends}
    again = video_files(bundle.manifest, graphs, {name: limits_of(each) for name, each in graphs.items()})
    assert {name: (folder / name).read_bytes() for name in again} == again


def wrong_matrix(patch: pytest.MonkeyPatch) -> None:
    for room in (picture, replay_video_module):
        patch.setattr(room, "choose_matrix", lambda tag, height: color.BT709)


def full_range(patch: pytest.MonkeyPatch) -> None:
    made = picture.picture_of_planes
    for room in (picture, replay_video_module):
        patch.setattr(room, "picture_of_planes", lambda planes, **facts: made(planes, **{**facts, "full": True}))


def half_a_level_brighter(patch: pytest.MonkeyPatch) -> None:
    """Rounding up in place of rounding: what moves boxes by 0.2 px."""
    convert = picture.to_rgb

    def brighter(yuv: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        rgb = convert(yuv, matrix)
        return rgb + (np.indices(rgb.shape).sum(axis=0) % 2 == 0) * (rgb < 255).astype(np.uint8)

    patch.setattr(picture, "to_rgb", brighter)


def boxes_shifted(patch: pytest.MonkeyPatch) -> None:
    make = stream.make_boxes
    patch.setattr(stream, "make_boxes", lambda *args: tuple(box._replace(x=box.x + 1) for box in make(*args)))


def no_smoothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stream, "SMOOTH_HALF", 0)


def sound_shifted(patch: pytest.MonkeyPatch) -> None:
    read = video_stages.SoundReader.read
    patch.setattr(video_stages.SoundReader, "read", lambda self, start, count: read(self, start + 10, count))


def bgr_crops(patch: pytest.MonkeyPatch) -> None:
    cut = crop.crop_square
    patch.setattr(crop, "crop_square", lambda *args: cut(*args)[..., ::-1])


def crops_without_averages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(picture, "AVERAGE_FROM", 1000)


def pictures_by_index(patch: pytest.MonkeyPatch) -> None:
    pick = video.pick_nearest

    def late(items: Any, fps: float) -> Any:
        yield from pick(((start, duration, item) for n, (start, duration, item) in enumerate(items) if n), fps)

    patch.setattr(video, "pick_nearest", late)


@pytest.mark.parametrize(
    ("mistake", "first"),
    [
        (wrong_matrix, "detector's view of 0"),
        (full_range, "detector's view of 0"),
        (half_a_level_brighter, "detector's view of 0"),
        (boxes_shifted, "face boxes"),
        (no_smoothing, "face boxes"),
        (sound_shifted, "sound of the first clip"),
        (bgr_crops, "crop face 0"),
        (crops_without_averages, "crop lip 30, side 120"),
        (pictures_by_index, "pictures on the grid, number"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_fails_at_its_stage(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[pytest.MonkeyPatch], None], first: str
) -> None:
    mistake(monkeypatch)
    names = failed(bundle)
    assert names[0].startswith(first)
    # Stored inputs keep the later stages apart from it.
    assert not [name for name in names if "features" in name or "logits" in name or "decision" in name]
    assert replay_video(bundle).summary()[-1] == f"the first stage that departs: {names[0]}"


class WrongGraphs:
    """A real backend with a changed answer."""

    def __init__(self, graphs: Any, *, features: float = 1, logits: float = 0) -> None:
        self.name, self.recipe, self.num_threads = graphs.name, graphs.recipe, graphs.num_threads
        self._graphs, self._features, self._logits = graphs, features, logits

    def encode(self, pictures: Any) -> Any:
        return {name: values * np.float32(self._features) for name, values in self._graphs.encode(pictures).items()}

    def score(self, inputs: Any) -> Any:
        frame_logits, clip_logits = self._graphs.score(inputs)
        return frame_logits + np.float32([0, self._logits]), clip_logits + np.float32([0, self._logits])


def test_wrong_graphs_fail_where_they_are_wrong(bundle: Bundle) -> None:
    def opened(**changes: float) -> list[str]:
        return failed(bundle, open_graphs=lambda *args: WrongGraphs(open_backend(*args), **changes))

    for zeros in (opened(features=0), opened(features=0.9)):
        assert zeros[0] == "tflite face_features of crops 0, 1" and "onnx lip_features of crops 0, 1" in zeros
        assert not [name for name in zeros if "logits" in name]
    logits = opened(logits=0.05)
    assert logits[:2] == ["tflite frame_logits", "tflite clip_logits"]
    assert opened(logits=0.001) == []
    # The other verdict, whichever the golden one is.
    assert "onnx file to status and verdict" in [*opened(logits=100), *opened(logits=-100)]


def test_one_wrong_value_among_many_fails() -> None:
    """Its share of the root mean square is small."""
    stored = np.zeros(10_000, np.float32)
    found = stored.copy()
    found[0] = 0.6
    assert rms(found) < 0.1 and not module._output_row("x", found, stored, limit(0.1), 5).passed
    assert module._output_row("x", found * np.float32(0.8), stored, limit(0.1), 5).passed
    for wrong in (found * np.nan, found[1:]):
        assert not module._output_row("x", wrong, stored, limit(0.1), 5).passed


def test_a_row_without_power_says_so() -> None:
    row = module.StageRow("x", 0.0, 1, "rms", power=False)
    assert row.passed and "no power" in module.VideoReplay((row,)).summary()[0]


def test_limits_are_those_of_the_shipped_set() -> None:
    tolerances = {"stressed": 0.5, "shipped": 0.25}
    limits = {name: {"tflite": {"clip_logits": limit(t).model_dump()}} for name, t in tolerances.items()}
    sets = [{"name": name, "limits": limits[name]} for name in limits]
    assert shipped_limits(json.dumps({"sets": sets}).encode())["tflite"]["clip_logits"].tolerance == 0.25


def test_another_rule_fails_at_the_decision(bundle: Bundle) -> None:
    manifest = bundle.manifest.model_copy(update={"calibration": Calibration(calibration_temperature=3.0)})
    names = failed(Bundle(bundle.path, manifest, bundle.source))
    assert names[0] == "tflite decision" and not [name for name in names if "logits" in name]


def test_a_bundle_without_a_video_says_so(tiny_bundle: Bundle) -> None:
    report = replay_video(tiny_bundle)
    assert report.passed and report.summary() == [NO_VIDEO] and not report.to_json()["has_video"]


def test_a_video_taken_out_of_an_export_is_missed(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    (own / VIDEO_INDEX).unlink()
    reseal(own)
    bundle = open_bundle(own)
    # An export says how it is served; the bundles of tests do not.
    manifest = bundle.manifest.model_copy(update={"serving": serving_of(bundle.manifest.clip_spec, "int8")})
    report = replay_video(Bundle(bundle.path, manifest, bundle.source))
    assert not report.passed and report.summary() == [f"{NO_VIDEO}: FAILED"]


def test_a_preset_without_faces_has_no_golden_video(tiny_bundle: Bundle) -> None:
    assert video_files(tiny_bundle.manifest.model_copy(update={"clip_spec": UNIFORM50}), {}, {}) == {}


def test_an_index_that_does_not_follow_its_schema(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    index = json.loads((own / VIDEO_INDEX).read_text(encoding="utf-8"))
    for content, message in ((b"{", "is not JSON"), (json.dumps({**index, "planes": 3}).encode(), r"planes: ")):
        (own / VIDEO_INDEX).write_bytes(content)
        reseal(own)
        with pytest.raises(BundleError, match=message):
            replay_video(open_bundle(own))


def test_measures_of_differences() -> None:
    zeros, ones = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    assert largest(ones, zeros) == 1 and np.isnan(largest(ones[:1], zeros)) and np.isnan(largest(ones * np.nan, zeros))
    assert mean_levels(ones, zeros) == 1 and np.isnan(mean_levels(None, zeros)) and np.isnan(mean_levels(ones.T, zeros))
    # A tenth of full scale is -20 dB.
    assert decibels(ones * 0.1, zeros) == pytest.approx(-20) and decibels(ones, ones) == -np.inf
    assert not module.StageRow("x", float("nan"), 1, "px").passed


class MotionGraphs:
    """A model of sound and landmarks alone, without `encode`: a plain function of both."""

    name, recipe, num_threads = "tflite", "fp32", 1

    def encode(self, _pictures: Any) -> dict[str, np.ndarray]:
        return {}

    def score(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        moved = np.diff(inputs["landmarks"], axis=0, prepend=inputs["landmarks"][:1]).mean(axis=(1, 2))
        loudness = float(np.sqrt(np.mean(inputs["pcm"] ** 2)))
        frame_logits = np.stack([moved, loudness - moved], axis=1).astype(np.float32)
        return frame_logits, frame_logits.sum(axis=0)


def test_a_model_of_sound_and_motion(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clip is fed landmarks as found, not smoothed, and no features."""
    manifest = tiny_bundle.manifest
    backend = manifest.backends["tflite"].model_copy(update={"encode": None})
    changes = {"modalities": ("audio", "motion"), "backends": {"tflite": backend}}
    lite = manifest.model_copy(update=changes)
    limits = {"tflite": {"frame_logits": limit(0.02), "clip_logits": limit(0.02)}}
    files = video_files(lite, {"tflite": MotionGraphs()}, limits)  # type: ignore[dict-item]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    entries = {name: file_entry(content) for name, content in files.items()}
    bundle = Bundle(tmp_path, lite.model_copy(update={"files": entries}), FolderSource(tmp_path))
    index = json.loads(files[VIDEO_INDEX])
    assert set(index["score"]["inputs"]) == {"landmarks", "pcm"} and index["encode"][0]["features"] == {"tflite": {}}
    assert failed(bundle, open_graphs=lambda *_: MotionGraphs()) == []
    monkeypatch.setattr(MotionGraphs, "score", lambda self, inputs: (np.zeros((50, 2)), np.zeros(2)))
    assert failed(bundle, open_graphs=lambda *_: MotionGraphs())[0] == "tflite frame_logits"


def test_the_doctor_replays_it_in_a_process_of_its_own(folder: Path, tmp_path: Path) -> None:
    check = golden_checks(folder)[-1]
    assert (check.status, check.name) == ("ok", f"model of {folder.name}")
    assert "steps from file to verdict" in check.found
    spoilt = Path(shutil.copytree(folder, tmp_path / "spoilt"))
    (spoilt / "model.tflite").write_bytes(b"x" * 100)
    check = model_check(str(spoilt))
    assert check.status == "off" and "model.tflite" in check.found and check.fix
