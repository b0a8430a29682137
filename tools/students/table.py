"""Students of one teacher, one thing changed at a time: `python -m tools.students.table DATA --teacher T --out DIR`.

Each row is distilled from several seeds, at equal steps, and held against the teacher on clips of the test split, which
no choice was made by; then exported, and held against itself in INT8. `table.json` is written row by row: the same
call goes on where it was stopped. How long a student takes is measured by `tools.students.speed`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfkit.config import Config, DistillConfig, WidthConfig
from dfkit.data.datasets import ClipDataset
from dfkit.data.storage import PreparedData
from dfkit.distill.distill import (
    DistillationSetup,
    prepare_distillation,
    resized_setup,
    student_clip_spec,
    train_students,
)
from dfkit.experiment import read_config
from dfkit.export import tflite
from dfkit.export.compact import compact
from dfkit.export.parity import ParityClip, graph_logits
from dfkit.export.ranges import calibration_set, clip_arrays, evenly
from dfkit.export.recipes import INT8_DEFAULT, recipe_named
from dfkit.files import write_atomically
from dfkit.measures.decision import p_fake_of
from dfkit.measures.environment import cpu_model
from dfkit.measures.spread import spread
from dfkit.models.checkpoint import load_checkpoint
from dfkit.pipeline import prepare_view
from dfkit.runtime.backends import TfliteGraphs
from dfkit.training.loaders import clip_loader
from dfkit.training.losses import distill_loss
from dfkit.training.samplers import FixedOrder
from dfkit.training.scoring import clip_logits
from dfkit.training.task import ClipNetwork

HALF = DistillConfig().widths
QUARTER = WidthConfig(face_channels=(16, 32, 64), lip_channels=(8, 16, 32), gru_hidden=128)
SIZES = {224: {"face_px": 224, "lip_px": 96}, 160: {"face_px": 160, "lip_px": 64}, 112: {"face_px": 112, "lip_px": 48}}
ROWS: dict[str, dict[str, Any]] = {
    **{f"{side} {stem}": {**sides, "stem": stem} for side, sides in SIZES.items() for stem in ("conv3", "patch4")},
    "224 conv3 quarter": {"widths": QUARTER},
    "112 patch4 quarter": {**SIZES[112], "stem": "patch4", "widths": QUARTER},
    "112 patch4 features": {**SIZES[112], "stem": "patch4", "feature_weight": 1.0},
    "112 patch4 maps": {**SIZES[112], "stem": "patch4", "attention_weight": 1.0},
    "112 patch4 features, maps": {**SIZES[112], "stem": "patch4", "feature_weight": 1.0, "attention_weight": 1.0},
}
"""What a row changes in the section `distill`."""
NUM_INT8_CLIPS = 24


def main(argv: Sequence[str] | None = None) -> int:
    """Trains and measures every row that `table.json` does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared data at the teacher's size")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="experiment; its section distill is what every row starts from")
    parser.add_argument("--rows", help=f"some of {'; '.join(ROWS)}, with semicolons between; all where left out")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    table = arguments.out / "table.json"
    rows: list[dict[str, Any]] = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else []
    done = {row["name"] for row in rows}
    wanted = [name.strip() for name in arguments.rows.split(";")] if arguments.rows else list(ROWS)
    config = read_config(arguments.config)
    setup = prepare_distillation(arguments.teacher, arguments.data, config, make_view=prepare_view)
    for name in wanted:
        if name in done:
            continue
        section = DistillConfig.model_validate({**config.distill.model_dump(), "widths": HALF, **ROWS[name]})
        row = measure_row(name, setup, config.model_copy(update={"distill": section}), arguments.out)
        rows.append(row)
        write_atomically(table, json.dumps(rows, indent=1))
        print(row_line(row), flush=True)
    return 0


