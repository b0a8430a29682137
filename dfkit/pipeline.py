"""The stages as the command line calls them: find what an earlier stage left, say so, run one function.

Each takes the newest result of its kind unless told otherwise. Heavy imports stay inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dfkit.clip import PRESETS, ClipSpec
from dfkit.config import Config, read_config
from dfkit.console import note
from dfkit.errors import ConfigError, DataError
from dfkit.workspace import Workspace

if TYPE_CHECKING:
    from dfkit.data.prepare import PrepareSummary
    from dfkit.data.storage import PreparedData
    from dfkit.distill.train import RunSummary
    from dfkit.export.export import ExportSummary

FORGED_SUFFIX = "-forged"


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
    out_dir: Path | None = None,
    num_workers: int = 1,
    executor: str = "local",
) -> PrepareSummary:
    """`dfkit prepare`.

    Raises:
        ConfigError: Unknown preset.
        DataError: Labels or videos cannot be used.
    """
    from dfkit.data.prepare import prepare as prepare_data

    spec = clip_spec(read_config(config_path), preset)
    name = data_name(videos[0], labels)
    target = out_dir or workspace.data / (name if spec.preset == "clip2s" else f"{name}-{spec.preset}")
    sources = videos[0] if len(videos) == 1 else list(videos)
    return prepare_data(
        sources, target, spec=spec, labels=labels, layout=layout, num_workers=num_workers, executor=executor
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
    """A data set's name: its folder's, or its label file's."""
    resolved = first.resolve()
    name = resolved.name if resolved.is_dir() else (labels.stem if labels is not None else resolved.stem)
    return name or "data"


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
    from dfkit.data.forge import ForgeSource
    from dfkit.data.forge import forge as forge_videos
    from dfkit.data.forge.config import ForgeConfig
    from dfkit.data.prepare import prepare as prepare_data
    from dfkit.data.storage import PreparedData

    source_dir = data_dir or workspace.newest_data()
    data = PreparedData(source_dir)
    note(f"forging from the real videos of {source_dir}")
    # Videos whose label is unknown are not taken for real ones.
    reals = [
        ForgeSource(path=Path(row.path), group=data.groups[n], label=0)
        for n, row in enumerate(data.videos)
        if row.status == "ok" and row.label == 0
    ]
    if not reals:
        raise DataError(f"{source_dir}: no usable real video to forge from", fix="dfkit prepare real videos first")
    target = out_dir or Path(f"{source_dir}{FORGED_SUFFIX}")
    videos_dir = target.with_name(f"{target.name}-videos")
    forged = forge_videos(
        reals, videos_dir, ForgeConfig.model_validate(read_config(config_path).forge), num_workers=num_workers
    )
    for line in forged.summary():
        note(line)
    return prepare_data(
        videos_dir, target, spec=data.spec, labels=forged.labels_csv, layout="csv", num_workers=num_workers
    )


def train(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    data_dir: Path | None = None,
    resume: Path | None = None,
) -> RunSummary:
    """`dfkit train`."""
    from dfkit.distill.train import train_teacher

    read_config(config_path)  # a wrong key is refused before anything else is looked for
    chosen = data_dir or workspace.newest_data()
    note(f"training a teacher on {chosen}")
    return train_teacher(chosen, workspace, experiment(config_path, chosen), resume=resume)


def distill(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    teacher_path: Path | None = None,
    data_dir: Path | None = None,
) -> RunSummary:
    """`dfkit distill`."""
    from dfkit.distill.distill import distill_student

    read_config(config_path)
    chosen = data_dir or workspace.newest_data()
    teacher = teacher_path or workspace.newest_run("teacher") / "best.pth"
    note(f"distilling {teacher} on {chosen}")
    return distill_student(teacher, chosen, workspace, experiment(config_path, chosen), make_view=prepare_view)


def prepare_view(data: PreparedData, spec: ClipSpec) -> Path:
    """The videos of prepared data under another preset, beside it; nothing is done where it is there already."""
    from dfkit.data.labels import LabelSet, Source
    from dfkit.data.prepare import prepare as prepare_data

    target = Path(f"{data.path.rstrip('/')}-{spec.preset}")
    note(f"the teacher was trained on {spec.preset}: preparing that view of {data.path} in {target}")
    sources = tuple(
        Source(path=Path(row.path), label=row.label, groups=row.groups, method=row.method, split=row.split)
        for row in data.videos
        if row.status == "ok"
    )
    prepare_data(LabelSet(sources, groups_known=data.groups_known), target, spec=spec)
    return target


def export(
    workspace: Workspace,
    *,
    config_path: Path | None = None,
    checkpoint: Path | None = None,
    data_dir: Path | None = None,
    formats: Literal["tflite", "onnx", "all"] = "tflite",
    recipe: str | None = None,
) -> ExportSummary:
    """`dfkit export`; prints the parity of every stage on stderr."""
    from dfkit.export.export import export_student
    from dfkit.export.recipes import recipe_named

    config = read_config(config_path)
    if recipe is not None:
        recipe_named(recipe)
    chosen = checkpoint or workspace.newest_run("student") / "best.pth"
    note(f"exporting {chosen}")
    return export_student(
        chosen,
        workspace.exports,
        config,
        formats=formats,
        recipe=recipe,
        data_dir=data_dir,
        on_parity=note_parity,
    )


def note_parity(report: Any) -> None:
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
) -> Any:
    """`dfkit bench`."""
    from dfkit.benchmarks.bench import bench as run_bench

    section = read_config(config_path).bench
    chosen = bundle or workspace.newest_export()
    note(f"benchmarking {chosen}")
    return run_bench(
        chosen,
        videos=videos,
        out_dir=out_dir or workspace.reports / chosen.stem,
        repeats=repeats or section.repeats,
        num_threads=num_threads or section.num_threads,
        allow_unjudged=allow_unjudged,
    )
