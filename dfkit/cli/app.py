"""The command line's root, and the options that commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

import dfkit
from dfkit.console import guarded
from dfkit.extras import Extra, require_extra

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
WeightsOption = Annotated[
    Literal["raw", "ema"] | None,
    typer.Option(help="Which weights of a checkpoint that holds both; the plain ones (raw) where left out."),
]
DataOption = Annotated[Path | None, typer.Option("--data", help="Prepared data; the newest where left out.")]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout-s",
        help="Seconds after which a video is given up as unreadable, because the decoder hangs on it; 120 and 60 for "
        "each MB, at most six hours, where left out; 0 for no limit. A single video has a limit only if one is named.",
        min=0,
    ),
]
HERE = Path()


Command = Callable[..., int | None]


def command(*, extra: Extra | None = None, **options: Any) -> Callable[[Command], Callable[..., None]]:
    """Registers a command that returns an exit code, None for 0.

    Args:
        extra: Asked for before anything else is done, so that no work is lost for a package that is not there.
        options: Of `typer.Typer.command`.
    """

    def register(function: Command) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            def action() -> int | None:
                if extra is not None:
                    require_extra(extra)
                return function(**values)

            raise typer.Exit(guarded(action))

        return cast(Callable[..., None], app.command(**options)(run))

    return register


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
