"""Reads tables as people have them: text of several encodings, several delimiters, headers in any case."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfkit.errors import DataError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<delimiter>.)"?\r?\n', re.IGNORECASE)
"""First line that tells a spreadsheet the delimiter."""
_HANGUL = re.compile("[\uac00-\ud7a3]")


@dataclass(frozen=True)
class Table:
    """Rows of a table, by their line in the file (header = 1)."""

    columns: tuple[str, ...]
    """Lower case, blanks around cut off, blanks within as underscores."""
    header: str
    """The header as it stands in the file, for messages."""
    rows: tuple[tuple[int, dict[str, str]], ...]
    """(line, cells by column); a row of blanks is none."""
    faults: tuple[str, ...]
    """Rows with more cells than the header."""
    delimiter: str


def read_text(path: Path, *, fallbacks: Sequence[str] = ()) -> str:
    """The text of a file: UTF-8, or what its byte order mark says.

    Args:
        path: An existing file.
        fallbacks: Encodings that are tried where it is not UTF-8.
    Raises:
        DataError: Another encoding, or no text; with a command that converts it.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    if content.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: a spreadsheet (.xlsx) or an archive, no CSV", fix="save it as CSV UTF-8")
    if encoding == "utf-8" and b"\0" in content[:1000]:
        wide = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
        raise _encoding_error(path, f"{wide.upper()} text without a byte order mark", wide)
    for name in (encoding, *fallbacks):
        try:
            return content.decode(name)
        except UnicodeDecodeError:
            continue
    guess, reason = _guess(content)
    raise _encoding_error(path, f"not UTF-8 text; its bytes read as {reason}", guess)


def _guess(content: bytes) -> tuple[str, str]:
    """The encoding that text of Korean or Western Windows most likely has."""
    try:
        if _HANGUL.search(content.decode("cp949")):
            return "cp949", "CP949 (Korean Windows)"
    except UnicodeDecodeError:
        pass
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1", "an unknown encoding"
    return "cp1252", "CP1252 (Western Windows)"


def _encoding_error(path: Path, found: str, encoding: str) -> DataError:
    target = path.with_name(f"{path.stem}-utf8{path.suffix}")
    command = (
        f"python -c \"from pathlib import Path; Path('{target.as_posix()}').write_text("
        f"Path('{path.as_posix()}').read_text('{encoding}'), 'utf-8')\""
    )
    return DataError(
        f"{path}: {found}, expected UTF-8", fix=f"save it as CSV UTF-8, or: {command} and name {target.name}"
    )


def read_table(path: Path, known: Collection[str], *, fallbacks: Sequence[str] = ()) -> Table:
    """A table with a header.

    The delimiter is the one by which the header has most of the known columns, so that a path may hold any other.

    Args:
        path: An existing file.
        known: Names of columns, in lower case.
        fallbacks: Encodings besides UTF-8 and what a byte order mark says.
    Raises:
        DataError: It is no text, a quote is not closed, or two columns have one name.
    """
    text = read_text(path, fallbacks=fallbacks)
    skipped = 0
    told = _SEPARATOR_LINE.match(text)
    if told:
        text, skipped = text[told.end() :], 1
    delimiter = told["delimiter"] if told else _find_delimiter(text, known)
    try:
        return _parse(text, delimiter, skipped, path)
    except csv.Error as error:
        raise DataError(
            f"{path}: not a table of {DELIMITERS.get(delimiter, delimiter)} ({error})",
            fix='close every double quote; one inside of a cell is written twice ("")',
        ) from error


def _find_delimiter(text: str, known: Collection[str]) -> str:
    def num_known(delimiter: str) -> int:
        header = next(csv.reader(io.StringIO(text.lstrip("\r\n")[:10_000], newline=""), delimiter=delimiter), [])
        return len({column_name(cell) for cell in header} & set(known))

    return max(DELIMITERS, key=num_known)


def column_name(cell: str) -> str:
    """A header's cell as a column is named here."""
    return "_".join(cell.strip(" \t\ufeff\u00a0'\"").lower().split())


def _parse(text: str, delimiter: str, skipped: int, path: Path) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = [cell.strip() for cell in next((row for row in reader if any(map(str.strip, row))), [])]
    columns = tuple(map(column_name, header))
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are named {', '.join(twice)}", fix="rename or delete one of them")
    rows, faults = [], []
    for cells in reader:
        line = reader.line_num + skipped
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[len(columns) :]):
            faults.append(
                f"row {line}: {len(cells)} cells below a header of {len(columns)}: a cell that holds a "
                f"{delimiter if delimiter.strip() else 'tab'} needs double quotes around it"
            )
            continue
        rows.append((line, dict(zip(columns, [*cells, *[""] * len(columns)], strict=False))))
    return Table(columns, ", ".join(header) or "nothing", tuple(rows), tuple(faults), delimiter)
