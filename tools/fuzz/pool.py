"""Runs cases in child processes: one that crashes, hangs or takes too much memory is ended, named, and replaced."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dfkit.measures.child_process import crash_name
from tools.fuzz.cases import NOT_MADE, Case
from tools.fuzz.material import Material

HANGS_S = 120.0
"""A case that takes longer hangs; the slowest sound ones take a few seconds."""
MAX_MEMORY_MB = 1500.0
"""Resident in a case; torch and the interpreters take 500."""
MAX_TRIES = 2
"""A case hangs that does so twice: a machine may stand still, a case that hangs does it again."""
ENDED = ("crash", "hang", "memory")
"""Outcomes behind which a child is of no more use."""
_POLL_S = 0.1
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What came of one case."""

    case: Case
    outcome: str
    """A status, the class of an error, or `crash`, `hang`, `memory`, `exception`."""
    faults: tuple[str, ...]
    """Why it is a failure; none where it is not."""
    seconds: float
    peak_mb: float


class Child:
    """One process and its folder."""

    def __init__(self, material: Material, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._said = folder / "said.txt"
        command = [sys.executable, "-m", "tools.fuzz.child", material.folder, folder / "case", self._said]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "DFKIT_CACHE": str(folder / "cache")}
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        if self._lines.get() != "ready\n":
            raise RuntimeError("the child did not start: see its error above")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, case: Case, *, hangs_s: float, max_memory_mb: float) -> Answer:
        """Runs a case; the child is of no more use where the answer is `crash`, `hang` or `memory`."""
        assert self._process.stdin is not None
        start, peak_mb = time.monotonic(), 0.0
        try:
            self._process.stdin.write(f"{case}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        while True:
            seconds = time.monotonic() - start
            try:
                line = self._lines.get(timeout=_POLL_S)
                break
            except queue.Empty:
                peak_mb = max(peak_mb, _resident_mb(self._process.pid))
            if seconds > hangs_s or peak_mb > max_memory_mb:
                self.close(kill=True)
                outcome = "memory" if peak_mb > max_memory_mb else "hang"
                return Answer(case, outcome, (f"ended after {seconds:.1f} s at {peak_mb:.0f} MB",), seconds, peak_mb)
        if not line:
            code = self._process.wait()
            said = self._said.read_text(errors="replace").strip().splitlines() if self._said.exists() else []
            if any("in make_video" in line for line in said):
                return Answer(case, NOT_MADE, (), seconds, peak_mb)
            fault = f"{crash_name(code) or f'exit code {code}'}: {' | '.join(said[:12])[:800]}"
            return Answer(case, "crash", (fault,), seconds, peak_mb)
        answer = json.loads(line)
        faults, peak_mb = tuple(answer["faults"]), max(peak_mb, answer["peak_mb"])
        if peak_mb > max_memory_mb:
            return Answer(case, "memory", (*faults, f"{peak_mb:.0f} MB resident"), seconds, peak_mb)
        return Answer(case, answer["outcome"], faults, seconds, peak_mb)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def close(self, *, kill: bool = False) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        if kill:
            self._process.kill()
        else:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _resident_mb(pid: int) -> float:
    """Of another process, where Linux tells; 0 elsewhere and of one that has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run_cases(
    cases: Iterator[Case],
    material: Material,
    *,
    num_workers: int = 1,
    hangs_s: float = HANGS_S,
    max_memory_mb: float = MAX_MEMORY_MB,
    stop_at: float | None = None,
) -> Iterator[Answer]:
    """Runs cases, and gives each one's answer as it comes.

    Args:
        cases: Taken one by one.
        material: What they damage.
        num_workers: Children at a time.
        hangs_s: Limit of time for a case.
        max_memory_mb: Limit of resident memory.
        stop_at: Moment of `time.monotonic` from which on no further case is begun.
    """
    answers: queue.Queue[Answer | None] = queue.Queue()
    lock = threading.Lock()

    def following() -> Case | None:
        with lock:
            return None if stop_at is not None and time.monotonic() >= stop_at else next(cases, None)

    def work(folder: Path) -> None:
        child: Child | None = None
        try:
            while (case := following()) is not None:
                for _ in range(MAX_TRIES):
                    child = child or Child(material, folder)
                    answer = child.ask(case, hangs_s=hangs_s, max_memory_mb=max_memory_mb)
                    if answer.outcome in ENDED or child.has_ended:
                        child.close(kill=True)
                        child = None
                    if answer.outcome != "hang":
                        break
                answers.put(answer)
        finally:
            if child is not None:
                child.close()
            answers.put(None)

    with tempfile.TemporaryDirectory(prefix="dfkit-fuzz-") as folder:
        for number in range(num_workers):
            threading.Thread(target=work, args=(Path(folder) / str(number),), daemon=True).start()
        ended = 0
        while ended < num_workers:
            answer = answers.get()
            if answer is None:
                ended += 1
            else:
                yield answer
