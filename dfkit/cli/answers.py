"""Commands that answer: evaluate, predict, visualize, demo."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from dfkit.cli.app import (
    HERE,
    ConfigOption,
    DataOption,
    JsonOption,
    TimeoutOption,
    WeightsOption,
    WorkspaceOption,
    command,
)
from dfkit.console import JsonArray, PlainLines, show


@command(extra="train")
def evaluate(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoint of dfkit or an original .pth; several vote. The newest where left out."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .zip instead of a checkpoint.")] = None,
    backend: Annotated[Literal["tflite", "onnx"] | None, typer.Option(help="Of the bundle; tflite first.")] = None,
    weights: WeightsOption = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of dfkit train --leave-out instead of a checkpoint: joins its folds."),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Also list AUC by the values of a column of the label file.")
    ] = None,
    data: DataOption = None,
    split: Annotated[
        Literal["test", "val", "train", "all"],
        typer.Option(
            help="Part to judge. Thresholds are fitted on validation videos, and none of these is judged: all leaves "
            "them out where they are enough to fit on; else, and with val, nothing is fitted."
        ),
    ] = "test",
    mc_dropout: Annotated[int, typer.Option(help="Passes of Monte-Carlo dropout; 0 for none.", min=0)] = 0,
    tta: Annotated[bool, typer.Option("--tta", help="Also score mirrored, louder and softer copies.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the report; reports/<name>-evaluation where left out.")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Says what a detector is worth on labelled data, by frame, clip and video, with intervals and warnings.

    Examples:

        dfkit evaluate

        dfkit evaluate --checkpoint fold4.pth --data data/videos --split all

        dfkit evaluate --checkpoint runs/a/best.pth --checkpoint runs/b/best.pth --mc-dropout 20 --tta

        dfkit evaluate --run runs/default --by language
    """
    from dfkit import pipeline

    report = pipeline.evaluate(
        pipeline.Workspace(workspace),
        checkpoints=checkpoint or [],
        bundle=bundle,
        backend=backend,
        weights=weights,
        data_dir=data,
        split=split,
        mc_dropout=mc_dropout,
        tta=tta,
        output=output,
        run=run,
        columns=by or [],
    )
    show(report, as_json=as_json)


@command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="Video files or folders.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .zip; the newest where left out.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint of dfkit or an original .pth instead of a bundle (extra train).")
    ] = None,
    backend: Annotated[Literal["tflite", "onnx"] | None, typer.Option(help="Runtime; tflite where there.")] = None,
    weights: WeightsOption = None,
    csv_path: Annotated[
        Path | None,
        typer.Option("--csv", help="Write one row per video as it is scored; the same command goes on with it."),
    ] = None,
    jsonl_path: Annotated[
        Path | None, typer.Option("--jsonl", help="Write the objects of --json, one a line; likewise.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin --csv and --jsonl anew, whatever is in these files.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw frames, P(fake) over time and a heat strip; one picture per video."),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes, each with a model of its own; as many as there are cores.", min=1)
    ] = 1,
    timeout_s: TimeoutOption = None,
    threads: Annotated[int, typer.Option(help="Threads per interpreter.", min=1)] = 1,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an unforeseen error.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Says of each video whether it is real, fake or to be reviewed, or why it cannot tell.

    Examples:

        dfkit predict video.mp4

        dfkit predict videos/ --csv out.csv --workers 4

        dfkit predict videos/ --jsonl out.jsonl

        dfkit predict video.mp4 --json --plot out.png

        dfkit predict video.mp4 --checkpoint fold4.pth
    """

    from dfkit import pipeline
    from dfkit.runtime.predict import PredictOptions, exit_code

    options = PredictOptions(
        csv_path=csv_path,
        jsonl_path=jsonl_path,
        plot_path=plot,
        overwrite=overwrite,
        whole=as_json,
        num_workers=workers,
        killable=True,
        timeout_s=timeout_s,
        debug=debug,
    )
    answers = pipeline.predict(
        pipeline.Workspace(workspace),
        videos,
        options,
        bundle=bundle,
        checkpoint=checkpoint,
        backend=backend,
        weights=weights,
        num_threads=threads,
    )
    statuses = []
    with closing(answers), JsonArray() if as_json else PlainLines() as output:
        for answer in answers:
            output.add(answer)
            statuses.append(answer.status)
    return exit_code(statuses)


@command(extra="plot")
def visualize(
    videos: Annotated[list[Path], typer.Argument(help="Folder of videos, or files.")],
    out: Annotated[Path, typer.Option(help="Folder of the pictures and of index.html.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .zip; the newest where left out.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint instead (extra train): attention maps are drawn, too.")
    ] = None,
    backend: Annotated[Literal["tflite", "onnx"] | None, typer.Option(help="Runtime; tflite where there.")] = None,
    weights: WeightsOption = None,
    threads: Annotated[int, typer.Option(help="Threads of the model.", min=1)] = 1,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Draws every video: faces, P(fake) over time, heat strip, and an index page of all.

    Examples:

        dfkit visualize videos/ --out pictures

        dfkit visualize videos/ --checkpoint runs/default/best.pth --out pictures
    """
    from dfkit import pipeline

    gallery = pipeline.visualize(
        pipeline.Workspace(workspace),
        videos,
        out,
        bundle=bundle,
        checkpoint=checkpoint,
        backend=backend,
        weights=weights,
        num_threads=threads,
    )
    show(gallery, as_json=as_json)


@command(extra="export")
def demo(
    videos: Annotated[
        Literal["auto", "real", "synthetic"],
        typer.Option(help="Eight GRID speakers, synthetic heads, or real where they can be had."),
    ] = "auto",
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Runs the whole pipeline on talking faces and ends with a verdict and a report.

    Examples:

        dfkit demo

        dfkit demo --videos synthetic --workspace trial
    """
    from dfkit.demo.run import run_demo

    report = run_demo(videos, workspace, config_path=config)
    show(report, as_json=as_json)
    return report.exit_code
