"""The measurement of training speed: judged by hand-made runs, and made once on tiny clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.measures.environment import read_environment
from tests.training.tiny import SPEC
from tools.speed.made_data import make_synthetic_data
from tools.speed.training_speed import TrainingSpeed, _judge, main, measure_training, train_once

RUN = TrainingSpeed(
    num_clips=16,
    batch_size=8,
    num_workers=1,
    num_threads=1,
    clips_per_s=2.0,
    wait_share=0.05,
    steps=2,
    peak_mb=1000.0,
    accelerator="cpu",
)


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, ["pass", "pass"]),
        ({"wait_share": 0.10}, ["fail", "pass"]),
        ({"peak_mb": 1200.0}, ["pass", "fail"]),
        ({"peak_mb": None}, ["pass", "not judged"]),
        ({"wait_share": float("nan")}, ["fail", "pass"]),
    ],
)
def test_gates(changes: dict, verdicts: list[str]) -> None:
    large = replace(RUN, num_clips=64, **changes)
    assert [result.verdict for result in _judge(RUN, large, read_environment())] == verdicts


def test_steps_are_timed(tmp_path: Path) -> None:
    data_dir = make_synthetic_data(tmp_path / "x", num_videos=4, spec=SPEC)
    speed = train_once(data_dir, num_clips=4, batch_size=2, num_workers=0, num_threads=1)
    # Three epochs of two steps; neither the first epoch nor an epoch's first step counts.
    assert speed.steps == 2 and speed.clips_per_s > 0
    assert 0 < speed.wait_share < 1
    with pytest.raises(DataError, match="4 clips, 9 are asked for"):
        train_once(data_dir, num_clips=9, batch_size=2, num_workers=0, num_threads=1)


def test_too_few_clips_to_time_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"data_dir": None, "num_workers": 0, "num_threads": 1}
    with pytest.raises(DataError, match="less than two batches of 8"):
        measure_training(num_clips=63, batch_size=8, **options)
    assert main(["--clips", "8"]) == 2
    assert "Fix: --clips 64" in capsys.readouterr().err


def test_made_data_are_prepared_data_of_both_classes(tmp_path: Path) -> None:
    data = PreparedData(make_synthetic_data(tmp_path / "x", num_videos=3, clips_per_video=2, spec=SPEC))
    data.require_labels()
    assert [key.label for key in data.clips] == [0, 0, 1, 1, 0, 0]
    assert len({key.group for key in data.clips}) == 3
    record = data[3]
    assert record.face.shape == (50, 48, 48, 3) and record.frame_labels.tolist() == [1] * 50
