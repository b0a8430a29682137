"""The report as one self-contained HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from dfkit.benchmarks.bootstrap import Interval
from dfkit.benchmarks.evidence import EVEN_THRESHOLD, Comparison, Parity
from dfkit.benchmarks.gates import MAX_CLIP_MS, MAX_PHONE_MB, MIN_REAL_TIME, GateResult
from dfkit.benchmarks.html import card, document, facts_list, figure, note, table, tiles, warnings_box
from dfkit.benchmarks.latency import STAGE_NAMES, STAGES, Percentiles
from dfkit.benchmarks.metrics import BinaryMetrics, roc_curve
from dfkit.benchmarks.svg import Bar, Dots, Line, bar_chart, curves, legend, scatter
from dfkit.benchmarks.table import format_limit, format_number
from dfkit.benchmarks.targets import TargetResult
from dfkit.benchmarks.whole_way import WAY_NAMES, WAY_STAGES, VideoTime

if TYPE_CHECKING:
    from dfkit.benchmarks.bench import BenchReport

VERDICT_CSS = {"pass": "pass", "fail": "fail", "not judged": "open"}
MAX_TIMED_ROWS = 24
BUSY_LOAD = 0.8
"""Load over one minute from which on other work is likely to show in the times; this command's own is below 1."""
METRIC_ROWS = (
    ("auc", "AUC"),
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("mcc", "MCC"),
    ("f1", "F1"),
    ("eer", "EER"),
    ("tpr_at_1_fpr", "TPR at 1 % FPR"),
    ("tpr_at_5_fpr", "TPR at 5 % FPR"),
    ("ece", "calibration error"),
)


def render_page(report: BenchReport) -> str:
    """Draws the page.

    Args:
        report: What was measured.
    Returns:
        A whole HTML document.
    """
    sections = [
        _header(report),
        _warnings(report),
        _tiles(report),
        _gates(report.gates),
        _targets(report.targets),
        f'<div class="two">{_sizes(report)}{_fresh(report)}</div>',
        _latency(report),
        _whole_way(report),
        _parity(report.parity, report),
        _comparison(report.comparison),
        _rests_on(report),
    ]
    return document(f"dfkit bench: {report.name}", sections)


def _header(report: BenchReport) -> str:
    worst = next((v for v in ("fail", "not judged") if any(g.verdict == v for g in report.gates)), "pass")
    said = {"fail": "a gate failed", "not judged": "no gate failed, some not judged", "pass": "all gates passed"}[worst]
    machine = f"{report.environment.cpu}, {_threads(report)}"
    pill = f'<span class="pill {VERDICT_CSS[worst]}">{said}</span>'
    facts = " · ".join((report.primary, machine, report.environment.date[:10]))
    return (
        f'<p class="sub">dfkit bench</p><header><h1>{escape(report.name)}</h1>{pill}</header>'
        f'<p class="sub">{escape(facts)}</p>'
    )


def _threads(report: BenchReport) -> str:
    return "1 thread" if report.num_threads == 1 else f"{report.num_threads} threads"


def _warnings(report: BenchReport) -> str:
    warnings = list(report.warnings)
    load = report.environment.load
    if load is not None and load > BUSY_LOAD:
        warnings.append(
            f"The machine was busy before the measurement (load {load:.1f}): times are longer than they need be."
        )
    return warnings_box(warnings)


def _tiles(report: BenchReport) -> str:
    clip = report.latency[report.primary]["clip"]
    scored = [timed.real_time for timed in report.whole_way if timed.status == "ok"]
    backend = report.primary.split()[0]
    values = [
        (f"{format_number(report.sizes.model_mb[backend])} MB", "model file"),
        (f"{format_number(report.sizes.phone_mb[backend])} MB", "all that a phone needs"),
        (f"{clip.p90_ms:.1f} ms", "one clip, p90"),
        (f"{min(scored):.1f}x" if scored else "-", "real time, slowest file"),
    ]
    if report.comparison:
        values.append((format_number(report.comparison.student.auc), f"AUC, {report.comparison.student.num} videos"))
    return tiles(values)


def _pill(verdict: str) -> str:
    return f'<span class="pill {VERDICT_CSS[verdict]}">{verdict}</span>'


