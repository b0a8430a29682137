"""Known layouts of data sets, found by their signature files or named by the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dfkit.data.labels import (
    LabelSet,
    class_folders,
    read_class_folders,
    read_csv,
    read_unlabelled,
    refuse_two_labels,
)
from dfkit.data.layouts import celebdf, dfdc, faceforensics, fakeavceleb, kodf, periods
from dfkit.data.layouts.base import Layout, folder_listing, layout_error
from dfkit.errors import DataError

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


def detect_layout(root: Path) -> Layout | None:
    """The adapter whose signature a folder has; None for a folder of its own kind."""
    return next((layout for layout in ADAPTERS if root.is_dir() and layout.detect(root)), None)


def read_sources(
    sources: str | Path | Sequence[str | Path], *, labels: str | Path | None = None, layout: str = "auto"
) -> LabelSet:
    """Videos and their labels from whatever the user points at.

    Args:
        sources: A folder, a CSV, or files and folders.
        labels: CSV `path,label[,group,method,fake_start_s,fake_end_s,split,groups_known]`; goes before all layouts.
        layout: One of `LAYOUTS` but `npz`, which holds no videos. `auto`: a known data set by its signature,
            else `real/` and `fake/`, else videos without labels.
    Returns:
        The sources; notes say what was recognised and what was left out.
    Raises:
        DataError: Says what was expected and what was found.
    """
    if layout not in LAYOUTS:
        raise DataError(f"layout '{layout}' is none of {', '.join(LAYOUTS)}", fix="--layout auto")
    if layout == "npz":
        raise DataError("layout 'npz': expected one folder with an NPZ index, and no labels beside it")
    paths = [Path(sources)] if isinstance(sources, (str, Path)) else [Path(path) for path in sources]
    if labels is not None:
        return read_csv(Path(labels), base=paths[0] if paths and paths[0].is_dir() else None)
    if len(paths) != 1:
        return read_unlabelled(paths)
    return _read_one(paths[0], layout)


def _read_one(path: Path, layout: str) -> LabelSet:
    if layout == "csv" or (layout == "auto" and path.suffix.lower() == ".csv"):
        return read_csv(path)
    if layout == "folders":
        if not class_folders(path):
            raise layout_error("folders", path, expected=CLASS_FOLDERS, found=folder_listing(path))
        return read_class_folders(path)
    adapter = next((a for a in ADAPTERS if a.name == layout), None) or detect_layout(path)
    if adapter is not None:
        label_set = adapter.read(path)
        refuse_two_labels(label_set.sources, str(path))
        return replace(label_set, notes=(f"layout {adapter.name}", *label_set.notes))
    return read_class_folders(path) if class_folders(path) else read_unlabelled([path])
