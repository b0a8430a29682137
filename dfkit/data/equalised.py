"""Equalised videos on the way into prepared data: where they lie, and what the rows say of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dfkit.data.hashing import sha256_json
from dfkit.errors import MediaError
from dfkit.files import TEMPORARY_PREFIX
from dfkit.media.equalise_spec import EqualiseSpec

if TYPE_CHECKING:
    from dfkit.media.equalise import Equalised
    from dfkit.media.faces import FaceModels
    from dfkit.media.survey import Survey

KEPT_FOLDER = "equalised"
"""Below the prepared data; holds the equalised videos where they were asked for."""
NAME_DIGITS = 12


def kept_path(folder: Path, source: Path, sha256: str, spec: EqualiseSpec) -> Path:
    """Where the equalised form of a video is kept; named after its content and what was made of it."""
    digest = sha256_json([sha256, spec.model_dump(mode="json")])[:NAME_DIGITS]
    return folder / KEPT_FOLDER / f"{source.stem}-{digest}.mp4"


@contextmanager
def equalised_file(
    survey: Survey, spec: EqualiseSpec, *, folder: Path, kept: Path | None, models: FaceModels, num_threads: int
) -> Iterator[tuple[Path, Equalised]]:
    """The equalised form of a video, for as long as it is read.

    Args:
        survey: Of the video, which is only read.
        spec: What to make of it.
        folder: Of the prepared data; the file lies there under a temporary name.
        kept: Where it goes once it is whole; None removes it again.
        models: The face networks.
        num_threads: Cores that it may use.
    Yields:
        The file and what was done.
    Raises:
        MediaError: The video cannot be used.
        OSError: The disk is full; nothing half-written is left.
    """
    from dfkit.media.equalise import equalise_video

    name = sha256_json([str(survey.path), spec.model_dump(mode="json")])[:NAME_DIGITS]
    temporary = folder / f"{TEMPORARY_PREFIX}{KEPT_FOLDER}-{name}-{os.getpid()}"
    temporary.mkdir()
    path = temporary / "equalised.mp4"
    try:
        done = equalise_video(survey.path, path, spec, models=models, num_threads=num_threads, survey=survey)
        if kept is not None:
            kept.parent.mkdir(exist_ok=True)
            path = path.replace(kept)
        yield path, done
    except MediaError as error:
        # The name of the intermediate file says nothing to anybody.
        error.found = error.found.replace(str(path), str(survey.path))
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def equalised_facts(done: Equalised, kept: Path | None) -> dict[str, float | str | None]:
    """What a row says of the equalising of its video."""
    return {
        "source_face_px": done.source_face_px,
        "scale": done.scale,
        "cut_s": done.cut_s,
        "gain_db": done.gain_db,
        "clipped_share": done.clipped_share,
        "file": None if kept is None else f"{kept.parent.name}/{kept.name}",
    }
