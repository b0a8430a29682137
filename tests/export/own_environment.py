"""Environments of their own, for converters whose packages do not go with the pinned ones; kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from dfkit.extras import CONTAINS, Extra
from dfkit.files import cache_folder
from tests.export import tiny

ROOT = Path(__file__).parents[2]
KEPT = cache_folder("environments")
"""7 GB each; made in five minutes."""


def python_of(extra: Extra, *, unpinned: tuple[str, ...] = ()) -> Path:
    """The Python of an environment with an extra, made where it is not there yet.

    Args:
        extra: Of pyproject.toml.
        unpinned: Packages that `constraints.txt` pins and the extra needs in another version.
    """
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in pins if re.split(r"[=<> ]", line)[0] not in unpinned]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [project["optional-dependencies"][each] for each in (extra, *CONTAINS[extra])]
    needs = json.dumps([project["dependencies"], declared, pins])
    folder = KEPT / f"{extra}-{hashlib.sha256(needs.encode()).hexdigest()[:12]}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = folder / "ready"
    if not ready.exists():
        constraints = folder / "constraints.txt"
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=300)
        constraints.write_text("\n".join(pins), encoding="utf-8")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [*install, "--constraint", str(constraints), "--editable", f"{ROOT}[{extra}]"], check=True, timeout=1800
        )
        ready.touch()
    return python


def export_in(python: Path, folder: Path, *, formats: str) -> Path:
    """`dfkit export` and `dfkit verify` of the tiny student, by the command line of another environment.

    Returns:
        The bundle.
    """
    data = tiny.tiny_data(folder / "data")
    checkpoint = tiny.tiny_checkpoint(folder / "student" / "best.pth", data)
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny.CONFIG.model_dump(mode="json")), encoding="utf-8")
    # The environment was made of a checkout that may be another one than this.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = ["export", "--int8", "--format", formats, "--checkpoint", str(checkpoint), "--config", str(config)]
    for arguments in (call, ["verify"]):
        command = [str(python), "-m", "dfkit", *arguments, "--workspace", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "exports" / "tiny"
