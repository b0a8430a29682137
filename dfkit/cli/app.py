"""The command line's root, and the options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dfkit

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
