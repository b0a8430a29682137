"""Results of `dfkit audit` and `dfkit baseline` on the data, which stand beside every metric made on it."""

from __future__ import annotations

from collections.abc import Sequence

from dfkit.audit.findings import (
    AUDIT_FILE,
    BASELINE_FILE,
    format_baseline_comparison,
    read_finding,
    stale_findings,
    strongest_baseline,
)
from dfkit.data.storage import PreparedData
from dfkit.evaluation.report import DataFindings


def data_findings(data: PreparedData, auc: float, sha256s: Sequence[str]) -> DataFindings:
    """What is known of the data, and how a network stands to its baseline on the same videos.

    Args:
        data: As it was prepared, not a view of it under another preset.
        auc: The network's AUC by video; NaN where undefined.
        sha256s: Of the videos' files that it was measured on.
    Raises:
        DataError: A finding's file exists and is not what its command writes.
    """
    audit, baseline = read_finding(data, AUDIT_FILE), read_finding(data, BASELINE_FILE)
    warnings = [] if audit is None else [str(warning) for warning in audit.get("warnings", [])]
    bar = None
    if baseline is not None:
        key_of = {row.sha256: row.key for row in data.videos}
        bar = strongest_baseline(baseline, [key_of.get(sha256, "") for sha256 in sha256s])
    return DataFindings(
        baseline_auc=None if bar is None else bar.auc,
        baseline_comparison=None if bar is None else format_baseline_comparison(auc, bar),
        audit_warnings=(*warnings, *stale_findings(data)),
    )