def _gates(results: Sequence[GateResult]) -> str:
    rows = [
        (
            escape(result.gate.metric),
            escape("-" if result.value is None else f"{format_number(result.value)} {result.gate.unit}".rstrip()),
            escape(format_limit(result)),
            _pill(result.verdict),
            f'<span class="note">{escape(result.note)}</span>',
        )
        for result in results
    ]
    return card("Gates", table(("gate", "value", "limit", "", "rests on"), rows, css="gates"))


def _targets(results: Sequence[TargetResult]) -> str:
    rows = []
    for result in results:
        value = "-" if result.value is None else f"{format_number(result.value)} {result.unit}".rstrip()
        limits = (
            "-" if limit is None else escape(f"{result.direction} {format_number(limit)}")
            for limit in (result.at_least, result.aim)
        )
        about = f'<span class="note">{escape(result.note)}</span>'
        rows.append((escape(result.figure), escape(value), *limits, escape(result.verdict), about))
    return card("Beside other ways", table(("figure", "value", "at least", "aim", "", "rests on"), rows, css="gates"))


def _sizes(report: BenchReport) -> str:
    sizes = report.sizes
    faces = sum(sizes.face_models_mb.values())
    bars = [
        Bar(
            f"{backend}: model, manifest, face models",
            ((model, "c0"), (sizes.manifest_mb, "c5"), (faces, "c1")),
            f"{sizes.phone_mb[backend]:.2f} MB",
        )
        for backend, model in sizes.model_mb.items()
    ]
    chart = bar_chart(bars, title="Bytes that a phone needs, in MB", unit="MB", limit=MAX_PHONE_MB)
    rows = [(f"{escape(name)} model", f"{size:.3f} MB") for name, size in sizes.model_mb.items()]
    rows += [(f"<code>{escape(name)}</code>", f"{size:.3f} MB") for name, size in sizes.face_models_mb.items()]
    rows += [("manifest", f"{sizes.manifest_mb:.3f} MB"), ("bundle, all files", f"{sizes.bundle_mb:.3f} MB")]
    entries = (("c0", "model"), ("c5", "manifest"), ("c1", "face models"))
    listed = table(("", "size"), rows, numbers=1)
    return card("Size", figure(chart), legend(entries), listed, note("1 MB is 10^6 bytes; dashed: the limit."))


def _fresh(report: BenchReport) -> str:
    def cell(value: float | None, unit: str) -> str:
        return "-" if value is None else f"{value:.0f} {unit}"

    named = [(name, start) for name, start in report.fresh.items()]
    if report.fresh_video is not None:
        named.append((f"{report.primary}, whole way", report.fresh_video))
    rows = [
        (
            escape(name),
            cell(s.load_ms, "ms"),
            cell(s.first_ms, "ms"),
            cell(s.baseline_mb, "MB"),
            cell(s.peak_mb, "MB"),
        )
        for name, s in named
    ]
    head = ("", "load", "first clip", "before", "peak")
    text = (
        "Each in a process of its own. Load verifies the bundle and opens the graphs; before is what Python and "
        "its packages hold without a model. In the line of the whole way, a file stands in for the clip."
    )
    return card("Cold start and memory", table(head, rows, numbers=4), note(text))


def _latency(report: BenchReport) -> str:
    bars = []
    for number, (name, stages) in enumerate(report.latency.items()):
        clip = stages["clip"]
        css = "c0" if number == 0 else "c7"
        bars.append(Bar(name, ((clip.p90_ms, css),), f"{clip.p90_ms:.1f} ms"))
    longest = max(bar.parts[0][0] for bar in bars)
    limit = MAX_CLIP_MS if longest > MAX_CLIP_MS / 4 else None
    chart = bar_chart(bars, title="p90 of one clip by variant", unit="ms", limit=limit)
    tables = [_stage_table(name, stages) for name, stages in report.latency.items()]
    others = f"<details><summary>The other variants</summary>{''.join(tables[1:])}</details>" if tables[1:] else ""
    text = (
        f"The model alone, {_threads(report)}, variants taking turns within one run. "
        f"This is {report.environment.cpu}: a desktop figure until a phone has measured it."
    )
    caption = "One clip, p90; dashed: the limit." if limit else "One clip, p90."
    left, right = f"<div>{figure(chart, caption)}{note(text)}</div>", f"<div>{tables[0]}{others}</div>"
    return card("Latency", f'<div class="two">{left}{right}</div>')


