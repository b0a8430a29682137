"""Faults of YAML files have line, column and the cause that people meet, whichever command reads the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dfkit.config.yaml_file import read_yaml
from dfkit.errors import ConfigError
from dfkit.experiment import read_config, read_translation
from tests.cli.stand_ins import run

FAULTS = {
    "key twice": ("train:\n  epochs: 1\n  epochs: 2\n", 3, 3, "key 'epochs' stands in line 2", "keep one"),
    "quoted key twice": ("a: 1\n'a': 2\n", 2, 1, "key 'a' stands in line 1", "keep one"),
    "windows path": ('data_dir: "C:\\Users\\kim\\data"\nepochs: 1\n', 1, 11, "backslash in double quotes", "C:/Users"),
    # Both are escapes that YAML knows: the path would have a tab and a line end in it.
    "silent windows path": ('a: 1\npath: "C:\\temp\\new"\n', 2, 7, "backslash in double quotes", "single quotes"),
    "silent relative path": ('path: "data\\train"\n', 1, 7, "backslash in double quotes", "single quotes"),
    "windows folder's end": ('path: "C:\\data\\"\nname: x\n', 1, 7, "backslash in double quotes|opened here", "quotes"),
    "tabs": ("train:\n\tepochs: 3\n", 2, 1, "a tab at the beginning", "blanks"),
    "tab after blanks": ("train:\n  epochs: 3\n  \tseed: 1\n", 3, 3, "a tab at the beginning", "blanks"),
    "no blank at the top": ("epochs:3\n", 1, 1, "no blank behind the colon of epochs:3", "write epochs: 3"),
    "no blank in a section": ("train:\n  epochs:3\n", 2, 3, "no blank behind the colon of epochs:3", "epochs: 3"),
    "no blank before a key": ("train:\n  epochs:3\n  seed: 1\n", 2, 3, "no blank behind the colon", "blank"),
    "no blank behind a key": ("train:\n  seed: 1\n  epochs:3\n", 3, 3, "no blank behind the colon", "blank"),
    "no blank in brackets": ("train: {epochs:3}\n", 1, 9, "no blank behind the colon of epochs:3", "epochs: 3"),
    "open double quote": ('name: "a\nepochs: 3\n', 1, 7, "a quote that is opened here", "close it"),
    "open single quote": ("name: 'a\nepochs: 3\n", 1, 7, "a quote that is opened here", "close it"),
    "open quote and another": ('name: "a\nother: "b"\n', 1, 7, "a quote that is opened here", "close it"),
    "open brace": ("train: {epochs: 3\nseed: 1\n", 1, 8, "a bracket { that is opened", "close it"),
    "open bracket": ("train:\n  modalities: [audio, face\n", 2, 15, r"a bracket \[ that is opened", "close it"),
    "indentation": ("train:\n  epochs: 3\n    seed: 1\n", 3, 9, "indented differently", "same number of blanks"),
    "other indentation": ("train:\n    epochs: 3\n  seed: 1\n", 3, 3, "indented differently", "same number"),
    "two colons": ("name: a: b\n", 1, 8, "a second colon in the value", "quotes"),
    "at sign": ("name: @home\n", 1, 7, "begins with '@'", "quotes"),
    "glob": ("path: *.mp4\n", 1, 8, "a sign of YAML's own|begins with", "quotes"),
    "undefined alias": ("path: *all\n", 1, 7, r"begins with '\*'", "quotes"),
    "tag": ("size: !!python/tuple [1, 2]\n", 1, 7, "python/tuple", "a list"),
    "two documents": ("a: 1\n---\nb: 2\n", 2, 1, "a second document begins", "keep one"),
    "blanks of a web page": ("train:\n\u00a0 epochs: 3\n", 2, 1, r"another kind \(U\+00A0\)", "anew"),
    "wide colon": ("train:\n  epochs\uff1a3\n", 2, 3, "a wide colon", "key: value"),
    "control character": ("a: 1\nb: \x07x\n", 2, 4, "an invisible character", "delete it"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_line_column_and_cause(tmp_path: Path, case: str) -> None:
    text, line, column, cause, fix = FAULTS[case]
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}, column {column}: "), message
    assert re.search(cause, message), message
    assert re.search(fix, message.split("Fix: ")[1]), message


def test_every_reader_has_one_rule(tmp_path: Path) -> None:
    """The original's YAML and a run's JSON, too."""
    theirs = tmp_path / "theirs.yaml"
    theirs.write_text('model: {name: MMMS_BA}\ndataset: {root_dir: "C:\\data"}\n', encoding="utf-8")
    for read in (read_config, read_translation):
        with pytest.raises(ConfigError, match="line 2, column 21: a backslash in double quotes"):
            read(theirs)
    stored = tmp_path / "config.json"
    stored.write_text('{\n "train": {"epochs": 3,}\n}', encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2, column 24: not JSON: "):
        read_config(stored)
    done = run("train", "--config", theirs, "-w", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "line 2, column 21: a backslash in double quotes" in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"])
def test_marks_of_editors_are_read(tmp_path: Path, encoding: str) -> None:
    text = "train: {epochs: 3}\nname: \ud55c\uad6d\n"
    marks = {"utf-16-le-bom": b"\xff\xfe", "utf-16-be-bom": b"\xfe\xff"}
    data = marks.get(encoding, b"") + text.encode(encoding.removesuffix("-bom"))
    for name in ("mine.yaml", "mine.json"):
        (tmp_path / name).write_bytes(data)
    assert read_yaml(tmp_path / "mine.yaml") == {"train": {"epochs": 3}, "name": "\ud55c\uad6d"}


@pytest.mark.parametrize(
    ("data", "line", "column", "cause"),
    [
        ("a: 1\nname: \ud55c\uad6d\n".encode("cp949"), 2, 7, "byte 0xc7; it was saved in another encoding"),
        ("a: 1\nname: caf\xe9\n".encode("latin-1"), 2, 10, "byte 0xe9"),
        (b"a\0:\0 \0\xd5\0\xe9\xd5\n\0", 1, 7, "UTF-16 without its mark"),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, data: bytes, line: int, column: int, cause: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}, line {line}, column {column}: not UTF-8 text: ")
    assert cause in str(caught.value)
    assert "save it as UTF-8" in str(caught.value)


def test_other_files_are_named(tmp_path: Path, original_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="a checkpoint of PyTorch, not a configuration\n  Fix: give a configuration"):
        read_yaml(original_checkpoint)
    (tmp_path / "page.yaml").write_text("<!DOCTYPE html><html>", encoding="utf-8")
    with pytest.raises(ConfigError, match="a web page"):
        read_yaml(tmp_path / "page.yaml")


SOUND = """\
# a path in each way that is right, and values with signs of YAML's own
windows: 'C:\\Users\\kim'
doubled: "C:\\\\Users\\\\kim"
slashes: C:/Users/kim
plain: C:\\Users\\kim
address: https://example.com/a:b
device: cuda:0
devices:
  - cuda:0
  - cuda:1
text: "two
  lines"
escaped: "caf\\u00e9, a line\\nand another"
time: "12:30"
"a:b": 1
a:b : 2
"""


def test_what_is_right_is_read_as_pyyaml_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SOUND, encoding="utf-8")
    with pytest.raises(ConfigError, match="line 16, column 1: key 'a:b' stands"):
        read_yaml(path)
    path.write_text(SOUND.replace('"a:b": 1\n', ""), encoding="utf-8")
    assert read_yaml(path) == yaml.safe_load(SOUND)


@pytest.mark.parametrize(("name", "place"), [("dupkey", "line 3, column 3"), ("win", "line 1, column 11")])
def test_handed_files(shared: Path, name: str, place: str) -> None:
    path = shared / "cases" / f"{name}.yaml"
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, {place}: ")
    assert ("stands in line 2 and again in line 3" if name == "dupkey" else "a Windows path, probably") in message
