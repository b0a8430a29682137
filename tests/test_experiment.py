"""Files that are no configuration, and keys that would be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.errors import ConfigError
from dfkit.experiment import read_config, read_translation
from tests.cli.stand_ins import run


@pytest.mark.parametrize("name", ["here", "here.json", "here.yaml"])
def test_a_folder_is_no_configuration(tmp_path: Path, name: str) -> None:
    """`--config FOLDER` ended in a traceback."""
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="a folder, not a configuration file\n  Fix: ") as caught:
        read_config(tmp_path / name)
    assert caught.value.exit_code == 2
    done = run("train", "--config", tmp_path / name, "-w", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "a folder, not a configuration file" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  epochs: 3\n  seed: 1\n  epochs: 30\n", "key 'epochs' stands in line 2 and again in line 4"),
        ("train: {epochs: 3}\ndistill: {epochs: 1}\ntrain: {seed: 1}\n", "key 'train' .* line 1 and again in line 3"),
        ("train: {devices: 1, devices: 2}\n", "key 'devices' stands in line 1 and again in line 1"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Of two entries of one key the first was lost without a word."""
    path = tmp_path / "twice.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{message}\n  Fix: keep one"):
        read_config(path)


@pytest.mark.parametrize(("name", "text"), [("deep.yaml", "a: " + "[" * 3000), ("deep.json", '{"a":' * 100_000)])
def test_a_file_nested_too_deeply_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{name}: too many brackets or keys inside of each other"):
        read_config(tmp_path / name)


def test_so_is_one_in_the_originals_yaml_and_in_a_runs_json(tmp_path: Path) -> None:
    """The original's file was read a second time by a loader of its own."""
    theirs = tmp_path / "theirs.yaml"
    theirs.write_text("model: {name: MMMS_BA}\ndataset: {root_dir: a}\ndataset: {root_dir: b}\n", encoding="utf-8")
    for read in (read_config, read_translation):
        with pytest.raises(ConfigError, match="key 'dataset' stands in line 2 and again in line 3"):
            read(theirs)
    stored = tmp_path / "config.json"
    stored.write_text('{"train": {"epochs": 3, "epochs": 4}}', encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1, column 25: key 'epochs' stands in line 1"):
        read_config(stored)


def test_what_an_anchor_brings_in_may_be_written_over(tmp_path: Path) -> None:
    path = tmp_path / "anchor.yaml"
    path.write_text("train: &same {epochs: 3, seed: 7}\ndistill: {<<: *same, epochs: 5}\n", encoding="utf-8")
    config = read_config(path)
    assert (config.train.epochs, config.distill.epochs, config.distill.seed) == (3, 5, 7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- train\n- distill\n", "expected keys such as `train:` at its top, found list"),
        (b"3\n", "found int"),
        (b"train: {epochs: 3\n", "line 1, column 8: a bracket { that is opened here and not closed"),
        (b"? [a, b]\n: 1\n", "line 1, column 3: not YAML: .*unhashable key"),
        (b"\xff\x00\xfe", "line 1, column 1: not UTF-8 text"),
        (b"", None),
    ],
)
def test_what_is_no_configuration_is_said(tmp_path: Path, content: bytes, message: str | None) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    if message is None:
        assert read_config(path) == read_config(None)
        return
    with pytest.raises(ConfigError, match=f"odd.yaml.*{message}(.|\n)*Fix: "):
        read_config(path)
