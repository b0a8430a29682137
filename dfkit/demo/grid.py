"""Where the demo's videos come from: eight real speakers of the GRID corpus, or synthetic heads.

GRID: Cooke, Barker, Cunningham and Shao 2006, CC BY 4.0, Zenodo record 3625687. The eight files are read in
place or downloaded once into the user's cache; they are never copied into a project.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from dfkit.data.hashing import sha256_file
from dfkit.errors import DataError
from dfkit.files import cache_folder, open_text, whole_file, write_atomically
from dfkit.synthetic.heads import make_heads

logger = logging.getLogger(__name__)
VideoMode = Literal["auto", "real", "synthetic"]
BASE_URL = "https://raw.githubusercontent.com/rizkiarm/LipNet/master/"
DOWNLOAD_LIMIT_S = 10.0
MAX_FILE_BYTES = 2_000_000
SHARED_VARIABLE = "DFKIT_SHARED"
HEAD_PARTS = ("train", "train", "train", "train", "val", "val", "test", "test")
"""Of the synthetic heads, as of the speakers in `grid_clips.csv`."""


@dataclass(frozen=True)
class GridClip:
    """A file of the corpus, with where to get it and what it must contain."""

    name: str
    group: str
    """The speaker."""
    part: Literal["train", "val", "test"]
    """What the demonstration uses it for; the starter has seen nobody of `test`, and trained on nobody of `val`."""
    source_path: str
    """Inside the public repository."""
    sha256: str


@dataclass(frozen=True)
class DemoVideos:
    """Videos to show every stage with."""

    source: Literal["real", "synthetic"]
    paths: tuple[Path, ...]
    labels_csv: Path
    """path, label, group."""
    note: str
    """One sentence: which videos these are and why."""


@lru_cache(maxsize=1)
def grid_clips() -> tuple[GridClip, ...]:
    """The eight files, as `grid_clips.csv` lists them."""
    with Path(__file__).with_name("grid_clips.csv").open(encoding="utf-8", newline="") as file:
        return tuple(GridClip(**row) for row in csv.DictReader(file))  # type: ignore[arg-type]


def demo_videos(
    mode: VideoMode,
    out_dir: Path,
    *,
    seconds: float = 4.0,
    seed: int = 0,
    download: bool = True,
) -> DemoVideos:
    """Finds or makes the demo's videos.

    Args:
        mode: `real`, `synthetic`, or `auto`: real where it can.
        out_dir: Folder of the labels, and of the synthetic videos. Real videos stay where they are.
        seconds: Length of the synthetic videos.
        seed: Of the synthetic videos.
        download: Whether the network may be used.
    Returns:
        Eight videos of eight speakers.
    Raises:
        DataError: `real` was asked for and is not to be had.
        MissingExtraError: Synthetic videos need scikit-image.
    """
    reason = ""
    if mode != "synthetic":
        found, reason = find_grid(download=download)
        if found is not None:
            return _label_real_videos(found, out_dir)
        if mode == "real":
            raise DataError(
                f"the eight GRID clips are not at hand: {reason}",
                fix=f"set {SHARED_VARIABLE} to the folder that holds clips/lipnet-*.mpg, or --videos synthetic",
            )
        logger.warning("real clips are not at hand (%s): synthetic heads are used", reason)
    paths = tuple(make_heads(out_dir / "synthetic", seconds=seconds, seed=seed))
    labels_csv = out_dir / "synthetic" / "labels.csv"
    heads = [[path.name, "real", path.stem.rsplit("-", 1)[0]] for path in paths]
    _write_labels(labels_csv, [[*head, part] for head, part in zip(heads, HEAD_PARTS, strict=True)])
    why = f" (real ones are not at hand: {reason})" if reason else ""
    note = f"{len(paths)} synthetic talking heads, made from a public-domain portrait{why}"
    return DemoVideos("synthetic", paths, labels_csv, note)


def find_grid(*, download: bool = True) -> tuple[tuple[Path, ...] | None, str]:
    """Looks for the GRID clips beside the checkout, in the cache, and on the network, in this order.

    Args:
        download: Whether the network may be used, for at most 10 s in all.
    Returns:
        The eight files with the right content, or None and why.
    """
    for folder in [*shared_folders(), downloads()]:
        files = _verified(folder)
        if files is not None:
            return files, f"read from {folder}"
    if not download:
        return None, "not beside the checkout nor in the cache, and downloading is off"
    problem = _download_all(downloads(), DOWNLOAD_LIMIT_S)
    if problem:
        return None, problem
    return _verified(downloads()), f"downloaded to {downloads()}"


def shared_folders() -> list[Path]:
    """Folders in which the clips may lie: what `DFKIT_SHARED` names, else `shared` beside the checkout."""
    named = os.environ.get(SHARED_VARIABLE)
    if named == "none":
        return []
    if named:
        return [Path(named) / "clips"]
    checkout = Path(__file__).resolve().parents[2]
    candidates = [checkout.parent, Path.cwd().parent, Path.cwd()]
    return [folder / "shared" / "clips" for folder in dict.fromkeys(candidates)]


def downloads() -> Path:
    """Folder of downloads, in the user's cache."""
    return cache_folder("grid")


