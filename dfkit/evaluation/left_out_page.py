"""The joined folds of a run that left families out, as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dfkit.evaluation.column_card import column_card
from dfkit.evaluation.left_out_report import LeftOutReport
from dfkit.measures.protocol import protocol_line
from dfkit.report.html import card, document, facts_list, note, table, tiles, warnings_box
from dfkit.report.left_out import FIXED_COLUMNS, format_auc, left_out_head, left_out_notes, left_out_rows

PAGE_FILE = "report.html"
MAX_VIDEOS = 500


def render_left_out_page(report: LeftOutReport) -> str:
    """Renders the page.

    Args:
        report: The finished report.
    Returns:
        A complete HTML document without links to other files.
    """
    sections = [
        _header(report),
        warnings_box(report.warnings),
        _tiles(report),
        _families(report),
        *(column_card(each) for each in report.columns),
        _videos(report),
        _provenance(report),
    ]
    return document(f"dfkit evaluate: {report.name}", sections)


def _header(report: LeftOutReport) -> str:
    facts = f"folds that leave out a {report.run.by} · {report.data_path} · {report.date[:10]}"
    return (
        f'<p class="sub">dfkit evaluate</p><header><h1>{escape(report.name)}</h1></header>'
        f'<p class="sub">{escape(facts)}</p><p class="sub">{escape(protocol_line(report.run.protocol))}</p>'
    )


def _tiles(report: LeftOutReport) -> str:
    result = report.run.result
    values = [
        (format_auc(result.mean), "AUC by video, mean over unseen families"),
        (format_auc(result.worst), f"the worst: {result.worst_family or '-'}"),
        (format_auc(result.seen), "AUC by video, seen families"),
        (str(result.num_groups), "groups"),
    ]
    values += [(format_auc(each.mean), f"{name}, unseen families") for name, each in report.run.beside.items()]
    return tiles(values)


def _families(report: LeftOutReport) -> str:
    results = report.run.results
    head = [escape(cell) for cell in left_out_head(results)]
    rows = [[escape(cell) for cell in row] for row in left_out_rows(results)]
    lines = [*left_out_notes(results), *(f"Not measured yet under these folds: {text}" for text in report.run.missing)]
    return card("Unseen and seen", table(head, rows, numbers=len(head) - FIXED_COLUMNS), *map(note, lines))


def _videos(report: LeftOutReport) -> str:
    shown = sorted(report.videos, key=lambda row: (row["fold"], row["part"], -row["p_fake"]))[:MAX_VIDEOS]
    name_of = {number: family.name for family in report.run.families for number in family.folds}
    rows = [
        (
            escape(name_of[row["fold"]]),
            "unseen" if row["part"] == "test" else "seen",
            escape(row["video"].replace("\\", "/").rsplit("/", 1)[-1]),
            escape(row["group"]),
            escape(row["method"] or "-"),
            "fake" if row["label"] else "real",
            f"{row['p_fake']:.3f}",
        )
        for row in shown
    ]
    head = ("left out", "part", "video", "group", "method", "label", "p_fake")
    listed = table(head, rows, css="files", numbers=1)
    more = note(f"{MAX_VIDEOS} of {len(report.videos)}; all are in the JSON.") if len(report.videos) > len(rows) else ""
    return card("Videos", f"<details><summary>{len(rows)} held-out scores</summary>{listed}</details>", more)


def _provenance(report: LeftOutReport) -> str:
    facts: Sequence[tuple[str, str]] = [
        ("command", f"<code>{escape(report.command)}</code>"),
        ("date", escape(report.date)),
        ("run", escape(report.run.run_dir)),
        ("data", escape(report.data_path)),
        ("protocol", escape(protocol_line(report.run.protocol).removeprefix("protocol: "))),
        ("folds", f"<code>{escape(report.run.folds_hash)}</code>"),
    ]
    return card("What these numbers rest on", facts_list(facts))
