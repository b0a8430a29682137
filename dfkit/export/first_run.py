"""What is exported is opened once in a fresh process before it is written: all that was asked for, and it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dfkit.errors import BundleError, ConversionError
from dfkit.runtime.backends import signature_parts
from dfkit.runtime.first_open import CHILD, open_in_child, remember
from dfkit.runtime.golden_index import GOLDEN_FOLDER
from dfkit.runtime.manifest import Backend

OWN_CHILDREN = dict.fromkeys(("executorch", "coreai"), "dfkit.export.open_program")
"""What the process runs for formats that dfkit's runtime does not."""


def run_first(
    asked: Sequence[str], made: Mapping[str, tuple[Backend, Sequence[str]]], files: Mapping[str, bytes]
) -> None:
    """Opens each format's files and runs each of their signatures once, each format in a process of its own.

    Args:
        asked: Formats that the call named.
        made: Description and files of what was made, by format.
        files: Of the bundle, as they are written.
    Raises:
        ConversionError: A format or one of its files is not there, or cannot be loaded and run in a fresh process.
    """
    for name in asked:
        if name not in made:
            raise ConversionError(f"{name} was asked for, and no graph of it was made", log="")
        backend, own_files = made[name]
        needed = sorted({*own_files, *(signature.file for _, signature in signature_parts(backend))})
        lacking = [file for file in needed if not files.get(file)]
        if lacking:
            raise ConversionError(f"{name} was asked for, and {', '.join(lacking)} was not made", log="")
        _open(name, backend, {file: files[file] for file in needed})
        stressed = {file: files.get(f"{GOLDEN_FOLDER}/stressed/{file}", b"") for file in needed}
        if any(stressed.values()):
            lacking = [file for file, held in stressed.items() if not held]
            if lacking:
                raise ConversionError(f"{name}: the stressed model lacks {', '.join(lacking)}", log="")
            # Its golden vectors are those of a stressed model of the same shape, which `dfkit verify` opens.
            _open(name, backend, stressed)


def _open(name: str, backend: Backend, content: Mapping[str, bytes]) -> None:
    try:
        open_in_child(name, backend, content, where="export", module=OWN_CHILDREN.get(name, CHILD))
    except BundleError as error:
        raise ConversionError(
            f"{name}: what was made does not run in a fresh process: {error.found}", log=""
        ) from error
    remember(name, content)
