"""`dfkit doctor`: what is in order, what is off, and that its JSON names no user."""

from __future__ import annotations

import getpass
import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.doctor import golden_clip, machine, versions
from dfkit.doctor.checks import Check, DoctorReport, hide_names
from dfkit.doctor.golden_clip import REFERENCE_FILE, golden_checks, model_check, stage_checks, stage_values
from dfkit.doctor.machine import decoder_checks, features_in, place_checks, processor_checks
from dfkit.doctor.run import examine
from dfkit.doctor.versions import TESTED_FILE, extra_checks, opencv_check, package_check, version_checks
from dfkit.extras import PACKAGES
from dfkit.measures.environment import read_environment
from dfkit.runtime.video_stages import decode_grid
from tests.cli.stand_ins import run, stand_in
from tools.doctor_files import versions_of_project


def statuses(checks: list[Check]) -> set[str]:
    for check in checks:
        assert (check.fix is None) == (check.status == "ok"), check
    return {check.status for check in checks}


def found_versions(monkeypatch: pytest.MonkeyPatch, known: dict[str, str]) -> None:
    """As if these distributions were installed, and no others."""

    def version(name: str) -> str:
        if name not in known:
            raise metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(versions.metadata, "version", version)


def test_this_installation_is_in_order(tmp_path: Path) -> None:
    """The tests run with the tested versions, so nothing is off; torch stays out."""
    script = (
        "import sys, json\nfrom dfkit.cli import app\n"
        "try: app(['doctor', '--json', '-w', sys.argv[1]])\n"
        "except SystemExit as done: code = done.code\n"
        "heavy = {'torch', 'tensorflow', 'lightning'} & set(sys.modules)\n"
        "print(code, sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert done.stderr == "0 []\n"
    report = json.loads(done.stdout)
    assert report["passed"] is True
    found = {check["name"]: check["status"] for check in report["checks"]}
    assert {found[name] for name in ("decoding", "faces (float16)", "faces (int8)", "sound", "workspace")} == {"ok"}
    assert found["model"] == "missing"
    assert report["environment"]["python"] == sys.version.split()[0]


def test_tested_versions_are_those_of_the_project() -> None:
    """Renewed by python -m tools.doctor_files."""
    content = json.loads(TESTED_FILE.read_text(encoding="utf-8"))
    assert content == versions_of_project()
    assert content["extras"].keys() == PACKAGES.keys()


def test_packages_against_ranges_and_tested_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = versions.tested_versions()["packages"]["onnxruntime"]
    options: dict[str, Any] = {"command": "pip install onnxruntime", "optional": False}

    def check() -> Check:
        return package_check("packages", "onnxruntime", entry, **options)

    for known, status, told in (
        ({"onnxruntime": entry["tested"]}, "ok", "as tested"),
        ({"onnxruntime-gpu": entry["tested"]}, "ok", "as tested"),
        ({"onnxruntime": "1.20.0"}, "ok", f"tested with {entry['tested']}"),
        ({"onnxruntime": "1.19.2"}, "off", "1.19.2, needs >=1.20"),
        ({"onnxruntime": "unknown"}, "off", "needs >=1.20"),
        ({}, "off", "not installed"),
    ):
        found_versions(monkeypatch, known)
        found = check()
        assert (found.status, told in found.found) == (status, True), found
        assert (found.fix is None) == (status == "ok")


def test_two_opencvs_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    found_versions(monkeypatch, {"opencv-python-headless": "4.11", "opencv-contrib-python": "4.11"})
    check = opencv_check()
    assert check.status == "off"
    assert check.fix is not None and "pip uninstall -y opencv-python-headless opencv-contrib-python" in check.fix


def test_missing_extras_have_their_command_and_are_not_off(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {name: entry["tested"] for name, entry in versions.tested_versions()["packages"].items()}
    found_versions(monkeypatch, base)
    assert statuses(version_checks()) == {"ok"}
    checks = {check.name: check for check in extra_checks()}
    assert statuses(list(checks.values())) == {"missing"}
    for extra, check in checks.items():
        assert check.fix is not None and f'pip install "dfkit[{extra}]"' in check.fix
    assert "torch" in checks["train"].found and "torch" in checks["export"].found
    extras = versions.tested_versions()["extras"].values()
    everything = {name: entry["tested"] for entries in extras for name, entry in entries.items()}
    found_versions(monkeypatch, everything | {"torch": "2.0.0"})
    checks = {check.name: check for check in extra_checks()}
    assert (checks["train"].status, checks["ray"].status) == ("off", "ok")
    assert "torch 2.0.0, needs >=2.6" in checks["train"].found


def test_features_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    x86 = "processor : 0\nmodel name : EPYC\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n"
    assert features_in(x86) == {"AVX2": True, "AVX-512 VNNI": True, "AVX VNNI": False, "AMX": False}
    arm = "processor : 0\nFeatures : fp asimd evtstrm asimddp\nCPU implementer : 0x41\n"
    assert features_in(arm) == {"NEON": True, "NEON dot product": True, "I8MM": False, "SVE": False}
    assert features_in("processor : 0\n") == {}
    assert statuses(processor_checks()) == {"ok"}
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "_features_of_system", lambda: features_in("flags : fpu sse2\n"))
    check = processor_checks()[-1]
    assert check.status == "off" and "need AVX2" in check.found


def test_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(decoder_checks()) == {"ok"}
    monkeypatch.setitem(machine.DECODERS, "Smell", ("smell_o_vision",))
    checks = decoder_checks()
    assert [check.name for check in checks if check.status == "off"] == ["Smell"]


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(place_checks(tmp_path / "not" / "yet")) == {"ok"}
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("DFKIT_CACHE", str(tmp_path / "file"))
    checks = {check.name: check for check in place_checks(tmp_path / "file")}
    assert [checks[name].status for name in ("workspace", "cache", "disk")] == ["off", "off", "ok"]
    assert "DFKIT_CACHE" in str(checks["cache"].fix)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))  # type: ignore[attr-defined]
    assert place_checks(tmp_path)[-1].status == "off"


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To root every folder can be written: what the system says elsewhere is put in its place."""

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    check = place_checks(tmp_path)[0]
    assert check.status == "off" and "cannot be written: Permission denied" in check.found


def test_the_reference_is_of_the_golden_clip() -> None:
    """Renewed by python -m tools.doctor_files; boxes and sound by their tolerances."""
    stored, found = json.loads(REFERENCE_FILE.read_text(encoding="utf-8")), stage_values()
    assert found["planes"] == stored["planes"] and len(stored["planes"]) == 60
    assert statuses(stage_checks()) == {"ok"}
    # 48 pictures are a clip: 2 s of sound, in which somebody speaks.
    assert len(stored["sound_rms"]) >= 100 and max(stored["sound_rms"]) > 0.02
    for rows in stored["boxes"].values():
        assert np.array(rows).shape == (60, 6) and np.isfinite(rows).all()


@pytest.mark.parametrize("what", ["planes", "times_s", "boxes", "sound_rms", "error"])
def test_what_departs_is_off(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    stored = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))
    if what == "error":
        monkeypatch.setattr(golden_clip, "stage_values", lambda: 1 / 0)
    else:
        if what == "planes":
            stored["planes"][7][1] = "0" * 64
        elif what == "times_s":
            stored["times_s"] = [t + 0.01 for t in stored["times_s"]]
        elif what == "boxes":
            stored["boxes"]["int8"][3][0] += 0.2
        else:
            stored["sound_rms"] = [0.95 * value for value in stored["sound_rms"]]
        monkeypatch.setattr(golden_clip, "stage_values", lambda: stored)
    off = [check for check in stage_checks() if check.status == "off"]
    assert len(off) == 1
    assert statuses(off) == {"off"}


def test_a_process_that_crashes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_clip.sys, "executable", str(Path(sys.executable).with_name("no-python")))
    with pytest.raises(OSError):
        golden_checks(None)
    monkeypatch.undo()
    monkeypatch.setenv("PYTHONHOME", str(Path(__file__)))  # ends every Python at its start
    (check,) = golden_checks(None)
    assert check.status == "off" and "the golden clip's process failed" in check.found


def test_without_a_bundle_the_model_is_missing() -> None:
    check = model_check(None)
    assert check.status == "missing" and check.fix == "dfkit export --int8"


def test_one_that_is_off_ends_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checks = (Check("a", "x", "ok", "fine"), Check("a", "y", "missing", "gone", "get it"))
    passed = DoctorReport(checks, read_environment())
    failed = DoctorReport((*checks, Check("b", "z", "off", "broken", "mend it")), read_environment())
    for report, code in ((passed, 0), (failed, 1)):
        stand_in(monkeypatch, sys.modules["dfkit.doctor.run"], "examine", report)
        done = run("doctor", "-w", tmp_path)
        assert done.exit_code == code
    assert done.stdout.splitlines() == [
        "a:",
        "ok      x: fine",
        "missing y: gone",
        "  Fix: get it",
        "b:",
        "off     z: broken",
        "  Fix: mend it",
        "something is off: 1 ok, 1 off, 1 missing",
    ]


def test_users_are_not_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "kim"
    (home / "work").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(getpass, "getuser", lambda: "kim")
    monkeypatch.setenv("DFKIT_CACHE", str(tmp_path / "disk" / "kim" / "cache"))
    monkeypatch.setattr(sys.modules["dfkit.doctor.run"], "golden_checks", lambda bundle: [])
    text = json.dumps(examine(home / "work").to_json())
    assert "kim" not in text
    assert "~/work" in text and "USER/cache" in text
    assert hide_names("C:\\Users\\Kim\\x", home=Path("C:\\Users\\Kim"), user="Kim") == "~\\x"
    assert hide_names("in /data/kim there is", home=None, user="kim") == "in /data/USER there is"
    assert hide_names("/x", home=Path("/"), user=None) == "/x"
    assert hide_names("/home/kimberly/x", home=Path("/home/kim"), user="kim") == "/home/kimberly/x"


def test_the_clip_lies_in_the_package() -> None:
    assert len(decode_grid(golden_clip.VIDEO, 25.0).times_s) == 60
