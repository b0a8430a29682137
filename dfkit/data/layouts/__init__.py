"""Known layouts of data sets, found by their signature files or named by the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dfkit.data.label_words import class_folders, folder_label
from dfkit.data.labels import (
    LabelSet,
    has_class_folders,
    is_label_table,
    read_class_folders,
    read_csv,
    read_unlabelled,
    refuse_two_labels,
    shown,
)
from dfkit.data.layouts import celebdf, dfdc, faceforensics, fakeavceleb, kodf, periods
from dfkit.data.layouts.base import Layout, folder_listing, layout_error
from dfkit.data.layouts.near import near_layout
from dfkit.errors import DataError
from dfkit.media.listing import list_videos, sub_folders

ADAPTERS: tuple[Layout, ...] = (
    fakeavceleb.LAYOUT,
    faceforensics.LAYOUT,
    dfdc.LAYOUT,
    kodf.LAYOUT,
    celebdf.LAYOUT,
    periods.DEEPFAKE1M,
    periods.LAVDF,
)
LAYOUTS = ("auto", *(layout.name for layout in ADAPTERS), "npz", "folders", "csv")
CLASS_FOLDERS = "the folders real/ and fake/"
TABLE_SUFFIXES = (".csv", ".tsv")
MIN_COVERAGE = 0.5
"""Share of the files that labels name which has to be there."""
DEPTH_BELOW = 2
"""How many folders above a known layout may be given."""
MAX_FOLDERS = 2000
"""Folders that are looked at for a known layout below the one given."""


def detect_layout(root: Path) -> Layout | None:
    """The adapter whose signature a folder has; None for a folder of its own kind."""
    return next((layout for layout in ADAPTERS if root.is_dir() and layout.detect(root)), None)


def read_sources(
    sources: str | Path | Sequence[str | Path],
    *,
    labels: str | Path | None = None,
    layout: str = "auto",
    unlabelled: bool = False,
    min_coverage: float = MIN_COVERAGE,
) -> LabelSet:
    """Videos and their labels from whatever the user points at.

    Args:
        sources: A folder, a CSV, or files, folders and patterns.
        labels: CSV `path,label[,group,method,fake_start_s,fake_end_s,split,groups_known]`; goes before all layouts.
        layout: One of `LAYOUTS` but `npz`, which holds no videos. `auto`: a known data set by its signature, here or
            up to two folders below, else class folders such as `real/` and `fake/`.
        unlabelled: Whether videos without a label are taken.
        min_coverage: Share of the named files that has to be there, in [0, 1].
    Returns:
        The sources; notes say what was recognised, what was left out, and what is missing.
    Raises:
        DataError: Says what was expected and what was found.
    """
    if layout not in LAYOUTS:
        raise DataError(f"layout '{layout}' is none of {', '.join(LAYOUTS)}", fix="--layout auto")
    if layout == "npz":
        raise DataError("layout 'npz': expected one folder with an NPZ index, and no labels beside it")
    if not 0 <= min_coverage <= 1:
        raise DataError(f"a coverage of {min_coverage:g} is no share", fix="--min-coverage 0.5, or another from 0 to 1")
    paths = [Path(sources)] if isinstance(sources, (str, Path)) else [Path(path) for path in sources]
    if labels is not None:
        label_set = read_csv(
            Path(labels), base=paths[0] if paths and paths[0].is_dir() else None, unlabelled=unlabelled
        )
        paths = [Path(labels)]
    elif len(paths) == 1:
        label_set = _read_one(paths[0], layout, unlabelled=unlabelled)
    else:
        label_set = read_unlabelled(paths)
    label_set = _account_for_unlabelled(label_set, paths, wanted=unlabelled)
    return _account_for_missing(label_set, paths[0], min_coverage)


def _read_one(path: Path, layout: str, *, unlabelled: bool) -> LabelSet:
    _refuse_shut(path)
    if layout == "csv" or (layout == "auto" and path.suffix.lower() in TABLE_SUFFIXES):
        return read_csv(path, unlabelled=unlabelled)
    if layout == "folders":
        if not has_class_folders(path):
            raise layout_error("folders", path, expected=CLASS_FOLDERS, found=folder_listing(path))
        return read_class_folders(path)
    adapter = next((a for a in ADAPTERS if a.name == layout), None)
    if adapter is not None:
        return _read_layout(path if adapter.detect(path) else _only_below(path, adapter.detect) or path, adapter)
    return _read_known(path) or _read_below(path) or read_unlabelled([path])


def _refuse_shut(path: Path) -> None:
    """Raises a DataError for a folder that may not be opened: of its files nothing can be asked, either."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
    except PermissionError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})", fix="ask for the right to read it") from error


