"""Errors that a user can act on. Each message says what was found, what was expected, and a fix."""

from __future__ import annotations

import errno
import re
from typing import Any

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a write says when there is no room: disk, quota, or file-size limit."""


class DfkitError(Exception):
    """Base of all errors whose message is meant for the user; the command line exits with `exit_code`."""

    exit_code = 2

    def __init__(self, found: str, *, fix: str | None = None) -> None:
        """Builds the message.

        Args:
            found: What was found, where, and what was expected.
            fix: A command or a setting that repairs it; shown after `Fix:`.
        """
        super().__init__(found if fix is None else f"{found}\n  Fix: {fix}")
        self.found = found
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        """As another process gets it: built without `__init__`, whose arguments differ from class to class."""
        return _rebuild, (type(self), self.args, self.__dict__)

    @property
    def sentence(self) -> str:
        """The message in one line."""
        return self.found if self.fix is None else f"{self.found}. Fix: {self.fix}"


def _rebuild(kind: type[DfkitError], args: tuple[Any, ...], state: dict[str, Any]) -> DfkitError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigError(DfkitError):
    """A configuration file or an option cannot be used."""


class DataError(DfkitError):
    """Labels, indexes, prepared data or splits cannot be used."""


class MediaError(DfkitError):
    """A media file cannot be used. `status` is one of the video statuses of `dfkit.runtime`.

    Statuses: `unreadable`, `no_face`, `no_audio`, `too_short`.
    """

    def __init__(self, found: str, *, status: str, fix: str | None = None) -> None:
        super().__init__(found, fix=fix)
        self.status = status


class DivergedError(DfkitError):
    """A training run has no numbers left to go on with."""


class CheckpointError(DfkitError):
    """A checkpoint is missing, corrupt, foreign, or its tensors do not fit."""


class BundleError(DfkitError):
    """A bundle is missing a file, was changed, or does not follow the schema."""


class PhoneError(DfkitError):
    """A phone cannot be asked, or what it measured cannot be used."""


class ModelAnswerError(BundleError):
    """A model answers NaN or infinity: no verdict follows from that, and no other input is to blame."""


class ShapeError(DfkitError):
    """An array has another shape or type than the function takes."""


class MissingExtraError(DfkitError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this command needs the Python package '{package}', which is not installed",
            fix=f'pip install "dfkit[{extra}]"',
        )


class ConversionError(DfkitError):
    """A converter or quantizer failed; `log` is all that it said, to be kept in a file."""

    def __init__(self, found: str, *, log: str, fix: str | None = None) -> None:
        super().__init__(found, fix=fix)
        self.log = log


class ParityError(DfkitError):
    """Two backends disagree by more than the tolerance; nothing is written."""

    exit_code = 1


NOT_JSON = (ValueError, RecursionError)
"""What `json.loads` raises on foreign text: no JSON, another encoding, numbers of thousands of digits, brackets inside
of each other without end."""


def one_line(error: BaseException) -> str:
    """All that a library says of an error, in one line, without the colours of a terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error)).split()) or type(error).__name__
