"""Reads a YAML or JSON file: plain values, each key once; a fault is told by line, column and likely cause.

What PyYAML says is meant for those who know its grammar. The causes here are those that people meet: a key twice, a
Windows path in double quotes, tabs, a missing blank behind a colon, a quote or bracket that stays open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dfkit.errors import ConfigError, one_line
from dfkit.file_kinds import foreign_kind

MERGE_TAG = "tag:yaml.org,2002:merge"
DRIVE = re.compile(r'"[A-Za-z]:\\(?!\\)')
"""A double-quoted value that begins as a Windows path with single backslashes."""
ESCAPED_CONTROL = re.compile(r'"(?:[^"\\]|\\\\)*\\(?:[0abefrtv]|n\S*"$)')
"""An escape that stands for an invisible character; a line end counts where the whole is one word."""
NO_BLANK = re.compile(r"[A-Za-z_][\w.-]*:(?!//|\\)[^\s:]\S*")
"""`key:value`, which YAML takes for one word; not an address or a path."""
OTHER_BLANKS = re.compile("[\u00a0\u3000\u2000-\u200b\ufeff]")
"""Blanks that are none to YAML: copied from a web page, or typed on a Korean or Japanese keyboard."""
WIDE_COLON = "\uff1a"
FIX_QUOTES = "put it in single quotes, 'C:\\Users\\me\\data', or write C:/Users/me/data"


class _FaultError(Exception):
    """A fault with its place."""

    def __init__(self, line: int, column: int, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.line, self.column, self.cause, self.fix = line, column, cause, fix


def read_yaml(path: Path) -> Mapping[str, Any]:
    """What a configuration file holds; nothing is the same as no keys.

    Args:
        path: YAML, or JSON where its suffix says so. UTF-8, or UTF-16 with its mark.
    Raises:
        ConfigError: It cannot be read, is no such file, or holds a key twice or something else than keys.
    """
    text = _read_text(path)
    try:
        # JSON is YAML but for numbers such as 1e-05, which YAML 1.1 takes for text.
        content = _parse_json(text) if path.suffix.lower() == ".json" else _parse_yaml(text)
    except _FaultError as fault:
        where = f"{path}, line {fault.line}, column {fault.column}"
        raise ConfigError(f"{where}: {fault.cause}", fix=fault.fix) from fault
    except RecursionError as error:
        raise ConfigError(f"{path}: too many brackets or keys inside of each other", fix="correct it") from error
    if content is not None and not isinstance(content, Mapping):
        raise ConfigError(
            f"{path}: expected keys such as `train:` at its top, found {type(content).__name__}",
            fix="see configs/default.yaml, or leave --config out",
        )
    return content or {}


def _read_text(path: Path) -> str:
    fix = "check the path given with --config"
    try:
        if not path.exists():
            raise ConfigError(f"{path}: no such configuration file", fix=fix)
        if path.is_dir():
            raise ConfigError(f"{path}: a folder, not a configuration file", fix=fix)
        data = path.read_bytes()
        foreign = foreign_kind(path, "configuration") if data.strip(b"\xef\xbb\xbf\xff\xfe \r\n\t") else None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})", fix=fix) from error
    if foreign is not None:
        raise ConfigError(f"{path}: {foreign.found}, not a configuration", fix=foreign.fix)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, "replace").split("\n")
        zeros = b"\0" in data[:200]
        cause = "UTF-16 without its mark (BOM)" if zeros else "another encoding, such as that of Windows"
        raise ConfigError(
            f"{path}, line {len(before)}, column {len(before[-1]) + 1}: not UTF-8 text: byte "
            f"0x{data[error.start]:02x}; it was saved in {cause}",
            fix="save it as UTF-8: every editor offers that at Save as",
        ) from error


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML of plain values in which a key stands once; PyYAML itself takes the last of several and says nothing."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuses a second entry of one key; before `<<` brings in others, which may be written over."""
        node = super().compose_mapping_node(anchor)
        first_lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE_TAG:
                continue
            line, entry = key.start_mark.line + 1, (key.tag, key.value)
            if entry in first_lines:
                cause = f"key '{key.value}' stands in line {first_lines[entry]} and again in line {line}"
                _fault(key.start_mark, cause, "keep one of them: the other would be lost")
            first_lines[entry] = line
            if odd := OTHER_BLANKS.search(key.value):
                cause = f"key '{key.value.strip()}' holds a blank of another kind (U+{ord(odd[0]):04X})"
                _fault(key.start_mark, cause, "type the blanks before and in the key anew")
            if key.style is None and NO_BLANK.fullmatch(key.value) and value.tag.endswith(":null"):
                _missing_blank(key.start_mark, key.value)
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """Refuses values that are not what their writer sees: escapes in a path, a key stuck to its value."""
        node = super().compose_scalar_node(anchor)
        text, mark = node.start_mark.buffer or "", node.start_mark
        raw = text[mark.pointer : mark.pointer + node.end_mark.index - mark.index]
        if node.style == '"' and (DRIVE.match(raw) or ESCAPED_CONTROL.match(raw)):
            _backslash(mark, raw)
        line_start = text.rfind("\n", 0, mark.pointer) + 1
        if node.style is None and WIDE_COLON in raw.split(" ")[0]:
            _fault(mark, f"a wide colon ({WIDE_COLON}) in '{raw}'", "write an ASCII colon and a blank, key: value")
        if node.style is None and not text[line_start : mark.pointer].strip() and NO_BLANK.match(raw):
            follows = text[mark.pointer + len(raw) :].lstrip(" ")
            if not follows.startswith(":"):
                _missing_blank(mark, raw.split()[0])
        return node


