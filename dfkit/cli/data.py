"""Commands on data: prepare, audit, baseline, forge."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from dfkit.cli.app import HERE, ConfigOption, DataOption, JsonOption, TimeoutOption, WorkspaceOption, command
from dfkit.console import show

LeaveOutOption = Annotated[
    str | None,
    typer.Option(
        help="Folds that leave out a generator each (method), a group, or a value of a column of the label file, as "
        "those of dfkit train --leave-out.",
        metavar="method|group|COLUMN",
    ),
]


class BaselineChoice(StrEnum):
    """What `--of` takes; `dfkit.audit.BASELINES` has the same names (typer has no lists of literals)."""

    features = "features"
    facts = "facts"
    sync = "sync"
    texture = "texture"


@command(extra="train")
def prepare(
    videos: Annotated[list[Path], typer.Argument(help="Folder with real/ and fake/, a data set, or video files.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV path,label[,group,method,fake_start_s,fake_end_s,split,groups_known]; paths relative to it. "
            "Further columns, such as language, are kept for dfkit evaluate --by and dfkit train --leave-out. "
            "Commas, semicolons or tabs; UTF-8, or UTF-16 with a byte order mark."
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of a known data set, or auto.")] = "auto",
    preset: Annotated[
        str | None, typer.Option(help="clip2s, or uniform50 for original checkpoints (leaks duration).")
    ] = None,
    faces: Annotated[
        Literal["int8", "float16"] | None,
        typer.Option(help="Face models, from here to the phone; the configuration's, else int8 for new data."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the prepared data; data/<name> where left out.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    executor: Annotated[str, typer.Option(help="local, or ray for an existing Ray cluster.")] = "local",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Also prepare videos without label; else that is an error.")
    ] = False,
    min_coverage: Annotated[
        float, typer.Option(help="Share of the files that labels name which has to be there.", min=0, max=1)
    ] = 0.5,
    timeout_s: TimeoutOption = None,
    equalise: Annotated[
        bool,
        typer.Option(
            "--equalise",
            help="Crop and re-encode all videos alike first (size of the face, rates, codecs, loudness, leading "
            "silence), for evaluation; into data/<name>-equalised where --out is left out. Raw data stays what "
            "commands take by themselves.",
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the equalised videos, in the folder equalised of the prepared data.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the hashes of prepared data instead.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Decodes videos, follows faces, and stores clips in shards.

    Examples:

        dfkit prepare videos/

        dfkit prepare videos/ --labels labels.csv --workers 2

        dfkit prepare videos/ --equalise

        dfkit prepare data/videos --verify
    """
    from dfkit import pipeline

    if verify:
        from dfkit.data.storage import verify as verify_data

        for folder in videos:
            show(verify_data(folder), as_json=as_json)
        return
    result = pipeline.prepare(
        videos,
        pipeline.Workspace(workspace),
        config_path=config,
        labels=labels,
        layout=layout,
        preset=preset,
        faces=faces,
        out_dir=out,
        num_workers=workers,
        executor=executor,
        unlabelled=unlabelled,
        min_coverage=min_coverage,
        timeout_s=timeout_s,
        equalise=equalise,
        keep=keep,
    )
    show(result, as_json=as_json)


@command(extra="train")
def audit(
    data: Annotated[Path | None, typer.Argument(help="Prepared data; the newest where left out.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Grouped folds; the configuration's, else 5, where left out.", min=2)
    ] = None,
    leave_out: LeaveOutOption = None,
    seed: Annotated[
        int | None, typer.Option(help="Of folds, models and intervals; split.seed where left out.", min=0)
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Says how well duration, codec, loudness and other facts of the files tell fake from real.

    Examples:

        dfkit audit

        dfkit audit data/videos --json

        dfkit audit data/videos --leave-out method
    """
    from dfkit import pipeline

    result = pipeline.audit(
        pipeline.Workspace(workspace), config_path=config, data_dir=data, folds=folds, leave_out=leave_out, seed=seed
    )
    show(result, as_json=as_json)


@command(extra="train")
def baseline(
    data: Annotated[Path | None, typer.Argument(help="Prepared data; the newest where left out.")] = None,
    of: Annotated[
        list[BaselineChoice] | None,
        typer.Option(
            help="Which, once for each: hand-made features, file facts, phonemes against lips, frozen texture "
            "features; all that are installed where left out."
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Grouped folds; the configuration's, else 5, where left out.", min=2)
    ] = None,
    leave_out: LeaveOutOption = None,
    seed: Annotated[
        int | None, typer.Option(help="Of folds, models and intervals; split.seed where left out.", min=0)
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Measures what simple features and small models reach: what a network has to beat.

    Examples:

        dfkit baseline

        dfkit baseline data/videos --of sync --of texture --folds 10

        dfkit baseline data/videos --leave-out method
    """
    from dfkit import pipeline

    result = pipeline.baseline(
        pipeline.Workspace(workspace),
        config_path=config,
        data_dir=data,
        of=[each.value for each in of or ()],
        folds=folds,
        leave_out=leave_out,
        seed=seed,
    )
    show(result, as_json=as_json)


@command(extra="train")
def forge(
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new data; data/<name>-forged where left out.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Makes fakes and their real twins from the real videos of prepared data, and prepares them.

    Examples:

        dfkit forge

        dfkit forge --data data/videos --workers 2
    """
    from dfkit import pipeline

    result = pipeline.forge(
        pipeline.Workspace(workspace), config_path=config, data_dir=data, out_dir=out, num_workers=workers
    )
    show(result, as_json=as_json)
