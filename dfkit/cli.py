"""The command line: each command parses, calls one library function, prints, and returns a code.

Heavy imports stay inside the commands: `dfkit --help` loads neither torch, tensorflow nor onnxruntime.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

import dfkit
from dfkit.console import guarded, note, print_json, print_lines, show

app = typer.Typer(
    name="dfkit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Takes an audio-visual deepfake detector from a GPU to a phone: "
    "prepare, forge, train, distill, export, verify, bench, predict.",
)

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Folder with data/, runs/, exports/ and reports/.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="Experiment YAML; see configs/.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Prepared data; the newest where left out.")]
HERE = Path()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dfkit {dfkit.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command()
def prepare(
    videos: Annotated[list[Path], typer.Argument(help="Folder with real/ and fake/, a data set, or video files.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV path,label[,group,method,fake_start_s,fake_end_s,split]; paths relative to it."),
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of a known data set, or auto.")] = "auto",
    preset: Annotated[
        str | None, typer.Option(help="clip2s, or uniform50 for original checkpoints (leaks duration).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the prepared data; data/<name> where left out.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    executor: Annotated[str, typer.Option(help="local, or ray for an existing Ray cluster.")] = "local",
    verify: Annotated[bool, typer.Option("--verify", help="Check the hashes of prepared data instead.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Decodes videos, follows faces, and stores clips in shards.

    Examples:

        dfkit prepare videos/

        dfkit prepare videos/ --labels labels.csv --workers 2

        dfkit prepare data/videos --verify
    """
    from dfkit import pipeline

    def run() -> None:
        if verify:
            from dfkit.data.storage import verify as verify_data

            for folder in videos:
                show(verify_data(folder), as_json=json)
            return
        result = pipeline.prepare(
            videos,
            pipeline.Workspace(workspace),
            config_path=config,
            labels=labels,
            layout=layout,
            preset=preset,
            out_dir=out,
            num_workers=workers,
            executor=executor,
        )
        show(result, as_json=json)

    raise typer.Exit(guarded(run))


