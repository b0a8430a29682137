"""Replays a .tflite's golden vectors through TensorFlow's own interpreter, which is another build of the same kernels.

It runs in a process of its own, `python -m dfkit.runtime.tensorflow_replay BUNDLE`: TensorFlow and ai-edge-litert
carry their own copies of the same native libraries.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dfkit.errors import BundleError, MissingExtraError
from dfkit.measures.child_process import run_for_json
from dfkit.runtime.backends import BackendName, Graphs, TfliteGraphs, graph_files
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.replay import replay

TIMEOUT_S = 300
# TensorFlow logs its start as errors or warnings; level 3 leaves true errors.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


class TensorflowGraphs(TfliteGraphs):
    """Two signatures of one .tflite, through `tf.lite.Interpreter`."""

    package = "tensorflow"

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
class TensorflowReplay:
    """Outcome of replaying a bundle's golden vectors through TensorFlow's interpreter."""

    tensorflow: str
    """TensorFlow's version."""
    passed: bool
    """Whether all outputs are within their tolerance."""
    lines: tuple[str, ...]
    """`ReplayReport.summary` of the process."""
    replay: dict[str, Any]
    """`ReplayReport.to_json` of the process."""

    def summary(self) -> list[str]:
        """Lines for the terminal: one per output, each with TensorFlow's version."""
        return [f"TensorFlow {self.tensorflow}: {line}" for line in self.lines]

    def to_json(self) -> dict[str, Any]:
        """The replay's JSON object, with TensorFlow's version added."""
        return {"tensorflow": self.tensorflow, **self.replay}


def replay_with_tensorflow(path: str | Path) -> TensorflowReplay:
    """Replays a bundle's golden vectors through TensorFlow's interpreter.

    Args:
        path: Bundle folder or .zip with a .tflite.
    Returns:
        The differences; `passed` says whether all are within tolerance.
    Raises:
        MissingExtraError: TensorFlow is not installed.
        BundleError: The bundle has no .tflite, or cannot be used.
        DfkitError: The process failed, or took longer than `TIMEOUT_S`.
    """
    if find_spec("tensorflow") is None:
        raise MissingExtraError("tensorflow", "tensorflow")
    if "tflite" not in open_bundle(path).manifest.backends:
        raise BundleError(f"bundle {path} has no .tflite", fix="export it with --format tflite or all")
    command = [sys.executable, "-m", "dfkit.runtime.tensorflow_replay", str(Path(path).resolve())]
    stored = run_for_json(
        command,
        name="TensorFlow's interpreter",
        no_answer="no answer",
        timeout_s=TIMEOUT_S,
        environment={**os.environ, **QUIET},
    )
    return TensorflowReplay(stored["tensorflow"], stored["replay"]["passed"], tuple(stored["lines"]), stored["replay"])


def open_tensorflow_backend(
    bundle: Bundle, name: BackendName, *, num_threads: int, files: Mapping[str, str] | None = None
) -> Graphs:
    """Loads a bundle's .tflite into TensorFlow's interpreter; stands in for `open_backend` in `replay`."""
    backend = bundle.manifest.backends[name]
    content = graph_files(bundle, backend, files)
    return TensorflowGraphs(backend, content, num_threads=num_threads, where=str(bundle.path))


def main(argv: list[str]) -> None:
    """Replays in this process and prints one line of JSON."""
    import tensorflow

    report = replay(open_bundle(argv[0]), backend="tflite", open_graphs=open_tensorflow_backend)
    print(json.dumps({"tensorflow": tensorflow.__version__, "lines": report.summary(), "replay": report.to_json()}))


if __name__ == "__main__":
    main(sys.argv[1:])
