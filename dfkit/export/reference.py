"""What only measuring needs, beside the bundle in `<name>.reference/`, so that bench needs no torch.

`fp32/`: the float stages as a bundle. `straight/`: the same student at the teacher's CNN widths, converted without
any of this project's rewriting, on request. `logits.jsonl`: teacher and student on every held-out clip.
`export.json`: how long each conversion took, and on what.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dfkit.data.logits_file import read_teacher_logits
from dfkit.data.storage import PreparedData
from dfkit.export.bundle import write_bundle
from dfkit.export.parity import Logits, ParityClip, graph_logits
from dfkit.export.ranges import clip_arrays, evenly
from dfkit.export.stages import Graph, tflite_stage
from dfkit.export.straight import straight_model, straight_network, straight_spec
from dfkit.files import name_to_text, write_atomically
from dfkit.measures.environment import read_environment
from dfkit.models.checkpoint import TEACHER_PICTURE, Checkpoint
from dfkit.runtime.bundle import file_entry
from dfkit.runtime.manifest import Manifest
from dfkit.workspace import TEACHER_LOGITS_FILE

TIMES_FILE, LOGITS_FILE = "export.json", "logits.jsonl"
FLOAT_FOLDER, STRAIGHT_FOLDER = "fp32", "straight"
MAX_TRAINING_ROWS = 100
STRAIGHT_WARNING = "random weights: only the size and the time of this conversion mean anything"


def write_reference(
    folder: Path,
    checkpoint: Checkpoint,
    rows: list[dict[str, Any]],
    stages: dict[str, Graph],
    manifest: Manifest,
    *,
    straight: bool,
) -> None:
    """Writes the folder.

    Args:
        folder: Does not exist yet.
        checkpoint: The student.
        rows: From `reference_rows`.
        stages: From `convert_all`.
        manifest: The bundle's.
        straight: Whether the straight conversion is made, too; it takes about a minute.
    Raises:
        OSError: The disk is full.
        ConversionError: The straight conversion failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / LOGITS_FILE, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    seconds = {name: stage.seconds for name, stage in stages.items()}
    floats = {name.split()[0]: stage for name, stage in stages.items() if name.endswith("fp32")}
    write_graphs(folder / FLOAT_FOLDER, manifest, floats, {"name": f"{manifest.name}-fp32"})
    if straight:
        network = straight_network(checkpoint.network)
        spec = straight_spec(checkpoint.clip_spec, checkpoint.facts.get(TEACHER_PICTURE))
        start = time.perf_counter()
        model = straight_model(network, spec)
        own = Checkpoint(network, spec, "student", checkpoint.path)
        stage = tflite_stage(model, own, "fp32", start)
        changes = {
            "name": f"{manifest.name}-straight",
            "network": network.spec.model_dump(mode="json"),
            "clip_spec": spec,
            # Of the student's features, whose widths these are not.
            "familiarity": None,
            "warnings": (STRAIGHT_WARNING,),
        }
        write_graphs(folder / STRAIGHT_FOLDER, manifest, {"tflite": stage}, changes)
        seconds["straight"] = stage.seconds
    facts = {
        "schema_version": 1,
        "conversion_s": {name: round(value, 3) for name, value in seconds.items()},
        "environment": asdict(read_environment()),
    }
    (folder / TIMES_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def write_graphs(folder: Path, manifest: Manifest, stages: Mapping[str, Graph], changes: dict[str, Any]) -> None:
    """A bundle of these graphs alone, with parts of the manifest changed."""
    files = {name: content for stage in stages.values() for name, content in stage.files.items()}
    entries = {name: file_entry(content) for name, content in sorted(files.items())}
    backends = {name: stage.backend for name, stage in stages.items()}
    # The bundle beside it holds the face models: here they are named only.
    faces = {name: entry.model_copy(update={"file": None}) for name, entry in manifest.face_models.items()}
    changes = {"backends": backends, "files": entries, "face_models": faces, **changes}
    write_bundle(folder, files, manifest.model_copy(update=changes))


def reference_rows(
    data: PreparedData, indices: dict[str, list[int]], stages: dict[str, Graph], checkpoint: Checkpoint
) -> list[dict[str, Any]]:
    """Logits of teacher and student per validation and test clip, so that bench needs no torch.

    Where nothing is held out, of some training clips: they show what INT8 changes, and nothing about accuracy.
    """
    teacher = teacher_logits(checkpoint, data)
    kind = next(iter(stages)).split()[0]
    float_stage, int8_stage = stages[f"{kind} fp32"], stages.get(f"{kind} int8")
    parts: dict[str, Sequence[int]] = {split: indices[split] for split in ("val", "test")}
    if not any(parts.values()):
        parts = {"train": evenly(indices["train"], MAX_TRAINING_ROWS)}
    rows = []
    for split, clips in parts.items():
        for index in clips:
            key = data.clips[index]
            video = data.videos[key.video_index]
            clip = ParityClip(name_to_text(video.name), "real", clip_arrays(data[index], data.spec))
            row: dict[str, Any] = {
                "video": name_to_text(video.path),
                "group": key.group,
                "label": video.label,
                "method": video.method or "",
                "clip_label": key.label,
                "clip_start_s": key.start_s,
                "track_id": key.track_id,
                "split": split,
            }
            if teacher is not None:
                row["teacher"] = teacher(index)
            row["student_fp32"] = _rounded(graph_logits(float_stage.graphs, [clip]))
            if int8_stage is not None:
                row["student_int8"] = _rounded(graph_logits(int8_stage.graphs, [clip]))
            rows.append(row)
    return rows


def _rounded(logits: Logits) -> list[float]:
    return [round(float(value), 6) for value in logits.clip[0]]


def teacher_logits(checkpoint: Checkpoint, data: PreparedData) -> Callable[[int], list[float]] | None:
    """A function from clip index to the teacher's logits, to six decimals; None where the run kept none.

    Raises:
        DataError: They are logits of other videos than the data's.
    """
    path = checkpoint.path.parent / TEACHER_LOGITS_FILE
    if not path.is_file():
        return None
    stored = read_teacher_logits(path, data)

    def of(index: int) -> list[float]:
        return [round(float(value), 6) for value in stored(index)]

    return of
