"""A whole search on a tiny teacher: real exports, real training, and what happens after an interruption."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import Config
from dfkit.distill.search import run as search_run
from dfkit.distill.search.run import SearchSummary, search_student
from dfkit.errors import ConfigError
from dfkit.export.compact import compact
from dfkit.models.checkpoint import load_checkpoint
from dfkit.runtime.backends import TfliteGraphs
from dfkit.training.run_summary import RESULTS_FILE
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import WIDTHS
from tools.speed.made_data import make_synthetic_data

# Six pictures: a `score` of six steps converts in a fraction of the time.
SPEC = ClipSpec(num_frames=6, hop_s=0.12, picture=PictureSpec(face_px=48, lip_px=32))


def tiny_search(**search: Any) -> Config:
    shared = {
        "epochs": 1,
        "batch_size": 4,
        "num_threads": 1,
        "accelerator": "cpu",
    }
    widths = {"cnn_shares": [0.5], "gru_hidden": [16, 8], "calibration_clips": 2, "repeats": 5}
    widths |= {"face_px": [48], "stems": ["conv3"]}
    content = {
        "name": "tiny",
        "clip": SPEC.model_dump(),
        "split": {"val_share": 0.34, "test_share": 0.34, "refit": False},
        "train": {**shared, "widths": WIDTHS, "dense_dim": 8, "face_trunk": "mmms_ba", "augment": {}},
        "distill": {**shared, "seeds": 2, "search": {**widths, **search}},
    }
    return Config.model_validate(content)


class InterruptedSearchError(Exception):
    """What stands for a kill."""


def no_view(*_: object) -> Path:
    raise AssertionError("teacher and student see the same clips")


def search(workspace: Workspace, data: Path, config: Config) -> SearchSummary:
    teacher = workspace.newest_run("teacher") / "best.pth"
    return search_student(teacher, data, workspace, config, make_view=no_view, report_progress=lambda _: None)


def test_search_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_synthetic_data(tmp_path / "data" / "x", num_videos=8, spec=SPEC)
    workspace = Workspace(tmp_path)
    train_teacher(data, workspace, tiny_search())
    config = tiny_search(points=2, target_mb=1.0)

    trained: list[Path] = []
    real = search_run.train_students

    def train_once(setup: Any, config: Config, folder: Path) -> Any:
        if trained:
            raise InterruptedSearchError
        trained.append(folder)
        return real(setup, config, folder)

    opened: list[int] = []
    make_interpreter = TfliteGraphs.interpreter_class()

    def count_opened(**arguments: Any) -> Any:
        opened.append(len(arguments["model_content"]))
        return make_interpreter(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TfliteGraphs, "interpreter_class", staticmethod(lambda: count_opened))
        patch.setattr(search_run, "train_students", train_once)
        with pytest.raises(InterruptedSearchError):
            search(workspace, data, config)
    folder = tmp_path / "runs" / "tiny-search"
    kept = {path: path.stat().st_mtime_ns for path in [*folder.glob("graphs/*"), *trained[0].rglob("best.pth")]}
    assert len(kept) == 2 * 3 + 3  # one encode and two score, INT8 and FP32; two seeds and the better one's copy
    assert len(opened) == 2 * 3  # candidates share what they have in common
    first_seed = json.loads((trained[0] / "seed-0" / RESULTS_FILE).read_text(encoding="utf-8"))

    # Named with --resume it is refused under another configuration; unnamed it is found by its request.
    teacher = workspace.newest_run("teacher") / "best.pth"
    other = tiny_search(points=1, target_mb=1.0)
    with pytest.raises(ConfigError, match=r"different: distill\.search\.points"):
        search_student(
            teacher, data, workspace, other, make_view=no_view, report_progress=lambda _: None, resume=folder
        )
    summary = search(workspace, data, config)
    assert summary.run_dir == str(folder)
    seeds = [path for path in kept if path.parent.name.startswith("seed") or path.suffix == ".tflite"]
    assert all(path.stat().st_mtime_ns == kept[path] for path in seeds)
    assert json.loads((trained[0] / "seed-0" / RESULTS_FILE).read_text(encoding="utf-8")) == first_seed

    check_search(summary, folder, workspace)
    # The same request again is a new search: nothing is overwritten. Its targets cannot be met.
    with pytest.raises(ConfigError, match=r"none of 1 measured candidates is within 0.001 MB; the nearest is cnn-0.5"):
        share_graphs(folder, monkeypatch)
        search(workspace, data, tiny_search(target_mb=0.001))
    assert (tmp_path / "runs" / "tiny-search-2" / "measured.json").is_file()


def share_graphs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a second search find the graphs of the first: conversions take most of the time."""
    real = search_run.make_bench

    def shared(setup: Any, run_dir: Path, section: Any) -> Any:
        bench = real(setup, run_dir, section)
        bench.folder = folder / "graphs"
        return bench

    monkeypatch.setattr(search_run, "make_bench", shared)


def check_search(summary: SearchSummary, folder: Path, workspace: Workspace) -> None:
    assert len(summary.points) == 2 and all(len(p.val_auc.values) == 2 for p in summary.points)
    best = next(p for p in summary.points if p.measurement.label == summary.best)
    assert best.val_auc.mean == max(-1 if p.val_auc.mean is None else p.val_auc.mean for p in summary.points)
    # Exported apart or in one file, a candidate is the same: 2 % and 3 kB of tables at this tiny size.
    assert summary.whole.model_mb == pytest.approx(best.measurement.model_mb, rel=0.02, abs=0.003)
    whole = (folder / "graphs" / f"whole-{summary.best}.tflite").read_bytes()
    assert len(whole) == round(summary.whole.model_mb * 1e6) == len(compact(whole))
    protocols = [line for line in summary.summary() if line.startswith("protocol: ")]
    assert [part in line for line, part in zip(protocols, ("; val part; ", "; test part; "), strict=True)] == [
        True,
        True,
    ]
    # What is taken is what `dfkit export` finds.
    assert workspace.newest_run("student") == folder
    assert load_checkpoint(folder / "best.pth").network.spec == best.candidate.spec
    rows = list(csv.DictReader((folder / "search.csv").open(encoding="utf-8")))
    assert {row["label"] for row in rows} == {"cnn-0.5-gru-16", "cnn-0.5-gru-8"}
    assert json.loads((folder / "search.json").read_text(encoding="utf-8"))["best"] == summary.best
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")
    assert {row["processor"] for row in rows} == {summary.processor} and summary.processor in summary.summary()[0]
    assert all(float(row["fp32_mb"]) > 1.2 * float(row["model_mb"]) for row in rows)
    assert any("validation" in line for line in summary.summary())
