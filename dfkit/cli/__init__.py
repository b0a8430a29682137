"""The command line: each command parses, calls one library function, prints, and returns a code.

Heavy imports stay inside the commands: `dfkit --help` loads neither torch, tensorflow nor onnxruntime.
"""

from __future__ import annotations

import os
import sys

# Importing a module registers its commands, in the order that `dfkit --help` lists them.
from dfkit.cli import data, training, bundles, answers  # isort: skip
from dfkit.cli.app import app

__all__ = ["answers", "app", "bundles", "data", "main", "training"]


def main() -> None:
    """Entry point of the `dfkit` command."""
    # GNU OpenMP's threads, torch's on Linux, spin 300,000 times before they sleep: beside anything else on the same
    # cores training takes ten times as long. The library reads it when it is loaded, which is later.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        # File names may hold anything; a terminal that cannot show them must not end the run.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app()
