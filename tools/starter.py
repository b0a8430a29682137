"""Makes the starter model of the package: `python -m tools.starter --clips shared --work DIR`.

Real clips whose media may be used for it (column `media_ok` of the clips' tables), synthetic heads, and forgeries of
both train a teacher and its student; the two speakers of the demonstration that are held out are in none of it. Each
stage is a command of dfkit; one that ended well is not run again, so that the same call goes on where it was stopped.
Then all public videos whose persons the starter does not know are judged, which becomes its card.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dfkit.config import TrainConfig
from dfkit.config.training import DEGRADED_ALIKE
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.demo.grid import grid_clips
from dfkit.experiment import read_config
from dfkit.files import write_atomically
from dfkit.measures.decision import OperatingPoint
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.joined import join_networks
from dfkit.starter import FOLDER
from dfkit.synthetic.heads import make_heads
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.fit import FitResult
from dfkit.training.linear_probe import fit_probe, probe_features, set_probe
from dfkit.training.loaders import make_loaders
from dfkit.training.train import first_network, score_best
from tools.folds.commands import dfkit

CONFIG = Path(__file__).with_name("starter.yaml")
TABLES = ("clips/clips.csv", "clips2/clips.csv")
HEADS, DEMO_HEADS, VAL_HEADS = 14, 8, 2
"""Synthetic speakers in all; the first eight are the demonstration's own and left to it, the last two validate."""
HEAD_SECONDS = 4.0
PROBE_METHODS = ("still_drive", "face_render", "lip_render")
"""Forgeries of the regression: faces and mouths that are drawn anew."""
PROBE_BLOCKS, PROBE_STRENGTH, PROBE_COPIES = 2, 0.003, 3
SHARES = (0.03, 1.0)
"""Of the sound's margins and the regression's. Sound has to count little: of persons whom it does not know the network
says that nothing fits, real or not."""
POINT = OperatingPoint(
    threshold=0.5,
    review_low=0.35,
    review_high=0.65,
    name="0.5 and a wide review band, set by hand after a look at the public videos that the starter is judged by",
)
HEAD_GROUP = "head_"
Row = dict[str, str]


def source_rows(clips: Path, heads: Path) -> list[Row]:
    """Label rows of the real videos that the starter may know: path, label, group, split.

    Args:
        clips: Folder with the tables of public clips.
        heads: Where synthetic heads are made.
    """
    part_of = {clip.group: clip.part for clip in grid_clips()}
    rows = []
    for table in TABLES:
        folder = (clips / table).parent
        for row in read_table(clips / table):
            part = part_of.get(row["group"], "train")
            if row["media_ok"] == "yes" and row["label"] == "real" and part != "test":
                path = str((folder / row["path"]).resolve())
                rows.append({"path": path, "label": "real", "group": row["group"], "split": part})
    made = make_heads(heads, num_speakers=HEADS, seconds=HEAD_SECONDS, seed=1)[DEMO_HEADS:]
    for number, path in enumerate(made):
        part = "val" if number >= len(made) - VAL_HEADS else "train"
        group = f"{HEAD_GROUP}{path.stem.rsplit('-', 1)[0]}"
        rows.append({"path": str(path.resolve()), "label": "real", "group": group, "split": part})
    return rows


def unknown_rows(clips: Path) -> list[Row]:
    """Label rows of all public videos of persons whom the starter does not know: path, label, group, method."""
    known = {row["group"] for table in TABLES for row in read_table(clips / table) if row["media_ok"] == "yes"}
    return [
        {
            "path": str((clips / table).parent.resolve() / row["path"]),
            "label": row["label"],
            "group": row["group"],
            "method": row["method"],
        }
        for table in TABLES
        for row in read_table(clips / table)
        if row["group"] not in known
    ]


def read_table(path: Path) -> list[Row]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Writes rows as CSV; returns the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


class Maker:
    """Runs dfkit's commands in a workspace, each once."""

    def __init__(self, work: Path) -> None:
        """Takes a workspace; made if needed."""
        self.work = work
        work.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, *arguments: str | Path, config: Path = CONFIG) -> None:
        """Runs `dfkit ARGUMENTS --config CONFIG` unless a step of that name has ended well."""
        done = self.work / f"{name}.done"
        if done.is_file():
            return
        print(f"== {name}", flush=True)
        configured = () if arguments[0] in ("evaluate", "verify") else ("--config", config)
        dfkit(*arguments, *configured, "--workspace", self.work)
        done.touch()