@app.command()
def forge(
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new data; <data>-forged where left out.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Makes fakes and their real twins from the real videos of prepared data, and prepares them.

    Examples:

        dfkit forge

        dfkit forge --data data/videos --workers 2
    """
    from dfkit import pipeline

    def run() -> None:
        result = pipeline.forge(
            pipeline.Workspace(workspace), config_path=config, data_dir=data, out_dir=out, num_workers=workers
        )
        show(result, as_json=json)

    raise typer.Exit(guarded(run))


@app.command()
def train(
    data: DataOption = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to go on with.")] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Trains the tri-modal MMMS-BA teacher, split by group.

    Examples:

        dfkit train

        dfkit train --config configs/demo.yaml

        dfkit train --resume runs/default
    """
    from dfkit import pipeline

    def run() -> None:
        show(
            pipeline.train(pipeline.Workspace(workspace), config_path=config, data_dir=data, resume=resume),
            as_json=json,
        )

    raise typer.Exit(guarded(run))


@app.command()
def distill(
    teacher: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of dfkit train or an original .pth; the newest where left out."),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Prunes a teacher to a GRU-128 student and distils the teacher's answers into it.

    Examples:

        dfkit distill

        dfkit distill --teacher fold4.pth
    """
    from dfkit import pipeline

    def run() -> None:
        show(
            pipeline.distill(pipeline.Workspace(workspace), config_path=config, teacher_path=teacher, data_dir=data),
            as_json=json,
        )

    raise typer.Exit(guarded(run))


@app.command()
def export(
    int8: Annotated[bool, typer.Option("--int8", help="Quantize with the default recipe, mixed_int8.")] = False,
    format: Annotated[Literal["tflite", "onnx", "all"], typer.Option(help="Runtime to export for.")] = "tflite",
    recipe: Annotated[str | None, typer.Option(help="fp32, fp16, dynamic_int8, static_int8 or mixed_int8.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Student; the newest where left out.")] = None,
    data: DataOption = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Converts a student, proves parity stage by stage, and writes a bundle; on failure nothing is written.

    Examples:

        dfkit export --int8 --format tflite

        dfkit export --int8 --format all

        dfkit export --recipe dynamic_int8
    """
    from dfkit import pipeline

    def run() -> None:
        result = pipeline.export(
            pipeline.Workspace(workspace),
            config_path=config,
            checkpoint=checkpoint,
            data_dir=data,
            formats=format,
            recipe=recipe or ("mixed_int8" if int8 else "fp32"),
        )
        show(result, as_json=json)

    raise typer.Exit(guarded(run))


@app.command()
def verify(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder or .zip; the newest where left out.")] = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Checks a bundle's schema and hashes and replays its golden vectors.

    Examples:

        dfkit verify

        dfkit verify exports/default.zip
    """

    def run() -> int:
        from dfkit.runtime.replay import replay_bundle
        from dfkit.workspace import Workspace

        report = replay_bundle(bundle or Workspace(workspace).newest_export())
        show(report, as_json=json)
        return 0 if report.passed else 1

    raise typer.Exit(guarded(run))


@app.command()
def bench(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the newest where left out.")] = None,
    video: Annotated[
        list[Path] | None,
        typer.Option(help="Video for the whole way; one of the bundle's test videos where left out."),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed clips per variant.", min=3)] = None,
    threads: Annotated[int | None, typer.Option(help="Threads per interpreter.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; reports/<name> where left out.")] = None,
    allow_unjudged: Annotated[
        bool, typer.Option("--allow-unjudged", help="Exit 0 though a gate had too little data.")
    ] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Measures size, latency, parity and the teacher's accuracy, and judges them by gates.

    Examples:

        dfkit bench

        dfkit bench exports/default --video talk.mp4 --allow-unjudged
    """
    from dfkit import pipeline

    def run() -> int:
        report = pipeline.bench(
            pipeline.Workspace(workspace),
            bundle=bundle,
            videos=video or [],
            repeats=repeats,
            num_threads=threads,
            out_dir=out,
            allow_unjudged=allow_unjudged,
            config_path=config,
        )
        show(report, as_json=json)
        return report.exit_code

    raise typer.Exit(guarded(run))


@app.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="Video files or folders.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .zip; the newest where left out.")] = None,
    backend: Annotated[Literal["tflite", "onnx"] | None, typer.Option(help="Runtime; tflite where there.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row per video.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw frames, P(fake) over time and a heat strip; one picture per video."),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads per interpreter.", min=1)] = 1,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Says of each video whether it is real, fake or to be reviewed, or why it cannot tell.

    Examples:

        dfkit predict video.mp4

        dfkit predict videos/ --csv out.csv

        dfkit predict video.mp4 --json --plot out.png
    """

    def run() -> int:
        from dfkit.runtime import predict as runtime_predict
        from dfkit.workspace import Workspace

        chosen = bundle or Workspace(workspace).newest_export()
        note(f"bundle: {chosen}")
        results = runtime_predict.predict_videos(
            videos, chosen, backend=backend, num_threads=threads, csv_path=csv, plot_path=plot
        )
        if json:
            print_json([result.to_json() for result in results])
        else:
            print_lines([line for result in results for line in result.summary()])
        return 2 if all(result.status == "unreadable" for result in results) else 0

    raise typer.Exit(guarded(run))


@app.command()
def demo(
    videos: Annotated[
        Literal["auto", "real", "synthetic"],
        typer.Option(help="Eight GRID speakers, synthetic heads, or real where they can be had."),
    ] = "auto",
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Runs the whole pipeline on talking faces and ends with a verdict and a report.

    Examples:

        dfkit demo

        dfkit demo --videos synthetic --workspace trial
    """
    from dfkit.demo.run import run_demo

    def run() -> int:
        report = run_demo(videos, workspace, config_path=config)
        show(report, as_json=json)
        return report.exit_code

    raise typer.Exit(guarded(run))


def main() -> None:
    """Entry point of the `dfkit` command."""
    for stream in (sys.stdout, sys.stderr):
        # File names may hold anything; a terminal that cannot show them must not end the run.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app()
