"""Files whose names are not UTF-8 (a Korean archive unpacked on Linux), through all that is written and read back."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from dfkit.cli import main
from dfkit.clip import CLIP2S
from dfkit.data import catalog
from dfkit.data.storage import PreparedData
from dfkit.files import encode_text, name_from_text, name_to_text
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.training.checkpoints import save_checkpoint
from tests.data.makers import make_row

TINY = NetworkSpec(face_channels=(4, 4, 4), lip_channels=(4, 4, 4), gru_hidden=4, dense_dim=4)
KOREAN = "원본 영상".encode("cp949").decode("utf-8", "surrogateescape")
pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode by the system")


class Done(NamedTuple):
    """What a command left: the bytes on both streams."""

    stdout: bytes
    stderr: bytes


def run(folder: Path, *arguments: object, encoding: str = "ascii", errors: str = "strict") -> Done:
    """`dfkit` in a folder, on a terminal that knows ASCII alone."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, newline="") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["dfkit", *map(str, arguments)])
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        with pytest.raises(SystemExit) as ended:
            main()
    for stream in streams:
        stream.flush()
    done = Done(*(stream.buffer.getvalue() for stream in streams))  # type: ignore[attr-defined]
    assert ended.value.code == 0, done.stderr.decode(errors="replace")
    return done


@pytest.fixture(scope="module")
def place(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a checkpoint, in a folder named in Korean Windows' bytes, and videos named so."""
    folder = tmp_path_factory.mktemp("names") / KOREAN
    for n, (clip, label) in enumerate((("bbaf2n", "real"), ("brbk7n", "fake"))):
        (folder / "videos" / label).mkdir(parents=True)
        shutil.copy(shared / "clips" / f"lipnet-{clip}.mpg", folder / "videos" / label / f"{n}{KOREAN}.mpg")
    (folder / "videos/real" / f"{KOREAN}.txt").write_text("left out")
    torch.manual_seed(0)
    facts = {
        "calibration": {},
        "operating_point": {"threshold": 0.5, "review_low": 0.5, "review_high": 0.5, "name": "chosen by hand"},
    }
    (folder / "runs/one").mkdir(parents=True)
    save_checkpoint(folder / "runs/one/best.pth", MMMSBA(TINY), CLIP2S, kind="teacher", facts=facts)
    run(folder, "prepare", "videos", "--json")
    return folder


def test_spelling_is_reversible_and_utf8() -> None:
    assert name_to_text("\udcb0.mp4") == "\\udcb0.mp4"
    assert name_from_text(name_to_text(KOREAN)) == KOREAN
    assert encode_text("한국 é").decode() == "한국 é"
    assert json.loads(encode_text(json.dumps({"path": KOREAN}, ensure_ascii=False))) == {"path": KOREAN}


def test_prepared_data_find_their_files_again(place: Path) -> None:
    data = PreparedData(place / "data/videos")
    assert [Path(row.path).is_file() for row in data.videos] == [True, True]
    assert {data[index].video for index in range(len(data))} == {f"0{KOREAN}.mpg", f"1{KOREAN}.mpg"}
    for path in (place / "data/videos").glob("*.json*"):
        path.read_bytes().decode("utf-8")
    again = json.loads(run(place, "prepare", "videos", "--json").stdout)
    assert again["num_prepared"] == 0 and again["statuses"] == {"ok": 2}
    # In a terminal that knows all characters the names are no raw bytes either.
    run(place, "prepare", "videos", "--json", encoding="utf-8", errors="surrogateescape").stdout.decode("utf-8")


def test_a_label_file_may_name_them(place: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    for spelling in (name_to_text(f"0{KOREAN}.mpg"), "0원본 영상.mpg"):
        table.write_text(f"path,label\nreal/{spelling},real\n", encoding="utf-8")
        done = json.loads(
            run(place, "prepare", "videos", "--labels", table, "--out", tmp_path / "out", "--json").stdout
        )
        assert done["num_videos"] == 1 and done["statuses"] == {"ok": 1}


def test_evaluate_audit_predict_and_visualize(place: Path) -> None:
    report = json.loads(run(place, "evaluate", "--checkpoint", "runs/one/best.pth", "--split", "all", "--json").stdout)
    assert report["data"] == "data/videos" or report["data"].endswith("data/videos")
    written = [path for path in (place / "reports").rglob("*") if path.suffix in (".json", ".html")]
    texts = {path.name: path.read_bytes().decode("utf-8") for path in written}
    assert json.loads(texts["report.json"])["data"] == report["data"]
    assert name_to_text(KOREAN) in texts["report.html"]
    arguments = ("videos", "--checkpoint", "runs/one/best.pth")
    done = run(place, "predict", *arguments, "--json", "--csv", "out.csv", "--plot", "plot.svg")
    assert [Path(row["video"]).name for row in json.loads(done.stdout)] == [f"1{KOREAN}.mpg", f"0{KOREAN}.mpg"]
    assert b"left out: 1 .txt (unknown suffix)" in done.stderr
    with (place / "out.csv").open(encoding="utf-8", newline="") as file:
        assert all((place / name_from_text(row["video"])).is_file() for row in csv.DictReader(file))
    plots = list(place.glob("plot_*.svg"))
    assert len(plots) == 2
    for path in plots:
        path.read_bytes().decode("utf-8")
    done = run(place, "visualize", "videos/real", *arguments[1:], "--out", f"gallery{KOREAN}")
    page = (place / f"gallery{KOREAN}" / "index.html").read_bytes().decode("utf-8")
    assert name_to_text(f"0{KOREAN}.mpg") in page
    assert name_to_text(f"0{KOREAN}.mpg").encode() in done.stdout
    assert b"left out: 1 .txt (unknown suffix)" in done.stderr


def test_a_name_may_hold_what_ends_lines_elsewhere(tmp_path: Path) -> None:
    """U+2028 and U+0085 end lines for Python's `splitlines`, not in JSON lines."""
    rows = [
        make_row(n, 0, path=f"/videos/{name}.mp4") for n, name in enumerate(("a\u2028b\x85c", "\x0b", "\r\n", "\udcb0"))
    ]
    catalog.write_videos(tmp_path, rows)
    text = (tmp_path / catalog.VIDEOS_FILE).read_bytes().decode("utf-8")
    assert catalog.parse_videos(text, "here") == rows
    assert catalog.parse_videos("", "here") == []
