"""Commands that answer: evaluate, compare, predict, visualize, demo."""

from __future__ import annotations

from collections.abc import Mapping
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
from dfkit.errors import ConfigError
from dfkit.extras import require_extra


@command()
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
        Literal["test", "val", "train", "all"] | None,
        typer.Option(
            help="Part to judge: test, or all of --scores, where left out. Thresholds are fitted on validation videos, "
            "and none of these is judged: all leaves them out where they are enough to fit on; else, and with val, "
            "nothing is fitted."
        ),
    ] = None,
    mc_dropout: Annotated[int, typer.Option(help="Passes of Monte-Carlo dropout; 0 for none.", min=0)] = 0,
    tta: Annotated[bool, typer.Option("--tta", help="Also score mirrored, louder and softer copies.")] = False,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync",
            help="Instead: real videos with their own sound against the same with another's or late sound. Several "
            "checkpoints: folds, each on its own part.",
        ),
    ] = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Table of another detector's answers instead of a model: path,p_fake. Labels are those of --data, "
            "--labels or --like, or a column label in it."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label CSV for --scores; its videos need not be there.")] = None,
    like: Annotated[Path | None, typer.Option(help="For --scores: the videos of another report.")] = None,
    score_column: Annotated[str | None, typer.Option(help="Of --scores, where it has several.")] = None,
    min_coverage: Annotated[
        float | None, typer.Option(help="Share of the videos that --scores has to answer; 0.5 where left out.")
    ] = None,
    from_scores: Annotated[
        Path | None,
        typer.Option("--from", help="scores.json of a report, or its folder: the same report again, without media."),
    ] = None,
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

        dfkit evaluate --sync --bundle exports/default

        dfkit evaluate --scores other.csv --labels labels.csv

        dfkit evaluate --from reports/a-evaluation
    """
    from dfkit import pipeline

    model = bool(checkpoint or bundle or backend or weights or mc_dropout or tta or sync)
    table_options = {"--score-column": score_column, "--min-coverage": min_coverage}
    place = pipeline.Workspace(workspace)
    if from_scores is not None:
        refuse_beside("--from", {"a model": model, "--run": run, "--scores": scores, "--data": data, "--split": split})
        refuse_beside("--from", {"--labels": labels, "--like": like, **table_options})
        show(pipeline.evaluate_scores_file(place, from_scores, output=output, columns=by or []), as_json=as_json)
        return
    if scores is not None:
        refuse_beside("--scores", {"a model": model, "--run": run})
        judged = pipeline.evaluate_table(
            place,
            scores,
            data_dir=data,
            labels=labels,
            like=like,
            split=split or "all",
            score_column=score_column,
            min_coverage=0.5 if min_coverage is None else min_coverage,
            output=output,
            columns=by or [],
        )
        show(judged, as_json=as_json)
        return
    others = {"--labels": labels, "--like": like, **table_options}
    if sync:
        refuse_beside("--sync", {"--run": run, "--by": by, "--mc-dropout": mc_dropout, "--tta": tta, **others})
        require_extra("train")
        heard = pipeline.evaluate_sync(
            place,
            checkpoints=checkpoint or [],
            bundle=bundle,
            backend=backend,
            weights=weights,
            data_dir=data,
            split=split or "test",
            output=output,
        )
        show(heard, as_json=as_json)
        return
    if run is not None:
        refuse_beside("--run", {"a model": model, "--split": split, **others})
    refuse_beside("a model", others)
    require_extra("train")
    report = pipeline.evaluate(
        place,
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


def refuse_beside(chosen: str, others: Mapping[str, object]) -> None:
    """Refuses options that say nothing to the chosen source of answers.

    Raises:
        ConfigError: One of them was given; names them.
    """
    given = [name for name, value in others.items() if value not in (None, False, [])]
    if given:
        raise ConfigError(f"{chosen} goes without {' and '.join(given)}", fix="leave one of them out")


@command()
def compare(
    first: Annotated[
        Path, typer.Argument(help="Report of the workspace, its folder or its scores.json: A.", metavar="A")
    ],
    second: Annotated[Path, typer.Argument(help="The other: B.", metavar="B")],
    aggregation: Annotated[
        Literal["mean", "max", "noisy_or"] | None,
        typer.Option(help="Put the clips of both together anew, alike; compares the AUC alone."),
    ] = None,
    min_coverage: Annotated[
        float, typer.Option(help="Share of the videos that both have to answer.", min=0, max=1)
    ] = 0.5,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Says whether two evaluations of the same videos differ: paired bootstrap over groups, and DeLong's test.

    Examples:

        dfkit compare a-evaluation b-evaluation

        dfkit compare a/scores.json b/scores.json --json
    """
    from dfkit import pipeline

    place = pipeline.Workspace(workspace)
    result = pipeline.compare(place, first, second, aggregation=aggregation, min_coverage=min_coverage)
    show(result, as_json=as_json)


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