def measure_row(name: str, setup: DistillationSetup, config: Config, out: Path) -> dict[str, Any]:
    """Distils a row's students and measures them.

    Args:
        name: Of the row.
        setup: At any size.
        config: With the row's section.
        out: Gets a folder for its runs.
    """
    section = config.distill
    sized = resized_setup(setup, student_clip_spec(setup.base.spec, section), prepare_view)
    folder = out / name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    summary = train_students(sized, config, folder)
    seeds = [of_teacher(sized, Path(run) / "best.pth", section) for run in summary.variants[0]["runs"]]
    return {
        "name": name,
        "processor": cpu_model(),
        "train_clips": len(sized.indices["train"]),
        "test_clips": len(sized.indices["test"]),
        "steps": summary.variants[0]["steps"],
        "seeds": seeds,
        "test_auc": summary.variants[0]["test_auc"],
        "int8": of_int8(sized, Path(summary.checkpoint)),
    }


def of_teacher(setup: DistillationSetup, checkpoint: Path, section: DistillConfig) -> dict[str, float]:
    """A student against its teacher on the test clips: divergence (nats, softened), change of p_fake, same verdict."""
    network = load_checkpoint(checkpoint).network
    clips = ClipDataset(setup.data, sorted(setup.indices["test"]))
    found = clip_logits(ClipNetwork(network, setup.data.spec), clip_loader(clips, section, FixedOrder(len(clips))))
    student, teacher = torch.from_numpy(found.clip), setup.teacher_logits.clip_logits[found.indices]
    p_student, p_teacher = (p_fake_of(each.numpy(), calibration_temperature=1.0) for each in (student, teacher))
    return {
        "divergence": float(distill_loss(student, teacher, temperature=section.temperature)),
        "p_change": float(np.abs(p_student - p_teacher).mean()),
        "same_verdict": float(((p_student > 0.5) == (p_teacher > 0.5)).mean()),
    }


def of_int8(setup: DistillationSetup, checkpoint: Path) -> dict[str, float]:
    """A student's INT8 .tflite against its own float32 one on test clips, and their sizes in bytes."""
    network, data = load_checkpoint(checkpoint).network, setup.data
    calibration = calibration_set(network, data, setup.indices, 16)
    plain = tflite.convert(network, data.spec, calibration.clips)
    models = {
        "fp32": compact(plain),
        "int8": compact(tflite.quantize(plain, recipe_named(INT8_DEFAULT), network, data.spec, calibration.clips)),
    }
    chosen = evenly(sorted(setup.indices["test"]), NUM_INT8_CLIPS)
    clips = [ParityClip(str(index), "real", clip_arrays(data[index], data.spec)) for index in chosen]
    p_fake = {name: _p_fake(model, name, network, data, clips) for name, model in models.items()}
    change = np.abs(p_fake["int8"] - p_fake["fp32"])
    return {
        "model_bytes": len(models["int8"]),
        "fp32_bytes": len(models["fp32"]),
        "clips": len(clips),
        "mean_p_change": float(change.mean()),
        "max_p_change": float(change.max()),
    }


def _p_fake(model: bytes, recipe: str, network: Any, data: PreparedData, clips: list[ParityClip]) -> np.ndarray:
    backend = tflite.describe(model, network, data.spec, recipe)
    graphs = TfliteGraphs(backend, {tflite.MODEL_FILE: model}, num_threads=1, where=recipe)
    return p_fake_of(graph_logits(graphs, clips).clip, calibration_temperature=1.0)


def row_line(row: dict[str, Any]) -> str:
    """A row as one line of a Markdown table."""

    def text(key: str, scale: float) -> str:
        return spread([seed[key] * scale for seed in row["seeds"]]).text()

    int8 = row["int8"]
    return (
        f"| {row['name']} | {int8['model_bytes'] / 1e6:.3f} | {text('divergence', 1e3)} | {text('p_change', 1)} | "
        f"{text('same_verdict', 100)} | {int8['mean_p_change']:.4f}, {int8['max_p_change']:.4f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