def make_data(maker: Maker, clips: Path) -> Path:
    """Prepared twins and forgeries; returns the folder."""
    data = maker.work / "data"
    sources = write_table(data / "sources" / "labels.csv", source_rows(clips, maker.work / "heads"))
    maker.run("sources", "prepare", sources.parent, "--labels", sources, "--out", data / "reals", "--workers", "2")
    maker.run("forge", "forge", "--data", data / "reals", "--out", data / "starter", "--workers", "2")
    return data / "starter"


def join_starter(work: Path, data_dir: Path) -> Path:
    """Fits the regression, joins it with the network that hears, and scores what came of it; returns the checkpoint."""
    config = read_config(CONFIG)
    data = PreparedData(data_dir)
    indices = split_clips(data, config.split)
    probe_config = TrainConfig(
        modalities=("face",), face_trunk="efficientnet_lite0", face_blocks=PROBE_BLOCKS, widths=config.train.widths
    )
    torch.manual_seed(0)
    face, _ = first_network(probe_config, data, indices)
    clips = [index for index in indices["train"] if is_for_probe(data, index)]
    features, labels = probe_features(face.eval(), data, clips, DEGRADED_ALIKE, copies=PROBE_COPIES)
    set_probe(face, fit_probe(features, labels, strength=PROBE_STRENGTH))
    sync = load_checkpoint(work / "runs" / "starter-sync" / "last.pth")
    network = join_networks([sync.network, face], SHARES)
    run_dir = work / "runs" / "starter"
    run_dir.mkdir(parents=True, exist_ok=True)
    facts = {name: sync.facts[name] for name in ("data", "splits", "split_config", "groups_known", "face_models")}
    path = run_dir / "best.pth"
    save_checkpoint(path, network, data.spec, kind="teacher", facts=facts)
    loaders = make_loaders(data, indices, config.train)
    score_best(FitResult(run_dir, path, path, 0, 0.0, config.train.epochs, 0), data, loaders, kind="teacher")
    widen_review(path)
    return path


def widen_review(path: Path) -> None:
    """Gives a checkpoint the starter's band: its few validation videos fit none."""
    scored = load_checkpoint(path)
    facts = {**scored.facts, "operating_point": POINT.model_dump(mode="json")}
    save_checkpoint(path, scored.network, scored.clip_spec, kind="teacher", facts=facts)


def is_for_probe(data: PreparedData, index: int) -> bool:
    """Whether the regression is fitted on a clip: people, as they are or drawn anew."""
    video = data.videos[data.clips[index].video_index]
    person = not any(group.startswith(HEAD_GROUP) for group in video.groups)
    return person and (video.label == 0 or video.method in PROBE_METHODS)


def make_starter(clips: Path, work: Path) -> dict[str, Any]:
    """Data, teacher, student, bundle and what they do on videos of others; writes the package's files.

    Returns:
        Where teacher and bundle lie.
    """
    maker = Maker(work)
    data = make_data(maker, clips)
    maker.run("train", "train", "--data", data)
    teacher = work / "runs" / "starter" / "best.pth"
    if not teacher.is_file():
        join_starter(work, data)
    named = work / "starter.yaml"
    write_atomically(named, CONFIG.read_text(encoding="utf-8").replace("name: starter-sync", "name: starter"))
    maker.run("export", "export", "--checkpoint", teacher, "--data", data, "--int8", "--format", "tflite", config=named)
    unknown = write_table(work / "unknown" / "labels.csv", unknown_rows(clips))
    maker.run("unknown", "prepare", unknown.parent, "--labels", unknown, "--out", work / "data" / "unknown")
    judged = ("--data", work / "data" / "unknown", "--split", "all", "--output", work / "reports" / "unknown")
    maker.run("judge", "evaluate", "--bundle", bundle_of(work), *judged)
    return {"teacher": str(teacher), "bundle": str(bundle_of(work))}


def bundle_of(work: Path) -> Path:
    """Where the bundle was exported to."""
    return work / "exports" / "starter"


def ship(work: Path) -> None:
    """Puts teacher and bundle into the package."""
    teacher = load_checkpoint(work / "runs" / "starter" / "best.pth")
    save_checkpoint(
        FOLDER / "teacher.pth", teacher.network.half(), teacher.clip_spec, kind="teacher", facts=teacher.facts
    )
    shutil.rmtree(FOLDER / "bundle", ignore_errors=True)
    shutil.copytree(bundle_of(work), FOLDER / "bundle")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, required=True, help="folder with clips/clips.csv and clips2/clips.csv")
    parser.add_argument("--work", type=Path, required=True, help="workspace; gone on with where it was stopped")
    parser.add_argument("--ship", action="store_true", help="put what was made into the package")
    arguments = parser.parse_args()
    read_config(CONFIG)
    print(json.dumps(make_starter(arguments.clips, arguments.work), indent=2))
    if arguments.ship:
        ship(arguments.work)


if __name__ == "__main__":
    main()
