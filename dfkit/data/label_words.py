"""What people call real and fake: the words of label cells and class folders, and the names of splits. One rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dfkit.media.listing import sub_folders

REAL, FAKE = 0, 1
LABEL_NAMES = {REAL: "real", FAKE: "fake"}
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "dev": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
WORDS = {
    **dict.fromkeys(("real", "reals", "original", "originals", "genuine", "authentic", "pristine", "bonafide"), REAL),
    **dict.fromkeys(("fake", "fakes", "deepfake", "deepfakes", "forged", "manipulated", "spoof", "synthetic"), FAKE),
}
PLAIN_WORDS = ("real", "reals", "fake", "fakes")
"""One folder of such a name is enough; of other names both classes have to be there."""
METHOD_FOLDERS = ("face2face", "faceswap", "faceshifter", "neuraltextures", "deepfakedetection", "deepfakes")
"""FaceForensics++'s manipulations, which copies of it put beside `original` in folders of their own."""
TRUTH_COLUMNS = {"is_fake": FAKE, "is_real": REAL}
"""Columns that say by their name what true means; in a column `label` it may be either."""
_TRUE = ("true", "t", "yes", "y")
_FALSE = ("false", "f", "no", "n")
_VIDEOS = re.compile(r"[\s_-]*(videos?|clips?)$")


def parse_label(text: str, column: str = "label") -> int | None:
    """The label that a cell means: real, fake, 0, 1.0, in any case, blanks around; None for anything else.

    Args:
        text: The cell; a decimal comma counts as a point.
        column: `label`, or one of `TRUTH_COLUMNS`, where true, yes and 1 mean what the name says.
    """
    word = text.strip().lower()
    truth = TRUTH_COLUMNS.get(column)
    if truth is None and word in WORDS:
        return WORDS[word]
    value = _number(word)
    if truth is None:
        return value
    if word in (*_TRUE, *_FALSE):
        value = int(word in _TRUE)
    return None if value is None else (truth if value else 1 - truth)


def is_ambiguous(text: str) -> bool:
    """Whether a cell says true or false, which in a column `label` may mean "is fake" or "is real"."""
    return text.strip().lower() in (*_TRUE, *_FALSE)


def _number(word: str) -> int | None:
    try:
        value = float(word.replace(",", "."))
    except ValueError:
        return None
    return int(value) if value in (0, 1) else None


def parse_split(text: str) -> str | None:
    """`train`, `val` or `test` for any of their usual names; None for anything else."""
    return SPLIT_NAMES.get(text.strip().lower())


def class_folders(folder: Path) -> dict[str, int]:
    """Names of the sub-folders that stand for a class, with their labels.

    `0` and `1` count where both are there and no other number is. Several folders of one class are all taken.

    Returns:
        Empty where the folder has none, or too little of it to be sure.
    """
    names = [entry.name for entry in sub_folders(folder)]
    found = {name: label for name in names if (label := folder_label(name)) is not None}
    numbers = [name for name in names if name.strip().isdecimal()]
    if sorted(name.strip() for name in numbers) == ["0", "1"]:
        found |= {name: int(name) for name in numbers}
    labels = set(found.values())
    if any(name.lower() in METHOD_FOLDERS for name in names) and REAL in labels:
        found |= {name: FAKE for name in names if name.lower() in METHOD_FOLDERS}
    sure = len(set(found.values())) == len(LABEL_NAMES) or any(_word(name) in PLAIN_WORDS for name in found)
    return found if sure else {}


def folder_label(name: str) -> int | None:
    """The class that a folder's name means: `Real `, `fakes`, `original`, `deepfake_videos`."""
    return WORDS.get(_word(name))


def _word(name: str) -> str:
    return _VIDEOS.sub("", name.strip().lower())


def family_of_method(method: str) -> str:
    """The generator behind a method: `SadTalker` for `SadTalker (256 px)`, `AniTalker` for `AniTalker + face SR`."""
    return re.split(r" \+ | \(", method.strip(), maxsplit=1)[0].strip()


def method_of(folder_name: str, classes: Mapping[str, int]) -> str | None:
    """The manipulation that a class folder is named for; None where one folder holds all fakes.

    Args:
        folder_name: One of `classes`.
        classes: As `class_folders` found them.
    """
    num_fakes = sum(label == FAKE for label in classes.values())
    named = folder_name.lower() in METHOD_FOLDERS and (num_fakes > 1 or _word(folder_name) not in WORDS)
    return folder_name if named else None
