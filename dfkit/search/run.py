"""`dfkit distill --target-mb --target-ms --points`: measure a family of widths, distil some of them, take one.

Everything lies in `runs/<name>-search/`: the measured graphs, a run per point and seed, the table, the plot, and
`best.pth` of the point that is taken, which `dfkit export` finds as the newest student. A search that was interrupted
goes on there: what is finished is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkit.benchmarks.table import table_lines
from dfkit.clip import ClipSpec
from dfkit.config import Config, DistillConfig
from dfkit.data.catalog import write_atomically
from dfkit.data.hashing import sha256_file
from dfkit.data.storage import PreparedData
from dfkit.distill.distill import Lesson, count_parameters, open_lesson, teach
from dfkit.distill.fit import environment
from dfkit.distill.prune import prune
from dfkit.distill.variants import BEST_FILE, VARIANT_NAMES, StudentSummary, keep_checkpoint, shown, spread
from dfkit.export.calibration import calibration_set
from dfkit.models.mmms_ba import MMMSBA
from dfkit.search.family import Candidate, make_family
from dfkit.search.measure import Figures, Workbench, promising
from dfkit.search.points import (
    SCATTER_LIMIT,
    Point,
    most_important,
    ranked,
    scattered,
    spread_out,
    unreachable,
    within_noise,
)
from dfkit.search.report import write_report
from dfkit.workspace import RUN_FILE, Workspace

SUFFIX = "-search"
REQUEST_FILE = "request.json"
MEASURED_FILE = "measured.json"
Announce = Callable[[str], None]


@dataclass(frozen=True)
class SearchSummary:
    """What a search found."""

    run_dir: str
    checkpoint: str
    teacher: str
    data: str
    best: str
    """Label of the point that is taken."""
    whole: Figures
    """Its INT8 graph in one file, measured beside its parts."""
    points: tuple[Point, ...]
    measured: tuple[Figures, ...]
    """Every candidate that was timed."""
    notes: tuple[str, ...]

    def summary(self) -> list[str]:
        """Lines for people."""
        rows = [
            [
                ("* " if point.figures.label == self.best else "  ") + point.figures.label,
                f"{point.figures.model_mb:.3f}",
                f"{point.figures.clip_p50_ms:.2f}",
                "yes" if point.meets else "no",
                point.val_auc.text(),
                point.test_auc.text(),
            ]
            for point in self.points
        ]
        head = ("point", "MB", "ms a clip", "in target", "AUC validation", "AUC test")
        lines = table_lines(head, rows)
        for point in self.points:
            lines += [
                f"{point.figures.label}, {VARIANT_NAMES[row['name']]}: validation {shown(row['val_auc'])}, "
                f"test {shown(row['test_auc'])}"
                for row in point.baselines
            ]
        whole = f"{self.whole.model_mb:.3f} MB and {self.whole.clip_p50_ms:.2f} ms a clip (p50, one thread)"
        return [*lines, f"{self.best} in one INT8 file: {whole} -> {self.checkpoint}", *self.notes]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            **vars(self),
            "whole": vars(self.whole),
            "points": [point.to_json() for point in self.points],
            "measured": [vars(row) for row in self.measured],
            "notes": list(self.notes),
        }


def search_student(
    teacher_path: str | Path,
    data_dir: str | Path,
    workspace: Workspace,
    config: Config,
    *,
    make_view: Callable[[PreparedData, ClipSpec], Path],
    announce: Announce,
) -> SearchSummary:
    """Finds the student's widths by measurement and distils it.

    Args:
        teacher_path: Checkpoint of `dfkit train` or of the original implementation.
        data_dir: Prepared data that students train on.
        workspace: Where the run folder is made.
        config: The experiment; `distill.search` says what is wanted.
        make_view: See `open_lesson`.
        announce: Called with a line about what is done next.
    Raises:
        CheckpointError: The teacher cannot be read.
        ConfigError: No candidate is within the targets (the nearest is named), or there are too few candidates.
        DataError: The data cannot be used or split.
        ConversionError: A candidate cannot be exported.
        MissingExtraError: The converters or matplotlib are not installed.
    """
    section = config.distill
    lesson = open_lesson(teacher_path, data_dir, config, make_view=make_view)
    family = make_family(lesson.teacher.network, section.search, gradients=lesson.gradients)
    run_dir = claim_folder(workspace, config, lesson)
    announce(f"measuring at most {len(family)} candidates as INT8 graphs in {run_dir}")
    bench = workbench(lesson, run_dir, section)
    measured = measure_family(bench, family, section, run_dir / MEASURED_FILE)
    chosen, whole = choose(bench, family, measured, section)
    points = [distil_point(lesson, config, run_dir, c, row, announce) for c, row in chosen]
    # One point was confirmed as one file before it was trained; of several the best that holds as one file is taken.
    order = ranked(points)
    if whole is None:
        of_label = {point.figures.label: point.candidate for point in order}
        _, whole = confirm(bench, list(of_label.values()), section)
    best = next(point for point in order if point.figures.label == whole.label)
    keep_checkpoint(Path(best.checkpoint), run_dir / BEST_FILE)
    summary = SearchSummary(
        run_dir=str(run_dir),
        checkpoint=str(run_dir / BEST_FILE),
        teacher=lesson.teacher_path,
        data=lesson.data.path,
        best=best.figures.label,
        whole=whole,
        points=tuple(points),
        measured=tuple(measured),
        notes=(*lesson.notes, *honest_notes(points, measured, best, section)),
    )
    write_report(run_dir, points, measured, best.figures.label, section.search)
    write_atomically(run_dir / "search.json", json.dumps(summary.to_json(), indent=2, allow_nan=False))
    workspace.finish_run(run_dir, checkpoint=BEST_FILE, search=True)
    return summary


def claim_folder(workspace: Workspace, config: Config, lesson: Lesson) -> Path:
    """The folder of an unfinished search for just this, or a new one."""
    wanted = {
        "teacher": lesson.teacher_path,
        "teacher_sha256": sha256_file(Path(lesson.teacher_path)),
        "data": str(lesson.data.path),
        "config": config.model_dump(mode="json"),
    }
    name = f"{config.name}{SUFFIX}"
    for path in sorted(workspace.runs.glob(f"*/{REQUEST_FILE}")):
        request = json.loads(path.read_text(encoding="utf-8"))
        run = json.loads((path.parent / RUN_FILE).read_text(encoding="utf-8"))
        if request == wanted and not run["finished"]:
            return path.parent
    folder = workspace.new_run_dir(name, "student")
    write_atomically(folder / REQUEST_FILE, json.dumps(wanted, indent=2))
    return folder


def workbench(lesson: Lesson, run_dir: Path, section: DistillConfig) -> Workbench:
    """Exports and times candidates pruned from the lesson's teacher, calibrated on training clips."""
    teacher = lesson.teacher.network

    def cut(candidate: Candidate) -> MMMSBA:
        return prune(teacher, candidate.spec, gradients=lesson.gradients)

    calibration = calibration_set(teacher, lesson.data, lesson.indices, section.search.calibration_clips)
    return Workbench(run_dir / "graphs", lesson.data.spec, cut, calibration.clips)


