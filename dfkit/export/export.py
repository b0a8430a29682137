"""`dfkit export`: a trained student to a verified bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import dfkit
from dfkit.benchmarks.gates import MIN_GROUPS
from dfkit.clip import ClipSpec
from dfkit.config import Config, SplitConfig
from dfkit.data.samples import ClipRecord
from dfkit.data.storage import PreparedData
from dfkit.distill.distill import TEACHER_LOGITS_FILE
from dfkit.distill.loaders import split_clips
from dfkit.errors import ConfigError, DataError, ParityError
from dfkit.export import golden, onnx_graph, tflite
from dfkit.export.bundle import (
    CARD_FILE,
    GoldenWriter,
    face_model_entries,
    file_entry,
    free_folder,
    versions,
    write_bundle,
)
from dfkit.export.card import model_card
from dfkit.export.compact import compact
from dfkit.export.parity import (
    Logits,
    ParityClip,
    ParityReport,
    graph_logits,
    run_parity,
    sound_of,
    torch_logits,
)
from dfkit.export.recipes import INT8_DEFAULT, recipe_named
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.runtime.backends import Graphs, OnnxGraphs, TfliteGraphs
from dfkit.runtime.manifest import Backend, Calibration, Manifest, OperatingPoint
from dfkit.runtime.whole_video import pool_steps

Format = Literal["tflite", "onnx", "all"]
# Every n-th picture of a calibration clip: neighbours differ little.
CALIBRATION_STEP = 10
# The same engine on another CPU sums in another order; XNNPACK and the plain kernels differ by up to 0.04 in int8.
GOLDEN_TOLERANCE = {"features": 0.05, "logits": 0.05}


@dataclass(frozen=True)
class Graph:
    """One converted runtime: files, their description, and the loaded graphs."""

    files: dict[str, bytes]
    backend: Backend
    graphs: Graphs


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote."""

    checkpoint: str
    bundle: str
    archive: str
    reference: str
    model_bytes: dict[str, int]
    parity: ParityReport
    warnings: tuple[str, ...]

    def summary(self) -> list[str]:
        """Lines for people."""
        sizes = ", ".join(f"{name} {size / 1e6:.3f} MB" for name, size in self.model_bytes.items())
        return [f"{self.checkpoint} -> {self.bundle} and .zip ({sizes})", *self.warnings]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {**vars(self), "parity": self.parity.to_json(), "warnings": list(self.warnings)}


def clip_arrays(record: ClipRecord, spec: ClipSpec) -> dict[str, np.ndarray]:
    """A stored clip as the runtime's inputs."""
    pictures = {"face": record.face, "lip": record.lip}
    if spec.preset == "clip2s":
        return pictures | {"pcm": record.waveform}
    return pictures | {"mfcc": pool_steps(record.mfcc, spec.num_frames)}


