"""The workspace: where data, runs, exports and reports lie, and which is the newest of its kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dfkit.clip import PRESETS
from dfkit.errors import DataError
from dfkit.files import read_json_object, write_atomically
from dfkit.starter import STARTER, starter_bundle

DATA, RUNS, EXPORTS, REPORTS = "data", "runs", "exports", "reports"
DATA_FILE = "data.json"
RUN_FILE = "run.json"
MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.json"
TEACHER_LOGITS_FILE = "teacher_logits.npz"
LEAVE_OUT_RUN = "leave-out"
"""Kind of a run whose folds leave families of fakes out."""
MAKERS = {"teacher": "dfkit train", "student": "dfkit distill --teacher CHECKPOINT"}
URL_MARK = "://"
NAME_PATTERN = re.compile(r"[^\w.-]+")
OLD_VIEW_SOURCE = re.compile(r"\d+ files")
"""`source` of a view in a data.json from before views were marked."""


class Workspace:
    """A folder with `data/`, `runs/`, `exports/` and `reports/`."""

    def __init__(self, root: str | Path = ".") -> None:
        """Names the folder; it need not exist yet."""
        self.root = Path(root)

    @property
    def data(self) -> Path:
        """Prepared data sets."""
        return self.root / DATA

    @property
    def runs(self) -> Path:
        """Trainings."""
        return self.root / RUNS

    @property
    def exports(self) -> Path:
        """Bundles."""
        return self.root / EXPORTS

    @property
    def reports(self) -> Path:
        """Reports."""
        return self.root / REPORTS

    def data_of(self, source: str, name: str) -> Path:
        """The folder of data made from a source, or the first free one for it.

        Args:
            source: As `data.json` names it.
            name: Of the folder; a number is added where another source's data has it.
        """
        number = 1
        while True:
            folder = self.data / (name if number == 1 else f"{name}-{number}")
            if not folder.exists() or (read_json_object(folder / DATA_FILE) or {}).get("source") == source:
                return folder
            number += 1

    def newest_data(self) -> Path:
        """The newest finished data set; never a view, which belongs to its data, nor equalised data, which is named.

        Raises:
            DataError: There is none; names the command that makes one.
        """
        return self._newest(
            self.data,
            DATA_FILE,
            lambda folder, content: (
                _is_finished(content) and not _is_view(folder, content) and content.get("equalised") is None
            ),
            what="prepared data",
            command="dfkit prepare VIDEOS" + self._named_equalised(),
        )

    def _named_equalised(self) -> str:
        """How to take equalised data where there is some; empty where there is none."""
        found = [path for path, content in _read_all(self.data, DATA_FILE) if content.get("equalised") is not None]
        return f", or name the equalised data: {found[0]}" if found else ""

    def newest_run(self, *kinds: str) -> Path:
        """The newest finished run of some kinds.

        Args:
            kinds: `teacher`, `student`, or what another command wrote as `kind` into its `run.json`.
        Raises:
            DataError: There is none.
        """
        return self._newest(
            self.runs,
            RUN_FILE,
            lambda _, content: _is_finished(content) and content.get("kind") in kinds,
            what=f"{' or '.join(kinds)} run",
            command=MAKERS.get(kinds[0], "dfkit train"),
        )

    @staticmethod
    def run_kind(folder: Path) -> str | None:
        """What a run's `run.json` says that it is; None where it says nothing."""
        return (read_json_object(folder / RUN_FILE) or {}).get("kind")

    def newest_export(self) -> Path:
        """The newest bundle.

        Raises:
            DataError: There is none.
        """
        return self._newest(
            self.exports,
            MANIFEST_FILE,
            lambda *_: True,
            what="bundle",
            command="dfkit export --int8 --format tflite",
        )

    def bundle(self, named: Path | None = None, *, or_starter: bool = False) -> Path:
        """A bundle as a command names it.

        Args:
            named: Folder or .zip, or `starter`, the one in the package; the newest where left out.
            or_starter: Whether the package's answers where the workspace holds none.
        Raises:
            DataError: There is none.
        """
        if named is not None:
            return starter_bundle() if named == Path(STARTER) and not named.exists() else named
        if or_starter and next(_read_all(self.exports, MANIFEST_FILE), None) is None:
            return starter_bundle()
        return self.newest_export()

    def new_run_dir(self, name: str, kind: str) -> Path:
        """Makes the folder of a new run, with a `run.json` that says it is unfinished.

        Args:
            name: Free; characters that file names cannot have become '-'. A number is added if taken.
            kind: `teacher`, `student` and the like.
        Returns:
            The empty folder.
        """
        folder = self._make_free(self.runs, NAME_PATTERN.sub("-", name).strip("-.") or kind)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        self._write_run(folder, {"kind": kind, "name": name, "created": created, "finished": False})
        return folder

    def finish_run(self, folder: Path, **facts: Any) -> None:
        """Marks a run as finished and adds facts to its `run.json`."""
        content = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        self._write_run(folder, {**content, **facts, "finished": True})

    @staticmethod
    def _write_run(folder: Path, content: dict[str, Any]) -> None:
        write_atomically(folder / RUN_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    @staticmethod
    def _make_free(parent: Path, name: str) -> Path:
        number = 1
        while True:
            folder = parent / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return folder

    def _newest(
        self, parent: Path, file: str, accept: Callable[[Path, dict[str, Any]], bool], *, what: str, command: str
    ) -> Path:
        found = [(_age_key(path, content), path) for path, content in _read_all(parent, file) if accept(path, content)]
        if not found:
            raise DataError(f"{self.root.resolve()}: no {what} in {parent.name}/", fix=command)
        return max(found)[1]


def workspace_of(path: str | Path) -> Path | None:
    """The workspace that a run's file or folder lies in: what holds `runs/`; None for one that lies elsewhere."""
    return next((parent.parent for parent in Path(path).absolute().parents if parent.name == RUNS), None)


def stored_path(path: str | Path, run: str | Path) -> str:
    """How a run names data or a checkpoint: a moved or copied workspace still finds what lies inside of it.

    Args:
        path: To be stored; addresses such as `s3://bucket/prefix` stay as they are.
        run: Folder of the run, or a file in it.
    Returns:
        With forward slashes, relative to the run's workspace where it lies inside of that, else absolute.
    """
    if URL_MARK in str(path):
        return str(path)
    root, absolute = workspace_of(run), Path(path).absolute()
    if root is None:
        return absolute.as_posix()
    # As named first: `data` may be a link to another disk, which the workspace keeps when it is moved.
    for place, top in ((absolute, root), (absolute.resolve(), root.resolve())):
        if place.is_relative_to(top):
            return place.relative_to(top).as_posix()
    return absolute.as_posix()


def find_stored(stored: str, run: str | Path) -> str:
    """Where a path that a run stored is now.

    Args:
        stored: As `stored_path` gave it, or as earlier versions wrote it: relative to a folder that nothing names.
        run: The checkpoint or folder that it was stored in.
    Returns:
        In the run's workspace, else relative to the current folder where that exists; in the workspace where neither
        does.
    """
    root = workspace_of(run)
    if URL_MARK in stored or root is None or Path(stored).is_absolute():
        return stored
    inside = root / stored
    return stored if not inside.exists() and Path(stored).exists() else str(inside)


def holds_own_data(folder: Path) -> bool:
    """Whether a folder holds prepared data that somebody asked for: all but views."""
    path = folder / DATA_FILE
    return path.is_file() and not _is_view(folder, read_json_object(path) or {})


def _is_finished(content: dict[str, Any]) -> bool:
    return content.get("finished") is True


def _is_view(folder: Path, content: dict[str, Any]) -> bool:
    """Whether data are the videos of other data under another preset, made for a teacher of that preset."""
    if "view_of" in content:
        return content["view_of"] is not None
    # Before views were marked: named after the data beside them, and made from a list of files.
    named = [folder.name.removesuffix(f"-{preset}") for preset in PRESETS if folder.name.endswith(f"-{preset}")]
    beside = any((folder.parent / name / DATA_FILE).is_file() for name in named)
    source = content.get("source")
    return beside and isinstance(source, str) and OLD_VIEW_SOURCE.fullmatch(source) is not None


def _age_key(folder: Path, content: dict[str, Any]) -> tuple[str, float]:
    """By the time written inside: files' own times change when a workspace is copied."""
    created = content.get("created")
    written = max(path.stat().st_mtime for path in folder.glob("*.json"))
    return (created if isinstance(created, str) else "", written)


def _read_all(parent: Path, file: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folders that hold `file`, with its content; what is no JSON object is passed over."""
    if not parent.is_dir():
        return
    for folder in sorted(parent.iterdir()):
        content = read_json_object(folder / file)
        if content is not None:
            yield folder, content
