"""What two cores can learn of prepared data: `python -m tools.experiment DATA --equalised DATA2 --out DIR`.

Audit and baselines with a generator left out, raw and equalised, whose features are kept beside the data; then, with
`--config`, teachers and students of one seed under that experiment (`tools.folds.left_out`; more seeds: with a GPU,
`make experiment-gpu`). Each step is a command of its own; those that ended well are not run again, so that the same
call goes on where it was stopped.
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


def make_steps(data: Path, equalised: Path | None, out: Path, *, config: Path | None) -> dict[str, list[str]]:
    """Commands by name, in their order.

    Args:
        data: Prepared data, as it is.
        equalised: The same videos, prepared with `--equalise`; None leaves their rows out.
        out: Folder of results.
        config: Experiment with `split.leave_out`; None leaves the networks out.
    """
    steps: dict[str, list[str]] = {}
    forms = {form: folder for form, folder in (("raw", data), ("equalised", equalised)) if folder is not None}
    for form, folder in forms.items():
        for command in ("audit", "baseline"):
            steps[f"{command}, {form}"] = ["-m", "dfkit", command, str(folder), "--leave-out", "method"]
    if config is not None:
        for form, folder in forms.items():
            options = {"--data": folder, "--config": config, "--workspace": out / form, "--jobs": 2}
            words = [str(word) for option in options.items() for word in option]
            steps[f"networks, {form}"] = ["-m", "tools.folds.left_out", *words]
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
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
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
    parser.add_argument("--config", type=Path, help="experiment with split.leave_out: networks are trained, too")
    parser.add_argument("--out", type=Path, default=Path("reports/experiment"))
    arguments = parser.parse_args(argv)
    steps = make_steps(arguments.data, arguments.equalised, arguments.out, config=arguments.config)
    return run_steps(steps, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
