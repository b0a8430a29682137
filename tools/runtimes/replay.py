"""Replays a bundle's golden vectors on one runtime, in many interpreters of one process. One file that needs numpy and
that runtime alone: `dfkit` is not installed where it runs.

    PYTHON tools/runtimes/replay.py BUNDLE --runtime ai_edge_litert [--interpreters 30] [--rounds 3] [--seed 0]

A fault may show in one interpreter of several, by what its memory held before. So all of them are kept: a freed one's
memory would be used again. Each case runs in each of them, in an order drawn by lot, several times. The last line of
output is a JSON object: the worst difference from the stored answer, and the spread between interpreters.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

DTYPES = {"float32": "<f4", "uint8": "u1", "int8": "i1"}
PACKAGES = {
    "ai_edge_litert": "ai-edge-litert",
    "tensorflow": "tensorflow",
    "tflite_runtime": "tflite-runtime",
    "onnxruntime": "onnxruntime",
}
"""By the name that a program imports."""
PARTS = ("encode", "score")
GOLDEN_VERSION = 2


def main():
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder with manifest.json and golden/")
    parser.add_argument("--runtime", required=True, choices=sorted(PACKAGES))
    parser.add_argument("--interpreters", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, help="only so many of each signature of each set")
    arguments = parser.parse_args()
    backend = "onnx" if arguments.runtime == "onnxruntime" else "tflite"
    open_model = {"onnx": OnnxModel, "tflite": TfliteModel}[backend]
    rows = []
    for golden in read_golden(arguments.bundle, backend):
        models = [open_model(golden, arguments.runtime) for _ in range(arguments.interpreters)]
        rows += replay_set(golden, models, arguments)
    sys.stdout.write("\n" + json.dumps({"version": version_of(arguments.runtime), "outputs": rows}) + "\n")


def version_of(runtime):
    """Of the installed package."""
    return metadata.version(PACKAGES[runtime])


def read_golden(folder, backend):
    """The sets of golden vectors of a bundle.

    Returns:
        Per set: `name`, `signatures` by part, `content` by file name, `limits` by output, `cases` by part.
    """
    entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["backends"][backend]
    signatures = {part: entry[part] for part in PARTS if entry[part] is not None}
    index = json.loads((folder / "golden" / "golden.json").read_text(encoding="utf-8"))
    if index["schema_version"] != GOLDEN_VERSION:
        sys.exit("golden.json has version {}, this reads {}".format(index["schema_version"], GOLDEN_VERSION))
    found = []
    for each in index["sets"]:
        # Graphs of other weights, which stand beside the bundle's own.
        other_files = each["graphs"].get(backend, {})
        names = {signature["file"] for signature in signatures.values()}
        found.append(
            {
                "name": each["name"],
                "folder": folder / "golden",
                "signatures": signatures,
                "content": {name: (folder / other_files.get(name, name)).read_bytes() for name in names},
                "limits": each["limits"][backend],
                "peak": index["peak"],
                "cases": {part: each[part] for part in signatures},
            }
        )
    return found


def read_array(folder, entry):
    """One array of the golden vectors."""
    return np.frombuffer((folder / entry["file"]).read_bytes(), DTYPES[entry["dtype"]]).reshape(entry["shape"])


def replay_set(golden, models, arguments):
    """Runs one set's cases in all models and compares.

    Returns:
        One row per output: set, part, output, number of cases and answers, worst root mean
        square and single difference, tolerance, spread.
    """
    backend = models[0].backend
    cases = {part: listed[: arguments.cases] for part, listed in golden["cases"].items()}
    inputs = {(p, n): read_all(golden, case["inputs"]) for p, cs in cases.items() for n, case in enumerate(cs)}
    tasks = [(key, model) for key in inputs for model in range(len(models)) for _ in range(arguments.rounds)]
    random.Random(arguments.seed).shuffle(tasks)
    answers = {key: [] for key in inputs}
    for key, model in tasks:
        answers[key].append(models[model].run(key[0], inputs[key]))
    rows = []
    for part, listed in cases.items():
        for output in (entry["name"] for entry in golden["signatures"][part]["outputs"]):
            row = {"set": golden["name"], "part": part, "output": output, "cases": len(listed)}
            row["answers"] = sum(len(answers[part, n]) for n in range(len(listed)))
            pairs = []
            for number, case in enumerate(listed):
                stored = read_array(golden["folder"], case["outputs"][backend][output]).astype(np.float64)
                given = np.stack([answer[output].reshape(stored.shape) for answer in answers[part, number]])
                pairs.append((stored, given.astype(np.float64)))
            limits = golden["limits"][output]
            row.update(tolerance=limits["tolerance"], power=limits["power"])
            rows.append({**row, **judge(pairs, limits["tolerance"], golden["peak"])})
    return rows


def read_all(golden, entries):
    """Arrays by name."""
    return {name: read_array(golden["folder"], entry) for name, entry in entries.items()}


def judge(pairs, tolerance, peak):
    """Stored answers against those given, (answers, ...), by root mean square; a number that is none fails."""
    finite = all(np.isfinite(stored).all() and np.isfinite(given).all() for stored, given in pairs)
    if not finite or not pairs:
        return {"worst": None, "single": None, "spread": None, "within": False}
    axes = [tuple(range(1, given.ndim)) for _, given in pairs]
    worst = max(float(np.sqrt(((g - s) ** 2).mean(axis=a)).max()) for (s, g), a in zip(pairs, axes))  # noqa: B905
    single = max(float(np.abs(given - stored).max()) for stored, given in pairs)
    spread = max(float((given.max(axis=0) - given.min(axis=0)).max()) for _, given in pairs)
    within = worst <= tolerance and single <= peak * tolerance
    return {"worst": worst, "single": single, "spread": spread, "within": within}


def to_graph(array, entry):
    """Golden input to what the graph takes: pictures are 0 to 255 for 0 to 1; stored = round(real / scale) + zero."""
    if array.dtype == np.uint8:
        if entry["dtype"] == "float32":
            array = array.astype(np.float32) / np.float32(255)
        elif entry["dtype"] == "uint8" and entry["scale"] == 1.0:
            return array.reshape(entry["shape"])
        else:
            array = array.astype(np.float64) / 255
    if entry["dtype"] != "float32":
        low, high = (0, 255) if entry["dtype"] == "uint8" else (-128, 127)
        array = np.clip(np.rint(array / entry["scale"]) + entry["zero_point"], low, high)
    return np.ascontiguousarray(array.reshape(entry["shape"]), dtype=DTYPES[entry["dtype"]])


def from_graph(array, entry):
    """Output of a graph as float: real = (stored - zero point) * scale."""
    if entry["dtype"] == "float32":
        return np.array(array)
    return (array.astype(np.float64) - entry["zero_point"]) * entry["scale"]


class TfliteModel:
    """One interpreter per file of a .tflite backend."""

    backend = "tflite"

    def __init__(self, golden, runtime):
        """Opens the files, one thread."""
        self.signatures = golden["signatures"]
        interpreter = interpreter_class(runtime)
        self.interpreters = {
            name: interpreter(model_content=content, num_threads=1) for name, content in golden["content"].items()
        }
        self.runners = {
            part: self.interpreters[signature["file"]].get_signature_runner(signature["key"])
            for part, signature in self.signatures.items()
        }

    def run(self, part, arrays):
        """Outputs of one signature by dfkit's names."""
        signature = self.signatures[part]
        feeds = {entry["tensor"]: to_graph(arrays[entry["name"]], entry) for entry in signature["inputs"]}
        given = self.runners[part](**feeds)
        return {entry["name"]: from_graph(given[entry["tensor"]], entry) for entry in signature["outputs"]}


def interpreter_class(runtime):
    """`Interpreter` of a runtime."""
    if runtime == "tensorflow":
        return importlib.import_module("tensorflow").lite.Interpreter
    return importlib.import_module(runtime + ".interpreter").Interpreter


class OnnxModel:
    """One session per file of an ONNX backend."""

    backend = "onnx"

    def __init__(self, golden, runtime):
        """Opens the files, one thread."""
        module = importlib.import_module(runtime)
        options = module.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.signatures = golden["signatures"]
        self.sessions = {
            name: module.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            for name, content in golden["content"].items()
        }

    def run(self, part, arrays):
        """Outputs of one graph by dfkit's names."""
        signature = self.signatures[part]
        feeds = {entry["tensor"]: to_graph(arrays[entry["name"]], entry) for entry in signature["inputs"]}
        given = self.sessions[signature["file"]].run([entry["tensor"] for entry in signature["outputs"]], feeds)
        return {e["name"]: from_graph(v, e) for e, v in zip(signature["outputs"], given)}  # noqa: B905 (Python 3.9)


if __name__ == "__main__":
    main()
