"""What a measurement was made on: a number without it cannot be compared."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import dfkit

PACKAGES = ("ai-edge-litert", "onnxruntime", "av", "opencv-python-headless", "numpy")


@dataclass(frozen=True)
class Environment:
    """Hardware, software and date of a measurement."""

    cpu: str
    num_cores: int
    """Cores that this process may use."""
    load: float | None
    """Processes that wanted a core over the last minute, before the measurement; above 0.5 others were at work."""
    memory_gb: float | None
    system: str
    python: str
    dfkit: str
    versions: dict[str, str]
    date: str
    """UTC, ISO 8601."""
    git_commit: str | None
    """Of the checkout that dfkit runs from, with `+` where it has changes."""


def read_environment() -> Environment:
    """Reads the facts of this machine and this installation; takes a few calls of git."""
    return Environment(
        cpu=cpu_model(),
        num_cores=usable_cores(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        memory_gb=memory_gb(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        dfkit=dfkit.__version__,
        versions={name: version for name in PACKAGES if (version := _version(name))},
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        git_commit=git_commit(Path(dfkit.__file__).parent),
    )


def usable_cores() -> int:
    """Cores that this process may use: a container often has fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """Name of the processor as the system states it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"], Path.cwd()) or platform.processor()
    return platform.processor() or platform.machine() or "unknown"


def memory_gb() -> float | None:
    """Memory of the machine in GB, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return None


def git_commit(folder: Path) -> str | None:
    """Commit of the checkout that a folder belongs to; None outside of one."""
    commit = _output(["git", "rev-parse", "--short=12", "HEAD"], folder)
    if not commit:
        return None
    changes = _output(["git", "status", "--porcelain", "--untracked-files=no"], folder)
    return f"{commit}+" if changes else commit


def _output(command: list[str], folder: Path) -> str | None:
    """What a command prints, without line ends around it; None where it fails."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
