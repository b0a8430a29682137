"""What TensorFlow's interpreter says to the inputs of a bundle's golden vectors: raw float32 files and `answers.json`.

    python -m tools.android.graph_answers BUNDLE OUT

The app runs the kernels of that release, and gives the same numbers; ai-edge-litert has newer ones, which move single
frame logits of INT8 graphs by up to 7e-4. A process of its own: the two carry copies of the same native libraries.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.golden_index import GoldenCase, Part, read_array, read_golden
from dfkit.runtime.replay import call_part
from dfkit.runtime.tensorflow_replay import open_tensorflow_backend

BACKEND = "tflite"


def write_graph_answers(bundle_path: Path, out: Path) -> None:
    """Writes a file for each output of each golden case, and their list.

    Args:
        bundle_path: Folder of a bundle.
        out: Folder that exists.
    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    bundle = open_bundle(bundle_path)
    listed = []
    for vectors in read_golden(bundle).sets:
        graphs = open_tensorflow_backend(bundle, BACKEND, num_threads=1, files=vectors.graphs.get(BACKEND, {}))
        parts: tuple[tuple[Part, tuple[GoldenCase, ...]], ...] = (("encode", vectors.encode), ("score", vectors.score))
        for part, number, case in ((part, n, case) for part, cases in parts for n, case in enumerate(cases)):
            inputs = {name: read_array(bundle, entry) for name, entry in case.inputs.items()}
            for name, values in call_part(graphs, part, inputs).items():
                file = f"{vectors.name}_{part}_{number}_{name}.f32"
                values.astype("<f4").tofile(out / file)
                listed.append({"set": vectors.name, "part": part, "case": number, "output": name, "file": file})
    (out / "answers.json").write_text(json.dumps(listed), encoding="utf-8")


if __name__ == "__main__":
    write_graph_answers(Path(sys.argv[1]), Path(sys.argv[2]))