def _verified(folder: Path) -> tuple[Path, ...] | None:
    """All clips in a folder; None where one is missing or has another content."""
    files = []
    for clip in grid_clips():
        path = folder / clip.name
        if not path.is_file():
            return None
        if sha256_file(path) != clip.sha256:
            logger.warning("%s is not the file that was expected (another SHA-256): not used", path)
            return None
        files.append(path)
    return tuple(files)


def _download_all(folder: Path, limit_s: float) -> str:
    """Fetches what is missing; returns what went wrong, or nothing."""
    problems: list[str] = []
    deadline = time.monotonic() + limit_s

    def download() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for clip in grid_clips():
                _download(clip, folder, deadline)
        except (OSError, urllib.error.URLError, ValueError) as error:
            problems.append(f"download failed: {error}")

    # Looking up a host name cannot be given a time limit; the thread that hangs in it can be left behind.
    worker = threading.Thread(target=download, daemon=True)
    worker.start()
    worker.join(limit_s)
    if worker.is_alive():
        return f"download took longer than {limit_s:g} s"
    return problems[0] if problems else ""


def _download(clip: GridClip, folder: Path, deadline: float) -> None:
    path = folder / clip.name
    if path.is_file() and sha256_file(path) == clip.sha256:
        return
    content = bytearray()
    with urllib.request.urlopen(BASE_URL + clip.source_path, timeout=_seconds_left(deadline)) as response:
        while block := response.read(65536):
            content += block
            if len(content) > MAX_FILE_BYTES:
                raise ValueError(f"{clip.source_path} is larger than expected")
            _seconds_left(deadline)
    found = hashlib.sha256(content).hexdigest()
    if found != clip.sha256:
        raise ValueError(f"{clip.source_path} has SHA-256 {found}, expected {clip.sha256}")
    write_atomically(path, bytes(content))


def _seconds_left(deadline: float) -> float:
    """Time until a deadline of `time.monotonic`; a TimeoutError where it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the time for downloading is over")
    return seconds


def _label_real_videos(files: Sequence[Path], out_dir: Path) -> DemoVideos:
    """Writes the labels of the GRID clips, which stay where they are."""
    labels_csv = out_dir / "labels.csv"
    _write_labels(
        labels_csv,
        [[str(path.resolve()), "real", clip.group, clip.part] for path, clip in zip(files, grid_clips(), strict=True)],
    )
    note = f"{len(files)} real speakers of the GRID corpus (CC BY 4.0), read from {files[0].parent}"
    return DemoVideos("real", tuple(files), labels_csv, note)


def _write_labels(labels_csv: Path, rows: Sequence[Sequence[str]]) -> None:
    """Writes rows of path, label, group, split."""
    labels_csv.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(labels_csv) as temporary, open_text(temporary) as file:
        csv.writer(file, lineterminator="\n").writerows([["path", "label", "group", "split"], *rows])
