"""The command line as a user meets it: real subprocesses, exit codes, messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GRID = ("bbaf2n", "brbk7n", "lbax4n", "lbbc2a", "lrwp9a", "lwbsza")
COMMANDS = ("prepare", "forge", "train", "distill", "export", "verify", "bench", "predict", "demo")


def run(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dfkit", *args], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_examples_that_name_the_command(tmp_path: Path, command: str) -> None:
    done = run(*command.split(), "--help", cwd=tmp_path)
    assert done.returncode == 0
    if command:
        assert f"dfkit {command}" in done.stdout
        assert "--json" in done.stdout


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.argv = ['dfkit', '--help']\n"
        "from dfkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'tensorflow', 'mediapipe', 'onnxruntime', 'lightning', 'ai_edge_litert', 'cv2'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "loaded: []" in done.stdout


def test_serving_needs_no_torch(tmp_path: Path) -> None:
    """media, clip, runtime and benchmarks, in an interpreter where torch cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'tensorflow', 'sklearn'):\n    sys.modules[name] = None\n"
        "import importlib, pkgutil, dfkit.clip, dfkit.media, dfkit.runtime, dfkit.benchmarks\n"
        "count = 0\n"
        "for package in (dfkit.media, dfkit.runtime, dfkit.benchmarks):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n        count += 1\n"
        "print('imported', count)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 20


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["prepare", "nowhere"], ["nowhere"]),
        (["train"], ["dfkit prepare"]),
        (["forge"], ["dfkit prepare"]),
        (["distill"], ["dfkit prepare"]),
        (["export"], ["dfkit distill"]),
        (["verify"], ["dfkit export"]),
        (["bench"], ["dfkit export"]),
        (["export", "--recipe", "int7"], ["int7", "mixed_int8"]),
        (["prepare", ".", "--preset", "clip3s"], ["clip3s", "uniform50"]),
        (["train", "--config", "gone.yaml"], ["gone.yaml"]),
    ],
)
def test_a_missing_step_is_named_with_its_command(tmp_path: Path, args: list[str], parts: list[str]) -> None:
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    assert "Fix:" in done.stderr
    assert done.stdout == ""


def test_wrong_keys_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("train: {epochs: 0, learning_rat: 1}\nclpi: {}\n", encoding="utf-8")
    done = run("train", "--config", "bad.yaml", "--data", ".", cwd=tmp_path)
    assert done.returncode == 2
    for part in ("train.epochs", "train.learning_rat", "clpi", "valid here", "batch_size"):
        assert part in done.stderr


@pytest.mark.pipeline
def test_the_whole_way_on_six_speakers(tmp_path: Path, shared: Path) -> None:
    """prepare, forge, train, distill, export, verify, bench, predict on real clips, at the smallest widths."""
    clips = [
        shared / "clips" / f"lipnet-{name}.mpg" for name in ("bbaf2n", "brbk7n", "lbax4n", "lbbc2a", "lrwp9a", "lwbsza")
    ]
    rows = [f"{clip},real,{clip.stem}" for clip in clips]
    (tmp_path / "labels.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\n"
        "clip: {picture: {face_px: 64, lip_px: 48}}\n"
        "split: {val_share: 0.3, test_share: 0.3}\n"
        "forge: {methods: [audio_swap]}\n"
        "train: {epochs: 1, batch_size: 4, num_threads: 1,\n"
        "  widths: {face_channels: [8, 8, 16], lip_channels: [8, 8, 16], gru_hidden: 24}}\n"
        "distill: {epochs: 1, batch_size: 4, num_threads: 1,\n"
        "  widths: {face_channels: [8, 8, 8], lip_channels: [8, 8, 8], gru_hidden: 16}}\n",
        encoding="utf-8",
    )
    config = ("--config", "tiny.yaml")
    for args in (
        ("prepare", "labels.csv", *config, "--out", "data/clips"),
        ("forge", *config),
        ("train", *config),
        ("distill", *config),
        ("export", "--int8", "--format", "tflite", *config),
        ("verify",),
    ):
        done = run(*args, cwd=tmp_path)
        assert done.returncode == 0, (args, done.stdout, done.stderr)
        assert done.stdout.strip()
    check_bench(tmp_path)
    check_reports(tmp_path)
    check_prediction(tmp_path, clips[0])
    check_changed_bundle(tmp_path)


def check_bench(folder: Path) -> None:
    """All gates are judged that can be; those by the clock of a machine that does other things, too, may fail."""
    done = run("bench", "--repeats", "3", "--allow-unjudged", cwd=folder)
    assert done.stdout.strip(), done.stderr
    report = json.loads((folder / "reports" / "tiny" / "bench.json").read_text(encoding="utf-8"))
    by_clock = [gate for gate in report["gates"] if gate["unit"] in ("ms", "x real time")]
    others = [gate for gate in report["gates"] if gate not in by_clock]
    assert [gate["verdict"] for gate in others] == ["pass"] * 5 + ["not judged"] * 2, others
    assert len(by_clock) == 2 and all(gate["value"] > 0 and gate["verdict"] in ("pass", "fail") for gate in by_clock)
    failed = any(gate["verdict"] == "fail" for gate in by_clock)
    assert done.returncode == report["exit_code"] == (1 if failed else 0), done.stderr


def check_reports(folder: Path) -> None:
    """The report page is whole and stands alone."""
    pages = list((folder / "reports").rglob("index.html"))
    assert len(pages) == 1
    page = pages[0].read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert 'src="http' not in page


def check_prediction(folder: Path, clip: Path) -> None:
    """The JSON of the issue, and a plot."""
    text = folder / "text.mp4"
    text.write_text("no video", encoding="utf-8")
    done = run("predict", str(clip), str(text), "--json", "--csv", "out.csv", "--plot", "out.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    good, bad = json.loads(done.stdout)
    expected = {"video", "status", "verdict", "p_fake", "threshold", "modalities", "reason", "worst_clip", "tracks"}
    expected |= {"read", "notes", "evidence", "size_bytes", "modified", "scored_by"}
    assert set(good) == set(bad) == expected
    assert good["status"] == "ok" and good["verdict"] in ("real", "fake", "review")
    assert 0 <= good["p_fake"] <= 1
    assert [set(c) for c in good["tracks"][0]["clips"]] == [{"start_s", "end_s", "p_fake"}] * 2
    assert set(good["worst_clip"]) == {"track_id", "start_s", "end_s", "p_fake"} and bad["worst_clip"] is None
    assert bad["status"] == "unreadable" and bad["p_fake"] is None and bad["reason"]
    assert (folder / "out.csv").read_text(encoding="utf-8").count("\n") >= 3
    assert list(folder.glob("out*.png"))
    assert run("predict", str(text), cwd=folder).returncode == 2


def check_changed_bundle(folder: Path) -> None:
    """One byte changed: named, exit code 2."""
    model = folder / "exports" / "tiny" / "model.tflite"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(bytes(content))
    done = run("verify", cwd=folder)
    assert done.returncode == 2
    assert "model.tflite" in done.stderr
