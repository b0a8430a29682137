"""Do unlabelled videos help, and is it their pseudo-labels that do? An experiment.

Cuts prepared data by group: a test part, and of the rest one half with labels and one without. Trains as
`dfkit train --unlabelled --unlabelled-control` does: on the labelled half alone, with pseudo-labels of the other half,
and with the same videos under shuffled labels. With `--whole` the network of both halves under their true labels stands
beside them. Every network is judged on the same test part.

    python tools/pseudo_labels.py DATA --out OUT --config lite.yaml --splits 3
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.config import Config
from dfkit.data import catalog
from dfkit.data.catalog import VideoRow
from dfkit.data.grouped_cuts import SplitRows, cut_part
from dfkit.data.shards import write_index
from dfkit.data.splits import make_split
from dfkit.data.storage import PreparedData
from dfkit.experiment import read_config
from dfkit.files import write_atomically
from dfkit.training.run_summary import video_auc
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace

TEST_SHARE, VAL_SHARE = 0.3, 0.15


def part_of(data: PreparedData, folder: Path, rows: Sequence[VideoRow]) -> Path:
    """Prepared data of some of the videos; the chunks are linked."""
    folder.mkdir(parents=True)
    chunks = [chunk for row in rows for chunk in row.chunks]
    for chunk in chunks:
        os.link(Path(data.path) / chunk.file, folder / chunk.file)
    write_index(folder, chunks)
    catalog.write_videos(folder, rows)
    write_atomically(folder / catalog.DATA_FILE, catalog.dump_info(data.info))
    return folder


def cut(data: PreparedData, folder: Path, seed: int) -> tuple[Path, Path, Path]:
    """Folders of the labelled half with validation and test part, of the unlabelled half, and of both with labels."""
    split = make_split(data, val_share=VAL_SHARE, test_share=TEST_SHARE, seed=seed, use_given=False)
    rows = SplitRows.of(data)
    place_of = {video: place for place, video in enumerate(rows.positions)}
    train = np.array([place_of[video] for video in split.train])
    labelled, unlabelled = (
        [rows.positions[place] for place in part] for part in cut_part(rows, train, 0.5, seed, "unlabelled")
    )
    named = {"train": labelled, "val": split.val, "test": split.test}
    known = [replace(data.videos[v], split=name) for name, videos in named.items() for v in videos]
    further = [data.videos[video] for video in unlabelled]
    every = [*known, *(replace(row, split="train") for row in further)]
    return (
        part_of(data, folder / "labelled", known),
        part_of(data, folder / "unlabelled", further),
        part_of(data, folder / "both", every),
    )


def with_unlabelled(config: Config, folder: Path, confidence: float) -> Config:
    """The experiment with unlabelled videos, one round, and its control."""
    content = config.model_dump(mode="json")
    content["train"]["unlabelled"] |= {"folders": [str(folder)], "confidence": confidence, "control": True}
    return Config.model_validate(content)


def run_split(
    data: PreparedData, out: Path, config: Config, *, seed: int, confidence: float, whole: bool
) -> dict[str, Any]:
    """Counts and AUC of one split."""
    labelled, unlabelled, both = cut(data, out, seed)
    workspace = Workspace(out)
    run = train_teacher(labelled, workspace, with_unlabelled(config, unlabelled, confidence))
    assert run.pseudo_labels is not None
    first, *others = run.pseudo_labels["rounds"]
    row = {"seed": seed, "alone": first["test_auc"], "control": None, **others[-1]}
    if (control := run.pseudo_labels["control"]) is not None:
        row |= {"control": control["test_auc"], "control_right": control["right"]}
    if whole:
        true_run = train_teacher(both, workspace, config)
        row["whole"] = video_auc(true_run, "test")
    return row


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared data with labels of all videos")
    parser.add_argument("--out", type=Path, required=True, help="new folder on the same disk")
    parser.add_argument("--config", type=Path, required=True, help="the experiment; its split is not looked at")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--whole", action="store_true", help="also train on both halves with their true labels")
    arguments = parser.parse_args()
    data = PreparedData(arguments.data)
    config = read_config(arguments.config)
    config = config.model_copy(update={"clip": data.spec})
    rows = []
    for seed in range(arguments.splits):
        folder = arguments.out / f"split_{seed}"
        whole, confidence = arguments.whole, arguments.confidence
        rows.append(run_split(data, folder, config, seed=seed, confidence=confidence, whole=whole))
        print(json.dumps(rows[-1]), flush=True)
        write_atomically(arguments.out / "pseudo_labels.json", json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
