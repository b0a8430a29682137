"""Features of whole data sets: the clips that they are taken from, and the file that keeps them beside the data.

What is kept does not depend on folds or labels, so that other folds take seconds.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dfkit
from dfkit.console import note
from dfkit.data.hashing import sha256_json
from dfkit.data.storage import PreparedData
from dfkit.files import whole_file
from dfkit.measures.spacing import evenly_spaced

MAX_CLIPS = 8
"""Clips read of one video, spread over it: a long video costs no more than a short one."""
FOLDER = "features"
"""In the folder of the data."""
KEY = "kept_for"
"""Array of a file of features that says what they were made of."""
Arrays = dict[str, NDArray[Any]]


def chosen_clips(data: PreparedData) -> dict[int, list[int]]:
    """Up to `MAX_CLIPS` clips of each video that has any, by the video's index, in rising order."""
    clips_of: dict[int, list[int]] = {}
    for key in data.clips:
        clips_of.setdefault(key.video_index, []).append(key.index)
    return {
        video: [clips_of[video][place] for place in evenly_spaced(len(clips_of[video]), MAX_CLIPS)]
        for video in sorted(clips_of)
    }


def kept_features(data: PreparedData, name: str, versions: Mapping[str, str], make: Callable[[], Arrays]) -> Arrays:
    """Features as they were kept beside the data, or made and kept now.

    A file made of other videos or by another version is made again. Of data on S3, and in a folder that cannot be
    written, nothing is kept, which is said.

    Args:
        data: Prepared data.
        name: Of the file.
        versions: Of whatever the features depend on besides the videos and dfkit, by name.
        make: Makes the arrays; none of objects.
    """
    made_of = {"videos": [row.key for row in data.videos], "dfkit": dfkit.__version__, **versions}
    key = sha256_json(made_of)
    path = None if data.remote else Path(data.path) / FOLDER / f"{name}.npz"
    kept = None if path is None else _read(path, key)
    if kept is not None:
        return kept
    arrays = make()
    if path is not None:
        try:
            with whole_file(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **{KEY: np.array(key)}, **arrays)
        except OSError as error:
            note(f"{path}: features are not kept ({error.strerror}); the next run makes them again")
    return arrays


def _read(path: Path, key: str) -> Arrays | None:
    """Arrays of a file that was made for this key; None of any other, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file[KEY]) != key:
                return None
            return {name: file[name] for name in file.files if name != KEY}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
