"""Stands in for the library behind a command: the call is kept, and a small result comes back."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dfkit.cli import app


class Answer:
    """What a library function returns: one line for people, one JSON object, an exit code."""

    def __init__(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code

    def summary(self) -> list[str]:
        return ["one line"]

    def to_json(self) -> dict[str, Any]:
        return {"value": 1}


class Recorder:
    """A function that keeps what it was called with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.args: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.args, self.options = args, options
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def stand_in(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, answer: Any = None) -> Recorder:
    """Puts a recorder in a function's place."""
    recorder = Recorder(Answer() if answer is None else answer)
    monkeypatch.setattr(owner, name, recorder)
    return recorder


def run(*args: object) -> Result:
    """Calls `dfkit` in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])
