"""`dfkit evaluate` of a run whose folds leave families of fakes out: the folds joined, without running a network."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dfkit.data.storage import PreparedData
from dfkit.evaluation.by_column import ColumnTable, column_table, data_column
from dfkit.evaluation.free_folder import free_folder
from dfkit.evaluation.left_out_page import PAGE_FILE, render_left_out_page
from dfkit.evaluation.left_out_report import LeftOutReport
from dfkit.files import write_atomically
from dfkit.training.left_out import LeftOutRun, read_left_out, read_left_out_json
from dfkit.workspace import REPORT_FILE, find_stored


def evaluate_left_out(
    run_dir: Path,
    *,
    reports: Path,
    output: Path | None = None,
    data_dir: Path | None = None,
    columns: Sequence[str] = (),
) -> LeftOutReport:
    """Joins the folds of a finished run and writes `report.json` and `report.html`.

    Args:
        run_dir: Folder of the run.
        reports: Where a folder `<name>-evaluation` is made if `output` is left out.
        output: Folder of the report; a number is added where it holds something.
        data_dir: What it was trained on, where that lies elsewhere by now.
        columns: Columns of the label file whose values the scores are also listed by.
    Raises:
        DataError: The run is unfinished, its data are others by now, or no video has such a column.
    """
    data = PreparedData(data_dir or find_stored(read_left_out_json(run_dir)["data"], run_dir))
    run = read_left_out(run_dir, data)
    row_of = {row.key: row for row in data.videos}
    videos = tuple(
        {**score.to_json(), "video": row_of[score.video].path, "method": row_of[score.video].method}
        for score in run.scores
    )
    warnings = () if data.groups_known else ("groups unknown: persons may leak",)
    report = LeftOutReport(
        name=f"{run_dir.name}-evaluation",
        command=" ".join(["dfkit", *sys.argv[1:]]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run,
        data_path=data.path,
        columns=tuple(_columns_of(data, run, columns)),
        warnings=warnings,
        videos=videos,
    )
    folder = free_folder(output if output is not None else reports / report.name)
    report = replace(report, output_dir=str(folder))
    write_atomically(folder / PAGE_FILE, render_left_out_page(report))
    content = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / REPORT_FILE, content)
    return report


def _columns_of(data: PreparedData, run: LeftOutRun, columns: Sequence[str]) -> list[ColumnTable]:
    index_of = {row.key: index for index, row in enumerate(data.videos)}
    tested = [score for score in run.scores if score.part == "test"]
    return [
        column_table(
            data_column(data, column, [index_of[score.video] for score in tested]),
            [score.p_fake for score in tested],
            folds=[score.fold for score in tested],
        )
        for column in columns
    ]
