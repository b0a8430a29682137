"""Commands on bundles and on the machine that runs them: export, verify, doctor, inspect, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dfkit.cli.app import HERE, ConfigOption, DataOption, JsonOption, WeightsOption, WorkspaceOption, command
from dfkit.console import show


@command(extra="export")
def export(
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Quantize: with the configuration's recipe where that is an INT8 one, else with mixed_int8."
        ),
    ] = False,
    formats: Annotated[
        Literal["tflite", "onnx", "all", "executorch", "coreai"],
        typer.Option("--format", help="Runtime; executorch adds a .pte to the .tflite, coreai an .aimodel."),
    ] = "tflite",
    recipe: Annotated[str | None, typer.Option(help="fp32, fp16, dynamic_int8, static_int8 or mixed_int8.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Student; the newest where left out.")] = None,
    weights: WeightsOption = None,
    data: DataOption = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Other prepared data for the static ranges; training clips where left out.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Convert the straight way, too, for dfkit bench to compare with.")
    ] = False,
    simplify: Annotated[
        bool,
        typer.Option("--simplify", help="Put ONNX graphs through onnxsim; taken where it helps and changes nothing."),
    ] = False,
    debug_parity: Annotated[
        bool, typer.Option("--debug-parity", help="Compare layer by layer and name the first that departs.")
    ] = False,
    int8_faces: Annotated[
        bool | None,
        typer.Option(
            "--int8-faces/--float16-faces",
            help="Face models to serve with, 0.71 or 1.47 MB; those that prepared its data where left out.",
        ),
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Converts a student, proves parity stage by stage, and writes a bundle; on failure nothing is written.

    Examples:

        dfkit export --int8 --format tflite

        dfkit export --int8 --format all

        dfkit export --recipe dynamic_int8

        dfkit export --format onnx --simplify

        dfkit export --int8 --debug-parity
    """
    from dfkit import pipeline

    result = pipeline.export(
        pipeline.Workspace(workspace),
        config_path=config,
        checkpoint=checkpoint,
        weights=weights,
        data_dir=data,
        formats=formats,
        recipe=recipe,
        int8=int8,
        calibration_dir=calibration,
        straight=reference,
        simplify=simplify,
        debug_parity=debug_parity,
        int8_faces=int8_faces,
    )
    show(result, as_json=as_json)


@command()
def verify(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder or .zip; the newest where left out.")] = None,
    tensorflow: Annotated[
        bool, typer.Option("--tensorflow", help="Replay through TensorFlow's interpreter instead, a second opinion.")
    ] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Checks a bundle's schema and hashes and replays its golden vectors, from a video to its verdict.

    Examples:

        dfkit verify

        dfkit verify exports/default.zip --tensorflow
    """

    from dfkit.runtime.replay_video import verify_bundle
    from dfkit.runtime.tensorflow_replay import replay_with_tensorflow
    from dfkit.workspace import Workspace

    chosen = Workspace(workspace).bundle(bundle)
    report = replay_with_tensorflow(chosen) if tensorflow else verify_bundle(chosen)
    show(report, as_json=as_json)
    return 0 if report.passed else 1


@command()
def doctor(
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Says whether packages, processor, decoders, folders and a golden clip are as dfkit needs them; 1 if not.

    Examples:

        dfkit doctor

        dfkit doctor --json
    """

    from dfkit.doctor.run import examine

    report = examine(workspace)
    show(report, as_json=as_json)
    return report.exit_code


@command()
def inspect(
    path: Annotated[
        Path | None, typer.Argument(help="Bundle folder or .zip, .tflite or .onnx; the newest bundle where left out.")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Shows signatures, operators and bytes by part of a bundle or a lone model file.

    Examples:

        dfkit inspect

        dfkit inspect exports/default/model.tflite --json
    """

    from dfkit.runtime.inspection import inspect_path
    from dfkit.workspace import Workspace

    show(inspect_path(Workspace(workspace).bundle(path)), as_json=as_json)


@command()
def bench(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the newest where left out.")] = None,
    video: Annotated[
        list[Path] | None,
        typer.Option(
            help="Video for the whole way; where left out, a test video of the export whose file is still there."
        ),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed clips per variant.", min=3)] = None,
    threads: Annotated[int | None, typer.Option(help="Threads per interpreter.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; reports/<name> where left out.")] = None,
    allow_unjudged: Annotated[
        bool, typer.Option("--allow-unjudged", help="Exit 0 though a gate had too little data.")
    ] = False,
    adb: Annotated[
        bool, typer.Option("--adb", help="Let a phone measure, too: connected, with the app of android_demo installed.")
    ] = False,
    serial: Annotated[str | None, typer.Option(help="Phone that is meant, where several are connected.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Work without a pause on the phone; 10 where left out, 0 for none.", min=0, max=120),
    ] = None,
    imports: Annotated[
        list[Path] | None, typer.Option("--import", help="What a phone measured of this bundle: the app's JSON.")
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Measures size, latency, parity and the teacher's accuracy, and judges them by gates.

    Examples:

        dfkit bench

        dfkit bench exports/default --video talk.mp4 --allow-unjudged

        dfkit bench --adb --minutes 10

        dfkit bench exports/default --import phone.json
    """
    from dfkit import pipeline

    report = pipeline.bench(
        pipeline.Workspace(workspace),
        bundle=bundle,
        videos=video or [],
        repeats=repeats,
        num_threads=threads,
        out_dir=out,
        allow_unjudged=allow_unjudged,
        config_path=config,
        imports=imports or [],
        adb=adb,
        serial=serial,
        minutes=minutes,
    )
    show(report, as_json=as_json)
    return report.exit_code
