"""The report as one self-contained HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dfkit.benchmarks.end_to_end import VIDEO_STAGE_NAMES, VIDEO_STAGES, VideoTiming
from dfkit.benchmarks.evidence import EVEN_THRESHOLD, Comparison, Parity
from dfkit.benchmarks.latency import STAGE_NAMES, STAGES, Percentiles
from dfkit.benchmarks.phone import PhoneRun
from dfkit.benchmarks.report import BenchReport
from dfkit.benchmarks.rows import PHONE_COLUMNS, format_limit, format_target_limits, format_value, phone_rows
from dfkit.benchmarks.targets import TargetResult
from dfkit.measures.bootstrap import Interval
from dfkit.measures.gates import MAX_CLIP_MS, MAX_PHONE_MB, MIN_REAL_TIME, GateResult
from dfkit.measures.metrics import BinaryMetrics, roc_curve
from dfkit.report.html import card, document, facts_list, figure, note, table, tiles, warnings_box
from dfkit.report.svg import Bar, Dots, Line, bar_chart, curves, legend, scatter
from dfkit.report.table import format_number

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
        f'<div class="two">{_sizes(report)}{_cold_starts(report)}</div>',
        _latency(report),
        _phones(report.phones),
        _end_to_end(report),
        _parity(report.parity, report),
        _comparison(report.comparison),
        _rests_on(report),
    ]
    return document(f"dfkit bench: {report.name}", sections)


def _header(report: BenchReport) -> str:
    verdicts = {gate.verdict for gate in report.gates}
    if "fail" in verdicts:
        worst, headline = "fail", "a gate failed"
    elif "not judged" in verdicts:
        worst, headline = "not judged", "no gate failed, some not judged"
    else:
        worst, headline = "pass", "all gates passed"
    machine = f"{report.environment.cpu}, {_threads(report)}"
    pill = f'<span class="pill {VERDICT_CSS[worst]}">{headline}</span>'
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
    scored = [timed.real_time for timed in report.end_to_end if timed.status == "ok"]
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
            escape(format_value(result.value, result.gate.unit)),
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
        value = escape(format_value(result.value, result.unit))
        limits = [escape(limit) for limit in format_target_limits(result)]
        about = f'<span class="note">{escape(result.note)}</span>'
        rows.append((escape(result.figure), value, *limits, escape(result.verdict), about))
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


def _cold_starts(report: BenchReport) -> str:
    def cell(value: float | None, unit: str) -> str:
        return "-" if value is None else f"{value:.0f} {unit}"

    named = list(report.cold_starts.items())
    if report.cold_start_video is not None:
        named.append((f"{report.primary}, whole way", report.cold_start_video))
    rows = [
        (
            escape(name),
            cell(start.load_ms, "ms"),
            cell(start.first_ms, "ms"),
            cell(start.baseline_mb, "MB"),
            cell(start.peak_mb, "MB"),
        )
        for name, start in named
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
        f"This is {report.environment.cpu}: {_no_phone(report)}."
    )
    caption = "One clip, p90; dashed: the limit." if limit else "One clip, p90."
    left, right = f"<div>{figure(chart, caption)}{note(text)}</div>", f"<div>{tables[0]}{others}</div>"
    return card("Latency", f'<div class="two">{left}{right}</div>')


def _no_phone(report: BenchReport) -> str:
    if report.phones:
        return "a desktop figure; what phones measured stands below"
    return "a desktop figure until a phone has measured it (dfkit bench --adb)"


def _phones(phones: Sequence[PhoneRun]) -> str:
    if not phones:
        return ""
    rows = [tuple(escape(cell) for cell in row) for row in phone_rows(phones)]
    text = (
        "Measured by these devices themselves, in the app, on this bundle's files; each replayed the golden vectors. "
        "The model alone: decoding and face tracking are left out. Times are p50 / p90 / p99; a cold start is the "
        "process, loading, and the first clip."
    )
    return card("On phones", table(PHONE_COLUMNS, rows), note(text))


def _stage_table(variant: str, stages: Mapping[str, Percentiles]) -> str:
    rows = []
    for stage in STAGES:
        if stage in stages:
            times = stages[stage]
            rows.append((STAGE_NAMES[stage], f"{times.p50_ms:.2f}", f"{times.p90_ms:.2f}", f"{times.p99_ms:.2f}"))
    return table((f"{escape(variant)}, ms", "p50", "p90", "p99"), rows, numbers=3)


def _end_to_end(report: BenchReport) -> str:
    timed = report.end_to_end
    if not timed:
        return card("From file to verdict", note("No video was given: dfkit bench --video FILE measures it."))
    shown = sorted(timed, key=lambda t: t.real_time)[:MAX_TIMED_ROWS]
    bars = [_stage_share_bar(t) for t in shown]
    chart = bar_chart(bars, title="Share of each stage by file", unit="%", end=100)
    entries = [(f"c{number}", VIDEO_STAGE_NAMES[stage]) for number, stage in enumerate(VIDEO_STAGES)]
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
        f"{MIN_REAL_TIME:g}x real time. Shares are of one thread that does everything in turn; detection and landmarks "
        "are the networks alone, their warps count as crops."
    )
    more = f" {len(timed) - len(shown)} faster files are in the JSON." if len(timed) > len(shown) else ""
    left = f"<div>{figure(chart)}{legend(entries)}</div>"
    return card("From file to verdict", f'<div class="two">{left}{listed}</div>', note(text + more))


def _stage_share_bar(timed: VideoTiming) -> Bar:
    busy_s = sum(timed.stages_s.values())
    parts = tuple((100 * timed.stages_s[stage] / busy_s, f"c{number}") for number, stage in enumerate(VIDEO_STAGES))
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
    parts = [note(intro), note(f"{comparison.protocol[:1].upper() + comparison.protocol[1:]}.")]
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
        of_label = np.flatnonzero(scores.labels == label)
        points = tuple((float(scores.teacher[i]), float(scores.student[i])) for i in of_label)
        titles = tuple(f"{scores.videos[i]} ({name})" for i in of_label)
        series.append(Dots(name, css, points, titles))
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
    versions = {"dfkit": machine.dfkit, "Python": machine.python, **machine.versions}
    software = ", ".join(f"{name} {version}" for name, version in versions.items())
    facts = [
        ("command", f"<code>{escape(report.command)}</code>"),
        ("date", escape(machine.date)),
        ("commit", escape(machine.git_commit or "not a git checkout")),
        ("machine", escape(f"{machine.cpu}, {machine.num_cores} cores{memory}, {machine.system}")),
        ("software", escape(software)),
        ("bundle", f"<code>{escape(report.bundle.name)}</code>"),
        ("timing", f"{report.repeats} clips per variant, {_threads(report)}"),
    ]
    data = escape(json.dumps(report.data, indent=1, ensure_ascii=False, default=str))
    return card(
        "What these numbers rest on",
        facts_list(facts),
        f"<details><summary>What the bundle says about its data and metrics</summary><pre>{data}</pre></details>",
    )
