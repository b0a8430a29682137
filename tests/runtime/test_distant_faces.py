"""A video whose face is distant: found by the second stage, which the answer says; bundles of before it lack it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dfkit.benchmarks.sizes import measure_sizes
from dfkit.runtime.answers import CSV_COLUMNS
from dfkit.runtime.bundle import Bundle, face_model_entries, open_bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.plot import FaceSampler, plot_video
from dfkit.runtime.predict import predict_videos
from tests.media.face_cases import distant_head
from tests.media.media_files import tone, write_media

from .bundles import write_bundle

FULL_RANGE_MB = 0.677
"""Of the float16 file, which the test bundle names."""


@pytest.fixture(scope="module")
def distant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.4 s of a head whose face takes up 5 % of the picture's width."""
    return write_media(tmp_path_factory.mktemp("distant") / "distant.mp4", distant_head(60), sound=tone(2.6))


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle as it was before the second stage: two face models."""
    entries = face_model_entries("float16")
    named = {
        n: e.model_dump(include={"bytes", "sha256"}) for n, e in entries.items() if e.role != "full_range_detector"
    }
    return open_bundle(
        write_bundle(tmp_path_factory.mktemp("older") / "older", backends=("tflite",), face_models=named)
    )


def test_the_answer_says_which_detector_found_the_face(
    tiny_bundle: Bundle, distant: Path, talk: Path, tmp_path: Path
) -> None:
    table = tmp_path / "out.csv"
    far, near = predict_videos([distant, talk], tiny_bundle, csv_path=table)
    assert (far.status, near.status) == ("ok", "ok")
    assert [[track["found_by"] for track in json.loads(json.dumps(r.to_json()))["tracks"]] for r in (far, near)] == [
        ["full_range"],
        ["short_range"],
    ]
    assert far.summary()[0].endswith("a distant face (found at full range)")
    assert "distant" not in near.summary()[0]
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["found_by"] for row in rows] == ["full_range", "short_range"]


def test_a_bundle_of_before_answers_as_before(older: Bundle, tiny_bundle: Bundle, distant: Path, talk: Path) -> None:
    detectors = Detector(older), Detector(tiny_bundle, backend="tflite")
    assert [detector.detect(distant).status for detector in detectors] == ["no_face", "ok"]
    near = [detector.detect(talk) for detector in detectors]
    # A face that the first stage finds gets the same numbers from both.
    assert near[0].to_json() == {**near[1].to_json(), "video": near[0].video}


def test_a_near_face_costs_no_second_detector(tiny_bundle: Bundle, distant: Path, talk: Path) -> None:
    detector = Detector(tiny_bundle, backend="tflite")
    detector.detect(talk)
    assert not detector._face_models.is_full_range_loaded
    detector.detect(distant)
    assert detector._face_models.is_full_range_loaded


def test_the_bytes_of_a_phone_count_it(older: Bundle, tiny_bundle: Bundle) -> None:
    more = measure_sizes(tiny_bundle).phone_mb["tflite"] - measure_sizes(older).phone_mb["tflite"]
    assert more == pytest.approx(FULL_RANGE_MB, abs=0.005)
    assert set(measure_sizes(tiny_bundle).face_models_mb) - set(measure_sizes(older).face_models_mb) == {
        "face_detection_full_range_sparse.tflite"
    }


def test_the_figure_names_the_detector(
    tiny_bundle: Bundle, distant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
    sampler = FaceSampler()
    result = Detector(tiny_bundle, backend="tflite").detect(distant, watch=sampler.add)
    plot_video(result, sampler, tmp_path / "p.png", point=tiny_bundle.manifest.operating_point)
    legends = [axes.get_legend() for axes in drawn[0].axes if axes.get_legend() is not None]
    texts = [text.get_text() for legend in legends for text in legend.get_texts()]
    assert any(text.startswith("the face (full range): P ") for text in texts)
