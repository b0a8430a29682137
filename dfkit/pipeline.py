"""The stages as the command line calls them: find what an earlier stage left, say so, run one function.

Each takes the newest result of its kind unless told otherwise. Heavy imports stay inside the functions.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dfkit.clip import PRESETS, ClipSpec, FaceVariant
from dfkit.console import note
from dfkit.errors import ConfigError, DataError
from dfkit.experiment import read_config, read_translation
from dfkit.extras import require_extra, require_tflite_converter
from dfkit.files import check_output_folder
from dfkit.media.equalise_spec import EqualiseSpec
from dfkit.media.listing import is_pattern
from dfkit.named_inputs import require_checkpoint, require_videos
from dfkit.workspace import LEAVE_OUT_RUN, Workspace, find_stored, holds_own_data

if TYPE_CHECKING:
    from dfkit.audit import BaselineResult
    from dfkit.audit.audit import AuditResult
    from dfkit.audit.left_out import LeftOutBaselines, LeftOutFinding
    from dfkit.benchmarks.report import BenchReport
    from dfkit.config import Config, SplitConfig
    from dfkit.config.flags import DistillFlags, TrainFlags
    from dfkit.data.prepare import PrepareSummary
    from dfkit.data.storage import PreparedData
    from dfkit.distill.search.run import SearchSummary
    from dfkit.distill.variants import StudentSummary
    from dfkit.evaluation.compare import Comparison
    from dfkit.evaluation.gallery import Gallery
    from dfkit.evaluation.left_out_report import LeftOutReport
    from dfkit.evaluation.report import EvaluationReport
    from dfkit.evaluation.sync import SyncReport
    from dfkit.export.export import ExportSummary
    from dfkit.export.parity import ParityReport
    from dfkit.runtime.answers import Answer
    from dfkit.runtime.detector import Detector
    from dfkit.runtime.predict import PredictOptions
    from dfkit.training.kfold import KfoldSummary
    from dfkit.training.run_summary import RunSummary
    from dfkit.weights.selection import WeightsChoice

FORGED_SUFFIX, FORGED_VIDEOS_SUFFIX = "-forged", "-videos"
EQUALISED_SUFFIX = "-equalised"
FOLD_VAL_SHARE = 0.15
"""Of the folds of `dfkit audit` and `dfkit baseline` without a configuration: few groups are enough then."""
CONFIG_FILE = "config.json"


def experiment(config_path: Path | None, data_dir: Path | None = None) -> Config:
    """The configuration; without a file the defaults, under the clip contract that the data was prepared with."""
    config = read_config(config_path)
    if config_path is None and data_dir is not None:
        from dfkit.data.storage import PreparedData

        config = config.model_copy(update={"clip": PreparedData(data_dir).spec})
    return config


def prepare(
    videos: Sequence[Path],
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    labels: Path | None = None,
    layout: str = "auto",
    preset: str | None = None,
    faces: FaceVariant | None = None,
    out_dir: Path | None = None,
    num_workers: int = 1,
    executor: str = "local",
    unlabelled: bool = False,
    min_coverage: float = 0.5,
    timeout_s: float | None = None,
    equalise: bool = False,
    keep: bool = False,
) -> PrepareSummary:
    """`dfkit prepare`.

    Raises:
        ConfigError: Unknown preset.
        DataError: Labels or videos cannot be used.
    """
    from dfkit.data.prepare import prepare as prepare_data

    require_videos([path for path in videos if not is_pattern(path)])
    config = read_config(config_path)
    spec = clip_spec(config, preset)
    name = data_name(videos[0], labels)
    name += "" if spec.preset == "clip2s" else f"-{spec.preset}"
    target = out_dir or workspace.data / (f"{name}{EQUALISED_SUFFIX}" if equalise else name)
    if keep and not equalise:
        raise ConfigError("--keep keeps equalised videos, and there are none", fix="add --equalise, or leave it out")
    check_output_folder(target)
    sources = videos[0] if len(videos) == 1 else list(videos)
    return prepare_data(
        sources,
        target,
        spec=spec,
        labels=labels,
        layout=layout,
        num_workers=num_workers,
        executor=executor,
        faces=faces or config.export.face_models,
        unlabelled=unlabelled,
        min_coverage=min_coverage,
        killable=True,
        timeout_s=timeout_s,
        equalise=EqualiseSpec() if equalise else None,
        keep=keep,
    )


def clip_spec(config: Config, preset: str | None) -> ClipSpec:
    """The configuration's contract, or that of a preset at the configuration's picture sizes.

    Raises:
        ConfigError: No preset of that name.
    """
    if preset is None or preset == config.clip.preset:
        return config.clip
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset '{preset}'", fix=f"choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def data_name(first: Path, labels: Path | None) -> str:
    """A data set's name: its folder's, or its label file's; of a pattern that of the first folder that is none."""
    if is_pattern(first):
        first = next(parent for parent in first.parents if not is_pattern(parent))
    resolved = first.resolve()
    name = resolved.name if resolved.is_dir() else (labels.stem if labels is not None else resolved.stem)
    return name or "data"


