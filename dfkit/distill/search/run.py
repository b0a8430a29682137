"""`dfkit distill --target-mb --target-ms --points`: measure candidate widths, distil some of them, take one.

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

from dfkit.config import Config, DistillConfig
from dfkit.data.protocols import protocol_of
from dfkit.data.storage import PreparedData
from dfkit.data.views import MakeView
from dfkit.distill.distill import (
    DistillationSetup,
    count_parameters,
    prepare_distillation,
    resized_setup,
    train_students,
)
from dfkit.distill.prune import prune
from dfkit.distill.request import (
    REQUEST_FILE,
    Request,
    asks_for_the_same,
    make_request,
    read_request,
    refuse_other_request,
    write_request,
)
from dfkit.distill.search.candidates import Candidate, make_candidates
from dfkit.distill.search.measure import CandidateBench, CandidateMeasurement, candidates_to_time
from dfkit.distill.search.points import (
    NOISE_RATIO_LIMIT,
    SearchPoint,
    noisy_measurements,
    points_within_noise,
    rank_points,
    rank_within_targets,
    slower_in_int8,
    spread_over_latency,
    unreachable_targets_error,
)
from dfkit.distill.search.report import write_report
from dfkit.distill.variants import VARIANT_NAMES, StudentSummary, format_spread, training_length
from dfkit.errors import ConfigError
from dfkit.export.ranges import calibration_set
from dfkit.extras import require_tflite_converter
from dfkit.files import copy_file, write_atomically
from dfkit.measures.spread import spread
from dfkit.models.mmms_ba import MMMSBA
from dfkit.report.table import table_lines
from dfkit.training.fit import environment
from dfkit.training.run_summary import BEST_FILE
from dfkit.weights.selection import WeightsChoice
from dfkit.workspace import RUN_FILE, Workspace

SUFFIX = "-search"
MEASURED_FILE = "measured.json"
ProgressCallback = Callable[[str], None]
"""Gets a line about what is done next."""


@dataclass(frozen=True)
class SearchSummary:
    """Result of a search: its points, every measurement, and the point that is taken."""

    run_dir: str
    checkpoint: str
    teacher: str
    data: str
    best: str
    """Label of the point that is taken."""
    whole: CandidateMeasurement
    """Measurement of that point's INT8 graph as one file with both signatures."""
    points: tuple[SearchPoint, ...]
    measured: tuple[CandidateMeasurement, ...]
    """Every candidate that was timed."""
    processor: str
    """That the times were taken on."""
    notes: tuple[str, ...]

    def summary(self) -> list[str]:
        """The result as lines of text."""
        rows = [
            [
                ("* " if point.measurement.label == self.best else "  ") + point.measurement.label,
                f"{point.measurement.model_mb:.3f}",
                f"{point.measurement.clip_p50_ms:.2f}",
                f"{point.measurement.fp32_clip_p50_ms:.2f}",
                "yes" if point.meets else "no",
                point.val_auc.text(),
                point.test_auc.text(),
            ]
            for point in self.points
        ]
        head = ("point", "MB", "ms a clip, INT8", "FP32", "in target", "AUC validation", "AUC test")
        lines = [f"INT8 graphs on {self.processor}, one thread", *table_lines(head, rows)]
        for point in self.points:
            if point.baselines:
                lines.append(f"{point.measurement.label}: {point.training_length}")
            lines += [
                f"{point.measurement.label}, {VARIANT_NAMES[row['name']]}: validation {format_spread(row['val_auc'])}, "
                f"test {format_spread(row['test_auc'])}"
                for row in point.baselines
            ]
        whole = f"{self.whole.model_mb:.3f} MB and {self.whole.clip_p50_ms:.2f} ms a clip (p50, one thread)"
        return [*lines, f"{self.best} in one INT8 file: {whole} -> {self.checkpoint}", *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Content of `search.json`."""
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
    make_view: MakeView,
    report_progress: ProgressCallback,
    resume: str | Path | None = None,
    weights: WeightsChoice | None = None,
) -> SearchSummary:
    """Finds the student's widths by measurement and distils it.

    Args:
        teacher_path: Checkpoint of `dfkit train` or of the original implementation.
        data_dir: Prepared data that students train on.
        workspace: Where the run folder is made.
        config: The experiment; `distill.search` holds targets, shares and widths.
        make_view: Prepares the data's videos under another preset; see `prepare_distillation`.
        report_progress: Called with a line about what is done next.
        resume: Run folder to go on with; an unfinished search for the same is found without being named.
        weights: Plain or EMA weights of the teacher; the plain ones where left out.
    Raises:
        CheckpointError: The teacher cannot be read.
        ConfigError: No candidate is within the targets (the nearest is named), there are too few candidates, or there
            is no converter for this system.
        DataError: The data cannot be used or split.
        ConversionError: A candidate cannot be exported.
        MissingExtraError: The converters or matplotlib are not installed.
    """
    require_tflite_converter("a search for widths", instead="fixed widths, without targets and --points")
    section = config.distill
    request = make_request(teacher_path, PreparedData(data_dir), config, weights=weights)
    if resume is not None:
        refuse_other_request(Path(resume), request)
    setup = prepare_distillation(teacher_path, data_dir, config, make_view=make_view, weights=weights)
    candidates = make_candidates(setup.teacher.network, section.search, setup.base.spec, gradients=setup.gradients)
    run_dir = Path(resume) if resume is not None else unfinished_or_new_run_dir(workspace, config, request)
    report_progress(f"measuring at most {len(candidates)} candidates as INT8 graphs in {run_dir}")
    bench = make_bench(setup, run_dir, section)
    measured = measure_candidates(bench, candidates, section, run_dir / MEASURED_FILE)
    chosen, whole = choose_candidates(bench, candidates, measured, section)
    points = [
        distill_point(setup, config, run_dir, candidate, measurement, make_view, report_progress)
        for candidate, measurement in chosen
    ]
    # A single point was measured as one file before it was trained; of several the best that is within the targets
    # as one file is taken.
    ranked = rank_points(points)
    if whole is None:
        _, whole = first_within_targets(bench, [point.candidate for point in ranked], section)
    best = next(point for point in ranked if point.measurement.label == whole.label)
    copy_file(best.checkpoint, run_dir / BEST_FILE)
    summary = SearchSummary(
        run_dir=str(run_dir),
        checkpoint=str(run_dir / BEST_FILE),
        teacher=setup.teacher_path,
        data=setup.data.path,
        best=best.measurement.label,
        whole=whole,
        points=tuple(points),
        measured=tuple(measured),
        processor=measured_on(run_dir / MEASURED_FILE),
        notes=(*setup.notes, *search_protocols(setup), *reliability_notes(points, measured, best, section)),
    )
    write_report(run_dir, points, measured, best.measurement.label, section.search, processor=summary.processor)
    write_atomically(run_dir / "search.json", json.dumps(summary.to_json(), indent=2, allow_nan=False))
    workspace.finish_run(run_dir, checkpoint=BEST_FILE, search=True)
    return summary


def search_protocols(setup: DistillationSetup) -> tuple[str, ...]:
    """The protocol of the table's AUC, a line for validation and one for test."""
    lines = []
    for part in ("val", "test"):
        videos = {setup.data.clips[index].video_index for index in setup.indices[part]}
        protocol = protocol_of(setup.data, videos, part=part, aggregation="each student's own aggregation")
        lines += [protocol.text] if videos else []
    return tuple(lines)


def unfinished_or_new_run_dir(workspace: Workspace, config: Config, wanted: Request) -> Path:
    """Folder of an unfinished search for the same teacher, data and configuration, or a new one."""
    name = f"{config.name}{SUFFIX}"
    for path in sorted(workspace.runs.glob(f"*/{REQUEST_FILE}")):
        run = json.loads((path.parent / RUN_FILE).read_text(encoding="utf-8"))
        if not run["finished"] and _asks_for(wanted, path.parent):
            return path.parent
    folder = workspace.new_run_dir(name, "student")
    write_request(folder, wanted)
    return folder


def _asks_for(wanted: Request, run_dir: Path) -> bool:
    try:
        return asks_for_the_same(read_request(run_dir), wanted)
    except ConfigError:
        return False  # of another version of dfkit: a new search does not have to read it


def make_bench(setup: DistillationSetup, run_dir: Path, section: DistillConfig) -> CandidateBench:
    """A bench for candidates pruned from the setup's teacher, calibrated on training clips."""
    teacher = setup.teacher.network

    def prune_to(candidate: Candidate) -> MMMSBA:
        return prune(teacher, candidate.spec, gradients=setup.gradients)

    calibration = calibration_set(teacher, setup.data, setup.indices, section.search.calibration_clips)
    return CandidateBench(run_dir / "graphs", prune_to, calibration.clips)


def measure_candidates(
    bench: CandidateBench, candidates: Sequence[Candidate], section: DistillConfig, path: Path
) -> list[CandidateMeasurement]:
    """Measures candidates, or reads the measurements of an interrupted search.

    Args:
        bench: Exports and times them.
        candidates: All of them.
        section: Targets and repeats.
        path: File of the measurements, with the versions and hardware that they were taken on.
    """
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        return [CandidateMeasurement(**row) for row in stored["figures"]]
    search = section.search
    # Where several points are asked for, those beyond the targets belong to the curve: none is left out.
    limit = search.target_mb if search.points is None else None
    timed = candidates_to_time(candidates, bench.part_bytes, limit)
    graphs = {candidate: bench.open_parts(candidate) for candidate in timed}
    measurements = bench.measure(graphs, repeats=search.repeats)
    content = {
        "environment": environment(),
        "repeats": search.repeats,
        "figures": [vars(measurement) for measurement in measurements],
    }
    write_atomically(path, json.dumps(content, indent=2))
    return measurements


def measured_on(path: Path) -> str:
    """Processor that the measurements in a file were taken on: that of the search's first part, if it was resumed."""
    name: str = json.loads(path.read_text(encoding="utf-8"))["environment"]["processor"]
    return name


def choose_candidates(
    bench: CandidateBench,
    candidates: Sequence[Candidate],
    measured: Sequence[CandidateMeasurement],
    section: DistillConfig,
) -> tuple[list[tuple[Candidate, CandidateMeasurement]], CandidateMeasurement | None]:
    """Chooses the candidates to distil.

    Returns:
        Each with its measurement; and, where there is only one, its measurement as one file, else None.
    Raises:
        ConfigError: Nothing is within the targets, or there are fewer candidates than points.
    """
    search = section.search
    within = rank_within_targets(candidates, measured, search)
    if search.points is None:
        candidate, whole = first_within_targets(bench, within, section)
        return [(candidate, whole)], whole
    has_target = search.target_mb is not None or search.target_ms is not None
    labels = spread_over_latency(measured, search.points, required=within[0].label if has_target else None)
    candidate_of = {candidate.label: candidate for candidate in candidates}
    measurement_of = {measurement.label: measurement for measurement in measured}
    return [(candidate_of[label], measurement_of[label]) for label in labels], None


def first_within_targets(
    bench: CandidateBench, candidates: Sequence[Candidate], section: DistillConfig
) -> tuple[Candidate, CandidateMeasurement]:
    """The first candidate that is within the targets as one file with both signatures, and its measurement.

    Raises:
        ConfigError: No candidate is; names the nearest.
    """
    search = section.search
    measurements = []
    for candidate in candidates:
        (whole,) = bench.measure({candidate: bench.open_whole(candidate)}, repeats=search.repeats)
        if whole.meets(search.target_mb, search.target_ms):
            return candidate, whole
        measurements.append(whole)
    raise unreachable_targets_error(measurements, search)


def distill_point(
    setup: DistillationSetup,
    config: Config,
    run_dir: Path,
    candidate: Candidate,
    measurement: CandidateMeasurement,
    make_view: MakeView,
    report_progress: ProgressCallback,
) -> SearchPoint:
    """Distils one candidate and trains its baselines, for every seed; finished runs are read back."""
    folder = run_dir / "points" / candidate.label
    folder.mkdir(parents=True, exist_ok=True)
    search = config.distill.search
    section = config.distill.model_copy(update=candidate.settings)
    report_progress(f"{candidate.label}: {measurement.model_mb:.3f} MB, {measurement.clip_p50_ms:.2f} ms a clip")
    sized = resized_setup(setup, candidate.clip_spec, make_view)
    summary: StudentSummary = train_students(sized, config.model_copy(update={"distill": section}), folder)
    student, *baselines = summary.variants
    return SearchPoint(
        measurement=measurement,
        candidate=candidate,
        parameters=count_parameters(MMMSBA(candidate.spec)),
        val_auc=spread(student["val_auc"]["values"]),
        test_auc=spread(student["test_auc"]["values"]),
        meets=measurement.meets(search.target_mb, search.target_ms),
        checkpoint=summary.checkpoint,
        baselines=tuple(baselines),
        training_length=training_length(summary.variants),
    )


def reliability_notes(
    points: Sequence[SearchPoint], measured: Sequence[CandidateMeasurement], best: SearchPoint, section: DistillConfig
) -> list[str]:
    """What limits the trust in the choice: how it was made, noise of the latencies and of the AUC."""
    notes = [f"importance {section.importance}; taken by video AUC on validation, the test part had no say"]
    noisy = noisy_measurements(measured)
    if noisy:
        notes.append(
            f"times scatter: p90 is more than {NOISE_RATIO_LIMIT:g} times p50 for {len(noisy)} of {len(measured)} "
            "candidates; something else was running, so near times are no order"
        )
    slower = slower_in_int8(measured)
    if slower:
        notes.append(
            f"INT8 is slower than FP32 on this processor for {len(slower)} of {len(measured)} candidates "
            f"({', '.join(slower[:3])}{', ...' if len(slower) > 3 else ''}): where size does not matter, dfkit export "
            "without --int8 is the faster file; stem patch4 has no such loss"
        )
    if len(points) == 1:
        return notes
    near = points_within_noise(points, best)
    if section.seeds == 1:
        notes.append("one seed: how much of the differences is chance is not known (--seeds 3)")
    elif near:
        notes.append(f"within one standard deviation of the best on validation, so no worse: {', '.join(near)}")
    return notes
