"""An evaluation as one self-contained HTML page."""

from __future__ import annotations

import json
from html import escape
from typing import Literal

from dfkit.evaluation.column_card import column_card
from dfkit.evaluation.levels import NO_METHOD
from dfkit.evaluation.plots import det_plot, reliability_plot, roc_plot
from dfkit.evaluation.report import EvaluationReport, format_gain, format_interval
from dfkit.evaluation.scores_file import ScoredVideo
from dfkit.measures.metrics import BinaryMetrics
from dfkit.report.html import card, document, facts_list, figure, note, table, tiles, warnings_box
from dfkit.report.svg import legend
from dfkit.report.table import format_number

LEVEL_CSS = {"video": "c1", "clip": "c0", "frame": "c2"}
MAX_ROWS = 200
STYLE = (
    "svg .curve.c2 { stroke: var(--c2); fill: none; }"
    ".confusion { max-width: 420px; } .confusion td { font-size: 1.05rem; }"
    "details summary { cursor: pointer; color: var(--soft); margin: 6px 0; }"
)


def render_page(report: EvaluationReport) -> str:
    """Renders the page of an evaluation.

    Args:
        report: The finished evaluation.
    Returns:
        A complete HTML document without links to other files.
    """
    sections = [
        _header(report),
        warnings_box(_warning_texts(report)),
        _tiles(report),
        _metrics(report),
        _generators(report),
        *(column_card(table) for table in report.columns),
        _curves(report),
        f'<div class="two">{_confusion(report)}{_points(report)}</div>',
        _calibration(report),
        _breakdown("By method", "method", report.level_metrics["video"].by_method),
        _breakdown("By group", "group", report.level_metrics["video"].by_group),
        _gains(report),
        _localization(report),
        _muted(report),
        _videos(report),
        _provenance(report),
    ]
    return document(f"dfkit evaluate: {report.name}", sections, style=STYLE)


def _warning_texts(report: EvaluationReport) -> list[str]:
    thin = [] if report.thin_reading is None else [report.thin_reading]
    return [*report.warnings, *thin, *(f"audit: {text}" for text in report.scores.audit_warnings)]


def _header(report: EvaluationReport) -> str:
    problem = ""
    if report.level_metrics["video"].metrics.answers_one_class:
        problem = "answers one class"
    elif report.baseline_comparison and report.baseline_comparison.startswith("below"):
        problem = "below its baseline"
    pill = f'<span class="pill fail">{problem}</span>' if problem else ""
    scores = report.scores
    facts = f"{scores.split} part of {scores.data} · {scores.split_source} · {scores.date[:10]}"
    return (
        f'<p class="sub">dfkit evaluate</p><header><h1>{escape(report.name)}</h1>{pill}</header>'
        f'<p class="sub">{escape(facts)}</p><p class="sub">{escape(scores.protocol.text)}</p>'
    )


def _tiles(report: EvaluationReport) -> str:
    video = report.level_metrics["video"]
    values = [
        (format_number(video.metrics.auc), f"AUC by video{format_interval(video.auc)}"),
        *([] if report.decision is None else [(format_number(video.metrics.balanced_accuracy), "balanced accuracy")]),
        (format_number(video.metrics.eer), "equal error rate"),
        (f"{video.metrics.num_real} / {video.metrics.num_fake}", "real / fake videos"),
        (str(len(video.by_group)), "groups"),
    ]
    if report.scores.baseline is not None:
        values.append((format_number(report.scores.baseline.auc), "AUC of the baseline"))
    return tiles(values)


def _metrics(report: EvaluationReport) -> str:
    names = list(report.level_metrics)
    rows = [[escape(cell) for cell in row] for row in report.metric_rows()]
    rows.append(["answers", *(str(level.metrics.num) for level in report.level_metrics.values())])
    parts = [table(("", *names), rows, numbers=len(names))]
    video = report.level_metrics["video"]
    if video.metrics.undefined:
        parts.append(note(f"Metrics without a value: {video.metrics.undefined}."))
    if video.auc.reason:
        parts.append(note(f"No interval: {video.auc.reason}."))
    if report.baseline_comparison:
        said = report.baseline_comparison
        parts.append(f"<p>{escape(said[0].upper() + said[1:])}.</p>")
    about_parts = " A clip of a fake may be real, and so may a frame." if len(names) > 1 else ""
    parts.append(note(f"AUC with its 95 % bootstrap interval over groups.{about_parts}"))
    return card("Metrics", *parts)


