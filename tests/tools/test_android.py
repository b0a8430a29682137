"""What `make android` runs around Maven, as far as it needs neither JDK nor Debian's tools."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from dfkit.media.geometry import Geometry
from dfkit.media.picture import picture_of_planes
from tools.android.apk import _digest
from tools.android.check_apk import load_alignments, zip_faults
from tools.android.video_files import QUARTER_TURN, _changed, _shown_as

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_outer_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that `make test` runs: the flags of that make would make each one here say where it enters and leaves."""
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)


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
        ("lib/x86_64/libx.so", elf(16384), zipfile.ZIP_DEFLATED, "natives of arm64-v8a, x86_64"),
        ("classes.dex", b"", zipfile.ZIP_DEFLATED, "no natives"),
    ],
)
def test_an_apk_that_a_phone_cannot_use_is_named(
    tmp_path: Path, name: str, content: bytes, how: int, fault: str
) -> None:
    path = tmp_path / "app.apk"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, content, how)
        if "no natives" not in fault:
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


def coordinates(pom: Path) -> set[tuple[str, str]]:
    """Group and artifact of what a pom compiles and runs with, Kotlin's own library left out."""
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    tree = ElementTree.parse(pom).getroot()
    found = set()
    for entry in tree.findall("m:dependencies/m:dependency", space):
        words = {name: entry.findtext(f"m:{name}", "", space) for name in ("groupId", "artifactId", "scope")}
        if words["scope"] != "test" and words["groupId"] not in ("dfkit", "org.robolectric", "com.android.tools"):
            found.add((words["groupId"], words["artifactId"]))
    return found


def test_the_lines_of_the_readme_are_those_that_the_tests_run() -> None:
    folder = ROOT / "android_demo"
    source = (folder / "core/src/test/kotlin/other/app/AnotherAppTest.kt").read_text(encoding="utf-8")
    lines = source.split("// README\n")[1].split("// README ends")[0].split()
    readme = (folder / "README.md").read_text(encoding="utf-8").split("## The 20 lines that another app needs")[1]
    shown = readme.split("\n\n")[1]
    assert shown.split() == [*lines, "}"] and 15 < len(shown.splitlines()) <= 22


def test_both_languages_say_the_same_things() -> None:
    resources = ROOT / "android_demo" / "app" / "src" / "main" / "res"

    def texts(folder: str) -> dict[str, list[str]]:
        tree = ElementTree.parse(resources / folder / "strings.xml").getroot()
        return {entry.get("name", ""): sorted(re.findall(r"%\d\$\S*?[a-z]|%%", entry.text or "")) for entry in tree}

    english, korean = texts("values"), texts("values-ko")
    assert len(english) > 50 and english == korean


@pytest.mark.parametrize("module", ["core", "app"])
def test_gradle_has_the_coordinates_of_maven(module: str) -> None:
    folder = ROOT / "android_demo"
    script = (folder / module / "build.gradle.kts").read_text(encoding="utf-8")
    expected = coordinates(folder / module / "pom.xml")
    assert expected and all(f'"{group}:{artifact}:' in script for group, artifact in expected)
    pom = (folder / "pom.xml").read_text(encoding="utf-8")
    read = set(re.findall(r'version\("([a-z-]+)"\)', script))
    assert read and all(f"<{name}.version>" in pom for name in read)
    assert not re.findall(r'"[a-z.]+:[a-z-]+:[0-9]', script), "a version of its own"


def test_the_bundle_is_the_named_one_else_the_starter_else_one_that_is_made() -> None:
    def bundle(*words: str) -> str:
        command = ["make", "--silent", "--eval=shown:; @echo $(ANDROID_BUNDLE)", "shown", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    assert bundle("BUNDLE=exports/a", "STARTER=dfkit/starter/bundle") == "exports/a"
    assert bundle("BUNDLE=", "STARTER=dfkit/starter/bundle") == "dfkit/starter/bundle"
    assert bundle("BUNDLE=", "STARTER=") == "android_demo/build/bundle"


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
