"""Writes what `dfkit doctor` compares with: `python -m tools.doctor_files`.

`tested.json` follows from pyproject.toml and constraints.txt, `reference.json` from the golden clip on this machine: to
be renewed when the versions, the clip contract or the tracker change.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dfkit.doctor.golden_clip import REFERENCE_FILE, stage_values
from dfkit.doctor.versions import TESTED_FILE
from dfkit.extras import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
UNPINNED = {"executorch": "1.5.1", "coreai-torch": "0.4.3", "coreai-core": "1.0.0b3"}
"""Versions of extras that are tested in environments of their own, which constraints.txt does not pin."""


def versions_of_project() -> dict[str, Any]:
    """Ranges of pyproject.toml and versions of constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(m[1]): m[2] for line in lines if (m := re.match(r"([\w.\-\[\]]+)==([^\s;]+)", line))}
    pins = UNPINNED | pins

    def entries(requirements: list[str]) -> dict[str, dict[str, str]]:
        parsed = [Requirement(each) for each in requirements]
        return {
            each.name: {"needs": str(each.specifier), "tested": pins[canonicalize_name(each.name)]}
            for each in parsed
            if each.name != "dfkit"
        }

    extras = {extra: entries(project["optional-dependencies"][extra]) for extra in PACKAGES}
    python = {"needs": project["requires-python"], "tested": "3.11"}
    return {"python": python, "packages": entries(project["dependencies"]), "extras": extras}


def main() -> None:
    """Writes both files."""
    for path, content in ((TESTED_FILE, versions_of_project()), (REFERENCE_FILE, stage_values())):
        text = json.dumps(content, indent=1)
        # Rows of numbers in one line each.
        text = re.sub(r"\[\s+([^\[\]{}]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
        path.write_text(f"{text}\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