DEFAULT_FOLDS = 5
"""Of `dfkit audit` and `dfkit baseline` where neither flag nor configuration names a number."""


def audit(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    data_dir: Path | None = None,
    folds: int | None = None,
    leave_out: str | None = None,
    seed: int | None = None,
) -> AuditResult | LeftOutFinding:
    """`dfkit audit`; kind and number of folds and seed are those of the configuration's `split` where left out.

    Raises:
        ConfigError: The configuration cannot be used.
        DataError: There is no usable data.
    """
    from dfkit.audit.audit import audit as audit_data
    from dfkit.data.storage import PreparedData

    split = folds_of(config_path, folds, seed, leave_out)
    chosen = data_dir or workspace.newest_data()
    note(f"auditing {chosen}")
    if split.leave_out is not None:
        from dfkit.audit.left_out import audit_left_out

        return audit_left_out(PreparedData(chosen), split.leave_out, seed=split.seed, split=split)
    return audit_data(PreparedData(chosen), folds=split.folds or DEFAULT_FOLDS, seed=split.seed, split=split)


def baseline(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    data_dir: Path | None = None,
    of: Sequence[str] = (),
    folds: int | None = None,
    leave_out: str | None = None,
    seed: int | None = None,
) -> BaselineResult | LeftOutBaselines:
    """`dfkit baseline`; kind and number of folds and seed are those of the configuration's `split` where left out.

    Raises:
        ConfigError: The configuration cannot be used.
        DataError: There is no usable data.
        MissingExtraError: A package of a baseline that was asked for is not installed.
    """
    from dfkit.audit import baseline as run_baseline
    from dfkit.data.storage import PreparedData

    split = folds_of(config_path, folds, seed, leave_out)
    chosen = data_dir or workspace.newest_data()
    note(f"baselines of {chosen}")
    if split.leave_out is not None:
        from dfkit.audit.left_out import baseline_left_out

        return baseline_left_out(PreparedData(chosen), split.leave_out, of=of, seed=split.seed, split=split)
    return run_baseline(PreparedData(chosen), of=of, folds=split.folds or DEFAULT_FOLDS, seed=split.seed, split=split)


def folds_of(
    config_path: Path | None, folds: int | None, seed: int | None, leave_out: str | None = None
) -> SplitConfig:
    """The configuration's `split`, with the flags of `audit` and `baseline` before it.

    Raises:
        ConfigError: Two kinds of folds at once.
    """
    split = read_config(config_path).split
    if folds is not None and leave_out is not None:
        raise ConfigError(f"--folds {folds} and --leave-out {leave_out} are two kinds of folds", fix="take one of them")
    given: dict[str, int | str | None] = {} if seed is None else {"seed": seed}
    if leave_out is not None:
        given |= {"leave_out": leave_out, "folds": None}
    elif folds is not None:
        given |= {"folds": folds, "leave_out": None}
    split = split.model_copy(update=given)
    if config_path is None and split.leave_out is None:
        split = split.model_copy(update={"val_share": FOLD_VAL_SHARE})
    return split


