"""What was looked at, what was found, and how to mend it; without names of users."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dfkit.measures.environment import Environment

Status = Literal["ok", "off", "missing"]
"""`missing`: something optional that is not there; only `off` fails."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's."""

    area: str
    """`python`, `packages`, `extras`, `processor`, `decoders`, `places`, `golden clip`."""
    name: str
    status: Status
    found: str
    """What was found, compared with what was expected."""
    fix: str | None = None
    """A command or a setting; given wherever the status is not `ok`."""

    def line(self) -> str:
        """For the terminal."""
        fix = "" if self.fix is None else f"\n  Fix: {self.fix}"
        return f"{self.status:7} {self.name}: {self.found}{fix}"


@dataclass(frozen=True)
class DoctorReport:
    """All checks of one run, and what they were run on."""

    checks: tuple[Check, ...]
    environment: Environment

    @property
    def passed(self) -> bool:
        """Whether nothing is off."""
        return all(check.status != "off" for check in self.checks)

    @property
    def exit_code(self) -> int:
        """0, or 1 where something is off."""
        return 0 if self.passed else 1

    def summary(self) -> list[str]:
        """A line for every check under its area, and the count of those that are off or missing."""
        lines: list[str] = []
        area = ""
        for check in self.checks:
            if check.area != area:
                area = check.area
                lines.append(f"{area}:")
            lines.append(check.line())
        counts = {status: sum(check.status == status for check in self.checks) for status in ("ok", "off", "missing")}
        verdict = "everything that dfkit needs is in order" if self.passed else "something is off"
        return [*lines, f"{verdict}: {', '.join(f'{count} {status}' for status, count in counts.items())}"]

    def to_json(self) -> dict[str, Any]:
        """For a bug report."""
        return {
            "kind": "dfkit doctor",
            "passed": self.passed,
            "environment": vars(self.environment),
            "checks": [vars(check) for check in self.checks],
        }


def without_names(check: Check, *, home: Path | None, user: str | None) -> Check:
    """A check whose paths begin with `~` instead of the user's folder, and name no user elsewhere."""
    fix = None if check.fix is None else hide_names(check.fix, home=home, user=user)
    return replace(check, found=hide_names(check.found, home=home, user=user), fix=fix)


def hide_names(text: str, *, home: Path | None, user: str | None) -> str:
    """A text in which the user's folder is `~`, and the user's name in other paths `USER`."""
    if home is not None and home != Path(home.anchor):
        for folder in {str(home), home.as_posix(), str(home.resolve())}:
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", "~", text, flags=re.IGNORECASE)
    if user:
        text = re.sub(rf"(?<=[\\/]){re.escape(user)}(?![\w.-])", "USER", text)
    return text


def user_home() -> Path | None:
    """The user's folder, None where there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def user_name() -> str | None:
    """The user's name, None where the system knows none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None
