"""The root of the command line: every command's help, and every example in it."""

from __future__ import annotations

import os
import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import dfkit
import dfkit.cli
from dfkit.cli import app

# Typer's own commands or click's, by its version: what they share is used.
COMMANDS: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
EXAMPLES = [
    line.strip()
    for command in COMMANDS.values()
    for line in (command.help or "").splitlines()
    if line.strip().startswith("dfkit ")
]


def test_threads_do_not_spin_unless_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(dfkit.cli, "app", lambda: said.append(os.environ["GOMP_SPINCOUNT"]))
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    dfkit.cli.main()
    monkeypatch.delenv("GOMP_SPINCOUNT")
    dfkit.cli.main()
    assert said == ["7", "1000"]


def test_version_and_nothing() -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"dfkit {dfkit.__version__}\n")
    done = runner.invoke(app, [])
    assert "Usage: dfkit" in done.output
    assert runner.invoke(app, ["foretell"]).exit_code == 2


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_shares_the_root_options_and_shows_examples(name: str) -> None:
    done = CliRunner().invoke(app, [name, "-h"])
    assert done.exit_code == 0
    options = {flag for parameter in COMMANDS[name].params for flag in parameter.opts}
    assert {"--workspace", "-w", "--json"} <= options
    assert any(example.split()[1] == name for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_help_parse(example: str) -> None:
    _, name, *args = shlex.split(example)
    context = COMMANDS[name].make_context(name, args)
    assert context.args == []


def test_examples_are_found() -> None:
    assert len(EXAMPLES) > 20