def _read_known(path: Path) -> LabelSet | None:
    """Labels of a folder that is a known layout or has class folders."""
    adapter = detect_layout(path)
    if adapter is not None:
        return _read_layout(path, adapter)
    return read_class_folders(path) if has_class_folders(path) else None


def _read_layout(path: Path, adapter: Layout) -> LabelSet:
    label_set = adapter.read(path)
    refuse_two_labels(label_set.sources, str(path))
    return replace(label_set, notes=(f"layout {adapter.name}", *label_set.notes))


def _read_below(path: Path) -> LabelSet | None:
    """Labels of the one known folder one or two levels below."""
    below = _only_below(path, _is_known)
    label_set = None if below is None else _read_known(below)
    if below is None or label_set is None:
        return None
    outside = len(list_videos(path)) - len(list_videos(below))
    left_out = [f"{outside} videos outside of {below} are left out"] if outside else []
    return replace(label_set, notes=(f"read from {below}", *label_set.notes, *left_out))


def _is_known(folder: Path) -> bool:
    """As `_read_known` does; far below the folder given, one class alone is too little."""
    classes = class_folders(folder)
    both = len(set(classes.values())) > 1 or (has_class_folders(folder) and not classes)
    return both or detect_layout(folder) is not None


def _only_below(path: Path, is_wanted: Callable[[Path], bool]) -> Path | None:
    """The one folder of a kind at most `DEPTH_BELOW` levels below; those nearer come first.

    Raises:
        DataError: There are several.
    """
    level = [path]
    for _ in range(DEPTH_BELOW):
        level = [entry for folder in level for entry in sub_folders(folder)][:MAX_FOLDERS]
        found = [folder for folder in level if is_wanted(folder)]
        if len(found) > 1:
            raise DataError(
                f"{path}: holds {len(found)} data sets: {shown(found)}",
                fix="prepare each by itself, or list all videos in a CSV: --labels FILE.csv",
            )
        if found:
            return found[0]
    return None


def _account_for_unlabelled(label_set: LabelSet, paths: Sequence[Path], *, wanted: bool) -> LabelSet:
    """Says what the videos without label look like.

    Raises:
        DataError: There are some, and they are not wanted.
    """
    unknown = [source.path for source in label_set.sources if source.label is None]
    if not unknown:
        return label_set
    hint = _hint(paths, unknown)
    notes = (*label_set.notes, hint) if hint else label_set.notes
    if wanted:
        return replace(label_set, notes=notes)
    noun = "video" if len(unknown) == 1 else "videos"
    raise DataError(
        "; ".join([f"{shown(paths)}: {len(unknown)} {noun} without label", *notes]),
        fix="sort them into the folders real/ and fake/, or list them in a CSV: --labels FILE.csv; "
        "--unlabelled prepares them without",
    )


def _hint(paths: Sequence[Path], videos: Sequence[Path]) -> str | None:
    """What the user may have meant: a data set that lacks something, or the folder above class folders."""
    if all(folder_label(path.name) is not None and path.is_dir() for path in paths):
        return f"{shown(paths)} is named as a class: give the folder that holds real/ and fake/"
    if len(paths) != 1:
        return None
    if tables := [path for path in sorted(paths[0].glob("*.[ct]sv")) if is_label_table(path)]:
        return f"{tables[0].name} in it holds labels: --labels {tables[0]}"
    places = [paths[0], *sub_folders(paths[0])]
    return next((near for place in places[:MAX_FOLDERS] if (near := near_layout(place, videos))), None)


def _account_for_missing(label_set: LabelSet, where: Path, min_coverage: float) -> LabelSet:
    """Counts and names files that are not there.

    Raises:
        DataError: Too few are there.
    """
    if not label_set.missing:
        return label_set
    num_missing, num_named = len(label_set.missing), len(label_set.sources) + len(label_set.missing)
    said = f"{num_missing} of {num_named} files that {where} names are missing: {shown(label_set.missing)}"
    if not label_set.sources or label_set.coverage < min_coverage:
        share = f"{label_set.coverage:.0%} of the files are there, at least {min_coverage:.0%} are wanted"
        raise DataError(
            f"{said}; {share}",
            fix="fetch the rest, or point at the folder that the names are relative to; "
            f"--min-coverage {int(100 * label_set.coverage) / 100:g} goes on without them"
            if label_set.sources
            else "fetch them, or point at the folder that the names are relative to",
        )
    return replace(label_set, notes=(*label_set.notes, said))