def _fault(mark: yaml.Mark, cause: str, fix: str) -> NoReturn:
    raise _FaultError(mark.line + 1, mark.column + 1, cause, fix)


def _backslash(mark: yaml.Mark, raw: str) -> NoReturn:
    cause = f"a backslash in double quotes begins an escape, as in {raw}; a Windows path, probably"
    _fault(mark, cause, FIX_QUOTES)


def _missing_blank(mark: yaml.Mark, word: str) -> NoReturn:
    name, _, value = word.partition(":")
    _fault(mark, f"no blank behind the colon of {word}, so it is one word and no key", f"write {name}: {value}")


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs)
    except json.JSONDecodeError as error:
        raise _FaultError(error.lineno, error.colno, f"not JSON: {error.msg}", "correct it") from error
    except ValueError as error:  # a number of thousands of digits
        raise _FaultError(1, 1, f"a value that cannot be read: {one_line(error)}", "correct it") from error
    except _RepeatedKeyError:
        return _parse_yaml(text)  # tells the place


class _RepeatedKeyError(Exception):
    """Two entries of one key, of which one would be lost."""


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _RepeatedKeyError
    return content


def _parse_yaml(text: str) -> Any:
    try:
        return yaml.load(text, UniqueKeyLoader)
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        cause = f"an invisible character (code {ord(text[error.position])})"
        raise _FaultError(len(before), len(before[-1]) + 1, cause, "delete it, and write the line again") from error
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text) from error
    except (ValueError, OverflowError) as error:  # such as a date that there is not
        raise _FaultError(1, 1, f"a value that cannot be read: {one_line(error)}", "put it in quotes") from error


