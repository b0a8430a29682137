"""Results of `dfkit audit` and `dfkit baseline` in a data folder, which stand beside every metric made on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfkit.audit.findings import AUDIT_FILE, BASELINE_FILE, format_baseline_comparison
from dfkit.errors import DataError
from dfkit.evaluation.report import DataFindings


def read_data_findings(data_dir: str | Path) -> DataFindings:
    """Reads `audit.json` and `baseline.json`, where they exist.

    Args:
        data_dir: Folder of prepared data.
    Returns:
        Findings without `baseline_comparison`; `baseline_auc` is None and `audit_warnings` empty without the files.
    Raises:
        DataError: A file exists and is not what its command writes.
    """
    folder = Path(data_dir)
    audit = _read(folder / AUDIT_FILE, "dfkit audit")
    baseline = _read(folder / BASELINE_FILE, "dfkit baseline")
    warnings = (audit or {}).get("warnings", [])
    if not isinstance(warnings, list):
        raise _invalid_file(folder / AUDIT_FILE, "`warnings` is no list", "dfkit audit")
    auc = (baseline or {}).get("auc")
    if auc is not None and not isinstance(auc, int | float):
        raise _invalid_file(folder / BASELINE_FILE, f"`auc` is {auc!r}", "dfkit baseline")
    return DataFindings(
        baseline_auc=None if auc is None else float(auc), audit_warnings=tuple(str(warning) for warning in warnings)
    )


def compare_with_baseline(findings: DataFindings, auc: float) -> DataFindings:
    """Adds the sentence that compares a network with its baseline.

    Args:
        findings: As read.
        auc: The network's AUC by video; NaN where undefined.
    """
    if findings.baseline_auc is None:
        return findings
    return replace(findings, baseline_comparison=format_baseline_comparison(auc, findings.baseline_auc))


def _read(path: Path, command: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _invalid_file(path, str(error), command) from error
    if not isinstance(content, dict):
        raise _invalid_file(path, "no JSON object", command)
    return content


def _invalid_file(path: Path, found: str, command: str) -> DataError:
    return DataError(f"{path}: {found}", fix=f"run {command} again, or take the file away")
