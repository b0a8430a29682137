"""`dfkit evaluate`: scores prepared clips, writes the answers, and makes the report of what was written alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dfkit.evaluation.free_folder import free_folder
from dfkit.evaluation.judging import make_report
from dfkit.evaluation.page import render_page
from dfkit.evaluation.report import EvaluationReport
from dfkit.evaluation.scores_file import SCORES_FILE, ScoresFile, read_scores
from dfkit.files import write_atomically
from dfkit.original.results import results_name, write_original_results
from dfkit.workspace import NAME_PATTERN, REPORT_FILE

if TYPE_CHECKING:
    from dfkit.data.views import MakeView
    from dfkit.evaluation.scoring import EvaluationRequest

PAGE_FILE = "report.html"


def evaluate(
    request: EvaluationRequest, *, reports: Path, output: Path | None = None, make_view: MakeView
) -> EvaluationReport:
    """Evaluates models on prepared data; writes `scores.json`, `report.json`, `report.html`, `{split}_results.json`.

    Args:
        request: Models, data and split.
        reports: Where a folder `<name>-evaluation` is made if `output` is left out.
        output: Folder of the report; a number is added where it holds something.
        make_view: Prepares the data's videos under another clip contract; called where a model needs `uniform50`, or
            pictures of another size.
    Returns:
        The report, with the folder that it was written to.
    Raises:
        CheckpointError: A checkpoint cannot be used, or its logits are NaN or infinite.
        ConfigError: The options contradict each other.
        DataError: The data or the split cannot be used.
    """
    from dfkit.evaluation.scoring import score

    return report_scores(score(request, make_view=make_view), reports=reports, output=output)


def evaluate_scores_file(
    path: Path, *, reports: Path, output: Path | None = None, columns: Sequence[str] = ()
) -> EvaluationReport:
    """The report of a scores file once more, equal to the first by every byte; neither media nor model is needed.

    Args:
        path: `scores.json`, or the folder of its report.
        reports: As of `evaluate`.
        output: As of `evaluate`.
        columns: Columns of the label file whose values the AUC is also listed by; those of the first where left out.
    Raises:
        DataError: It is no scores file, or none of its videos has such a column.
    """
    scores = read_scores(path)
    if columns:
        scores = scores.model_copy(update={"columns": tuple(columns)})
    return report_scores(scores, reports=reports, output=output)


def report_scores(scores: ScoresFile, *, reports: Path, output: Path | None = None) -> EvaluationReport:
    """Makes the report of some answers and writes both into a folder that holds nothing yet.

    Args:
        scores: The answers.
        reports: Where a folder of the evaluation's name is made if `output` is left out.
        output: Folder of the report; a number is added to its name where it holds something.
    Returns:
        The report with the folder that it was written to.
    """
    report = make_report(scores)
    folder = output if output is not None else reports / NAME_PATTERN.sub("-", scores.name)
    target = free_folder(folder)
    if report.decision is not None:
        write_original_results(
            target / results_name(scores.split),
            report.levels["video"].labels.tolist(),
            report.p_videos.tolist(),
            threshold=report.decision.threshold,
        )
    write_atomically(target / SCORES_FILE, scores.to_text())
    write_atomically(target / PAGE_FILE, render_page(report))
    content = json.dumps(report.content(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(target / REPORT_FILE, content)
    return replace(report, output_dir=str(target))