def forge(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    data_dir: Path | None = None,
    out_dir: Path | None = None,
    num_workers: int = 1,
) -> PrepareSummary:
    """`dfkit forge`: from the real videos of prepared data to prepared twins and forgeries.

    Raises:
        DataError: There are no usable real videos, or too few groups for cells.
    """
    from dfkit.data.prepare import prepare as prepare_data
    from dfkit.data.prepare_run import require_own_folder
    from dfkit.data.storage import PreparedData
    from dfkit.forge import ForgeSource
    from dfkit.forge import forge as forge_videos

    source_dir = data_dir or workspace.newest_data()
    data = PreparedData(source_dir)
    note(f"forging from the real videos of {source_dir}")
    # Videos whose label is unknown are not taken for real ones.
    reals = [
        ForgeSource(path=Path(row.path), group=";".join(row.groups) or None, label=0, split=row.split)
        for row in data.videos
        if row.status == "ok" and row.label == 0
    ]
    if not reals:
        raise DataError(f"{source_dir}: no usable real video to forge from", fix="dfkit prepare real videos first")
    target = out_dir or forged_folder(workspace, source_dir, {str(real.path) for real in reals})
    videos_dir = target.with_name(f"{target.name}{FORGED_VIDEOS_SUFFIX}")
    for folder in (target, videos_dir):
        check_output_folder(folder)
    require_own_folder(target)
    forged = forge_videos(
        reals,
        videos_dir,
        read_config(config_path).forge,
        num_workers=num_workers,
        groups_known=data.groups_known,
    )
    for line in forged.summary():
        note(line)
    return prepare_data(
        videos_dir,
        target,
        spec=data.spec,
        labels=forged.labels_csv,
        layout="csv",
        num_workers=num_workers,
        faces=data.info.face_models,
        killable=True,
    )


def forged_folder(workspace: Workspace, source_dir: Path, reals: set[str]) -> Path:
    """Where the workspace has forgeries from prepared data, wherever these lie: `data/<name>-forged`.

    Args:
        workspace: Holds it.
        source_dir: The prepared data.
        reals: Paths of its real videos. A folder forged from others has its name to itself; a number is added.
    """
    name, number = f"{source_dir.name or source_dir.resolve().name}{FORGED_SUFFIX}", 1
    while True:
        folder = workspace.data / (name if number == 1 else f"{name}-{number}")
        if _forged_from(folder.with_name(f"{folder.name}{FORGED_VIDEOS_SUFFIX}")) & reals or not folder.exists():
            return folder
        number += 1


def _forged_from(videos_dir: Path) -> set[str]:
    """The sources that a forging run has recorded."""
    try:
        lines = (videos_dir / "forged.jsonl").read_text(encoding="utf-8").splitlines()
        return {json.loads(line)["source"] for line in lines}
    except (OSError, ValueError, KeyError):
        return set()


def train(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    data_dir: Path | None = None,
    resume: Path | None = None,
    flags: TrainFlags | None = None,
    executor: Literal["local", "ray"] = "local",
    num_processes: int = 1,
) -> RunSummary | KfoldSummary:
    """`dfkit train`: one run, or one per fold where `split.folds`, `split.leave_out` or a flag asks for folds.

    Args:
        workspace: Where the run folder is made.
        config_path: dfkit's YAML or the original's; that of the run where one is resumed and none is given.
        data_dir: Prepared data or an NPZ folder; what the original's YAML names, else the newest, where left out.
        resume: Run folder to go on with.
        flags: Go before the configuration.
        executor: Where folds run.
        num_processes: Folds at once.
    Returns:
        A `RunSummary`, or of folds a `KfoldSummary`.
    """
    if config_path is None and resume is not None and (resume / CONFIG_FILE).is_file():
        config_path = resume / CONFIG_FILE
    named = read_config(config_path)  # a wrong key is refused before anything else is looked for
    if config_path is not None:
        note_translation(config_path)
    chosen = prepared(data_dir or root_dir(named) or workspace.newest_data(), workspace)
    note(f"training a teacher on {chosen}")
    check_output_folder(resume or workspace.runs)
    config = fit_lips(experiment(config_path, chosen), chosen)
    config = config if flags is None else flags.apply_to(config)
    split = config.split
    if split.in_folds and split.fold is None:
        from dfkit.training.kfold import train_folds

        return train_folds(chosen, workspace, config, executor=executor, num_processes=num_processes, resume=resume)
    from dfkit.training.train import train_teacher

    return train_teacher(chosen, workspace, config, resume=resume)


def note_translation(config_path: Path) -> None:
    """On stderr what each key of an original configuration became; nothing for dfkit's own."""
    translation = read_translation(config_path)
    for line in () if translation is None else translation.lines:
        note(f"{config_path.name}: {line}")


def root_dir(config: Config) -> Path | None:
    """The data that an original configuration names; None for dfkit's own configurations.

    Raises:
        DataError: There is no such folder.
    """
    from dfkit.original.configuration import data_folder

    folder = data_folder(config)
    if folder is not None and not folder.is_dir():
        raise DataError(
            f"dataset.root_dir {folder}: no such folder",
            fix="correct it (relative to the current folder), or name the data with --data",
        )
    return folder


