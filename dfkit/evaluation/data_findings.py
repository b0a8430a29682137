"""Results of `dfkit audit` and `dfkit baseline` on the data, which stand beside every metric made on it."""

from __future__ import annotations

from collections.abc import Sequence

from dfkit.audit.findings import AUDIT_FILE, BASELINE_FILE, Bar, read_finding, stale_findings, strongest_baseline
from dfkit.data.storage import PreparedData


def data_findings(data: PreparedData, sha256s: Sequence[str]) -> tuple[Bar | None, tuple[str, ...]]:
    """What is known of the data.

    Args:
        data: As it was prepared, not a view of it under another preset.
        sha256s: Of the videos' files that a network was measured on.
    Returns:
        The strongest baseline on the same videos, None without one; and lines about facts of the
        files that give the label away.
    Raises:
        DataError: A finding's file exists and is not what its command writes.
    """
    audit, baseline = read_finding(data, AUDIT_FILE), read_finding(data, BASELINE_FILE)
    warnings = [] if audit is None else [str(warning) for warning in audit.get("warnings", [])]
    bar = None
    if baseline is not None:
        key_of = {row.sha256: row.key for row in data.videos}
        bar = strongest_baseline(baseline, [key_of.get(sha256, "") for sha256 in sha256s])
    return bar, (*warnings, *stale_findings(data))