def _generators(report: EvaluationReport) -> str:
    """Seen beside unseen: a score on the generators that a model trained on says nothing about others."""
    if report.generators is None:
        return ""
    lines = "".join(f"<p>{escape(text[0].upper() + text[1:])}.</p>" for text in report.generators.texts)
    return card("Seen and unseen generators", lines, note("Fakes of these generators against all judged real videos."))


def _curves(report: EvaluationReport) -> str:
    temperature = 1.0 if report.decision is None else report.decision.temperature
    series = []
    for name, level in report.levels.items():
        if not report.level_metrics[name].metrics.undefined:
            series.append((name, LEVEL_CSS[name], level.labels, level.p_fake(temperature)))
    entries = legend([(LEVEL_CSS[name], name) for name, *_ in series])
    drawn = []
    if series:
        drawn.append(figure(roc_plot(series), "ROC.", below=entries))
        drawn.append(figure(det_plot(series), "DET: both axes are normal deviates.", below=entries))
    if report.reliability:
        plot = reliability_plot(report.reliability)
        drawn.append(figure(plot, "Reliability of videos; larger dots hold more of them."))
    return card("Curves", f'<div class="plots">{"".join(drawn)}</div>')


def _confusion(report: EvaluationReport) -> str:
    counts, review = report.level_metrics["video"].confusion, report.review
    if counts is None or review is None:
        return card("Decisions", note(f"{report.decision_text}."))
    true_real, alarms, misses, found = counts
    rows = (("real", str(true_real), str(alarms)), ("fake", str(misses), str(found)))
    listed = table(("videos", "called real", "called fake"), rows, css="confusion", numbers=2)
    outside = review.num - review.num_inside
    if review.low < review.high:
        band = (
            f"Review band {review.low:.3f} to {review.high:.3f}: {review.num_inside} of {review.num} videos inside, "
            f"{review.num_errors} of {outside} verdicts outside are wrong."
        )
    else:
        band = "No review band."
    return card("Decisions", listed, note(f"{report.decision_text}."), note(band))


def _points(report: EvaluationReport) -> str:
    if not report.fitted.points:
        return card("Operating points", note(f"None: {report.fitted.reason}."))
    rows = [
        (
            escape(point.name),
            format_number(point.threshold),
            format_number(point.tpr),
            format_number(point.fpr),
            format_number(point.balanced_accuracy),
        )
        for point in report.fitted.points
    ]
    listed = table(("", "threshold", "TPR", "FPR", "balanced"), rows, numbers=4)
    return card(
        "Operating points",
        listed,
        note(f"Thresholds from {report.fitted.fitted_on}; rates are those of the judged videos."),
    )


def _calibration(report: EvaluationReport) -> str:
    if not report.fitted.calibrations:
        return card("Calibration", note("None: the scores are no probabilities."))
    rows = [
        (
            escape(row.name),
            escape(_format_parameters(row.parameters)),
            format_number(row.cross_entropy),
            format_number(row.brier),
            format_number(row.ece),
        )
        for row in report.fitted.calibrations
    ]
    listed = table(("scaling", "parameters", "cross-entropy", "Brier", "calibration error"), rows, numbers=3)
    reason = f" {report.fitted.reason[0].upper()}{report.fitted.reason[1:]}." if report.fitted.reason else ""
    return card("Calibration", listed, note(f"Scalings are fitted on {report.fitted.fitted_on}.{reason}"))


def _format_parameters(parameters: dict[str, float]) -> str:
    return ", ".join(f"{name} {format_number(value)}" for name, value in parameters.items()) or "-"


def _breakdown(title: str, column: Literal["method", "group"], metrics_by_name: dict[str, BinaryMetrics]) -> str:
    if not metrics_by_name:
        return ""
    rows = [
        (
            escape(name),
            str(m.num_real),
            str(m.num_fake),
            format_number(m.accuracy),
            format_number(m.balanced_accuracy),
            format_number(m.auc),
        )
        for name, m in sorted(metrics_by_name.items())[:MAX_ROWS]
    ]
    listed = table((column, "real", "fake", "accuracy", "balanced", "AUC"), rows, numbers=5)
    explanations = {
        "method": "Fakes of one method against all real videos.",
        "group": "NaN: the group holds one class only.",
    }
    explanation = explanations[column]
    if len(metrics_by_name) > MAX_ROWS:
        explanation += f" {len(metrics_by_name) - MAX_ROWS} more are in the JSON."
    body = listed if len(rows) <= 12 else f"<details><summary>{len(rows)} rows</summary>{listed}</details>"
    return card(title, body, note(explanation))


