"""All rows of `tools.gpu.jobs` on one GPU: `python -m tools.gpu.experiment PACK --teacher T --lite0 W --out DIR`.

Needs torch, numpy, OpenCV, pydantic, PyYAML and lightning; no decoder, no prepared data, no network. The tests marked
`gpu` run first, beside the decoding, then the jobs, in several processes that share the GPU: these networks are small,
and one process leaves it idle most of the time. A line is written after every fold, so that what a limit of time cuts
off is the last seeds alone; the same call goes on behind the lines that are there. `python -m tools.gpu.table DIR`
makes the tables.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.gpu.crops import decode_pack, load_crops
from tools.gpu.jobs import Job, plan, read_rows, run_job

TESTS_LOG, DECODED = "gpu_tests.log", "decoded"


def start_tests(out: Path) -> subprocess.Popen[bytes]:
    """Starts the tests marked `gpu`, beside the decoding; their output goes to a file of the folder."""
    marked = [str(path) for path in sorted(Path("tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *marked]
    with (out / TESTS_LOG).open("w", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def finished(out: Path) -> set[Job]:
    """Jobs that ended well."""
    return {Job(row["row"], row["fold"], row["seed"]) for row in read_rows(out)}


def work(number: int, jobs: Any, arguments: argparse.Namespace, decoded: Path, deadline: float) -> None:
    """One process: takes jobs until there are none or the time is up.

    Args:
        number: Of the process.
        jobs: Queue of `Job`.
        arguments: Of the command line.
        decoded: Folder of the decoded pictures.
        deadline: `time.time()` after which no job is begun.
    """
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    crops = load_crops(arguments.pack, decoded, device)
    with (arguments.out / f"rows-{number}.jsonl").open("a", encoding="utf-8") as file:
        while time.time() < deadline and (job := jobs.get()) is not None:
            started = time.time()
            try:
                row = run_job(job, crops, teacher=arguments.teacher, lite0=arguments.lite0)
            except Exception:
                # One job's fault must not cost the others their time on the device; it is in the table as one.
                row = {"row": job.row, "fold": job.fold, "seed": job.seed, "error": traceback.format_exc()}
            row["seconds"] = round(time.time() - started, 2)
            file.write(json.dumps(row) + "\n")
            file.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Tests, then jobs. 1 if a test failed, or if a job did or is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--teacher", type=Path, required=True, help="checkpoint that the students are made of")
    parser.add_argument("--lite0", type=Path, required=True, help="ImageNet weights of EfficientNet-Lite0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit-s", type=float, default=480.0, help="no job is begun after it")
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", help="some of the rows, with semicolons between; all where left out")
    parser.add_argument("--folds", help="some of the folds, as 0,1,2; 0 leaves nothing out; all where left out")
    parser.add_argument("--scratch", type=Path, default=Path("build/gpu"), help="folder for the decoded pictures")
    arguments = parser.parse_args(argv)
    started = time.time()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tests = start_tests(arguments.out)
    decoded = arguments.scratch / DECODED
    decode_pack(arguments.pack, decoded)
    print(f"decoded: {time.time() - started:.0f} s", flush=True)
    with np.load(arguments.pack) as stored:
        num_folds = len(stored["parts"])
    rows = arguments.rows and {name.strip() for name in arguments.rows.split(";")}
    folds = arguments.folds and {int(number) for number in arguments.folds.split(",")}
    done = finished(arguments.out)
    jobs = [
        job
        for job in plan(num_folds, arguments.seeds)
        if job not in done and (not rows or job.row in rows) and (not folds or job.fold in folds)
    ]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for job in [*jobs, *[None] * arguments.workers]:
        queue.put(job)
    deadline = started + arguments.limit_s
    processes = [
        context.Process(target=work, args=(number, queue, arguments, decoded, deadline))
        for number in range(arguments.workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed = tests.wait()
    print(f"tests marked gpu: exit {failed}, see {TESTS_LOG}", flush=True)
    now_done = finished(arguments.out)
    left = [job for job in jobs if job not in now_done]
    print(f"{len(jobs) - len(left)} of {len(jobs)} jobs in {time.time() - started:.0f} s", flush=True)
    return 1 if failed or left else 0


if __name__ == "__main__":
    sys.exit(main())
