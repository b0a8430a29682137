"""The command line: each command parses, calls one library function, prints, and returns a code.

Heavy imports stay inside the commands: `dfkit --help` loads neither torch, tensorflow nor onnxruntime.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

import dfkit
from dfkit.console import guarded, print_json, print_lines, show

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
DEFAULT_FOLDS = 5


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
def audit(
    data: Annotated[Path | None, typer.Argument(help="Prepared data; the newest where left out.")] = None,
    folds: Annotated[int, typer.Option(help="Grouped folds.", min=2)] = 5,
    seed: Annotated[int, typer.Option(help="Of folds, models and intervals.", min=0)] = 0,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Says how well duration, codec, loudness and other facts of the files tell fake from real.

    Examples:

        dfkit audit

        dfkit audit data/videos --json
    """
    from dfkit import pipeline

    def run() -> None:
        show(pipeline.audit(pipeline.Workspace(workspace), data_dir=data, folds=folds, seed=seed), as_json=json)

    raise typer.Exit(guarded(run))


@app.command()
def baseline(
    data: Annotated[Path | None, typer.Argument(help="Prepared data; the newest where left out.")] = None,
    folds: Annotated[int, typer.Option(help="Grouped folds.", min=2)] = 5,
    seed: Annotated[int, typer.Option(help="Of folds, forest and intervals.", min=0)] = 0,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Measures what hand-made features and a random forest reach: what a network has to beat.

    Examples:

        dfkit baseline

        dfkit baseline data/videos --folds 10
    """
    from dfkit import pipeline

    def run() -> None:
        show(pipeline.baseline(pipeline.Workspace(workspace), data_dir=data, folds=folds, seed=seed), as_json=json)

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


class KfoldCommand(TyperCommand):
    """Takes `--kfold` without a number, as the original does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the usual number behind a bare `--kfold`."""
        for place, argument in enumerate(args):
            following = args[place + 1] if place + 1 < len(args) else "-"
            if argument == "--kfold" and following.startswith("-"):
                args = [*args[: place + 1], str(DEFAULT_FOLDS), *args[place + 1 :]]
                break
        return super().parse_args(ctx, args)


@app.command(cls=KfoldCommand)
def train(
    data: DataOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on with, under the configuration it was started with.")
    ] = None,
    kfold: Annotated[
        int | None, typer.Option(help=f"Nested k-fold with so many folds; {DEFAULT_FOLDS} without a number.", min=2)
    ] = None,
    jobs: Annotated[int, typer.Option(help="Folds at once, each a process with one CPU thread.", min=1)] = 1,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="Where folds run: here, or on a Ray cluster.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes that read clips.", min=0)] = None,
    use_weighted_sampler: Annotated[
        bool, typer.Option("--use-weighted-sampler", help="Draw both classes equally often.")
    ] = False,
    use_weighted_loss: Annotated[
        bool, typer.Option("--use-weighted-loss", help="Weigh both classes equally in the loss.")
    ] = False,
    class_weights: Annotated[
        tuple[float, float] | None, typer.Option(help="Weights in the loss instead.", metavar="REAL FAKE")
    ] = None,
    own_split: Annotated[
        bool, typer.Option("--own-split", help="Split by group, whatever split labels or index name.")
    ] = False,
    modalities: Annotated[str | None, typer.Option(help="Such as audio,face,lip or audio,motion.")] = None,
    save_format: Annotated[
        Literal["dfkit", "original"] | None,
        typer.Option(help="original writes checkpoints in the original MMMS-BA format as well."),
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Trains the tri-modal MMMS-BA teacher, split by group; takes the original's YAML and NPZ folders, too.

    Examples:

        dfkit train

        dfkit train --config configs/demo.yaml --save-format original

        dfkit train --kfold 5 --jobs 2

        dfkit train --resume runs/default
    """
    from dfkit import pipeline
    from dfkit.config.flags import TrainFlags

    def run() -> None:
        flags = TrainFlags(
            kfold=kfold,
            workers=workers,
            use_weighted_sampler=use_weighted_sampler,
            use_weighted_loss=use_weighted_loss,
            class_weights=class_weights,
            modalities=modalities,
            save_format=save_format,
            own_split=own_split,
        )
        result = pipeline.train(
            pipeline.Workspace(workspace),
            config_path=config,
            data_dir=data,
            resume=resume,
            flags=flags,
            executor=executor,
            num_processes=jobs,
        )
        show(result, as_json=json)

    raise typer.Exit(guarded(run))


@app.command()
def distill(
    teacher: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of dfkit train or an original .pth; the newest where left out."),
    ] = None,
    data: DataOption = None,
    target_mb: Annotated[
        float | None, typer.Option(help="Choose widths whose INT8 graph is at most so large, in MB of 10^6 bytes.")
    ] = None,
    target_ms: Annotated[
        float | None,
        typer.Option(help="Choose widths whose INT8 graph takes at most so long for a clip, p50, one thread."),
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Distil so many widths and take the best by validation AUC.", min=1)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Students of each kind; figures become mean and standard deviation.", min=1)
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Prunes a teacher to a GRU-128 student and distils the teacher's answers into it.

    With a target or --points the widths are chosen by what the exported INT8 graph weighs and takes.

    Examples:

        dfkit distill

        dfkit distill --teacher fold4.pth

        dfkit distill --target-mb 1.0 --target-ms 15

        dfkit distill --points 6 --seeds 3
    """
    from dfkit import pipeline
    from dfkit.config.flags import DistillFlags

    def run() -> None:
        result = pipeline.distill(
            pipeline.Workspace(workspace),
            config_path=config,
            teacher_path=teacher,
            data_dir=data,
            flags=DistillFlags(target_mb=target_mb, target_ms=target_ms, points=points, seeds=seeds),
        )
        show(result, as_json=json)

    raise typer.Exit(guarded(run))


@app.command()
def export(
    int8: Annotated[bool, typer.Option("--int8", help="Quantize with the default recipe, mixed_int8.")] = False,
    format: Annotated[
        Literal["tflite", "onnx", "all", "executorch"],
        typer.Option(help="Runtime to export for; executorch adds a .pte to the .tflite."),
    ] = "tflite",
    recipe: Annotated[str | None, typer.Option(help="fp32, fp16, dynamic_int8, static_int8 or mixed_int8.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Student; the newest where left out.")] = None,
    data: DataOption = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Other prepared data for the static ranges; training clips where left out.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Convert the straight way, too, for dfkit bench to compare with.")
    ] = False,
    debug_parity: Annotated[
        bool, typer.Option("--debug-parity", help="Compare layer by layer and name the first that departs.")
    ] = False,
    int8_faces: Annotated[
        bool, typer.Option("--int8-faces", help="Serve with INT8 face models: 0.77 MB less for the phone.")
    ] = False,
    self_contained: Annotated[
        bool, typer.Option("--self-contained", help="Put the face models into the bundle.")
    ] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Converts a student, proves parity stage by stage, and writes a bundle; on failure nothing is written.

    Examples:

        dfkit export --int8 --format tflite

        dfkit export --int8 --format all

        dfkit export --recipe dynamic_int8

        dfkit export --int8 --debug-parity

        dfkit export --int8 --int8-faces --self-contained
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
            calibration_dir=calibration,
            straight=reference,
            debug_parity=debug_parity,
            int8_faces=int8_faces,
            self_contained=self_contained,
        )
        show(result, as_json=json)

    raise typer.Exit(guarded(run))


@app.command()
def verify(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder or .zip; the newest where left out.")] = None,
    tensorflow: Annotated[
        bool, typer.Option("--tensorflow", help="Replay through TensorFlow's interpreter instead, a second opinion.")
    ] = False,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Checks a bundle's schema and hashes and replays its golden vectors.

    Examples:

        dfkit verify

        dfkit verify exports/default.zip --tensorflow
    """

    def run() -> int:
        from dfkit.runtime.replay import replay_bundle
        from dfkit.runtime.second_opinion import ask_tensorflow
        from dfkit.workspace import Workspace

        chosen = bundle or Workspace(workspace).newest_export()
        report = ask_tensorflow(chosen) if tensorflow else replay_bundle(chosen)
        show(report, as_json=json)
        return 0 if report.passed else 1

    raise typer.Exit(guarded(run))


@app.command()
def inspect(
    path: Annotated[
        Path | None, typer.Argument(help="Bundle folder or .zip, .tflite or .onnx; the newest bundle where left out.")
    ] = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Shows signatures, operators and bytes by part of a bundle or a lone model file.

    Examples:

        dfkit inspect

        dfkit inspect exports/default/model.tflite --json
    """

    def run() -> None:
        from dfkit.runtime.inspection import inspect_path
        from dfkit.workspace import Workspace

        show(inspect_path(path or Workspace(workspace).newest_export()), as_json=json)

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
def evaluate(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoint of dfkit or an original .pth; several vote. The newest where left out."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .zip instead of a checkpoint.")] = None,
    backend: Annotated[Literal["tflite", "onnx"] | None, typer.Option(help="Of the bundle; tflite first.")] = None,
    data: DataOption = None,
    split: Annotated[
        Literal["test", "val", "train", "all"], typer.Option(help="Part to judge; all takes every video.")
    ] = "test",
    mc_dropout: Annotated[int, typer.Option(help="Passes of Monte-Carlo dropout; 0 for none.", min=0)] = 0,
    tta: Annotated[bool, typer.Option("--tta", help="Also score mirrored, louder and softer copies.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the report; reports/<name>-evaluation where left out.")
    ] = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Says what a detector is worth on labelled data, by frame, clip and video, with intervals and warnings.

    Examples:

        dfkit evaluate

        dfkit evaluate --checkpoint fold4.pth --data data/videos --split all

        dfkit evaluate --checkpoint runs/a/best.pth --checkpoint runs/b/best.pth --mc-dropout 20 --tta
    """
    from dfkit import pipeline

    def run() -> None:
        report = pipeline.evaluate(
            pipeline.Workspace(workspace),
            checkpoints=checkpoint or [],
            bundle=bundle,
            backend=backend,
            data_dir=data,
            split=split,
            mc_dropout=mc_dropout,
            tta=tta,
            output=output,
        )
        show(report, as_json=json)

    raise typer.Exit(guarded(run))


@app.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="Video files or folders.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .zip; the newest where left out.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint of dfkit or an original .pth instead of a bundle (extra train).")
    ] = None,
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

        dfkit predict video.mp4 --checkpoint fold4.pth
    """

    def run() -> int:
        from dfkit import pipeline
        from dfkit.runtime import predict as runtime_predict

        detector = pipeline.detector(
            pipeline.Workspace(workspace), bundle=bundle, checkpoint=checkpoint, backend=backend, num_threads=threads
        )
        results = runtime_predict.predict_videos(
            videos, detector, backend=backend, num_threads=threads, csv_path=csv, plot_path=plot
        )
        if json:
            print_json([result.to_json() for result in results])
        else:
            print_lines([line for result in results for line in result.summary()])
        return 2 if all(result.status == "unreadable" for result in results) else 0

    raise typer.Exit(guarded(run))


@app.command()
def visualize(
    videos: Annotated[list[Path], typer.Argument(help="Folder of videos, or files.")],
    out: Annotated[Path, typer.Option(help="Folder of the pictures and of index.html.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .zip; the newest where left out.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint instead (extra train): attention maps are drawn, too.")
    ] = None,
    backend: Annotated[Literal["tflite", "onnx"] | None, typer.Option(help="Runtime; tflite where there.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of the model.", min=1)] = 1,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Draws every video: faces, P(fake) over time, heat strip, and an index page of all.

    Examples:

        dfkit visualize videos/ --out pictures

        dfkit visualize videos/ --checkpoint runs/default/best.pth --out pictures
    """
    from dfkit import pipeline

    def run() -> None:
        gallery = pipeline.visualize(
            pipeline.Workspace(workspace),
            videos,
            out,
            bundle=bundle,
            checkpoint=checkpoint,
            backend=backend,
            num_threads=threads,
        )
        show(gallery, as_json=json)

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