def _gains(report: EvaluationReport) -> str:
    if not report.gains:
        return ""
    lines = "".join(f"<p>{escape(format_gain(gain))}.</p>" for gain in report.gains)
    return card(
        "Gain over one model",
        lines,
        note("AUC by video against the first checkpoint; paired bootstrap over groups."),
    )


def _localization(report: EvaluationReport) -> str:
    found = report.localization
    if found.reason:
        return card("Where the fake lies", note(f"Not measured: {found.reason}."))
    rows = [(f"at IoU {name}", format_number(value)) for name, value in found.ap.items()]
    text = (
        f"{found.num_intervals} true intervals, {found.num_detections} detections in {found.num_videos} videos "
        "(real ones and fakes with stated intervals): runs of frames at or above the threshold, mean p_fake as "
        "confidence."
    )
    return card("Where the fake lies", table(("average precision", ""), rows, numbers=1), note(text))


def _muted(report: EvaluationReport) -> str:
    if report.muted is None:
        return ""
    text = report.muted.text
    return card("Without sound", note(f"{text[0].upper() + text[1:]}."))


def _videos(report: EvaluationReport) -> str:
    p_videos, measures = report.p_videos, report.uncertainty_names
    order = sorted(range(len(p_videos)), key=lambda n: -p_videos[n])
    own = report.scores.scores == "logits"
    columns = ["p_fake", "worst clip at", "its p_fake", "read", *measures] if own else ["score"]
    head = ["video", "group", "method", "label", "verdict", *map(escape, columns)]
    rows = []
    for n in order[:MAX_ROWS]:
        video, answer = report.videos[n], report.answers[n]
        cells = [f"{p_videos[n]:.3f}"]
        if own:
            cells += [f"{answer.worst_clip_start_s:.1f} s", f"{answer.worst_clip_p_fake:.3f}"]
            cells.append(_format_share(None if video.read is None else video.read.read_share))
            cells += [format_number(video.uncertainty[name]) for name in measures]
        rows.append((*_video_cells(video), answer.verdict or "-", *cells))
    missing = [video for video in report.scores.videos if not video.answered]
    rows += [(*_video_cells(video), "no answer", *["-"] * len(columns)) for video in missing[:MAX_ROWS]]
    listed = table(head, rows, css="files", numbers=len(columns))
    cut = len(order) > MAX_ROWS or len(missing) > MAX_ROWS
    more = note(f"The {MAX_ROWS} most suspicious; all are in the JSON.") if cut else ""
    return card(
        "Videos", f"<details><summary>{len(rows)} videos, most suspicious first</summary>{listed}</details>", more
    )


def _video_cells(video: ScoredVideo) -> tuple[str, str, str, str]:
    """Name, group, method and label."""
    method = video.method or NO_METHOD if video.label else ""
    return escape(_file_name(video.path)), escape(video.group), escape(method), "fake" if video.label else "real"


def _format_share(share: float | None) -> str:
    return "not known" if share is None else f"{share:.0%}"


def _file_name(path: str) -> str:
    """The last part of a path that may come from another system."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _provenance(report: EvaluationReport) -> str:
    scores = report.scores
    facts = [("command", f"<code>{escape(scores.command)}</code>"), ("date", escape(scores.date))]
    for number, model in enumerate(scores.models, start=1):
        heading = f"model {number}" if len(scores.models) > 1 else "model"
        kind = f"{model.kind}, EMA weights" if model.weights == "ema" else model.kind
        known = [kind, *([model.preset] if model.preset else []), *model.modalities]
        facts.append((heading, escape(f"{model.path} ({', '.join(known)})")))
    facts += [("data", escape(scores.data)), ("part", escape(f"{scores.split}, {scores.split_source}"))]
    facts.append(("protocol", escape(scores.protocol.text.removeprefix("protocol: "))))
    point = json.dumps(None if report.decision is None else report.decision.to_facts(), indent=1, ensure_ascii=False)
    return card(
        "What these numbers rest on",
        facts_list(facts),
        f"<details><summary>Operating point and calibration</summary><pre>{escape(point)}</pre></details>",
    )
