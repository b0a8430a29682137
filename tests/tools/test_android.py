"""What `make android` runs around Maven, as far as it needs neither JDK nor Debian's tools."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dfkit.media.geometry import Geometry
from dfkit.media.picture import picture_of_planes
from tools.android.apk import _digest
from tools.android.check_apk import load_alignments, zip_faults
from tools.android.video_files import QUARTER_TURN, _changed, _shown_as

ROOT = Path(__file__).parents[2]


def elf(*alignments: int) -> bytes:
    """A 64-bit ELF file of loaded segments with these alignments and of one that is not loaded."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF", 3, 183, 1, 0, 64, 0, 0, 64, 56, len(alignments) + 1, 0, 0, 0)
    loaded = [struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, alignment) for alignment in alignments]
    return header + b"".join(loaded) + struct.pack("<IIQQQQQQ", 4, 4, 0, 0, 0, 0, 0, 4)


def test_alignments_are_those_of_loaded_segments() -> None:
    assert load_alignments(elf(16384, 65536)) == [16384, 65536]


@pytest.mark.parametrize(
    ("name", "content", "how", "fault"),
    [
        ("assets/bundle/model.tflite", b"0" * 100, zipfile.ZIP_DEFLATED, "model.tflite is deflated"),
        ("resources.arsc", b"0" * 100, zipfile.ZIP_DEFLATED, "resources.arsc is deflated"),
        ("lib/arm64-v8a/libx.so", elf(16384, 4096), zipfile.ZIP_DEFLATED, "aligned to [16384, 4096]"),
        ("classes.dex", b"", zipfile.ZIP_DEFLATED, "no natives"),
    ],
)
def test_an_apk_that_a_phone_cannot_use_is_named(
    tmp_path: Path, name: str, content: bytes, how: int, fault: str
) -> None:
    path = tmp_path / "app.apk"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, content, how)
        if "natives" not in fault:
            file.writestr("lib/arm64-v8a/liby.so", elf(16384), zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as apk:
        (found,) = zip_faults(apk)
    assert fault in found


def test_the_dexer_runs_again_only_where_classes_or_rules_changed(tmp_path: Path) -> None:
    archive, rules = tmp_path / "classes.jar", tmp_path / "rules.pro"
    rules.write_text("-dontobfuscate")

    def digest_of(content: str, day: int) -> str:
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(zipfile.ZipInfo("A.class", (2026, 1, day, 0, 0, 0)), content)
        return _digest([archive], rules)

    first = digest_of("one", 1)
    assert digest_of("one", 2) == first
    assert digest_of("two", 2) != first
    rules.write_text("")
    assert digest_of("one", 1) != first


def test_a_turned_picture_is_described_as_a_phone_describes_it() -> None:
    planes = tuple(np.zeros(shape, np.uint8) for shape in ((4, 6), (2, 3), (2, 3)))
    upright = picture_of_planes(planes, shares=(0.299, 0.114), full=False)
    facts = _shown_as(_changed(upright, upright, "rotated", 0))
    assert (facts["width"], facts["height"], facts["chroma_width"]) == (4, 6, 2)
    assert (facts["rotation_deg"], facts["is_mirrored"], facts["aspect"]) == (90, False, 1.0)
    mirrored = picture_of_planes(
        planes, shares=(0.299, 0.114), full=True, geometry=Geometry((6, 4), (6, 4), (1, 0, 0, -1))
    )
    facts = _shown_as(mirrored)
    assert (facts["rotation_deg"], facts["is_mirrored"], facts["full_range"]) == (180, True, True)
    assert QUARTER_TURN == (0, 1, -1, 0)


def test_a_missing_tool_is_named_with_its_package() -> None:
    command = ["make", "android-tools", "ANDROID_TOOLS=no-such-tool:its-package make:make other-tool:other-package"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Fix: apt-get install its-package other-package" in done.stderr


def test_ci_ends_with_the_packages_that_it_cannot_install(tmp_path: Path) -> None:
    for program in ("bash", "sh", "dirname", "make", "id", "env", "find"):
        found = shutil.which(program)
        assert found is not None, f"{program} is not installed"
        (tmp_path / program).symlink_to(found)
    environment = {**os.environ, "PATH": str(tmp_path), "DFKIT_SHARED": "none"}
    done = subprocess.run([ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    expected = "Fix: apt-get install maven openjdk-17-jdk-headless aapt zipalign apksigner"
    assert expected in done.stderr and "qemu-user" in done.stderr
