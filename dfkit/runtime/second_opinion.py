"""TensorFlow's own interpreter as a second opinion on a .tflite: another build of the kernels, the same answers?

It runs in a process of its own, `python -m dfkit.runtime.second_opinion BUNDLE`: TensorFlow and ai-edge-litert carry
their own copies of the same native libraries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dfkit.errors import BundleError, DfkitError, MissingExtraError
from dfkit.runtime.backends import BackendName, Graphs, TfliteGraphs
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.replay import replay

TIMEOUT_S = 300
# Its greetings are no errors; 3 leaves errors.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


class TensorflowGraphs(TfliteGraphs):
    """A .tflite through `tf.lite.Interpreter`."""

    @staticmethod
    def interpreter_class() -> Any:
        """Class of TensorFlow's interpreter.

        Raises:
            MissingExtraError: TensorFlow is not installed.
        """
        try:
            import tensorflow
        except ModuleNotFoundError as error:
            raise MissingExtraError("tensorflow", "tensorflow") from error
        return tensorflow.lite.Interpreter


@dataclass(frozen=True)
class SecondOpinion:
    """Golden vectors through TensorFlow's interpreter."""

    tensorflow: str
    """Version."""
    passed: bool
    lines: tuple[str, ...]
    replay: dict[str, Any]

    def summary(self) -> list[str]:
        """Lines for people."""
        return [f"TensorFlow {self.tensorflow}: {line}" for line in self.lines]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"tensorflow": self.tensorflow, **self.replay}


def ask_tensorflow(path: str | Path) -> SecondOpinion:
    """Replays a bundle's golden vectors through TensorFlow's interpreter.

    Args:
        path: Bundle folder or .zip with a .tflite.
    Raises:
        MissingExtraError: TensorFlow is not installed.
        BundleError: The bundle has no .tflite, or cannot be used.
        DfkitError: The process failed.
    """
    if find_spec("tensorflow") is None:
        raise MissingExtraError("tensorflow", "tensorflow")
    if "tflite" not in open_bundle(path).manifest.backends:
        raise BundleError(f"bundle {path} has no .tflite", fix="export it with --format tflite or all")
    command = [sys.executable, "-m", "dfkit.runtime.second_opinion", str(Path(path).resolve())]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True, env={**os.environ, **QUIET}
        )
        stored = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        raise DfkitError(f"TensorFlow's interpreter failed: {' '.join(last) or error.returncode}") from error
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError) as error:
        raise DfkitError(f"TensorFlow's interpreter gave no answer: {error}") from error
    return SecondOpinion(stored["tensorflow"], stored["replay"]["passed"], tuple(stored["lines"]), stored["replay"])


def open_tensorflow(bundle: Bundle, name: BackendName, *, num_threads: int) -> Graphs:
    """As `open_backend`, through TensorFlow."""
    backend: Mapping[Any, Any] = bundle.manifest.backends
    files = {s.file for s in (backend[name].encode, backend[name].score) if s is not None}
    content = {file: bundle.read(file) for file in files}
    return TensorflowGraphs(backend[name], content, num_threads=num_threads, where=str(bundle.path))


def main(argv: list[str]) -> None:
    """Replays in this process and prints one line of JSON."""
    import tensorflow

    report = replay(open_bundle(argv[0]), backend="tflite", open_graphs=open_tensorflow)
    print(json.dumps({"tensorflow": tensorflow.__version__, "lines": report.summary(), "replay": report.to_json()}))


if __name__ == "__main__":
    main(sys.argv[1:])