def measure_family(bench: Workbench, family: Sequence[Candidate], section: DistillConfig, path: Path) -> list[Figures]:
    """Sizes and times of the candidates, from the file of an earlier attempt where there is one.

    Args:
        bench: Exports and times.
        family: Candidates.
        section: Targets and repeats.
        path: Where the figures are kept, with the machine that they are from.
    """
    if path.is_file():
        return [Figures(**row) for row in json.loads(path.read_text(encoding="utf-8"))["figures"]]
    search = section.search
    # Points beyond the targets belong to the curve: asked for several, none is left out.
    limit = search.target_mb if search.points is None else None
    timed = promising(family, bench.part_bytes, limit)
    figures = bench.measure({c.label: bench.open_parts(c) for c in timed}, repeats=search.repeats)
    content = {"environment": environment(), "repeats": search.repeats, "figures": [vars(row) for row in figures]}
    write_atomically(path, json.dumps(content, indent=2))
    return figures


def choose(
    bench: Workbench, family: Sequence[Candidate], measured: Sequence[Figures], section: DistillConfig
) -> tuple[list[tuple[Candidate, Figures]], Figures | None]:
    """Which candidates are distilled, each with its figures; and those of the one file, if there is one candidate.

    Raises:
        ConfigError: Nothing is within the targets, or there are fewer candidates than points.
    """
    search = section.search
    within = most_important(family, measured, search)
    if search.points is None:
        candidate, whole = confirm(bench, within, section)
        return [(candidate, whole)], whole
    limited = search.target_mb is not None or search.target_ms is not None
    labels = spread_out(measured, search.points, within[0].label if limited else None)
    by_label = {c.label: c for c in family}
    rows = {row.label: row for row in measured}
    return [(by_label[label], rows[label]) for label in labels], None


def confirm(bench: Workbench, candidates: Sequence[Candidate], section: DistillConfig) -> tuple[Candidate, Figures]:
    """The first candidate that is within the targets as one file with both signatures, and its figures.

    Raises:
        ConfigError: None is.
    """
    search = section.search
    tried = []
    for candidate in candidates:
        (whole,) = bench.measure({candidate.label: bench.open_whole(candidate)}, repeats=search.repeats)
        if whole.meets(search.target_mb, search.target_ms):
            return candidate, whole
        tried.append(whole)
    raise unreachable(tried, search)


def distil_point(
    lesson: Lesson, config: Config, run_dir: Path, candidate: Candidate, figures: Figures, announce: Announce
) -> Point:
    """One point: its students and baselines for every seed; finished ones are read back."""
    folder = run_dir / "points" / candidate.label
    folder.mkdir(parents=True, exist_ok=True)
    search = config.distill.search
    section = config.distill.model_copy(update={"widths": candidate.widths})
    announce(f"{candidate.label}: {figures.model_mb:.3f} MB, {figures.clip_p50_ms:.2f} ms a clip")
    summary: StudentSummary = teach(lesson, config.model_copy(update={"distill": section}), folder)
    student, *baselines = summary.variants
    return Point(
        figures=figures,
        candidate=candidate,
        parameters=count_parameters(MMMSBA(candidate.spec)),
        val_auc=spread(student["val_auc"]["values"]),
        test_auc=spread(student["test_auc"]["values"]),
        meets=figures.meets(search.target_mb, search.target_ms),
        checkpoint=summary.checkpoint,
        baselines=tuple(baselines),
    )


def honest_notes(
    points: Sequence[Point], measured: Sequence[Figures], best: Point, section: DistillConfig
) -> list[str]:
    """What a reader has to know before trusting the choice."""
    notes = [f"importance {section.importance}; taken by video AUC on validation, the test part had no say"]
    restless = scattered(measured)
    if restless:
        notes.append(
            f"times scatter: p90 is more than {SCATTER_LIMIT:g} times p50 for {len(restless)} of {len(measured)} "
            "candidates; something else was running, so near times are no order"
        )
    if len(points) == 1:
        return notes
    near = within_noise(points, best)
    if section.seeds == 1:
        notes.append("one seed: how much of the differences is chance is not known (--seeds 3)")
    elif near:
        notes.append(f"within one standard deviation of the best on validation, so no worse: {', '.join(near)}")
    return notes
