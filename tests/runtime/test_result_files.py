"""Result files that grow: what is kept, what is dropped, what is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dfkit.errors import ConfigError
from dfkit.runtime.answers import FileState
from dfkit.runtime.result_files import CsvForm, Form, JsonLinesForm, ResultFile

FORMS = [CsvForm(), JsonLinesForm()]
STATE = FileState(7, "2026-01-02T03:04:05.000000006Z")
OURS = "tiny-0123456789abcdef"


def element(video: str, **changes: Any) -> dict[str, Any]:
    return {
        "video": video,
        "status": "unreadable",
        "verdict": None,
        "p_fake": None,
        "threshold": 0.5,
        "modalities": ["audio", "face"],
        "reason": 'why, "so"\nand so',
        "read": None,
        "notes": [],
        "worst_clip": None,
        "tracks": [],
        "size_bytes": STATE.size_bytes,
        "modified": STATE.modified,
        "scored_by": OURS,
        **changes,
    }


def write(path: Path, form: Form, *videos: str, **changes: Any) -> None:
    file = ResultFile(path, form, OURS)
    file.start(videos)
    for video in videos:
        file.add(element(video, **changes))
    file.close()


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_there_at_once_and_are_kept(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "out" / "o"
    odd = ['a,b\n"c".mp4', "말.mp4", b"\xb8\xbb.mp4".decode("utf-8", "surrogateescape")]
    file = ResultFile(path, form, OURS)
    file.start(odd)
    for number, video in enumerate(odd):
        file.add(element(video))
        other = ResultFile(path, form, OURS)  # as another process sees it, before the file is closed
        assert [other.keeps(v, STATE) for v in odd] == [n <= number for n in range(3)]
        assert other.content(video)["video"] == video
    file.close()
    again = ResultFile(path, form, OURS)
    assert not again.keeps(odd[0], FileState(8, STATE.modified)) and not again.keeps(odd[0], FileState(7, "later"))
    assert not again.keeps(odd[0], FileState(None, None)) and not again.keeps("other.mp4", STATE)


@pytest.mark.parametrize("form", FORMS)
def test_any_cut_of_the_file_loses_the_cut_row_alone(form: Form, tmp_path: Path) -> None:
    path, videos = tmp_path / "o", ["a.mp4", 'b,\n"c".mp4', "d.mp4"]
    write(path, form, *videos)
    whole = path.read_bytes()
    ends = [len(form.header)]
    for video in videos:
        ends.append(ends[-1] + len(form.render(element(video))))
    assert ends[-1] == len(whole)
    for length in sorted({*range(0, len(whole), 23), *ends, *(end - 1 for end in ends[1:])}):
        path.write_bytes(whole[:length])
        file = ResultFile(path, form, OURS)
        kept = [video for video in videos if file.keeps(video, STATE)]
        assert kept == videos[: sum(end <= length for end in ends[1:])], length
        missing = [video for video in videos if video not in kept]
        file.start(missing)
        for video in missing:
            file.add(element(video))
        file.finish(videos)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_changed_files_are_replaced_and_the_order_is_that_of_the_files(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "o"
    write(path, form, "other.mp4", "b.mp4", "a.mp4")
    file = ResultFile(path, form, OURS)
    file.start(["b.mp4"])
    assert "b.mp4" not in path.read_text(encoding="utf-8")
    file.add(element("b.mp4", size_bytes=8))
    file.finish(["a.mp4", "b.mp4"])
    again = ResultFile(path, form, OURS)
    assert again.keeps("b.mp4", FileState(8, STATE.modified)) and again.keeps("other.mp4", STATE)
    text = path.read_text(encoding="utf-8")
    assert text.index("other.mp4") < text.index("a.mp4") < text.index("b.mp4") and text.count("b.mp4") == 1


@pytest.mark.parametrize("form", FORMS)
def test_what_says_nothing_final_is_tried_again(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "o"
    write(path, form, "a.mp4", scored_by="")
    file = ResultFile(path, form, OURS)
    assert not file.keeps("a.mp4", STATE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "foreign", [b"path,label\na.mp4,real\n", b"notes\n", b'{"video": 1}\n', b"\xff\xfe\x00\n", b"[]\n"]
)
def test_what_something_else_wrote_is_left_alone(form: Form, foreign: bytes, tmp_path: Path) -> None:
    path = tmp_path / "o"
    path.write_bytes(foreign)
    with pytest.raises(
        ConfigError, match=rf"was not written by(.|\n)*Fix: name another file.*{form.option}.*--overwrite"
    ):
        ResultFile(path, form, OURS)
    assert path.read_bytes() == foreign
    file = ResultFile(path, form, OURS, overwrite=True)
    file.start([])
    file.close()
    assert path.read_bytes() == form.header


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_another_model_are_left_alone(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "o"
    write(path, form, "a.mp4")
    with pytest.raises(ConfigError, match=rf"{OURS}, and this is other-1: another bundle, threshold"):
        ResultFile(path, form, "other-1")


def test_a_table_of_other_columns_is_named(tmp_path: Path) -> None:
    """As an earlier dfkit wrote it."""
    path = tmp_path / "o.csv"
    path.write_text("video,status,verdict\na.mp4,ok,real\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="its first line names other columns"):
        ResultFile(path, CsvForm(), OURS)


def test_a_line_of_json_is_an_element(tmp_path: Path) -> None:
    path = tmp_path / "o"
    write(path, JsonLinesForm(), "a.mp4")
    assert json.loads(path.read_text(encoding="utf-8")) == element("a.mp4")
