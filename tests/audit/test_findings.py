"""What stands beside a network's metrics: the baseline's sentence and the audit's warnings, of these very videos."""

from __future__ import annotations

import json
from pathlib import Path

from dfkit.audit.findings import findings_notes, videos_hash
from dfkit.data.storage import PreparedData
from tests.data.makers import make_prepared, make_row


def test_findings_of_these_videos_are_said_and_of_others_are_not(tmp_path: Path) -> None:
    data = PreparedData(make_prepared(tmp_path / "data", [make_row(n, n % 2, [f"g{n}"]) for n in range(4)]))
    assert findings_notes(data, 0.7) == ()
    known = {"videos_hash": videos_hash(data)}
    warning = "duration_s alone tells real from fake with AUC 0.95"
    (tmp_path / "data" / "baseline.json").write_text(json.dumps(known | {"auc": 0.853}))
    (tmp_path / "data" / "audit.json").write_text(json.dumps(known | {"warnings": [warning]}))
    sentence = "below its baseline: AUC 0.743 against 0.853 of hand-made features"
    assert findings_notes(data, 0.743) == (sentence, warning)
    assert findings_notes(data, 0.9)[0].startswith("not below its baseline")
    assert "neither is better" in findings_notes(data, None)[0]
    (tmp_path / "data" / "baseline.json").write_text(json.dumps({"videos_hash": "of other videos", "auc": 0.853}))
    assert findings_notes(data, 0.743) == (warning,)