def prepared(folder: Path, workspace: Workspace) -> Path:
    """Prepared data as it is; of an NPZ folder the conversion in the workspace, made once.

    Raises:
        DataError: The NPZ folder cannot be used.
    """
    from dfkit.data.npz import is_npz_folder
    from dfkit.data.prepare import convert_npz
    from dfkit.data.storage import S3_PREFIX
    from dfkit.workspace import DATA_FILE

    if str(folder).startswith(S3_PREFIX) or (folder / DATA_FILE).is_file() or not is_npz_folder(folder):
        return folder
    source = folder.resolve()
    target = workspace.data_of(str(source), data_name(folder, None))
    for line in convert_npz(source, target).summary():
        note(line)
    return target


def fit_lips(config: Config, data_dir: Path) -> Config:
    """An original configuration that names no lip size takes the data's; one that names another is refused.

    Raises:
        ConfigError: The sizes differ.
    """
    original = config.train.save.config
    if original is None:
        return config
    from dfkit.data.storage import PreparedData

    spec = PreparedData(data_dir).spec
    ours, theirs = config.clip.picture.lip_px, spec.picture.lip_px
    if "size" not in original.get("dataset", {}).get("lip", {}) and spec.preset == config.clip.preset:
        return config.model_copy(update={"clip": spec})
    if ours != theirs:
        raise ConfigError(
            f"dataset.lip.size is {ours}, and the lip pictures of {data_dir} are {theirs} pixels wide",
            fix=f"dataset: {{lip: {{size: [{theirs}, {theirs}]}}}}",
        )
    return config


def distill(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    teacher_path: Path | None = None,
    weights: WeightsChoice | None = None,
    data_dir: Path | None = None,
    resume: Path | None = None,
    flags: DistillFlags | None = None,
) -> StudentSummary | SearchSummary:
    """`dfkit distill`: one student of the configured widths, or a search for widths where targets or points are given.

    Args:
        workspace: Where the run folder is made.
        config_path: dfkit's YAML; that of the run where one is resumed and none is given.
        teacher_path: Checkpoint; that of a resumed run, else the newest teacher's, where left out.
        weights: Plain or EMA weights of the teacher; those of a resumed run, else the plain ones, where left out.
        data_dir: Prepared data; that of a resumed run, else the newest, where left out.
        resume: Run folder to go on with.
        flags: Go before the configuration.
    """
    if resume is not None:
        from dfkit.distill.request import read_request

        request = read_request(resume)
        config_path = config_path or resume / CONFIG_FILE
        teacher_path = teacher_path or Path(find_stored(request["teacher"], resume))
        weights = weights or request.get("weights")
        data_dir = data_dir or Path(find_stored(request["data"], resume))
    read_config(config_path)
    chosen = data_dir or workspace.newest_data()
    teacher = teacher_path or workspace.newest_run("teacher") / "best.pth"
    require_checkpoint(teacher)
    note(f"distilling {teacher} on {chosen}")
    check_output_folder(resume or workspace.runs)
    config = experiment(config_path, chosen)
    config = config if flags is None else flags.apply_to(config)
    if config.distill.search.wanted:
        from dfkit.distill.search.run import search_student

        return search_student(
            teacher,
            chosen,
            workspace,
            config,
            make_view=prepare_view,
            report_progress=note,
            resume=resume,
            weights=weights,
        )
    from dfkit.distill.distill import distill_student

    return distill_student(teacher, chosen, workspace, config, make_view=prepare_view, resume=resume, weights=weights)


def prepare_view(data: PreparedData, spec: ClipSpec) -> Path:
    """The videos of prepared data under another clip contract, beside it; nothing is done where it is there already.

    Own data of the same videos under that contract are taken as they are; other own data of that name stay, and the
    view lies beside them.
    """
    from dfkit.data.labels import LabelSet, Source
    from dfkit.data.prepare import prepare as prepare_data

    picture = spec.picture
    kind = spec.preset if spec.preset != data.spec.preset else f"{picture.face_px}px"
    if kind != spec.preset and picture != data.spec.picture.resized(picture.face_px, None):
        kind += f"-lips-{picture.lip_px}px"
    target = base = Path(f"{data.path.rstrip('/')}-{kind}")
    view = f"{spec.preset}, faces of {picture.face_px} px, lips of {picture.lip_px} px"
    number = 0
    while holds_own_data(target):
        if _holds_same_videos(target, data, spec):
            note(f"another view is needed ({view}): taking these videos from {target}")
            return target
        number += 1
        target = base.with_name(f"{base.name}-view" + (f"-{number}" if number > 1 else ""))
    note(f"another view is needed ({view}): preparing {data.path} once more in {target}")
    sources = tuple(
        Source(
            path=Path(row.path),
            label=row.label,
            groups=row.groups,
            method=row.method,
            intervals=row.intervals,
            split=row.split,
            columns=row.columns,
        )
        for row in data.videos
        if row.status == "ok"
    )
    label_set = LabelSet(sources, groups_known=data.groups_known)
    prepare_data(
        label_set,
        target,
        spec=spec,
        view_of=Path(data.path).name,
        faces=data.info.face_models,
        equalise=data.info.equalised,
    )
    return target


