"""Files of results that grow row by row, and that the same command goes on with: a table, or lines of JSON.

A row is kept where it names the same file in the same state, scored by the same. The last line of a killed run, cut
short, is dropped. What something else wrote is never changed without being asked.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from dfkit.console import json_text
from dfkit.errors import DISK_FULL_ERRNOS, ConfigError
from dfkit.files import encode_text, name_from_text, output_error, whole_file
from dfkit.runtime.answers import CSV_COLUMNS, FileState, table_row

IDENTIFYING = ("video", "status", "size_bytes", "modified", "scored_by")


@dataclass(frozen=True)
class Row:
    """Where a row stands in its file, and what it is about."""

    start: int
    end: int
    """Bytes."""
    video: str
    state: FileState
    scored_by: str
    """Empty for what is to be tried again."""


class Form(Protocol):
    """How rows are written and read."""

    option: str
    """Of `dfkit predict`."""
    header: bytes

    def render(self, content: Mapping[str, Any]) -> bytes:
        """One row, with its line end."""
        ...

    def parse(self, lines: Iterator[bytes]) -> Iterator[Mapping[str, Any]]:
        """Rows behind the header; takes whole lines, as many as a row has, for each.

        Raises:
            ValueError: A row is no row of this form.
        """
        ...


class CsvForm:
    """A table with `CSV_COLUMNS`."""

    option = "--csv"
    header = (",".join(CSV_COLUMNS) + "\n").encode()

    def render(self, content: Mapping[str, Any]) -> bytes:
        """One row, with its line end."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n").writerow(table_row(content))
        return encode_text(text.getvalue())

    def parse(self, lines: Iterator[bytes]) -> Iterator[Mapping[str, Any]]:
        """Rows as text by column."""
        try:
            for cells in csv.reader((line.decode() for line in lines), strict=True):
                row = dict(zip(CSV_COLUMNS, cells, strict=True))
                yield {**row, "video": name_from_text(row["video"])}
        except csv.Error as error:
            raise ValueError(str(error)) from error


class JsonLinesForm:
    """One object a line, each as an element of `--json`."""

    option = "--jsonl"
    header = b""

    def render(self, content: Mapping[str, Any]) -> bytes:
        """One row, with its line end."""
        return json_text(content).encode() + b"\n"

    def parse(self, lines: Iterator[bytes]) -> Iterator[Mapping[str, Any]]:
        """Rows as they were written."""
        for line in lines:
            content = json.loads(line)
            if not isinstance(content, dict) or not set(IDENTIFYING) <= set(content):
                raise ValueError("no element of dfkit predict")
            yield content


