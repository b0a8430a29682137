"""What stands beside a network's metrics: the baseline's sentence and the audit's warnings, of these very videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit.audit.findings import findings_notes, read_finding
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import DataError
from tests.data.makers import make_prepared, make_row

WARNING = "duration_s alone tells real from fake with AUC 0.95"
# Out-of-fold scores of hand-made features: of the pairs (fake, real) 0.6 > 0.1, 0.6 > 0.5, 0.4 > 0.1 are in order.
SCORES = {0: 0.1, 1: 0.6, 2: 0.5, 3: 0.4}


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """Four videos; odd ones are fakes."""
    return PreparedData(make_prepared(tmp_path / "data", [make_row(n, n % 2, [f"g{n}"]) for n in range(4)]))


def write(data: PreparedData, name: str, **content: object) -> None:
    (Path(data.path) / name).write_text(json.dumps(content), encoding="utf-8")


def baseline_rows(data: PreparedData, *videos: int) -> list[dict[str, object]]:
    return [{"key": data.videos[n].key, "label": n % 2, "p_fake": SCORES[n]} for n in videos]


def test_findings_of_these_videos_are_said(data: PreparedData) -> None:
    assert findings_notes(data, 0.7, range(4)) == ()
    known = videos_hash(data)
    write(data, "baseline.json", videos_hash=known, auc=0.99, videos=baseline_rows(data, 0, 1, 2, 3))
    write(data, "audit.json", videos_hash=known, warnings=[WARNING])
    sentence = "below its baseline: AUC 0.743 against 0.750 of hand-made features"
    assert findings_notes(data, 0.743, range(4)) == (sentence, WARNING)
    assert findings_notes(data, 0.9, range(4))[0].startswith("not below its baseline")
    assert "neither is better" in findings_notes(data, None, range(4))[0]


def test_the_baseline_is_compared_on_the_same_videos(data: PreparedData) -> None:
    """The sentence compared a test AUC with the baseline's AUC over all videos, training part and all."""
    write(data, "baseline.json", videos_hash=videos_hash(data), auc=0.75, videos=baseline_rows(data, 0, 1, 2, 3))
    # Of videos 2 and 3 alone the one pair is out of order.
    assert findings_notes(data, 0.2, [2, 3]) == (
        "not below its baseline: AUC 0.200 against 0.000 of hand-made features",
    )
    # One class alone, or a video that the baseline did not score: nothing is compared.
    assert findings_notes(data, 0.2, [0, 2]) == findings_notes(data, 0.2, []) == ()
    write(data, "baseline.json", videos_hash=videos_hash(data), auc=0.75, videos=baseline_rows(data, 0, 1, 2))
    assert findings_notes(data, 0.2, [2, 3]) == ()


def test_the_strongest_baseline_is_the_bar(data: PreparedData) -> None:
    """File facts are not: no detector has to reach what they give away; the audit warns of them."""
    rows = baseline_rows(data, 0, 1, 2, 3)
    perfect = [{**row, "p_fake": row["label"]} for row in rows]
    weak = [{**row, "p_fake": 0.5} for row in rows]
    entries = {"features": {"videos": weak}, "facts": {"videos": perfect}, "texture": {"videos": rows}}
    write(data, "baseline.json", videos_hash=videos_hash(data), baselines=entries)
    sentence = "below its baseline: AUC 0.743 against 0.750 of frozen texture features, the strongest of 2 baselines"
    assert findings_notes(data, 0.743, range(4)) == (sentence,)
    # One that lacks a video is not compared on it.
    entries["texture"] = {"videos": rows[:3]}
    write(data, "baseline.json", videos_hash=videos_hash(data), baselines=entries)
    assert findings_notes(data, 0.743, range(4)) == (
        "not below its baseline: AUC 0.743 against 0.500 of hand-made features",
    )
    write(data, "baseline.json", videos_hash=videos_hash(data), baselines={"facts": {"videos": perfect}})
    assert findings_notes(data, 0.743, range(4)) == ()


@pytest.mark.parametrize("hashed", [{"videos_hash": "of other videos"}, {}], ids=["other videos", "without a hash"])
def test_findings_of_other_videos_are_named_and_not_said(data: PreparedData, hashed: dict[str, str]) -> None:
    """A finding without a hash was taken for one about these videos, whatever they had become."""
    write(data, "audit.json", **hashed, warnings=[WARNING])
    write(data, "baseline.json", **hashed, auc=0.75, videos=baseline_rows(data, 0, 1, 2, 3))
    assert read_finding(data, "audit.json") is None
    assert findings_notes(data, 0.743, range(4)) == (
        "audit.json is about other videos than these are now: run dfkit audit again",
        "baseline.json is about other videos than these are now: run dfkit baseline again",
    )


@pytest.mark.parametrize("content", ["nothing", "[]", '{"warnings": "one"}', '{"videos": null}', '{"baselines": []}'])
def test_a_file_that_is_no_finding_is_refused(data: PreparedData, content: str) -> None:
    (Path(data.path) / "audit.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"audit.json(.|\n)*Fix: run dfkit audit again"):
        findings_notes(data, 0.7, range(4))