def _holds_same_videos(folder: Path, data: PreparedData, spec: ClipSpec) -> bool:
    """Whether a folder holds the usable videos of prepared data, and no others, under a clip contract."""
    from dfkit.data.storage import PreparedData

    def facts(of: PreparedData) -> list[str]:
        usable = (row for row in of.videos if row.status == "ok")
        return sorted(repr((v.sha256, v.label, v.groups, v.method, v.split, v.intervals)) for v in usable)

    try:
        own = PreparedData(folder)
    except DataError:
        return False  # unfinished, damaged or of a newer dfkit: left as it is
    found = (own.spec, own.info.equalised, own.groups_known, facts(own))
    return found == (spec, data.info.equalised, data.groups_known, facts(data))


def export(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    checkpoint: Path | None = None,
    weights: WeightsChoice | None = None,
    data_dir: Path | None = None,
    formats: Literal["tflite", "onnx", "all", "executorch", "coreai"] = "tflite",
    recipe: str | None = None,
    int8: bool = False,
    calibration_dir: Path | None = None,
    straight: bool = False,
    simplify: bool = False,
    debug_parity: bool = False,
    int8_faces: bool | None = None,
) -> ExportSummary:
    """`dfkit export`; prints the parity of every stage, and of every layer if asked for, on stderr."""
    if formats != "onnx":
        require_tflite_converter(f"--format {formats}", instead="dfkit export --format onnx")
    if straight:
        require_tflite_converter("--reference", instead="leave it out")
    from dfkit.export.export import export_student
    from dfkit.export.recipes import recipe_named

    config = read_config(config_path)
    section = config.export
    if int8_faces is not None:
        section = section.model_copy(update={"face_models": "int8" if int8_faces else "float16"})
    config = config.model_copy(update={"export": section})
    chosen_recipe = export_recipe(config, recipe, int8=int8)
    recipe_named(chosen_recipe)
    chosen = checkpoint or workspace.newest_run("student") / "best.pth"
    require_checkpoint(chosen)
    note(f"exporting {chosen}")
    check_output_folder(workspace.exports)
    return export_student(
        chosen,
        workspace.exports,
        config,
        formats=formats,
        recipe=chosen_recipe,
        weights=weights,
        data_dir=data_dir,
        calibration_dir=calibration_dir,
        straight=straight,
        simplify_onnx=simplify,
        on_parity=note_parity,
        on_layers=(lambda report: note("\n".join(report.summary()))) if debug_parity else None,
    )


def export_recipe(config: Config, recipe: str | None, *, int8: bool) -> str:
    """The quantization recipe of a call: `--recipe` goes before the configuration, and that before the defaults.

    Args:
        config: The experiment.
        recipe: As `--recipe` names it; None where left out.
        int8: Whether `--int8` was given; a recipe of the configuration is taken then if it is an INT8 one.
    """
    if recipe is not None:
        return recipe
    configured = config.export.recipe
    if int8:
        return configured if configured is not None and configured.endswith("int8") else "mixed_int8"
    return configured or "fp32"