def _stage_table(variant: str, stages: Mapping[str, Percentiles]) -> str:
    rows = []
    for stage in (stage for stage in STAGES if stage in stages):
        p = stages[stage]
        rows.append((STAGE_NAMES[stage], f"{p.p50_ms:.2f}", f"{p.p90_ms:.2f}", f"{p.p99_ms:.2f}"))
    return table((f"{escape(variant)}, ms", "p50", "p90", "p99"), rows, numbers=3)


def _whole_way(report: BenchReport) -> str:
    timed = report.whole_way
    if not timed:
        return card("From file to verdict", note("No video was given: dfkit bench --video FILE measures it."))
    shown = sorted(timed, key=lambda t: t.real_time)[:MAX_TIMED_ROWS]
    bars = [_way_bar(t) for t in shown]
    chart = bar_chart(bars, title="Share of each stage by file", unit="%", end=100)
    entries = [(f"c{number}", WAY_NAMES[stage]) for number, stage in enumerate(WAY_STAGES)]
    rows = [
        (
            escape(t.video),
            escape(t.status),
            f"{t.width} x {t.height}",
            f"{t.duration_s:.1f} s",
            f"{t.total_s:.2f} s",
            f"{t.real_time:.1f}",
        )
        for t in shown
    ]
    listed = table(("file", "status", "size", "length", "time", "x real"), rows, css="files", numbers=4)
    text = (
        f"Median of the runs of each file, slowest first, {report.environment.num_cores} cores; the limit is "
        f"{MIN_REAL_TIME:g}x real time. Detection and landmarks are the networks alone, their warps count as crops."
    )
    more = f" {len(timed) - len(shown)} faster files are in the JSON." if len(timed) > len(shown) else ""
    left = f"<div>{figure(chart)}{legend(entries)}</div>"
    return card("From file to verdict", f'<div class="two">{left}{listed}</div>', note(text + more))


def _way_bar(timed: VideoTime) -> Bar:
    parts = tuple(
        (100 * timed.stages_s[stage] / timed.total_s, f"c{number}") for number, stage in enumerate(WAY_STAGES)
    )
    return Bar(timed.video, parts, f"{timed.real_time:.1f}x real time")


def _parity(parity: Parity | None, report: BenchReport) -> str:
    title = "INT8 against FP32"
    if parity is None:
        return card(title, note("No logits of both precisions lie beside the bundle."))
    threshold = float(report.data.get("threshold", EVEN_THRESHOLD))
    dots = Dots("clips", "c0", parity.points)
    plot = scatter(
        [dots],
        title="p_fake of INT8 over that of FP32",
        x_label="p_fake, FP32",
        y_label="p_fake, INT8",
        thresholds=(threshold, threshold),
    )
    rows = [
        ("clips", str(parity.num_clips)),
        ("flips of the decision", f"{parity.num_flips} (at most {parity.max_flips})"),
        ("flips with a margin", str(parity.num_flips_above_margin)),
        ("change of p_fake, largest", format_number(parity.max_p_change)),
        ("change of p_fake, mean", format_number(parity.mean_p_change)),
        ("change of a logit, largest", format_number(parity.max_logit_change)),
    ]
    drawn = figure(plot, "One dot a clip; dashed: the threshold.")
    return card(title, f'<div class="plots">{drawn}<div>{table(("", ""), rows, numbers=1)}</div></div>')


def _comparison(comparison: Comparison | None) -> str:
    title = "Student against teacher"
    if comparison is None:
        return card(title, note("No held-out video with both models' answers: nothing is compared."))
    scores = comparison.scores
    groups = len(set(scores.groups))
    intro = f"{len(scores.videos)} videos of {groups} groups, split {comparison.split}, neither trained nor tuned on."
    if scores.num_left_out:
        intro += f" {scores.num_left_out} videos lack an answer of one of the two and are left out."
    parts = [note(intro)]
    if comparison.not_judged:
        parts.append(f"<p>{_pill('not judged')} {escape(comparison.not_judged)}.</p>")
    for name, metrics in (("student", comparison.student), ("teacher", comparison.teacher)):
        if metrics.answers_one_class:
            parts.append(
                f'<p><span class="pill fail">one class</span> The {name} gives every video the same answer.</p>'
            )
    if comparison.student.undefined:
        parts.append(note(f"Metrics without a value: {comparison.student.undefined}."))
    parts.append(f'<div class="plots">{_agreement(comparison)}{_roc(comparison)}</div>')
    parts.append(_metrics_table(comparison))
    drop, ratio = comparison.accuracy_drop_points, comparison.auc_ratio
    parts.append(
        note(
            f"Accuracy below the teacher: {_interval(drop)} points; AUC over the teacher's: {_interval(ratio)}. "
            "95 % intervals of a paired bootstrap over groups."
        )
    )
    return card(title, *parts)


