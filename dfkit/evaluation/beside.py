"""What `dfkit audit` and `dfkit baseline` left in a data folder, to be said beside every metric made on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dfkit.data.findings import AUDIT_FILE, BASELINE_FILE, baseline_sentence
from dfkit.errors import DataError
from dfkit.evaluation.report import Beside


def read_beside(data_dir: str | Path) -> Beside:
    """Reads both files, as far as they are there.

    Raises:
        DataError: One is there and is not what its command writes.
    """
    folder = Path(data_dir)
    audit, baseline = _read(folder / AUDIT_FILE, "dfkit audit"), _read(folder / BASELINE_FILE, "dfkit baseline")
    warnings = (audit or {}).get("warnings", [])
    if not isinstance(warnings, list):
        raise _foreign(folder / AUDIT_FILE, "`warnings` is no list", "dfkit audit")
    auc = None
    if baseline is not None:
        auc = baseline.get("auc")
        if auc is not None and not isinstance(auc, int | float):
            raise _foreign(folder / BASELINE_FILE, f"`auc` is {auc!r}", "dfkit baseline")
    return Beside(None if auc is None else float(auc), None, tuple(map(str, warnings)))


def against_baseline(beside: Beside, auc: float) -> Beside:
    """Adds the sentence that compares a network with its baseline.

    Args:
        beside: As read.
        auc: The network's, by video; NaN where undefined.
    """
    if beside.baseline_auc is None:
        return beside
    return Beside(beside.baseline_auc, baseline_sentence(auc, beside.baseline_auc), beside.audit_warnings)


def _read(path: Path, command: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _foreign(path, str(error), command) from error
    if not isinstance(content, dict):
        raise _foreign(path, "no JSON object", command)
    return content


def _foreign(path: Path, found: str, command: str) -> DataError:
    return DataError(f"{path}: {found}", fix=f"run {command} again, or take the file away")
