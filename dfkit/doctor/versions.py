"""Python and installed packages against what dfkit asks for and was tested with, and extras with their commands.

`tested.json` holds ranges of pyproject.toml and versions of constraints.txt, which an installed package has not:
`python -m tools.doctor_files` writes it, and a test holds it against both.
"""

from __future__ import annotations

import json
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from dfkit.doctor.checks import Check
from dfkit.extras import CONTAINS, PACKAGES, PHONEME_RECOGNISER, Extra, has_build, has_tflite_converter

TESTED_FILE = Path(__file__).with_name("tested.json")
OTHER_NAMES = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-silicon"),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "tensorflow": ("tensorflow-cpu", "tensorflow-macos"),
}
"""Distributions that bring the same modules."""
OPENCV = ("opencv-python-headless", *OTHER_NAMES["opencv-python-headless"])


class Tested(TypedDict):
    """Of one package."""

    needs: str
    """Range of versions, as in pyproject.toml; empty for any."""
    tested: str
    """Version that the tests ran with."""


class TestedVersions(TypedDict):
    """Content of tested.json."""

    python: Tested
    packages: dict[str, Tested]
    """What `pip install dfkit` brings."""
    extras: dict[str, dict[str, Tested]]
    """What each extra brings by itself."""


@cache
def tested_versions() -> TestedVersions:
    """Ranges and tested versions of everything that dfkit asks for."""
    content: TestedVersions = json.loads(TESTED_FILE.read_text(encoding="utf-8"))
    return content


def version_checks() -> list[Check]:
    """Python, the packages that dfkit always needs, and OpenCV's distributions, of which one may be there."""
    tested = tested_versions()
    python = Check("python", "Python", "ok", f"{platform.python_version()} on {platform.platform()}")
    if platform.python_version() not in SpecifierSet(tested["python"]["needs"], prereleases=True):
        needs = tested["python"]["needs"]
        python = Check("python", "Python", "off", f"{platform.python_version()}, needs {needs}", "install a newer one")
    packages = [
        package_check("packages", name, entry, command=f'pip install "{name}{entry["needs"]}"', optional=False)
        for name, entry in tested["packages"].items()
    ]
    return [python, *packages, opencv_check()]


def package_check(area: str, name: str, entry: Tested, *, command: str, optional: bool) -> Check:
    """One package: whether it is installed, and in a version that dfkit asks for.

    Args:
        area: Of the line.
        name: Of the distribution.
        entry: Its range and tested version.
        command: Installs it.
        optional: Whether its absence is `missing` instead of `off`.
    """
    found = installed_version(name)
    needed = f"needs {entry['needs']}" if entry["needs"] else "any version"
    if found is None:
        return Check(area, name, "missing" if optional else "off", f"not installed, {needed}", command)
    try:
        fits = SpecifierSet(entry["needs"]).contains(Version(found), prereleases=True)
    except InvalidVersion:
        fits = False
    if not fits:
        return Check(area, name, "off", f"{found}, {needed}, tested with {entry['tested']}", command)
    told = "as tested" if found == entry["tested"] else f"in the range {entry['needs']}, tested with {entry['tested']}"
    return Check(area, name, "ok", f"{found}, {told}")


def installed_version(name: str) -> str | None:
    """Version of a distribution, or of another that brings the same modules; None where there is none."""
    for each in (name, *OTHER_NAMES.get(name, ())):
        try:
            return metadata.version(each)
        except metadata.PackageNotFoundError:
            continue
    return None


def opencv_check() -> Check:
    """Of OpenCV's four distributions one may be installed: all write the folder cv2."""
    there = []
    for name in OPENCV:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        there.append(name)
    if len(there) < 2:
        return Check("packages", "one OpenCV", "ok", ", ".join(there) or "none")
    fix = f"pip uninstall -y {' '.join(there)} && pip install {OPENCV[0]}"
    found = f"{' and '.join(there)} write the same folder cv2: what is imported is a mixture"
    return Check("packages", "one OpenCV", "off", found, fix)


def extra_checks() -> list[Check]:
    """One line for every extra: complete, missing, or with a package in a version that does not fit."""
    return [_extra_check(extra) for extra in PACKAGES]


def _extra_check(extra: Extra) -> Check:
    command = f'pip install "dfkit[{extra}]"'
    if extra == "export" and not has_tflite_converter():
        command += "; without the converter to .tflite, which has no build for Windows (--format onnx, or WSL)"
    if extra == "baselines" and not has_build(PHONEME_RECOGNISER):
        command += "; without the phonemes of dfkit baseline --of sync, whose library has no build for Windows"
    checks = [
        package_check("extras", name, entry, command=command, optional=True)
        for each in (*CONTAINS.get(extra, ()), extra)
        for name, entry in tested_versions()["extras"][each].items()
        if name not in {package for module, package in PACKAGES[each].items() if not has_build(module)}
    ]
    off = [f"{check.name} {check.found}" for check in checks if check.status == "off"]
    missing = [check.name for check in checks if check.status == "missing"]
    if missing:
        return Check("extras", extra, "missing", f"not installed: {', '.join(missing)}", command)
    if off:
        return Check("extras", extra, "off", "; ".join(off), f"{command} --upgrade")
    untested = [f"{check.name} {check.found}" for check in checks if "as tested" not in check.found]
    told = f"; {'; '.join(untested)}" if untested else ", as tested"
    return Check("extras", extra, "ok", f"all {len(checks)} packages{told}")
