"""What can be learnt on two cores in two hours: `python -m tools.experiment DATA --equalised DATA2 --out DIR`.

Audit and baselines with a generator left out, raw and equalised, whose features are kept beside the data; then
networks on three fixed folds with one seed, out of the pack that `tools.gpu` makes. Each step is a command of its own;
those that ended well are not run again, so that the same call goes on where it was stopped. What needs a GPU is left to
`python -m tools.gpu.experiment`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dfkit.files import read_json_object, write_atomically

STEPS_FILE, LOG_FILE = "steps.json", "log.txt"
FOLDS = "1,2,3"
"""Of the pack: the families with the most fakes."""
ROWS = "lite0 frozen, degraded;mmms_ba at a student's widths"


def make_steps(
    data: Path, equalised: Path | None, out: Path, *, teacher: Path | None, lite0: Path | None
) -> dict[str, list[str]]:
    """Commands by name, in their order.

    Args:
        data: Prepared data, as it is.
        equalised: The same videos, prepared with `--equalise`; None leaves their rows out.
        out: Folder of results.
        teacher: Checkpoint that the pack's students are made of; None leaves the networks out, like no `lite0`.
        lite0: ImageNet weights of the trunk.
    """
    steps: dict[str, list[str]] = {}
    for form, folder in (("raw", data), ("equalised", equalised)):
        if folder is not None:
            for command in ("audit", "baseline"):
                steps[f"{command}, {form}"] = ["-m", "dfkit", command, str(folder), "--leave-out", "method"]
    if teacher is not None and lite0 is not None:
        pack = out / "crops.npz"
        steps["pack"] = ["-m", "tools.gpu.pack", str(data), "--out", str(pack)]
        steps["networks"] = [
            *("-m", "tools.gpu.experiment", str(pack), "--teacher", str(teacher), "--lite0", str(lite0)),
            *("--out", str(out), "--scratch", str(out), "--rows", ROWS, "--folds", FOLDS),
            *("--seeds", "1", "--workers", "1", "--limit-s", "5400"),
        ]
        steps["table"] = ["-m", "tools.gpu.table", str(pack), str(out)]
    return steps


def run_steps(steps: dict[str, list[str]], out: Path) -> int:
    """Runs what is not done yet; stops at the first step that fails and gives its exit status.

    Args:
        steps: From `make_steps`.
        out: Gets the log and the list of what is done.
    """
    out.mkdir(parents=True, exist_ok=True)
    done = read_json_object(out / STEPS_FILE) or {}
    for name, command in steps.items():
        if done.get(name, {}).get("command") == command:
            print(f"{name}: done before, {done[name]['seconds']:.0f} s", flush=True)
            continue
        started = time.time()
        with (out / LOG_FILE).open("a", encoding="utf-8") as log:
            print(f"== {name}: {' '.join(command)}", file=log, flush=True)
            environment = {**os.environ, "OMP_NUM_THREADS": "2"}
            status = subprocess.run(
                [sys.executable, *command], stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
            ).returncode
        print(f"{name}: exit {status}, {time.time() - started:.0f} s", flush=True)
        if status:
            print(f"see the end of {out / LOG_FILE}; the same call goes on behind this step", file=sys.stderr)
            return status
        done[name] = {"command": command, "seconds": round(time.time() - started, 1)}
        write_atomically(out / STEPS_FILE, json.dumps(done, indent=1))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all steps; the exit status of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared data of labelled videos with methods")
    parser.add_argument("--equalised", type=Path, help="the same videos, prepared with --equalise")
    parser.add_argument("--teacher", type=Path, help="checkpoint; with --lite0 networks are trained, too")
    parser.add_argument("--lite0", type=Path, help="ImageNet weights of EfficientNet-Lite0")
    parser.add_argument("--out", type=Path, default=Path("reports/experiment"))
    arguments = parser.parse_args(argv)
    steps = make_steps(
        arguments.data, arguments.equalised, arguments.out, teacher=arguments.teacher, lite0=arguments.lite0
    )
    return run_steps(steps, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