class ResultFile:
    """A file of results, from what an earlier run left in it to its end."""

    def __init__(self, path: str | Path, form: Form, fingerprint: str, *, overwrite: bool = False) -> None:
        """Reads what is there; nothing is changed yet.

        Args:
            path: Where it is or will be.
            form: Of its rows.
            fingerprint: What scores now, as `scored_by` gives it.
            overwrite: Whether to begin anew whatever is there.
        Raises:
            ConfigError: It holds something else, or rows that another model scored.
            DfkitError: It cannot be read.
        """
        self.path, self.form, self.fingerprint = Path(path), form, fingerprint
        self._rows: dict[str, Row] = {}
        self._file: BinaryIO | None = None
        self._must_rewrite = True
        self._end = len(form.header)
        if not overwrite and self.path.exists():
            self._read()

    def keeps(self, video: str, state: FileState) -> bool:
        """Whether it holds an answer for a file in this state, scored by what scores now."""
        row = self._rows.get(video)
        return (
            row is not None and state.size_bytes is not None and (row.state, row.scored_by) == (state, self.fingerprint)
        )

    def content(self, video: str) -> Mapping[str, Any]:
        """The row of a file that it holds, read again from the disk: rows of long videos are large."""
        row = self._rows[video]
        with self.path.open("rb") as file:
            file.seek(row.start)
            lines = io.BytesIO(file.read(row.end - row.start))
        return next(self.form.parse(iter(lines)))

    def start(self, rescored: Sequence[str]) -> None:
        """Begins to write: what is kept stands in the file, and new rows are added behind it.

        Args:
            rescored: Files whose rows, if there are any, are taken out.
        Raises:
            DfkitError: It cannot be written.
        """
        dropped = [video for video in rescored if self._rows.pop(video, None) is not None]
        try:
            if dropped or self._must_rewrite:
                self._rewrite(list(self._rows))
            self._file = self.path.open("ab")
        except OSError as error:
            raise self._error(error) from error

    def add(self, content: Mapping[str, Any]) -> None:
        """Writes a row; a run that is killed afterwards has it.

        Raises:
            DfkitError: It cannot be written.
        """
        assert self._file is not None, "started before the first row"
        text = self.form.render(content)
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise self._error(error) from error
        self._remember(content, self._end, self._end + len(text))
        self._end += len(text)

    def finish(self, videos: Sequence[str]) -> None:
        """Closes it, rows in the order of the files named, behind those of other files.

        Raises:
            DfkitError: It cannot be written.
        """
        self.close()
        asked = set(videos)
        wanted = [video for video in self._rows if video not in asked]
        wanted += [video for video in dict.fromkeys(videos) if video in self._rows]
        try:
            if wanted != list(self._rows):
                self._rewrite(wanted)
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Closes it as it is."""
        if self._file is not None:
            # What a full disk refused stays in Python's buffer; closing tries again.
            try:
                self._file.close()
            except OSError as error:
                raise self._error(error) from error
            finally:
                self._file = None

    def _read(self) -> None:
        try:
            self._scan()
        except OSError as error:
            raise self._error(error) from error
        except ValueError as error:
            raise ConfigError(
                f"{self.path} was not written by this dfkit predict {self.form.option}: {error}",
                fix=f"name another file, or replace it with {self.form.option} {self.path} --overwrite",
            ) from error
        others = sorted({row.scored_by for row in self._rows.values()} - {self.fingerprint, ""})
        if others:
            raise ConfigError(
                f"{self.path} holds rows scored by {', '.join(others)}, and this is {self.fingerprint}: "
                "another bundle, threshold, backend or version of dfkit",
                fix=f"name another file, or replace it with {self.form.option} {self.path} --overwrite",
            )

    def _scan(self) -> None:
        whole, place = [self._end], 0

        def whole_lines() -> Iterator[bytes]:
            nonlocal place
            for line in file:
                if not line.endswith(b"\n"):
                    return
                place += len(line)
                yield line

        with self.path.open("rb") as file:
            first = file.read(len(self.form.header))
            if first != self.form.header:
                # A run that was killed at once has written nothing, or a part of this line.
                if self.form.header.startswith(first):
                    return
                raise ValueError("its first line names other columns")
            place = len(first)
            for content in _up_to_cut(self.form.parse(whole_lines())):
                self._remember(content, whole[-1], place)
                whole.append(place)
            self._end = whole[-1]
            self._must_rewrite = len(self._rows) != len(whole) - 1 or file.seek(0, io.SEEK_END) != self._end

    def _remember(self, content: Mapping[str, Any], start: int, end: int) -> None:
        size_bytes, modified = content["size_bytes"], content["modified"]
        state = FileState(int(size_bytes) if str(size_bytes or "").isdigit() else None, modified or None)
        video = str(content["video"])
        self._rows.pop(video, None)
        self._rows[video] = Row(start, end, video, state, str(content["scored_by"] or ""))

    def _rewrite(self, videos: Sequence[str]) -> None:
        """Writes the header and the rows of these files, in this order, whole or not at all."""
        rows, self._rows, self._end = self._rows, {}, len(self.form.header)
        with whole_file(self.path) as temporary, temporary.open("wb") as target:
            target.write(self.form.header)
            if videos:
                self._copy_rows([rows[video] for video in videos], target)
        self._must_rewrite = False

    def _copy_rows(self, rows: Sequence[Row], target: BinaryIO) -> None:
        with self.path.open("rb") as source:
            for row in rows:
                source.seek(row.start)
                text = source.read(row.end - row.start)
                target.write(text)
                self._rows[row.video] = Row(self._end, self._end + len(text), row.video, row.state, row.scored_by)
                self._end += len(text)

    def _error(self, error: OSError) -> Exception:
        """A full disk has the message that all commands have; the rest is told here."""
        if error.errno in DISK_FULL_ERRNOS:
            error.filename = str(self.path)
            return error
        return output_error(self.path, error)


def _up_to_cut(rows: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Rows as far as they are whole: of a name with a line end in it, the last row may be cut short within quotes."""
    try:
        yield from rows
    except ValueError as error:
        if "unexpected end of data" not in str(error):
            raise