def evenly(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of the indices, spread over all of them."""
    if not indices:
        return []
    places = np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int))
    return [indices[place] for place in places]


def calibration_set(
    data: PreparedData, indices: Sequence[int], count: int
) -> tuple[list[dict[str, np.ndarray]], dict[str, Any]]:
    """Calibration clips and their names for the manifest."""
    chosen = evenly(indices, count)
    arrays = []
    for index in chosen:
        values = clip_arrays(data[index], data.spec)
        arrays.append({**values, "face": values["face"][::CALIBRATION_STEP], "lip": values["lip"][::CALIBRATION_STEP]})
    names = [f"{Path(data.videos[data.clips[i].video_index].path).name}@{data.clips[i].start_s:.2f}" for i in chosen]
    return arrays, {"split": "train", "num_clips": len(chosen), "clips": names}


def convert_all(
    checkpoint: Checkpoint, formats: Sequence[str], recipe_name: str, calibration: list[dict[str, np.ndarray]]
) -> dict[str, Graph]:
    """Every stage of the chosen formats, by name: `tflite fp32`, `tflite int8`, `onnx fp32`, `onnx int8`."""
    network, spec = checkpoint.network, checkpoint.clip_spec
    recipe = recipe_named(recipe_name)
    stages: dict[str, Graph] = {}
    if "tflite" in formats:
        plain = tflite.convert(network, spec)
        stages["tflite fp32"] = _tflite_stage(compact(plain), checkpoint, "fp32")
        if recipe.rules:
            quantized = tflite.quantize(plain, recipe, network, spec, calibration)
            stages["tflite int8"] = _tflite_stage(compact(quantized), checkpoint, recipe.name)
    if "onnx" in formats:
        graphs = onnx_graph.convert(network, spec)
        stages["onnx fp32"] = _onnx_stage(graphs, checkpoint, "fp32")
        if recipe.name not in ("fp32", "fp16"):
            stages["onnx int8"] = _onnx_stage(onnx_graph.quantize(graphs, calibration, network), checkpoint, "qdq_int8")
    return stages


def _tflite_stage(model: bytes, checkpoint: Checkpoint, recipe: str) -> Graph:
    files = {tflite.MODEL_FILE: model}
    backend = tflite.describe(model, checkpoint.network, recipe)
    return Graph(files, backend, TfliteGraphs(backend, files, num_threads=1, where="export"))


def _onnx_stage(files: dict[str, bytes], checkpoint: Checkpoint, recipe: str) -> Graph:
    backend = onnx_graph.describe(files, checkpoint.network, checkpoint.clip_spec, recipe)
    return Graph(files, backend, OnnxGraphs(backend, files, num_threads=1, where="export"))


def golden_vectors(checkpoint: Checkpoint, shipped: dict[str, Graph]) -> tuple[dict[str, bytes], list[str]]:
    """Golden files of the shipped graphs, and warnings about what they lack."""
    spec = checkpoint.clip_spec
    candidates = golden.synthetic_clips(spec)
    logits = torch_logits(checkpoint.network, spec, candidates)
    clips = golden.choose_golden(candidates, logits.clip[:, 1] - logits.clip[:, 0], spec)
    writer = GoldenWriter({name: GOLDEN_TOLERANCE for name in shipped})
    for clip in clips[: golden.NUM_PICTURES // 2]:
        for place in (0, spec.num_frames // 2):
            pictures = {m: clip.arrays[m][place : place + 1] for m in ("face", "lip")}
            outputs = {name: stage.graphs.encode(pictures) for name, stage in shipped.items()}
            writer.add("encode", f"{clip.name}, picture {place}", pictures, outputs)
    first = next(iter(shipped.values())).graphs
    cases = [(c.name, first.encode(c.arrays) | sound_of(c.arrays)) for c in clips]
    margins = [float(value[1] - value[0]) for value in (first.score(inputs)[1] for _, inputs in cases)]
    if min(margins) > 0 or max(margins) < 0:
        # No clip is decided the other way: features are, that were pushed there.
        name, inputs = cases[int(np.argmin(np.abs(margins)))]
        pushed = golden.push_over(checkpoint.network, spec, inputs, towards_fake=max(margins) < 0)
        cases.append((f"{name}, features pushed over the threshold", pushed))
    margins = []
    for name, inputs in cases:
        outputs = {}
        for backend, stage in shipped.items():
            frame, value = stage.graphs.score(inputs)
            outputs[backend] = {"frame_logits": frame, "clip_logits": value}
            margins.append(float(value[1] - value[0]))
        writer.add("score", name, inputs, outputs)
    lacking = [name for name, there in (("fake", max(margins) > 0), ("real", min(margins) < 0)) if not there]
    warnings = [f"no golden vector is decided as {name}: the model calls everything the same" for name in lacking]
    return writer.content(), warnings


def reference_rows(
    data: PreparedData, indices: dict[str, list[int]], stages: dict[str, Graph], checkpoint: Checkpoint
) -> list[dict[str, Any]]:
    """Logits of teacher and student per validation and test clip, so that bench needs no torch."""
    teacher = teacher_logits(checkpoint, data)
    kind = next(iter(stages)).split()[0]
    float_stage, int8_stage = stages[f"{kind} fp32"], stages.get(f"{kind} int8")
    rows = []
    for split in ("val", "test"):
        for index in indices[split]:
            key = data.clips[index]
            video = data.videos[key.video_index]
            clip = ParityClip(video.name, "real", clip_arrays(data[index], data.spec))
            row: dict[str, Any] = {
                "video": video.path,
                "group": key.group,
                "label": video.label,
                "method": video.method or "",
                "clip_label": key.label,
                "clip_start_s": key.start_s,
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


def teacher_logits(checkpoint: Checkpoint, data: PreparedData) -> Any:
    """A function from clip index to the teacher's logits, or None where the run kept none."""
    path = checkpoint.path.parent / TEACHER_LOGITS_FILE
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        logits, by_video = stored["clip_logits"], bool(stored["by_video"])
    expected = len(data.videos) if by_video else len(data)
    if len(logits) != expected:
        raise DataError(
            f"{path}: logits of {len(logits)} clips, the data has {expected}: it was prepared anew since",
            fix="run dfkit distill again",
        )

    def of(index: int) -> list[float]:
        row = data.clips[index].video_index if by_video else index
        return [round(float(value), 6) for value in logits[row]]

    return of


def export_student(
    checkpoint_path: str | Path,
    exports_dir: Path,
    config: Config,
    *,
    formats: Format = "tflite",
    recipe: str | None = None,
    data_dir: str | Path | None = None,
    on_parity: Any = None,
) -> ExportSummary:
    """Converts, quantizes, proves and writes a bundle.

    Args:
        checkpoint_path: Of a student or teacher that dfkit trained.
        exports_dir: Folder that gets `<name>/`, `<name>.zip` and `<name>.reference/`.
        config: The experiment.
        formats: Which runtimes.
        recipe: Quantization recipe; the configuration's where None.
        data_dir: Prepared data for calibration and parity; the one the checkpoint was trained on where None.
        on_parity: Called with the report before it is judged.
    Raises:
        ParityError: A stage departs; nothing is written.
        DataError: The data is gone or was prepared under another contract.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    if checkpoint.kind == "original":
        raise ConfigError(
            f"{checkpoint_path}: an original checkpoint is a teacher and has no clip contract to export",
            fix=f"dfkit distill --teacher {checkpoint_path}, then export the student",
        )
    data = PreparedData(data_dir or checkpoint.facts["data"])
    if data.spec != checkpoint.clip_spec:
        raise DataError(
            f"{data.path}: prepared under another clip contract than {checkpoint_path} was trained on",
            fix="give the data it was trained on with --data",
        )
    indices = split_clips(data, SplitConfig.model_validate(checkpoint.facts["split_config"]))
    calibration, calibration_facts = calibration_set(data, indices["train"], config.export.calibration_clips)
    wanted = ("tflite", "onnx") if formats == "all" else (formats,)
    stages = convert_all(checkpoint, wanted, recipe or INT8_DEFAULT, calibration)

    held_out = evenly([*indices["test"], *indices["val"]], config.export.parity_clips)
    real = [
        ParityClip(data.videos[data.clips[i].video_index].name, "real", clip_arrays(data[i], data.spec))
        for i in held_out
    ]
    loaded = {name: stage.graphs for name, stage in stages.items()}
    clips = [*real, *golden.worst_cases(data.spec)]
    report = run_parity(checkpoint.network, data.spec, clips, loaded)
    if on_parity is not None:
        on_parity(report)
    failure = report.first_failure()
    if failure is not None:
        raise ParityError(
            f"parity failed at '{failure.stage}' against '{failure.reference}' on {failure.num_clips} "
            f"{failure.kind} clips: "
            f"largest difference {failure.max_difference:.3g}, {failure.flips} flips, p_fake changes by "
            f"{failure.max_p_change:.3g}; no bundle was written",
            fix="try --recipe dynamic_int8 or fp32, or more calibration clips (export.calibration_clips)",
        )
    return _write(checkpoint, data, indices, stages, report, calibration_facts, exports_dir, config)


def _write(
    checkpoint: Checkpoint,
    data: PreparedData,
    indices: dict[str, list[int]],
    stages: dict[str, Graph],
    report: ParityReport,
    calibration_facts: dict[str, Any],
    exports_dir: Path,
    config: Config,
) -> ExportSummary:
    runtimes = list(dict.fromkeys(name.split()[0] for name in stages))
    shipped = {name: stages.get(f"{name} int8", stages[f"{name} fp32"]) for name in runtimes}
    golden_files, warnings = golden_vectors(checkpoint, shipped)
    warnings += data_warnings(checkpoint, data)
    files = {name: content for stage in shipped.values() for name, content in stage.files.items()} | golden_files
    target = free_folder(exports_dir, config.name)
    manifest = make_manifest(checkpoint, target.name, shipped, report, calibration_facts, warnings)
    files[CARD_FILE] = model_card(manifest).encode()
    manifest = manifest.model_copy(
        update={"files": {name: file_entry(content) for name, content in sorted(files.items())}}
    )
    write_bundle(target, files, manifest)
    reference = write_reference(target, checkpoint, data, indices, stages, manifest)
    sizes = {name: len(content) for stage in shipped.values() for name, content in stage.files.items()}
    return ExportSummary(
        checkpoint=str(checkpoint.path),
        bundle=str(target),
        archive=f"{target}.zip",
        reference=str(reference),
        model_bytes=sizes,
        parity=report,
        warnings=tuple(warnings),
    )


def data_warnings(checkpoint: Checkpoint, data: PreparedData) -> list[str]:
    """What a reader has to know before trusting figures measured on this data."""
    splits = checkpoint.facts["splits"]
    groups = {group for part in splits.values() for group in part["groups"]}
    warnings = []
    if len(groups) < MIN_GROUPS:
        warnings.append(f"{len(groups)} groups of speakers make a demonstration, not a detector")
    if not data.groups_known:
        warnings.append("groups unknown: persons may leak")
    if data.spec.preset == "uniform50":
        warnings.append("uniform50 spreads 50 frames over a whole video: its length may give the label away")
    return warnings


def make_manifest(
    checkpoint: Checkpoint,
    name: str,
    shipped: dict[str, Graph],
    report: ParityReport,
    calibration_facts: dict[str, Any],
    warnings: list[str],
) -> Manifest:
    """The manifest without its file entries."""
    facts = checkpoint.facts
    measured = {
        "data": {"splits": facts["splits"], "groups_known": facts["groups_known"]},
        "student": facts.get("metrics", {}),
        "teacher": facts.get("teacher_metrics", {}),
        "parameters": facts.get("parameters"),
        "teacher_parameters": facts.get("teacher_parameters"),
        "parity": report.to_json(),
    }
    return Manifest(
        name=name,
        dfkit_version=dfkit.__version__,
        clip_spec=checkpoint.clip_spec,
        modalities=checkpoint.network.spec.modalities,
        network=checkpoint.network.spec.model_dump(mode="json"),
        backends={runtime: stage.backend for runtime, stage in shipped.items()},  # type: ignore[misc]
        operating_point=OperatingPoint.model_validate(facts["operating_point"]),
        calibration=Calibration.model_validate(facts["calibration"]),
        files={},
        face_models=face_model_entries(),
        metrics=measured,
        calibration_set=calibration_facts,
        warnings=tuple(warnings),
        versions=versions(),
    )


def write_reference(
    target: Path,
    checkpoint: Checkpoint,
    data: PreparedData,
    indices: dict[str, list[int]],
    stages: dict[str, Graph],
    manifest: Manifest,
) -> Path:
    """What only measuring needs, beside the bundle: an FP32 bundle and the logits of teacher and student."""
    folder = target.with_name(f"{target.name}.reference")
    folder.mkdir(parents=True, exist_ok=True)
    rows = reference_rows(data, indices, stages, checkpoint)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "logits.jsonl").write_text(text, encoding="utf-8")
    float_stages = {name.split()[0]: stage for name, stage in stages.items() if name.endswith("fp32")}
    files = {name: content for stage in float_stages.values() for name, content in stage.files.items()}
    plain = manifest.model_copy(
        update={
            "name": f"{manifest.name}-fp32",
            "backends": {name: stage.backend for name, stage in float_stages.items()},
            "files": {name: file_entry(content) for name, content in sorted(files.items())},
        }
    )
    write_bundle(free_folder(folder, "fp32"), files, plain)
    return folder
