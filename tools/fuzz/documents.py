"""Manifests, configurations and label files: values of other types, keys that lack, odd spellings and encodings."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

from tools.fuzz.damage import damage, shuffle_parts

ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 0.5, 1e-320, 1e308, 10**30, -(10**30), float("nan"), float("inf"), "", "0", "nan", "..", "\0",
    "../manifest.json", "/etc/hostname", "a" * 10_000, "\ud800", "\x1b[31m", [], {}, [[]], [0] * 1000, {"": None},
    "fake", "tflite", 3, 4, 5, 99, 50, 16000,
)  # fmt: skip
YAML = """\
name: run
split:
  seed: 7
train:
  epochs: 3
  optimizer: {learning_rate: 1.0e-3}
  modalities: [audio, face, lip]
  batch_size: 8
export: {}
"""
YAML_PIECES = (
    "\t", ": ", ":", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: *a", '"', "'", "\\", "#", "|\n", ">\n",
    "!!python/object:os.system ", "!!binary ", "---\n", "...\n", "%YAML 9.9\n", "? ", "\u3000", "\uff1a", "\x00",
    "\x85", "\u2028", "\ufeff", "1e9999", ".nan", "0o17", "2001-01-01", "yes", "~", "a: 1\na: 2\n",
    '"C:\\Users\\me"', "[" * 300, "{a: " * 200, "a" * 5000, "\ud83d\ude00",
)  # fmt: skip
CSV_CELLS = (
    "", "real", "fake", "REAL ", "0", "1", "0.0", "1e400", "nan", "-1", '"', '""', '"a', ",", ";", "\t", "|", "\n",
    "\r", "\x00", "\u3000", "../a.mp4", "a.mp4", "b.mp4", "/dev/zero", "C:\\a.mp4", "yes", "no", "x" * 140_000,
    "train", "g1", "g1;g2", "\ufeff", "\uc6d0\ubcf8", "=1+1",
)  # fmt: skip
CSV_COLUMNS = (
    "path", "label", "group", "method", "fake_start_s", "fake_end_s", "split", "groups_known", "is_fake", "is_real",
    "Path ", "LABEL", "", "other",
)  # fmt: skip
ENCODINGS = (
    "utf-8",
    "utf-8",
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "cp949",
    "cp1252",
    "utf-7",
)


def change_json(value: Any, rng: np.random.Generator) -> Any:
    """A copy with one to four places changed: another value, no key, one more, a place's value in another place."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 5))):
        places = list(_places(value))
        if not places:
            return value
        holder, key = places[int(rng.integers(len(places)))]
        kind = int(rng.integers(6))
        if kind < 3:
            holder[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
        elif kind == 3:
            del holder[key]
        elif kind == 4:
            other, name = places[int(rng.integers(len(places)))]
            holder[key] = copy.deepcopy(other[name])
        elif isinstance(holder, dict):
            odd = str(rng.choice(["", "..", "../x", "files", "a:b", "x" * 300, "\0", "\x1b[0m", "a\nb"]))
            holder[odd] = copy.deepcopy(holder[key])
    return value


def _places(value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def write_json(value: Any, rng: np.random.Generator) -> bytes:
    """A JSON document as bytes, now and then in a spelling of its own or damaged."""
    kind = int(rng.integers(12))
    text = json.dumps(value, ensure_ascii=bool(rng.integers(2)))
    content = text.encode("utf-8", "surrogatepass")
    if kind == 0:
        return damage(content, rng)
    if kind == 1:
        return text.encode(str(rng.choice(ENCODINGS)), "replace")
    if kind == 2:
        return b"[" * int(rng.choice([1, 1000, 200_000])) + content
    if kind == 3:
        return content.replace(b"0.5", rng.choice([b"1" * 5000, b"1e999", b"-NaN", b"0x10", b"00"]), 1)
    if kind == 4:
        return content[:-1] + b', "files": {}}'
    return content


def make_yaml(rng: np.random.Generator) -> bytes:
    """A configuration with pieces of YAML's grammar in it, lines in another order, or in another encoding."""
    lines = [line.encode() + b"\n" for line in YAML.splitlines()]
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(4))
        if kind == 0:
            shuffle_parts(lines, rng, longest_run=4)
        else:
            text = b"".join(lines).decode("utf-8", "surrogateescape")
            place = int(rng.integers(len(text) + 1))
            piece = YAML_PIECES[int(rng.integers(len(YAML_PIECES)))]
            text = text[:place] + piece + text[place + int(rng.integers(0, 5)) :]
            lines = [line.encode("utf-8", "surrogatepass") for line in text.splitlines(keepends=True)]
    content = b"".join(lines)
    if rng.random() < 0.2:
        content = content.decode("utf-8", "replace").encode(str(rng.choice(ENCODINGS)), "replace")
    return damage(content, rng) if content and rng.random() < 0.2 else content


def make_csv(rng: np.random.Generator) -> bytes:
    """A label file: odd cells, columns, quotes, delimiters, line ends and encodings."""
    delimiter, end = (
        str(rng.choice([",", ",", ";", "\t", "|", ":"])),
        str(rng.choice(["\n", "\n", "\r\n", "\r", "\n\n"])),
    )
    columns = ["path", "label"] if rng.random() < 0.6 else []
    columns += [str(name) for name in rng.choice(CSV_COLUMNS, int(rng.integers(0, 5)))]
    rows = [columns]
    for _ in range(int(rng.choice([0, 1, 3, 30]))):
        plain = {"path": rng.choice(["a.mp4", "b.mp4"]), "label": rng.choice(["real", "fake"])}
        rows.append([
            str(plain[name]) if name in plain and rng.random() < 0.8 else CSV_CELLS[int(rng.integers(len(CSV_CELLS)))]
            for name in columns
        ])  # fmt: skip
        if rng.random() < 0.1:
            rows[-1].append("more")
    quoted = rng.random() < 0.3
    text = end.join(delimiter.join(f'"{cell}"' if quoted else cell for cell in row) for row in rows)
    text = f"sep={delimiter}{end}{text}" if rng.random() < 0.1 else text
    content = text.encode(str(rng.choice(ENCODINGS)), "replace")
    return damage(content, rng) if content and rng.random() < 0.2 else content