def _interval(interval: Interval) -> str:
    if interval.reason:
        return f"{format_number(interval.value)} (no interval: {interval.reason})"
    return f"{format_number(interval.value)} ({format_number(interval.low)} to {format_number(interval.high)})"


def _agreement(comparison: Comparison) -> str:
    scores = comparison.scores
    series = []
    for label, (name, css) in enumerate((("real", "c0"), ("fake", "c1"))):
        own = np.flatnonzero(scores.labels == label)
        points = tuple((float(scores.teacher[i]), float(scores.student[i])) for i in own)
        series.append(Dots(name, css, points, tuple(f"{scores.videos[i]} ({name})" for i in own)))
    plot = scatter(
        series,
        title="p_fake of student over that of teacher",
        x_label="p_fake, teacher",
        y_label="p_fake, student",
        thresholds=(EVEN_THRESHOLD, comparison.student_shipped.threshold),
    )
    entries = (("c0", "real"), ("c1", "fake"))
    caption = "One dot a video; dashed: thresholds."
    return f"<figure>{plot}{legend(entries)}<figcaption>{caption}</figcaption></figure>"


def _roc(comparison: Comparison) -> str:
    if comparison.student.undefined or comparison.teacher.undefined:
        return ""
    lines = []
    named = (("student", "c1", comparison.scores.student), ("teacher", "c0", comparison.scores.teacher))
    for name, css, p_fake in named:
        fpr, tpr, _ = roc_curve(comparison.scores.labels, p_fake)
        lines.append(Line(name, css, tuple(zip(fpr.tolist(), tpr.tolist(), strict=True))))
    plot = curves(lines, title="ROC of student and teacher", x_label="false alarms", y_label="fakes found")
    entries = (("c0", "teacher"), ("c1", "student"))
    return f"<figure>{plot}{legend(entries)}<figcaption>ROC over videos.</figcaption></figure>"


def _metrics_table(comparison: Comparison) -> str:
    def cells(key: str) -> list[str]:
        models: tuple[BinaryMetrics, ...] = (comparison.teacher, comparison.student, comparison.student_shipped)
        return [format_number(getattr(metrics, key)) for metrics in models]

    shipped = f"student as shipped, at {format_number(comparison.student_shipped.threshold)}"
    rows = [(name, *cells(key)) for key, name in METRIC_ROWS]
    return table(("by video", "teacher at 0.5", "student at 0.5", shipped), rows, numbers=3)


def _rests_on(report: BenchReport) -> str:
    machine = report.environment
    memory = f", {machine.memory_gb:.0f} GB" if machine.memory_gb else ""
    facts = [
        ("command", f"<code>{escape(report.command)}</code>"),
        ("date", escape(machine.date)),
        ("commit", escape(machine.git_commit or "not a git checkout")),
        ("machine", escape(f"{machine.cpu}, {machine.num_cores} cores{memory}, {machine.system}")),
        (
            "software",
            escape(
                ", ".join(
                    f"{k} {v}"
                    for k, v in {"dfkit": machine.dfkit, "Python": machine.python, **machine.versions}.items()
                )
            ),
        ),
        ("bundle", f"<code>{escape(report.bundle.name)}</code>"),
        ("timing", f"{report.repeats} clips per variant, {_threads(report)}"),
    ]
    data = escape(json.dumps(report.data, indent=1, ensure_ascii=False, default=str))
    return card(
        "What these numbers rest on",
        facts_list(facts),
        f"<details><summary>What the bundle says about its data and metrics</summary><pre>{data}</pre></details>",
    )