def note_parity(report: ParityReport) -> None:
    """The parity table on stderr, and what deliberate mistakes would have changed."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Parity, stage by stage", title_justify="left")
    for column in (
        "stage",
        "against",
        "clips",
        "kind",
        "largest",
        "mean",
        "flips",
        "largest change of p_fake",
        "",
    ):
        table.add_column(column, justify="right" if column in ("clips", "largest", "mean", "flips") else "left")
    for s in report.stages:
        table.add_row(
            s.stage,
            s.reference,
            str(s.num_clips),
            s.kind,
            f"{s.max_difference:.2e}",
            f"{s.mean_difference:.2e}",
            str(s.flips),
            f"{s.max_p_change:.4f}",
            "pass" if s.passed else "FAIL",
        )
    console = Console(stderr=True, width=110)
    console.print(table)
    mistakes = ", ".join(f"{name} {change:.3g}" for name, change in report.controls.items())
    console.print(f"For comparison, a deliberate mistake changes the logits by: {mistakes}")


def bench(
    workspace: Workspace,
    *,
    bundle: Path | None = None,
    videos: Sequence[Path] = (),
    repeats: int | None = None,
    num_threads: int | None = None,
    out_dir: Path | None = None,
    allow_unjudged: bool = False,
    config_path: Path | None = None,
    imports: Sequence[Path] = (),
    adb: bool = False,
    serial: str | None = None,
    minutes: float | None = None,
) -> BenchReport:
    """`dfkit bench`; `serial` and `minutes` are of the phone that `adb` asks."""
    from dfkit.benchmarks.bench import PhoneSource
    from dfkit.benchmarks.bench import bench as run_bench

    if not adb and (serial is not None or minutes is not None):
        raise ConfigError("--serial and --minutes are of a phone that measures", fix="add --adb")
    sustained_s = 600.0 if minutes is None else 60 * minutes
    phones = PhoneSource(tuple(imports), adb, serial, sustained_s)

    section = read_config(config_path).bench
    chosen = workspace.bundle(bundle)
    note(f"benchmarking {chosen}")
    target = out_dir or workspace.reports / chosen.stem
    check_output_folder(target)
    return run_bench(
        chosen,
        videos=videos,
        out_dir=target,
        repeats=repeats or section.repeats,
        num_threads=num_threads or section.num_threads,
        allow_unjudged=allow_unjudged,
        phones=phones,
    )


def evaluate(
    workspace: Workspace,
    *,
    checkpoints: Sequence[Path] = (),
    bundle: Path | None = None,
    backend: Literal["tflite", "onnx"] | None = None,
    weights: WeightsChoice | None = None,
    data_dir: Path | None = None,
    split: Literal["test", "val", "train", "all"] | None = None,
    mc_dropout: int = 0,
    tta: bool = False,
    output: Path | None = None,
    run: Path | None = None,
    columns: Sequence[str] = (),
) -> EvaluationReport | LeftOutReport:
    """`dfkit evaluate`; without a model a run that left families out if it is the newest, else the newest student, else
    the newest teacher. What only a model can answer to (`split`, `backend`, `weights`, ...) asks for a model.

    Args:
        split: Part to judge; `test` where left out.
        run: Folder of a run that left families out, whose folds are joined.
        columns: Columns of the label file whose values the scores are also listed by.
        The others: see `EvaluationRequest`.
    """
    from dfkit.evaluation.evaluate import evaluate as run_evaluation
    from dfkit.evaluation.scoring import EvaluationRequest

    chosen = tuple(checkpoints)
    if run is not None and (chosen or bundle is not None):
        raise ConfigError(f"--run {run} names models of its own", fix="leave out --checkpoint and --bundle, or --run")
    asks_for_a_model = bool(chosen or bundle or backend or weights or split or mc_dropout or tta)
    if run is None and not asks_for_a_model:
        run = _newest_left_out(workspace)
    if run is not None:
        from dfkit.evaluation.left_out import evaluate_left_out

        note(f"joining the folds of {run}")
        check_output_folder(output or workspace.reports)
        return evaluate_left_out(run, reports=workspace.reports, output=output, data_dir=data_dir, columns=columns)
    check_output_folder(output or workspace.reports)
    chosen = _chosen_checkpoints(workspace, chosen, bundle, weights)
    data = data_dir or workspace.newest_data()
    note(f"evaluating {' + '.join(map(str, chosen or (bundle,)))} on {data}")
    question = EvaluationRequest(
        data_dir=data,
        checkpoints=chosen,
        bundle=bundle,
        backend=backend,
        weights=weights,
        split=split or "test",
        mc_dropout=mc_dropout,
        tta=tta,
        columns=tuple(columns),
    )
    return run_evaluation(question, reports=workspace.reports, output=output, make_view=prepare_view)


def _chosen_checkpoints(
    workspace: Workspace, checkpoints: Sequence[Path], bundle: Path | None, weights: WeightsChoice | None
) -> tuple[Path, ...]:
    """The checkpoints to judge, all of them there: those named, else the newest student, else the newest teacher."""
    if bundle is not None:
        refuse_weights_of_bundle(weights)
    chosen = tuple(checkpoints)
    if not chosen and bundle is None:
        try:
            chosen = (workspace.newest_run("student") / "best.pth",)
        except DataError:
            chosen = (workspace.newest_run("teacher") / "best.pth",)
    for path in chosen:
        require_checkpoint(path)
    return chosen


def evaluate_sync(
    workspace: Workspace,
    *,
    checkpoints: Sequence[Path] = (),
    bundle: Path | None = None,
    backend: Literal["tflite", "onnx"] | None = None,
    weights: WeightsChoice | None = None,
    data_dir: Path | None = None,
    split: Literal["test", "val", "train", "all"] = "test",
    output: Path | None = None,
) -> SyncReport:
    """`dfkit evaluate --sync`; without a model the newest student, else the newest teacher.

    Args:
        output: Folder of `report.json`; `reports/<name>-sync` where left out.
        The others: see `EvaluationRequest`.
    """
    from dfkit.evaluation.scoring import EvaluationRequest
    from dfkit.evaluation.sync import evaluate_sync as run_evaluation

    check_output_folder(output or workspace.reports)
    chosen = _chosen_checkpoints(workspace, checkpoints, bundle, weights)
    data = data_dir or workspace.newest_data()
    note(f"evaluating {', '.join(map(str, chosen or (bundle,)))} on real videos of {data}")
    question = EvaluationRequest(
        data_dir=data, checkpoints=chosen, bundle=bundle, backend=backend, weights=weights, split=split
    )
    return run_evaluation(question, reports=workspace.reports, output=output, make_view=prepare_view)


def _newest_left_out(workspace: Workspace) -> Path | None:
    """The run that left families out, where no teacher and no student is newer."""
    try:
        newest = workspace.newest_run("teacher", "student", LEAVE_OUT_RUN)
    except DataError:
        return None
    return newest if workspace.run_kind(newest) == LEAVE_OUT_RUN else None


def evaluate_scores_file(
    workspace: Workspace, path: Path, *, output: Path | None = None, columns: Sequence[str] = ()
) -> EvaluationReport:
    """`dfkit evaluate --from`: a report made once more of its scores file."""
    from dfkit.evaluation.evaluate import evaluate_scores_file as run_evaluation

    check_output_folder(output or workspace.reports)
    return run_evaluation(path, reports=workspace.reports, output=output, columns=columns)


def evaluate_table(
    workspace: Workspace,
    table: Path,
    *,
    data_dir: Path | None = None,
    labels: Path | None = None,
    like: Path | None = None,
    split: Literal["test", "val", "train", "all"] = "all",
    score_column: str | None = None,
    min_coverage: float = 0.5,
    output: Path | None = None,
    columns: Sequence[str] = (),
) -> EvaluationReport:
    """`dfkit evaluate --scores`: a foreign detector's answers; labels from data, a label file, another evaluation, or
    the table itself.

    Raises:
        ConfigError: Several of these are named.
        DataError: The table or the labels cannot be used.
    """
    from dfkit.evaluation import foreign
    from dfkit.evaluation.evaluate import report_scores
    from dfkit.evaluation.scores_file import read_scores

    named = [name for name, value in (("--data", data_dir), ("--labels", labels), ("--like", like)) if value]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} each name the videos to be answered", fix="name one of them")
    if split != "all" and data_dir is None:
        raise ConfigError(
            f"--split {split} is a part of prepared data", fix="name the data with --data, or leave it out"
        )
    truth = None
    if data_dir is not None:
        from dfkit.data.storage import PreparedData

        truth = foreign.truth_of_data(PreparedData(data_dir), split)
    elif labels is not None:
        truth = foreign.truth_of_label_file(labels)
    elif like is not None:
        truth = foreign.truth_of_scores(read_scores(like))
    check_output_folder(output or workspace.reports)
    scores = foreign.score_table(table, truth, score_column=score_column, min_coverage=min_coverage, columns=columns)
    return report_scores(scores, reports=workspace.reports, output=output)


def compare(
    workspace: Workspace,
    first: Path,
    second: Path,
    *,
    aggregation: Literal["mean", "max", "noisy_or"] | None = None,
    min_coverage: float = 0.5,
) -> Comparison:
    """`dfkit compare`: two evaluations of the same videos; a name alone is that of a report of the workspace.

    Raises:
        DataError: A scores file cannot be used, or they were not measured alike.
    """
    from dfkit.evaluation.compare import compare as run_comparison
    from dfkit.evaluation.scores_file import read_scores
    from dfkit.measures.decision import Aggregation

    rule = None
    if aggregation is not None:
        rule = Aggregation(name="top_k" if aggregation == "max" else aggregation, chosen_on="named for the comparison")
    places = [path if path.exists() else workspace.reports / path for path in (first, second)]
    found = [place if place.exists() else path for place, path in zip(places, (first, second), strict=True)]
    return run_comparison(
        read_scores(found[0]),
        read_scores(found[1]),
        names=(str(first), str(second)),
        min_coverage=min_coverage,
        aggregation=rule,
    )


def predict(
    workspace: Workspace,
    videos: Sequence[Path],
    options: PredictOptions,
    *,
    bundle: Path | None = None,
    checkpoint: Path | None = None,
    backend: Literal["tflite", "onnx"] | None = None,
    weights: WeightsChoice | None = None,
    num_threads: int = 1,
) -> Generator[Answer, None, None]:
    """`dfkit predict`: what can be refused is refused here, before the first video; then answers as they come.

    Raises:
        DfkitError: No video, no model, a place that cannot be written, or a result file of something else.
    """
    from dfkit.runtime.predict import check_places, find_videos, predictions

    check_places(options)
    require_videos([path for path in videos if path.is_dir()])
    found = find_videos(videos)
    chosen = workspace.bundle(bundle, or_starter=True) if checkpoint is None else bundle
    loaded = detector(
        workspace, bundle=bundle, checkpoint=checkpoint, backend=backend, weights=weights, num_threads=num_threads
    )
    reopen = partial(
        open_detector,
        bundle=None if checkpoint is not None else chosen,
        checkpoint=checkpoint,
        backend=backend,
        weights=weights,
        num_threads=num_threads,
        decoder_threads=1 if options.num_workers > 1 else 0,
    )
    return predictions(found, loaded, options, reopen=reopen)


def open_detector(
    *,
    bundle: Path | None = None,
    checkpoint: Path | None = None,
    backend: Literal["tflite", "onnx"] | None = None,
    weights: WeightsChoice | None = None,
    num_threads: int = 1,
    decoder_threads: int = 0,
) -> Detector:
    """The detector of a bundle or of a checkpoint."""
    if checkpoint is not None:
        from dfkit.evaluation.torch_graphs import CheckpointDetector

        return CheckpointDetector(checkpoint, num_threads=num_threads, decoder_threads=decoder_threads, weights=weights)
    from dfkit.runtime.detector import Detector

    assert bundle is not None, "one of the two is named"
    return Detector(bundle, backend=backend, num_threads=num_threads, decoder_threads=decoder_threads)


def detector(
    workspace: Workspace,
    *,
    bundle: Path | None = None,
    checkpoint: Path | None = None,
    backend: Literal["tflite", "onnx"] | None = None,
    weights: WeightsChoice | None = None,
    num_threads: int = 1,
) -> Detector:
    """What `dfkit predict` and `dfkit visualize` score with: a bundle, the newest by default, or a checkpoint.

    Raises:
        ConfigError: Both were named, a backend for a checkpoint, or weights for a bundle.
    """
    if checkpoint is None:
        refuse_weights_of_bundle(weights)
        chosen = workspace.bundle(bundle, or_starter=True)
        note(f"bundle: {chosen}")
        opened = open_detector(bundle=chosen, backend=backend, num_threads=num_threads)
        for line in opened.bundle.manifest.warnings:
            note(line)
        return opened
    if bundle is not None or backend is not None:
        raise ConfigError(
            "a checkpoint runs through torch: it takes neither --bundle nor --backend", fix="name one of the two"
        )
    require_checkpoint(checkpoint)
    require_extra("train")
    note(f"checkpoint: {checkpoint}")
    return open_detector(checkpoint=checkpoint, num_threads=num_threads, weights=weights)


def refuse_weights_of_bundle(weights: WeightsChoice | None) -> None:
    """Refuses `--weights` where a bundle answers.

    Raises:
        ConfigError: A choice was made.
    """
    if weights is not None:
        raise ConfigError(
            f"--weights {weights} chooses in a checkpoint, and a bundle holds the one set that was exported",
            fix="name the checkpoint with --checkpoint, or leave --weights out",
        )


def visualize(
    workspace: Workspace,
    videos: Sequence[Path],
    out_dir: Path,
    *,
    bundle: Path | None = None,
    checkpoint: Path | None = None,
    backend: Literal["tflite", "onnx"] | None = None,
    weights: WeightsChoice | None = None,
    num_threads: int = 1,
) -> Gallery:
    """`dfkit visualize`."""
    from dfkit.evaluation.gallery import draw_gallery

    check_output_folder(out_dir)
    require_videos([path for path in videos if path.is_dir()])
    chosen = detector(
        workspace, bundle=bundle, checkpoint=checkpoint, backend=backend, weights=weights, num_threads=num_threads
    )
    return draw_gallery(videos, chosen, out_dir)
