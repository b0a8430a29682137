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
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dfkit.demo.grid import grid_clips
from dfkit.experiment import read_config
from dfkit.files import write_atomically
from dfkit.models.checkpoint import load_checkpoint
from dfkit.starter import FOLDER
from dfkit.synthetic.heads import make_heads
from dfkit.training.checkpoints import save_checkpoint

CONFIG = Path(__file__).with_name("starter.yaml")
TABLES = ("clips/clips.csv", "clips2/clips.csv")
HEADS = 20
"""Synthetic speakers; the first eight are the demonstration's own and left to it."""
DEMO_HEADS = 8
VAL_HEADS = 4
HEAD_SECONDS = 4.0
FORGE_SEEDS = (0, 1)
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
        group = f"head_{path.stem.rsplit('-', 1)[0]}"
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
        command = [sys.executable, "-m", "dfkit", *map(str, arguments)]
        if arguments[0] not in ("evaluate", "verify"):
            command += ["--config", str(config)]
        subprocess.run([*command, "--workspace", str(self.work)], check=True)
        done.touch()

    def forge_config(self, seed: int) -> Path:
        """The experiment with another seed of the forge."""
        content = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        content["forge"]["seed"] = seed
        path = self.work / f"forge-{seed}.yaml"
        write_atomically(path, yaml.safe_dump(content))
        return path


def make_data(maker: Maker, clips: Path) -> Path:
    """Prepared twins, forgeries and synthetic heads of all seeds; returns the folder."""
    data = maker.work / "data"
    sources = write_table(data / "sources" / "labels.csv", source_rows(clips, maker.work / "heads"))
    maker.run("sources", "prepare", sources.parent, "--labels", sources, "--out", data / "reals")
    rows: list[Row] = []
    for seed in FORGE_SEEDS:
        out = data / f"forged-{seed}"
        maker.run(f"forge {seed}", "forge", "--data", data / "reals", "--out", out, config=maker.forge_config(seed))
        folder = out.with_name(f"{out.name}-videos")
        made = [row for row in read_table(folder / "labels.csv") if seed == FORGE_SEEDS[0] or row["label"] == "fake"]
        rows += [{**row, "path": str((folder / row["path"]).resolve())} for row in made]
    labels = write_table(data / "all" / "labels.csv", rows)
    maker.run("prepare", "prepare", labels.parent, "--labels", labels, "--out", data / "starter")
    return data / "starter"


def make_starter(clips: Path, work: Path) -> dict[str, Any]:
    """Data, teacher, student, bundle and what they do on videos of others; writes the package's files.

    Returns:
        Sizes and figures.
    """
    maker = Maker(work)
    data = make_data(maker, clips)
    maker.run("train", "train", "--data", data)
    teacher = work / "runs" / "starter" / "best.pth"
    maker.run("distill", "distill", "--teacher", teacher, "--data", data)
    student = work / "runs" / "starter-2" / "best.pth"
    maker.run(
        "export", "export", "--checkpoint", student, "--data", data, "--int8", "--format", "tflite",
        "--out", work / "exports" / "starter",
    )  # fmt: skip
    unknown = write_table(work / "unknown" / "labels.csv", unknown_rows(clips))
    maker.run("unknown", "prepare", unknown.parent, "--labels", unknown, "--out", work / "data" / "unknown")
    return {"teacher": str(teacher), "student": str(student)}


def ship(work: Path) -> None:
    """Puts teacher and bundle into the package."""
    teacher = load_checkpoint(work / "runs" / "starter" / "best.pth")
    save_checkpoint(
        FOLDER / "teacher.pth", teacher.network.half(), teacher.clip_spec, kind="teacher", facts=teacher.facts
    )
    shutil.rmtree(FOLDER / "bundle", ignore_errors=True)
    shutil.copytree(work / "exports" / "starter", FOLDER / "bundle")


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
