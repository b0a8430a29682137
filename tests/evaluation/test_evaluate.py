"""Evaluation of tiny networks on tiny prepared data."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dfkit.audit.findings import Bar, format_baseline_comparison
from dfkit.clip import CLIP2S, UNIFORM50, ClipSpec, PictureSpec
from dfkit.data.catalog import VIDEOS_FILE, parse_videos, write_videos
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import CheckpointError, ConfigError, DataError
from dfkit.evaluation.data_findings import data_findings
from dfkit.evaluation.ensembles import soft_vote, weighted_vote
from dfkit.evaluation.evaluate import evaluate, evaluate_scores_file
from dfkit.evaluation.levels import Level, frame_level
from dfkit.evaluation.operating_points import apply_fit, fit_on_validation
from dfkit.evaluation.report import EvaluationReport
from dfkit.evaluation.scored_videos import scored_videos
from dfkit.evaluation.scorers import McDropoutScorer, NetworkScorer, TtaScorer, score_all
from dfkit.evaluation.scores_file import SCORES_FILE
from dfkit.evaluation.scoring import EvaluationRequest, make_batches
from dfkit.evaluation.uncertainty import logits_from_p_fake, predictive_uncertainty
from dfkit.measures.decision import Decision, VideoScores, fit_decision, margins_of
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.scoring import ClipLogits, video_margins
from dfkit.training.task import ClipNetwork
from tests.data.makers import make_prepared, make_row

TINY = NetworkSpec(face_channels=(4, 4, 4), lip_channels=(4, 4, 4), gru_hidden=4, dense_dim=4)
POINT = {"threshold": 0.5, "review_low": 0.5, "review_high": 0.5, "name": "chosen by hand"}
NO_VIEW = lambda data, spec: pytest.fail("no other view is needed")  # noqa: E731


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [make_row(n, n % 2, (f"person{n // 2}",)) for n in range(8)]
    rows[7] = replace(rows[7], intervals=((0.5, 1.5),))
    return make_prepared(tmp_path_factory.mktemp("data") / "prepared", rows)


def checkpoint(folder: Path, *, seed: int = 0, groups: dict[str, list[str]] | None = None, scale: float = 5.0) -> Path:
    torch.manual_seed(seed)
    network = MMMSBA(TINY)
    with torch.no_grad():
        network.classifier[0].weight.mul_(scale)
    facts = {"calibration": {}, "operating_point": POINT}
    if groups is not None:
        facts["splits"] = {name: {"groups": own} for name, own in groups.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / "best.pth", network, CLIP2S, kind="teacher", facts=facts)
    return folder / "best.pth"


def run(tmp_path: Path, data_dir: Path, *paths: Path, **options: object) -> EvaluationReport:
    request = EvaluationRequest(data_dir, paths, **options)  # type: ignore[arg-type]
    return evaluate(request, reports=tmp_path / "reports", make_view=NO_VIEW)


def assert_made_again(folder: Path, again: Path) -> None:
    """The report of a scores file alone is the report, by every byte."""
    evaluate_scores_file(folder / SCORES_FILE, reports=again, output=again)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in again.iterdir()) and len(names) == 4
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name


GROUPS = {"train": ["person0"], "val": ["person1"], "test": ["person2", "person3"]}


def test_a_recorded_split_is_kept_and_everything_is_written(data_dir: Path, tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "a", seed=1, groups=GROUPS)
    second = checkpoint(tmp_path / "b", seed=2, groups=GROUPS)
    report = run(tmp_path, data_dir, first, second, mc_dropout=3, tta=True)
    folder = tmp_path / "reports" / "ensemble-evaluation"
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert {row["group"] for row in content["videos"]} == {"person2", "person3"}
    assert len(content["gains"]) == 4 and set(content["levels"]) == {"frame", "clip", "video"}
    assert set(content["videos"][0]["uncertainty"]) == {"std", "entropy", "mutual_information"}
    assert content["localization"]["num_intervals"] == 1 and set(content["localization"]["ap"]) == {"0.5", "0.75"}
    labels, scores = zip(*((row["label"], row["p_fake"]) for row in content["videos"]), strict=True)
    assert content["levels"]["video"]["auc"] == pytest.approx(roc_auc_score(labels, scores))
    results = json.loads((folder / "test_results.json").read_text(encoding="utf-8"))
    assert results["probabilities"] == pytest.approx(scores)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page and "http" not in page.replace("https://", "")
    assert any("groups are few (2)" in line for line in report.summary())
    assert content["protocol"]["text"] == report.scores.protocol.text in page and report.summary()[1] in page
    assert_made_again(folder, tmp_path / "again")
    run(tmp_path, data_dir, first, second)
    assert sorted(p.name for p in (tmp_path / "reports").iterdir()) == ["ensemble-evaluation", "ensemble-evaluation-2"]


def test_what_was_trained_on_is_said(data_dir: Path, tmp_path: Path) -> None:
    report = run(tmp_path, data_dir, checkpoint(tmp_path / "a", groups=GROUPS, scale=0.0), split="all")
    assert "1 of 4 judged groups are ones that the model was trained on" in report.warnings
    # A head without weights answers alike everywhere.
    assert any(w.startswith("the model answers one class only: all 8 videos") for w in report.warnings)
    unsaid = run(tmp_path, data_dir, checkpoint(tmp_path / "b"), split="all")
    assert any("does not say what it was trained on" in w for w in unsaid.warnings)


def test_a_threshold_is_not_fitted_on_what_it_judges(tmp_path: Path) -> None:
    """With `--split all` thresholds came from videos that they then judged, in report and page without a word."""
    parts = ["val"] * 20 + ["test"] * 2 + ["train"] * 2
    rows = [make_row(n, n % 2, [f"g{n}"], split=part) for n, part in enumerate(parts)]
    small = ClipSpec(picture=PictureSpec(face_px=32, lip_px=32))
    data = make_prepared(tmp_path / "data", rows, spec=small)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "plain.pth", MMMSBA(TINY), small, kind="teacher", facts={})
    whole = run(tmp_path, data, tmp_path / "plain.pth", split="all")
    assert whole.video_names == tuple(f"/videos/{n}.mp4" for n in range(20, 24))
    assert whole.fitted.fitted_on == "10 real and 10 fake validation videos" and whole.fitted.reason is None
    assert whole.decision.operating_point.name.startswith("EER on 10 real and 10 fake validation videos")
    said = "all but the 20 validation videos, on which thresholds were fitted"
    assert said in whole.summary()[0]
    assert all(said in (Path(whole.output_dir) / n).read_text(encoding="utf-8") for n in ("report.json", "report.html"))
    own = run(tmp_path, data, tmp_path / "plain.pth", split="val")
    assert len(own.video_names) == 20 and own.fitted.points == ()
    assert own.fitted.reason == "the validation videos themselves are judged"
    assert own.decision.threshold == 0.5 and "themselves are judged" in own.decision_text


def test_one_class_gives_reasons_and_no_figures(tmp_path: Path) -> None:
    data = make_prepared(tmp_path / "reals", [make_row(n, 0, (f"p{n}",)) for n in range(3)])
    with pytest.raises(DataError, match="no usable fake video"):
        run(tmp_path, data, checkpoint(tmp_path / "a"))
    report = run(tmp_path, data, checkpoint(tmp_path / "b"), split="all")
    video = report.to_json()["levels"]["video"]
    assert video["auc"] is None and video["undefined"] == "all 3 labels are real"
    assert any("all 3 labels are real" in line for line in report.summary())
    assert json.loads((Path(report.output_dir) / "all_results.json").read_text())["metrics"]["auc"] is None


def test_what_cannot_be_judged_is_refused(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        run(tmp_path, data_dir, tmp_path / "gone.pth")
    with pytest.raises(ConfigError, match="either checkpoints or one bundle"):
        run(tmp_path, data_dir)
    empty = {"train": ["person0", "person1"], "val": ["person2", "person3"], "test": []}
    with pytest.raises(DataError, match="the test part holds no clip"):
        run(tmp_path, data_dir, checkpoint(tmp_path / "a", groups=empty))
    unlabelled = make_prepared(tmp_path / "u", [make_row(0, None)])
    with pytest.raises(DataError, match="without labels"):
        run(tmp_path, unlabelled, checkpoint(tmp_path / "a"))
    other = tmp_path / "other.pth"
    save_checkpoint(other, MMMSBA(TINY), ClipSpec(picture=PictureSpec(face_scale=1.5)), kind="teacher", facts={})
    with pytest.raises(ConfigError, match=r"another clip contract.*picture"):
        run(tmp_path, data_dir, other)
    with pytest.raises(ConfigError, match="cannot vote"):
        run(tmp_path, data_dir, checkpoint(tmp_path / "a"), other)
    broken = MMMSBA(TINY)
    broken.classifier[0].bias.data.fill_(3e38)
    broken.classifier[0].weight.data.fill_(3e38)
    save_checkpoint(other, broken, CLIP2S, kind="teacher", facts={})
    with pytest.raises(CheckpointError, match=r"NaN or infinity for \d of \d clips"):
        run(tmp_path, data_dir, other, split="all")
    assert not (tmp_path / "reports").exists()


def test_an_original_checkpoint_asks_for_its_view(shared: Path, data_dir: Path, tmp_path: Path) -> None:
    asked: list[ClipSpec] = []

    def make_view(data: PreparedData, spec: ClipSpec) -> Path:
        asked.append(spec)
        raise DataError("stop here")

    request = EvaluationRequest(data_dir, (shared / "teacher" / "fold4.pth",))
    with pytest.raises(DataError, match="stop here"):
        evaluate(request, reports=tmp_path, make_view=make_view)
    assert asked == [UNIFORM50]


def test_a_video_is_as_suspicious_as_its_worst_track(data_dir: Path) -> None:
    data = PreparedData(data_dir)
    clips = [replace(data.clips[0], index=n, track_id=track) for n, track in enumerate((0, 0, 1))]
    data.clips = [*clips, replace(data.clips[3], index=3)]
    logit_margins = np.array([3.0, -1.0, 2.0, 0.5])
    logits = ClipLogits(np.arange(4), np.stack([np.zeros(4), logit_margins], axis=1), np.zeros((4, 50, 2)))
    videos, margins = video_margins(data, logits)
    # Track 0 has mean 1, track 1 has 2.
    assert videos.tolist() == [0, 3] and margins.tolist() == [2.0, 0.5]


def test_frames_of_overlapping_clips_are_means_of_logits(tmp_path: Path) -> None:
    data = PreparedData(make_prepared(tmp_path / "p", [make_row(0, 1), make_row(1, 0)], clips=2))
    frame = np.zeros((2, 50, 2))
    frame[0, :, 1], frame[1, :, 1] = 1.0, 3.0
    logits = ClipLogits(np.arange(2), np.zeros((2, 2)), frame)
    level = frame_level(scored_videos(data, logits, np.ones((2, 50), np.uint8)), fps=25)
    logit_margins = level.logits[:, 1]
    # The second clip starts 25 frames later.
    assert logit_margins.tolist() == [1.0] * 25 + [2.0] * 25 + [3.0] * 25
    np.testing.assert_allclose(level.times_s, np.arange(75) / 25)


def test_votes_by_hand() -> None:
    p = np.array([[0.9, 0.5], [0.5, 0.5]])
    assert soft_vote(p).tolist() == [0.7, 0.5]
    # The second model tosses a coin on the first clip: it has no say there.
    np.testing.assert_allclose(weighted_vote(p), [0.9, 0.5], atol=1e-12)
    uncertainty = predictive_uncertainty(np.array([[0.0, 0.3], [1.0, 0.3]]))
    # Certain passes that disagree: all uncertainty is theirs. Passes that agree: none is.
    np.testing.assert_allclose(uncertainty["mutual_information"], [np.log(2), 0.0], atol=1e-9)
    np.testing.assert_allclose(uncertainty["std"], [0.5, 0.0])
    np.testing.assert_allclose(1 / (1 + np.exp(-np.diff(logits_from_p_fake(np.array([0.2])))[:, 0])), [0.2])


def test_dropout_passes_differ_repeat_and_leave_the_network_as_it_was(data_dir: Path) -> None:
    data = PreparedData(data_dir)
    torch.manual_seed(3)
    model = ClipNetwork(MMMSBA(TINY, gru_dropout=0.5, dense_dropout=0.5), CLIP2S)
    scorers = {"plain": NetworkScorer(model), "mc": McDropoutScorer(model, passes=8), "views": TtaScorer(model, CLIP2S)}
    first, _ = score_all(scorers, make_batches(data, [0, 1, 2]), num_frames=50)
    second, _ = score_all(scorers, make_batches(data, [0, 1, 2]), num_frames=50)
    np.testing.assert_array_equal(first["mc"].logits.clip, second["mc"].logits.clip)
    assert (first["mc"].uncertainty["std"] > 0).all() and (first["views"].uncertainty["std"] > 0).all()
    assert not any(part.training for part in model.modules())
    quiet = ClipNetwork(MMMSBA(TINY, gru_dropout=0.0, dense_dropout=0.0), CLIP2S)
    with pytest.raises(ConfigError, match="no dropout"):
        McDropoutScorer(quiet, passes=8)


def test_points_and_decision_come_from_validation_alone() -> None:
    rng = np.random.default_rng(5)

    def level(shift: float) -> Level:
        labels = np.arange(60) % 2
        logits = np.stack([np.zeros(60), rng.normal(2.0 * labels + shift, 1.0)], axis=1)
        none = np.full(60, "", object)
        return Level("video", labels, logits, np.arange(60).astype(str), none, np.arange(60), np.full(60, np.nan))

    validation, judged = level(0.0), level(5.0)
    decision = fit_decision([VideoScores.of_clip(row) for row in validation.logits], validation.labels)
    fitted = apply_fit(fit_on_validation(margins_of(validation.logits), validation.labels, decision), judged, decision)
    assert [p.name for p in fitted.points] == ["EER", "Youden", "FPR 5 %", "FPR 1 %"]
    # The judged scores all lie higher: thresholds that looked at them would not let every real one through.
    assert fitted.points[0].fpr > 0.9 and fitted.points[0].threshold == pytest.approx(
        decision.operating_point.threshold
    )
    assert [row.name for row in fitted.calibrations][-2:] == ["temperature", "Platt"]
    point = decision.operating_point
    assert point.review_low <= point.threshold <= point.review_high and "review band" in point.name
    few = apply_fit(fit_on_validation(np.zeros(0), np.zeros(0, int), Decision()), judged, Decision())
    assert few.points == () and "at least 10 of each" in str(few.reason)


def test_baseline_and_audit_stand_beside_the_metrics(tmp_path: Path) -> None:
    """The baseline's AUC over all videos stood beside the network's over the judged ones."""
    data = PreparedData(make_prepared(tmp_path / "data", [make_row(n, n % 2, [f"g{n}"]) for n in range(4)]))
    folder, judged = tmp_path / "data", [data.videos[n].sha256 for n in (2, 3)]
    assert data_findings(data, judged) == (None, ())
    known = {"videos_hash": videos_hash(data)}
    (folder / "audit.json").write_text(json.dumps(known | {"warnings": ["duration alone reaches AUC 0.95"]}))
    # Right on the first two videos, wrong on the judged ones.
    scores = [{"key": data.videos[n].key, "label": n % 2, "p_fake": p} for n, p in enumerate((0.1, 0.9, 0.8, 0.2))]
    (folder / "baseline.json").write_text(json.dumps(known | {"auc": 0.75, "videos": scores}))
    bar = Bar("features", 0.0, 1)
    assert data_findings(data, judged) == (bar, ("duration alone reaches AUC 0.95",))
    assert format_baseline_comparison(0.71, bar).startswith("not below its baseline: AUC 0.710 against 0.000")
    assert "no value" in format_baseline_comparison(float("nan"), bar)
    # A video that the baseline did not score: nothing is compared.
    assert data_findings(data, [*judged, "another"])[0] is None
    (folder / "baseline.json").write_text("nothing")
    with pytest.raises(DataError, match=r"baseline.json(.|\n)*Fix: run dfkit baseline again"):
        data_findings(data, judged)


@pytest.mark.parametrize("hashed", [{"videos_hash": "of other videos"}, {}], ids=["other videos", "without a hash"])
def test_findings_of_data_that_changed_since_are_not_shown(tmp_path: Path, hashed: dict[str, str]) -> None:
    """They were shown as if they were of these videos; one without a hash, too."""
    data = PreparedData(make_prepared(tmp_path / "data", [make_row(n, n % 2, [f"g{n}"]) for n in range(4)]))
    (tmp_path / "data" / "audit.json").write_text(json.dumps(hashed | {"warnings": ["duration alone"]}))
    (tmp_path / "data" / "baseline.json").write_text(json.dumps(hashed | {"auc": 0.9, "videos": []}))
    bar, audit_warnings = data_findings(data, [row.sha256 for row in data.videos])
    assert bar is None
    assert [warning.split(":")[0] for warning in audit_warnings] == [
        "audit.json is about other videos than these are now",
        "baseline.json is about other videos than these are now",
    ]


def test_muted_videos_and_what_was_read_are_reported(data_dir: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a", seed=1, groups=GROUPS)
    plain = run(tmp_path, data_dir, path)
    assert plain.muted is None and plain.to_json()["muted"] is None and plain.thin_reading is None
    assert {row["read_share"] for row in plain.to_json()["videos"]} == {None}

    stored = load_checkpoint(path)
    own = {"calibration": {"calibration_temperature": 2.0}, "operating_point": {**POINT, "threshold": 0.5}}
    save_checkpoint(path, stored.network, CLIP2S, kind="teacher", facts={**stored.facts, "muted": own})
    half = {"read_s": 1.0, "duration_s": 2.0, "read_share": 0.5}
    read = {"pictures": {**half, "read_share": 0.95}, "sound": half, "missing": "the file is incomplete", "notes": []}
    rows = parse_videos((data_dir / VIDEOS_FILE).read_text(encoding="utf-8"), "rows")
    copy = Path(shutil.copytree(data_dir, tmp_path / "prepared"))
    write_videos(copy, [replace(row, read=read) if row.groups == ("person2",) else row for row in rows])
    report = run(tmp_path, copy, path)
    content = json.loads((Path(report.output_dir) / "report.json").read_text(encoding="utf-8"))

    data = PreparedData(copy)
    indices = [clip.index for clip in data.clips if clip.group in ("person2", "person3")]
    model = ClipNetwork(stored.network, CLIP2S)
    margins = []
    for batch in make_batches(data, indices):
        with torch.no_grad():
            logits = model({**batch, "waveform": torch.zeros_like(batch["waveform"])}).clip_logits
        margins += (logits[:, 1] - logits[:, 0]).tolist()
    labels = [data.videos[data.clips[index].video_index].label for index in indices]
    assert report.muted is not None and report.muted.decision.temperature == 2.0
    assert content["muted"]["video"]["auc"] == pytest.approx(roc_auc_score(labels, margins))
    assert content["muted"]["decision"]["calibration"]["calibration_temperature"] == 2.0
    assert content["levels"]["video"] == json.loads(json.dumps(plain.to_json()["levels"]["video"]))
    assert any(line.startswith("muted, by the picture alone: video AUC") for line in report.summary())
    shares = {row["group"]: (row["read_s"], row["read_share"], row["missing"]) for row in content["videos"]}
    assert shares == {"person2": (1.0, 0.5, "the file is incomplete"), "person3": (None, None, None)}
    assert content["thin_reading"].startswith("2 of 4 videos were read to less than 90%")
    page = (Path(report.output_dir) / "report.html").read_text(encoding="utf-8")
    assert_made_again(Path(report.output_dir), tmp_path / "again")
    assert "Without sound" in page and "2 of 4 videos were read" in page and "50%" in page