def _explained(error: yaml.MarkedYAMLError, text: str) -> _FaultError:
    """A fault of YAML by its likely cause; PyYAML's own words where none is known."""
    mark = error.problem_mark or error.context_mark
    assert mark is not None, "PyYAML marks the place"
    problem, context = error.problem or "", error.context or ""
    lines = text.split("\n")
    line = _line(lines, mark)
    opened = error.context_mark or mark
    for tells, where, cause, fix in (
        ("escape" in problem or "hexadecimal" in problem, opened, _escape_cause(lines, opened), FIX_QUOTES),
        (
            "quoted scalar" in context,
            opened,
            "a quote that is opened here and not closed",
            "close it, or put the value in the other kind of quotes",
        ),
        (*_open_quote(text, mark), "close it at the end of its value"),
        (*_tab(lines, mark), "indent by blanks: two for each level"),
        (*_stuck(lines, mark), "put a blank behind the colon, key: value"),
        (
            "flow" in context and ("stream end" in problem or "document" in problem or opened.line < mark.line),
            opened,
            f"a bracket {_line(lines, opened)[opened.column : opened.column + 1]} that is opened here and not closed",
            "close it",
        ),
        (
            "mapping values are not allowed" in problem and len(re.findall(r":(?:\s|$)", line)) > 1,
            mark,
            f"a second colon in the value of '{line.strip()}'",
            "put the value in quotes",
        ),
        (
            "mapping values are not allowed" in problem or "block" in context or "could not find expected" in problem,
            mark,
            f"'{line.strip()}' does not fit to the lines before it: indented differently, or a colon is missing",
            "give all keys of a level the same number of blanks, and every key its colon",
        ),
        (
            "cannot start any token" in problem or "alias" in f"{problem} {context}" or "anchor" in context,
            mark,
            f"a value that begins with '{line[mark.column : mark.column + 1]}', a sign of YAML's own",
            "put it in quotes",
        ),
        (
            "constructor for the tag" in problem,
            mark,
            f"{problem.removeprefix('could not determine a constructor for the ')}: a value of a program's own kind",
            "write a plain value or a list [a, b] in its place",
        ),
        ("another document" in problem, mark, "a second document begins here (---)", "keep one of them"),
        (True, mark, f"not YAML: {one_line(Exception(f'{context} {problem}'))}", "correct it"),
    ):
        if tells:
            return _FaultError(where.line + 1, where.column + 1, cause, fix)
    raise AssertionError("the last of the causes always fits")


def _line(lines: list[str], mark: yaml.Mark) -> str:
    return lines[mark.line] if mark.line < len(lines) else ""


def _escape_cause(lines: list[str], opened: yaml.Mark) -> str:
    value = _line(lines, opened)[opened.column :].strip()
    return f"a backslash in double quotes begins an escape, as in {value}; a Windows path, probably"


def _open_quote(text: str, mark: yaml.Mark) -> tuple[bool, yaml.Mark, str]:
    """A quoted value over several lines before the fault: its closing quote was meant to open another."""
    try:
        for token in yaml.scan(text, yaml.SafeLoader):
            ends = token.end_mark.line
            if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"') and token.start_mark.line < ends:
                return True, token.start_mark, "a quote that is opened here and not closed in its line"
    except yaml.YAMLError:
        pass
    return False, mark, ""


def _tab(lines: list[str], mark: yaml.Mark) -> tuple[bool, yaml.Mark, str]:
    """The line of the fault, or one before it, is indented by a tab."""
    for number in (mark.line, mark.line - 1):
        if 0 <= number < len(lines) and (indent := re.match(r" *\t", lines[number])):
            place = yaml.Mark("", 0, number, indent.end() - 1, None, 0)
            return True, place, "a tab at the beginning of the line"
    return False, mark, ""


def _stuck(lines: list[str], mark: yaml.Mark) -> tuple[bool, yaml.Mark, str]:
    """The line of the fault, or one before it, has no blank behind its colon."""
    for number in (mark.line, mark.line - 1):
        if 0 <= number < len(lines) and (found := re.match(rf"( *)({NO_BLANK.pattern})\s*(#.*)?$", lines[number])):
            place = yaml.Mark("", 0, number, len(found[1]), None, 0)
            return True, place, f"no blank behind the colon of {found[2]}, so it is one word and no key"
    return False, mark, ""
