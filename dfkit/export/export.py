"""`dfkit export`: a trained student to a verified bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

import dfkit
from dfkit.clip import DEFAULT_FACES, FaceVariant
from dfkit.config import Config, SplitConfig
from dfkit.data.splits import joined_parts, split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import CheckpointError, ConfigError, ConversionError, DataError, ParityError
from dfkit.export.bundle import (
    CARD_FILE,
    REFERENCE_SUFFIX,
    face_model_files,
    free_folder,
    full_disk_named,
    keep_log,
    versions,
    with_manifest,
    write_bundle,
)
from dfkit.export.card import model_card
from dfkit.export.familiarity import measure_familiarity
from dfkit.export.first_run import run_first
from dfkit.export.golden import golden_vectors
from dfkit.export.golden_head import shipped_limits, video_files
from dfkit.export.layers import LayerReport, compare_layers
from dfkit.export.parity import (
    ParityClip,
    ParityReport,
    run_parity,
    worst_cases,
)
from dfkit.export.ranges import CalibrationSet, calibration_set, clip_arrays, evenly
from dfkit.export.recipes import recipe_named
from dfkit.export.reference import reference_rows, write_reference
from dfkit.export.stages import PROGRAM_STAGES, Graph, convert_all
from dfkit.files import move_folder, name_to_text, scratch_folder
from dfkit.measures.decision import Decision
from dfkit.measures.gates import MIN_GROUPS
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.runtime.bundle import face_model_entries, file_entry
from dfkit.runtime.golden_index import GOLDEN_FILE
from dfkit.runtime.manifest import DecisionEntry, Manifest
from dfkit.runtime.schema import SCHEMA_FILE, SHIPPED
from dfkit.runtime.serving import serving_of
from dfkit.weights.selection import WeightsChoice
from dfkit.workspace import URL_MARK, find_stored

Format = Literal["tflite", "onnx", "all", "executorch", "coreai"]
NEEDED_FACTS = ("data", "split_config", "splits", "groups_known", "operating_point", "calibration")


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
    notes: tuple[str, ...] = ()
    """What was tried on the way."""

    def summary(self) -> list[str]:
        """Lines for people."""
        sizes = ", ".join(f"{name} {size / 1e6:.3f} MB" for name, size in self.model_bytes.items())
        return [f"{self.checkpoint} -> {self.bundle} and .zip ({sizes})", *self.notes, *self.warnings]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            **vars(self),
            "parity": self.parity.to_json(),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


def decision_of(checkpoint: Checkpoint) -> Decision:
    """What the bundle will decide by; the default decision for a checkpoint that carries none."""
    return Decision.from_facts(checkpoint.facts) or Decision()


def muted_decision_of(checkpoint: Checkpoint) -> Decision | None:
    """What the bundle will decide by where a video has no sound; None where such videos get no verdict."""
    return Decision.muted_from_facts(checkpoint.facts)


def export_student(
    checkpoint_path: str | Path,
    exports_dir: Path,
    config: Config,
    *,
    formats: Format = "tflite",
    recipe: str | None = None,
    weights: WeightsChoice | None = None,
    data_dir: str | Path | None = None,
    calibration_dir: str | Path | None = None,
    straight: bool = False,
    simplify_onnx: bool = False,
    on_parity: Callable[[ParityReport], None] | None = None,
    on_layers: Callable[[LayerReport], None] | None = None,
) -> ExportSummary:
    """Converts, quantizes, proves and writes a bundle.

    Args:
        checkpoint_path: Of a student or teacher that dfkit trained.
        exports_dir: Folder that gets `<name>/`, `<name>.zip` and `<name>.reference/`.
        config: The experiment.
        formats: Which runtimes.
        recipe: Quantization recipe; the configuration's where None, fp32 where that names none.
        weights: Plain or EMA weights; the plain ones where None.
        data_dir: Prepared data for calibration and parity; the one the checkpoint was trained on where None.
        calibration_dir: Other prepared data for the static ranges; the training clips where None.
        straight: Whether `reference/` gets the straight FP32 conversion, for comparison.
        on_parity: Called with the report before it is judged.
        simplify_onnx: Whether ONNX graphs go through onnxsim; what came of it is said in the summary.
        on_layers: Called with a comparison layer by layer, which is made only if this is given: it converts all
            stages once more, with every layer as an output.
    Raises:
        ParityError: A stage departs; nothing is written.
        DataError: The data is gone, was prepared under another contract, or gives no calibration set.
        ConversionError: A converter failed, or what it made does not run in a fresh process; what it said lies in a
            file in `exports_dir`.
        DfkitError: The disk is full; nothing is left behind.
    """
    checkpoint, data = open_student(checkpoint_path, data_dir, weights)
    split = SplitConfig.model_validate(checkpoint.facts["split_config"])
    indices = split_clips(data, split)
    if split.refit:
        indices = joined_parts(indices)
    plan = recipe_named(recipe or config.export.recipe or "fp32")
    source = None if calibration_dir is None else PreparedData(calibration_dir)
    calibration = calibration_set(
        checkpoint.network,
        data,
        indices,
        config.export.calibration_clips,
        source=source,
        with_features=plan.calibrates_score,
    )
    # The program goes with the .tflite, which is what dfkit's own runtime runs.
    wanted: tuple[Literal["tflite", "onnx"], ...] = ("tflite",)
    if formats in ("onnx", "all"):
        wanted = ("onnx",) if formats == "onnx" else ("tflite", "onnx")
    beside = (formats,) if formats in PROGRAM_STAGES else ()
    if simplify_onnx and "onnx" not in wanted:
        raise ConfigError(
            f"--simplify is for ONNX graphs, and --format is {formats}", fix="--format onnx or all, or leave it out"
        )
    try:
        stages = convert_all(checkpoint, (*wanted, *beside), plan.name, calibration.clips, simplify_onnx)
        clips = parity_clips(data, indices, config.export.parity_clips)
        report = run_parity(
            checkpoint.network,
            data.spec,
            clips,
            {name: stage.graphs for name, stage in stages.items()},
            decision=decision_of(checkpoint),
            muted=muted_decision_of(checkpoint),
        )
        if on_parity is not None:
            on_parity(report)
        if on_layers is not None:
            on_layers(compare_layers(checkpoint.network, data.spec, wanted, plan, calibration.clips, clips))
        judge(report)
        return _write(
            checkpoint,
            data,
            indices,
            stages,
            report,
            calibration,
            exports_dir,
            config,
            plan.name,
            asked=(*wanted, *beside),
            straight=straight,
        )
    except ConversionError as error:
        said = f", what it said: {keep_log(exports_dir, config.name, error.log)}" if error.log else ""
        raise ConversionError(f"{error.found}; no bundle was written{said}", log=error.log, fix=error.fix) from error


def open_student(
    checkpoint_path: str | Path, data_dir: str | Path | None, weights: WeightsChoice | None = None
) -> tuple[Checkpoint, PreparedData]:
    """A checkpoint that can be exported and its data, under one contract.

    Raises:
        CheckpointError: Not readable, of an unknown architecture, or not of a finished training.
        ConfigError: An original checkpoint, which has no contract.
        DataError: The data is gone, or was prepared under another contract.
    """
    checkpoint = load_checkpoint(checkpoint_path, weights)
    if checkpoint.kind == "original":
        raise ConfigError(
            f"{checkpoint_path}: an original checkpoint is a teacher and has no clip contract to export",
            fix=f"dfkit distill --teacher {checkpoint_path}, then export the student",
        )
    lacking = [name for name in NEEDED_FACTS if name not in checkpoint.facts]
    if lacking:
        raise CheckpointError(
            f"{checkpoint_path}: the checkpoint does not say its {', '.join(lacking)}",
            fix="export best.pth or last.pth of a run of dfkit distill or dfkit train",
        )
    named = find_stored(str(checkpoint.facts["data"]), checkpoint.path)
    if data_dir is None and URL_MARK not in named and not Path(named).exists():
        raise DataError(
            f"{named}: the data that {checkpoint_path} was trained on are not there",
            fix="name them with --data, or put them back",
        )
    data = PreparedData(data_dir or named)
    if data.spec != checkpoint.clip_spec:
        raise DataError(
            f"{data.path}: prepared under another clip contract than {checkpoint_path} was trained on: "
            f"{'; '.join(contract_differences(data.spec, checkpoint.clip_spec))}",
            fix="give the data it was trained on with --data",
        )
    trained_on = checkpoint.facts.get("face_models", data.info.face_models)
    if data.info.face_models != trained_on:
        raise DataError(
            f"{data.path}: prepared with {data.info.face_models} face models, {checkpoint_path} was trained on "
            f"{trained_on} ones",
            fix=f"prepare the same videos with --faces {trained_on} and name them with --data, or train again",
        )
    return checkpoint, data


def contract_differences(found: BaseModel, expected: BaseModel, prefix: str = "") -> list[str]:
    """Fields of two clip contracts that differ, such as `num_frames 25, expected 50`."""
    lines = []
    for name, value in found:
        other = getattr(expected, name)
        if isinstance(value, BaseModel):
            lines += contract_differences(value, other, f"{prefix}{name}.")
        elif value != other:
            lines.append(f"{prefix}{name} {value}, expected {other}")
    return lines


def parity_clips(data: PreparedData, indices: dict[str, list[int]], count: int) -> list[ParityClip]:
    """Held-out clips, test first, and the worst cases; training clips where nothing is held out."""
    chosen = evenly([*indices["test"], *indices["val"]] or indices["train"], count)
    names = [name_to_text(data.videos[data.clips[i].video_index].name) for i in chosen]
    real = [ParityClip(name, "real", clip_arrays(data[i], data.spec)) for name, i in zip(names, chosen, strict=True)]
    return [*real, *worst_cases(data.spec)]


def judge(report: ParityReport) -> None:
    """Refuses an export whose parity failed.

    Raises:
        ParityError: Names the stage.
    """
    failure = report.first_failure()
    if failure is not None:
        raise ParityError(
            f"parity failed at '{failure.stage}' against '{failure.reference}' on {failure.num_clips} "
            f"{failure.kind} clips: "
            f"largest difference {failure.max_difference:.3g}, {failure.flips} flips, p_fake changes by "
            f"{failure.max_p_change:.3g}; no bundle was written",
            fix="see which layer departs with --debug-parity, try --recipe dynamic_int8 or fp32, more calibration "
            "clips (export.calibration_clips), or distil under INT8 rounding (distill.quantization_aware_epochs)",
        )


def _write(
    checkpoint: Checkpoint,
    data: PreparedData,
    indices: dict[str, list[int]],
    stages: dict[str, Graph],
    report: ParityReport,
    calibration: CalibrationSet,
    exports_dir: Path,
    config: Config,
    recipe: str,
    *,
    asked: tuple[str, ...],
    straight: bool,
) -> ExportSummary:
    programs = {name: stages[stage] for name, stage in PROGRAM_STAGES.items() if stage in stages}
    stages = {name: stage for name, stage in stages.items() if name not in PROGRAM_STAGES.values()}
    runtimes = list(dict.fromkeys(name.split()[0] for name in stages))
    shipped = {name: stages.get(f"{name} int8", stages[f"{name} fp32"]) for name in runtimes}
    threshold_margin = decision_of(checkpoint).threshold_margin
    golden_files, warnings = golden_vectors(checkpoint, shipped, recipe, threshold_margin=threshold_margin)
    warnings = [*config.export.notes, *warnings, *data_warnings(checkpoint, data)]
    faces = config.export.face_models or data.info.face_models or DEFAULT_FACES
    warnings += face_warnings(data, faces)
    # Not the folder's name: a second export of the same student has to have the same bytes.
    manifest = make_manifest(checkpoint, config.name, shipped, report, calibration.facts, warnings, faces, data)
    graphs_by_name = {name: stage.graphs for name, stage in shipped.items()}
    if checkpoint.network.spec.pictures and data.spec.preset == "clip2s":
        familiarity = measure_familiarity(graphs_by_name, data, indices)
        manifest = manifest.model_copy(update={"familiarity": familiarity})
    graphs = {name: content for stage in shipped.values() for name, content in stage.files.items()}
    for name, program in programs.items():
        graphs |= program.files
        described = {name: program.backend.model_dump(mode="json")}
        manifest = manifest.model_copy(update={"metrics": manifest.metrics | described})
    files = with_manifest(graphs, manifest) | golden_files
    run_first(asked, {name: (made.backend, list(made.files)) for name, made in (shipped | programs).items()}, files)
    files |= {CARD_FILE: model_card(manifest).encode(), SCHEMA_FILE: SHIPPED.read_bytes()}
    files |= face_model_files(faces)
    files |= video_files(manifest, graphs_by_name, shipped_limits(golden_files[GOLDEN_FILE]))
    entries = {name: file_entry(content) for name, content in sorted(files.items())}
    target = free_folder(exports_dir, config.name)
    rows = reference_rows(data, indices, stages, checkpoint)
    with full_disk_named(target), scratch_folder(target.with_name(f"{target.name}{REFERENCE_SUFFIX}")) as reference:
        # First, so that a disk which fills leaves no bundle without it.
        write_reference(reference, checkpoint, rows, stages, manifest, straight=straight)
        target = write_under_free_name(exports_dir, config.name, files, manifest.model_copy(update={"files": entries}))
        move_folder(reference, target.with_name(f"{target.name}{REFERENCE_SUFFIX}"))
    return ExportSummary(
        checkpoint=str(checkpoint.path),
        bundle=str(target),
        archive=f"{target}.zip",
        reference=f"{target}{REFERENCE_SUFFIX}",
        model_bytes={name: len(files[name]) for name in graphs},
        parity=report,
        warnings=tuple(warnings),
        notes=tuple(text for stage in stages.values() for text in stage.notes),
    )


def write_under_free_name(exports_dir: Path, name: str, files: dict[str, bytes], manifest: Manifest) -> Path:
    """Writes a bundle under the first free name, which another export may take while this one writes."""
    while True:
        target = free_folder(exports_dir, name)
        try:
            write_bundle(target, files, manifest)
        except FileExistsError:
            continue
        return target


def face_warnings(data: PreparedData, faces: FaceVariant) -> list[str]:
    """What a reader has to know where a bundle is served with other face models than prepared its data."""
    if data.info.face_models in (None, faces):
        return []
    return [
        f"served with {faces} face models, trained on faces that {data.info.face_models} ones found: lip centres move "
        "by up to 0.64 % of the face width, logits of a student that takes motion by up to 0.10 (docs/experiments.md)"
    ]


def data_warnings(checkpoint: Checkpoint, data: PreparedData) -> list[str]:
    """What a reader has to know before trusting figures measured on this data."""
    splits = checkpoint.facts["splits"]
    groups = {group for part in splits.values() for group in part["groups"]}
    warnings = []
    if len(groups) < MIN_GROUPS:
        warnings.append(f"{len(groups)} groups of speakers make a demonstration, not a detector")
    if not data.groups_known:
        warnings.append("groups unknown: persons may leak")
    if not splits["test"]["videos"]:
        warnings.append("the split has no test part: nothing was measured on videos that nothing was tuned on")
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
    faces: FaceVariant,
    data: PreparedData,
) -> Manifest:
    """The manifest without its file entries."""
    facts, decision = checkpoint.facts, decision_of(checkpoint)
    # What tells single videos and persons apart stays in the checkpoint.
    splits = {
        name: {key: value for key, value in part.items() if key not in ("file_hashes", "group_ids")}
        for name, part in facts["splits"].items()
    }
    measured = {
        "data": {
            "splits": splits,
            "groups_known": facts["groups_known"],
            "face_models": data.info.face_models,
        },
        "student": facts.get("metrics", {}),
        "teacher": facts.get("teacher_metrics", {}),
        "parameters": facts.get("parameters"),
        "teacher_parameters": facts.get("teacher_parameters"),
        "parity": report.to_json(),
    }
    if "muted" in facts:
        measured["student_muted"] = facts["muted"]["metrics"]
    return Manifest(
        name=name,
        dfkit_version=dfkit.__version__,
        clip_spec=checkpoint.clip_spec,
        modalities=checkpoint.network.spec.modalities,
        network=checkpoint.network.spec.model_dump(mode="json"),
        backends={runtime: stage.backend for runtime, stage in shipped.items()},  # type: ignore[misc]
        operating_point=decision.operating_point,
        calibration=decision.calibration,
        aggregation=decision.aggregation,
        decision_muted=DecisionEntry.of(muted_decision_of(checkpoint)),
        files={},
        face_models=face_model_entries(faces),
        serving=serving_of(checkpoint.clip_spec, faces),
        metrics=measured,
        calibration_set=calibration_facts,
        warnings=tuple(warnings),
        versions=versions(),
    )
