"""A whole export of a tiny student: schema, the manifest inside the .tflite, inspect, and the same bytes twice."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
import yaml
from ai_edge_litert.interpreter import Interpreter

from dfkit.errors import BundleError
from dfkit.export.bundle import free_folder
from dfkit.export.compact import compact, embed
from dfkit.export.export import export_student
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.inspection import CALLED, METADATA, SHARED, TABLES, FileFacts, inspect_path
from dfkit.runtime.manifest import Manifest
from dfkit.runtime.proven import SMALLEST
from dfkit.runtime.replay import replay_bundle
from dfkit.runtime.replay_video import replay_video
from dfkit.runtime.schema import SCHEMA_FILE, SHIPPED, manifest_schema, schema_text
from dfkit.runtime.tensorflow_replay import replay_with_tensorflow
from dfkit.runtime.tflite_file import MANIFEST_ENTRY, embedded_manifest, metadata_of, read_tables
from tests.export import tiny

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from dfkit.runtime.tensorflow_replay import replay_with_tensorflow
from dfkit.runtime.tflite_file import embedded_manifest
found = embedded_manifest(Path(sys.argv[1]).read_bytes())
print(found.clip_spec.num_frames, found.operating_point.threshold, len(found.files))
"""


MUTED = {
    "calibration": {"calibration_temperature": 2.0},
    "operating_point": {"threshold": 0.4, "review_low": 0.35, "review_high": 0.45, "name": "chosen by hand"},
    "metrics": {"test": {"video": {"auc": 0.75}}},
}
"""Facts of a student that was trained with modality dropout."""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One student exported twice: here, and by the command in a process with other hashes and another folder."""
    root = tmp_path_factory.mktemp("export")
    data = tiny.tiny_data(root / "data", more=18)
    checkpoint = tiny.tiny_checkpoint(root / "student" / "best.pth", data, muted=MUTED)
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny.CONFIG.model_dump(mode="json")), encoding="utf-8")
    call = ["export", "--int8", "--format", "all", "--checkpoint", checkpoint, "--config", config]
    (root / "again" / "exports" / "tiny").mkdir(parents=True)  # the name is taken: the folder is tiny-2
    again = subprocess.Popen(
        [sys.executable, "-m", "dfkit", *map(str, call), "--workspace", str(root / "again")],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    export_student(checkpoint, root / "exports", tiny.CONFIG, formats="all", recipe="mixed_int8")
    _, said = again.communicate(timeout=600)
    assert again.returncode == 0, said
    return root / "exports" / "tiny", root / "again" / "exports" / "tiny-2"


def test_the_same_student_gives_the_same_bytes(exports: tuple[Path, Path]) -> None:
    first, second = exports
    names = sorted(p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file())
    assert {"model.tflite", "encode.onnx", "score.onnx", "manifest.json", SCHEMA_FILE} <= set(names)
    assert names == sorted(p.relative_to(second).as_posix() for p in second.rglob("*") if p.is_file())
    different = [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()]
    assert different == []
    assert Path(f"{first}.zip").read_bytes() == Path(f"{second}.zip").read_bytes()


def test_muted_videos_have_a_decision_of_their_own(exports: tuple[Path, Path]) -> None:
    manifest = open_bundle(exports[0]).manifest
    assert manifest.decision_muted is not None and manifest.decision_muted.decision.threshold == 0.4
    stages = [stage for stage in manifest.metrics["parity"]["stages"] if stage["kind"] == "muted"]
    assert [stage["stage"] for stage in stages][:3] == ["fused", "tflite fp32", "tflite int8"]
    assert all(stage["passed"] and stage["num_clips"] == 2 for stage in stages)
    card = (exports[0] / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "judged by its picture alone: threshold 0.400" in card and "| student, muted | test | 0.750 |" in card
    # Golden vectors hold a clip of digital silence, which is what such a video is scored with.
    index = json.loads((exports[0] / "golden" / "golden.json").read_bytes())
    files = [case["inputs"]["pcm"]["file"] for found in index["sets"] for case in found["score"]]
    assert any(not any((exports[0] / "golden" / file).read_bytes()) for file in files)


def test_a_video_unlike_the_training_videos_is_review(exports: tuple[Path, Path]) -> None:
    """The golden video shows a drawn head, training showed smooth patterns."""
    bundle = open_bundle(exports[0])
    found = bundle.manifest.familiarity
    assert found is not None and found.max_distance is not None
    assert found.fitted_on.startswith("20 real training videos of 20 groups;")
    assert set(found.differences) == {"onnx"} and found.differences["onnx"] < 0.2 * found.max_distance
    answers = json.loads((exports[0] / "golden" / "video.json").read_bytes())["answers"]
    result = Detector(bundle).detect(exports[0] / "golden" / "video.mp4")
    assert result.distance == pytest.approx(answers["tflite"]["distance"], rel=0.05)
    assert result.distance > found.max_distance and result.verdict == answers["tflite"]["verdict"] == "review"
    assert replay_video(bundle).passed


def test_no_file_names_this_machine(exports: tuple[Path, Path]) -> None:
    first, _ = exports
    with zipfile.ZipFile(f"{first}.zip") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    for foreign in (str(first.parents[1]).encode(), b"site-packages", str(Path.home()).encode()):
        assert foreign not in content


def test_golden_vectors_of_the_final_files_replay(exports: tuple[Path, Path]) -> None:
    assert replay_bundle(exports[0]).passed


def test_golden_vectors_through_tensorflow(exports: tuple[Path, Path]) -> None:
    opinion = replay_with_tensorflow(exports[0])
    print("\n".join(opinion.summary()))
    assert opinion.passed and opinion.tensorflow.startswith("2.")
    assert {output["backend"] for output in opinion.to_json()["outputs"]} == {"tflite"}


def test_shipped_schema_is_the_models() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == schema_text(), "run: python -m dfkit.runtime.schema"


def test_schema_takes_what_the_reader_takes(exports: tuple[Path, Path]) -> None:
    """Judged by an independent implementation of JSON Schema."""
    manifest = json.loads((exports[0] / "manifest.json").read_bytes())
    schema = json.loads((exports[0] / SCHEMA_FILE).read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(manifest)

    def broken(**changes: Any) -> list[Any]:
        return list(validator.iter_errors({**manifest, **changes}))

    old = {key: value for key, value in manifest.items() if key != "aggregation"}
    assert manifest["schema_version"] == 4 and "aggregation" in manifest
    assert not list(validator.iter_errors({**old, "schema_version": 1})), "bundles of version 1 are out"
    second = {key: value for key, value in manifest.items() if key != "serving"} | {"schema_version": 2}
    second["face_models"] = {n: {k: e[k] for k in ("bytes", "sha256")} for n, e in manifest["face_models"].items()}
    assert not list(validator.iter_errors(second)), "bundles of version 2 are out"
    assert broken(serving={**manifest["serving"], "sound": None})
    assert not broken(aggregation={"name": "top_k", "k": 3}) and broken(aggregation={"name": "median"})
    assert broken(schema_version=5)
    assert broken(surprise=1)
    assert broken(files={"a": {"bytes": -1, "sha256": "0" * 64}})
    assert broken(files={"a": {"bytes": 1, "sha256": "no hash"}})
    assert broken(backends={"coreml": manifest["backends"]["tflite"]})
    assert "Bytes" not in schema and manifest_schema()["title"].endswith("version 4")


def test_onnx_opset_stands_in_the_manifest(exports: tuple[Path, Path]) -> None:
    backends = open_bundle(exports[0]).manifest.backends
    assert (backends["onnx"].opset, backends["onnx"].ir_version) == (18, 8)
    assert (backends["tflite"].opset, backends["tflite"].ir_version) == (None, None)
    for name, backend in backends.items():
        assert backend.runtimes == SMALLEST[name]
    card = (exports[0] / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "- tflite: ai-edge-litert 1.0.1, tensorflow 2.16.2\n" in card
    assert "- onnx (opset 18, IR 8): onnxruntime 1.15.1\n" in card


def test_a_lone_tflite_explains_itself(exports: tuple[Path, Path], tmp_path: Path) -> None:
    content = (exports[0] / "model.tflite").read_bytes()
    manifest = open_bundle(exports[0]).manifest
    assert embedded_manifest(content) == manifest.model_copy(update={"files": {}, "metrics": {}})
    # The hash is the final file's, manifest inside.
    assert manifest.files["model.tflite"].sha256 == hashlib.sha256(content).hexdigest()
    (tmp_path / "lone.tflite").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "lone.tflite")],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.split() == ["6", "0.5", "0"]


def test_metadata_that_cannot_be_used(exports: tuple[Path, Path]) -> None:
    plain = compact((exports[0].with_name("tiny.reference") / "fp32" / "model.tflite").read_bytes())
    assert embedded_manifest(plain) is None
    for stored, message in (
        (b"{", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"schema_version": 5}', "reads up to 4"),
        (b'{"name": 3}', "does not follow"),
    ):
        with pytest.raises(BundleError, match=message):
            embedded_manifest(embed(plain, MANIFEST_ENTRY, stored))
    with pytest.raises(BundleError, match=r"not a \.tflite"):
        embedded_manifest(b"PK\3\4")
    with pytest.raises(BundleError, match="damaged"):
        embedded_manifest(plain[:600])


def test_embedding_replaces_and_computes_the_same(exports: tuple[Path, Path]) -> None:
    content = (exports[0] / "model.tflite").read_bytes()
    again = embed(content, MANIFEST_ENTRY, b"other")
    entries = metadata_of(again, read_tables(again, where="test"))
    assert entries[MANIFEST_ENTRY] == b"other"
    assert len(entries) == len(metadata_of(content, read_tables(content, where="test")))
    picture = tiny.tiny_clip()["face"][:1].view("int8"), tiny.tiny_clip()["lip"][:1].view("int8")
    answers = []
    for model in (content, again):
        interpreter = Interpreter(model_content=model, num_threads=1)
        answers.append(interpreter.get_signature_runner("encode")(args_0=picture[0], args_1=picture[1]))
    for name, value in answers[0].items():
        assert (value == answers[1][name]).all()


def test_inspect_agrees_with_the_interpreter(exports: tuple[Path, Path], tmp_path: Path) -> None:
    content = (exports[0] / "model.tflite").read_bytes()
    lone = tmp_path / "copy.tflite"
    lone.write_bytes(content)
    found = inspect_path(lone)
    (model,) = found.models
    assert found.name == "tiny"
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_preserve_all_tensors=True)
    signatures = [graph for graph in model.graphs if graph.name != CALLED.format(2)]
    assert [graph.name for graph in signatures] == ["encode", "score"] and len(model.graphs) == 3
    for graph in signatures:
        runner = interpreter.get_signature_runner(graph.name)
        for tensors, details in (
            (graph.inputs, runner.get_input_details()),
            (graph.outputs, runner.get_output_details()),
        ):
            assert {t.name: (t.shape, t.dtype) for t in tensors} == {
                name: (tuple(d["shape"]), d["dtype"].__name__) for name, d in details.items()
            }
    first = model.graphs[0]
    assert [t.scale and round(1 / t.scale) for t in first.inputs] == [255, 255]
    assert [t.zero_point for t in first.inputs] == [-128, -128]
    # The interpreter counts the operators of the first subgraph, which is `encode`.
    operators = Counter(op["op_name"] for op in interpreter._get_ops_details())
    operators.pop("DELEGATE", None)
    assert dict(operators) == first.operators


def whole(model: FileFacts) -> int:
    return sum(size for part in model.parts.values() for size in part.values())


def test_inspect_accounts_for_every_byte(exports: tuple[Path, Path]) -> None:
    found = inspect_path(exports[0])
    by_file = {model.file: model for model in found.models}
    assert sorted(by_file) == ["encode.onnx", "model.tflite", "score.onnx"]
    for name, model in by_file.items():
        assert whole(model) == model.bytes == (exports[0] / name).stat().st_size
    tflite = by_file["model.tflite"]
    needed = {"encode", "score", CALLED.format(2), METADATA, TABLES}
    assert needed <= set(tflite.parts) <= needed | {SHARED}
    # INT8 weights of the six convolutions, by hand: outputs x 3 x 3 x inputs; the first ones see rows of 2 x 6 values.
    weights = 36 * 8 + 9 * (8 * 8 + 8 * 16) + 36 * 8 + 9 * (8 * 8 + 8 * 8)
    assert tflite.parts["encode"]["int8"] == weights
    assert tflite.parts[METADATA][MANIFEST_ENTRY] > 1000
    score = onnx.load(exports[0] / "score.onnx")
    assert by_file["score.onnx"].graphs[0].operators == dict(Counter(node.op_type for node in score.graph.node))
    assert by_file["score.onnx"].graphs[0].operators["GRU"] == 3
    assert by_file["score.onnx"].graphs[0].inputs[0].shape == ("batch", "640*steps + 1408")
    assert "ONNX opset ai.onnx 18, IR 8" in by_file["score.onnx"].format
    text = "\n".join(found.summary())
    assert "face" in text and "CONV_2D 6" in text and "golden/golden.json" in text
    json.dumps(found.to_json())


def test_inspect_command(exports: tuple[Path, Path], tmp_path: Path) -> None:
    def run(path: Path) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "dfkit", "inspect", str(path), "--json"]
        return subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)

    done = run(exports[0] / "model.tflite")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"][0]["graphs"][1]["name"] == "score"
    (tmp_path / "cut.tflite").write_bytes((exports[0] / "model.tflite").read_bytes()[:999])
    for path in (tmp_path / "cut.tflite", tmp_path / "none"):
        done = run(path)
        assert done.returncode == 2 and done.stderr.startswith("dfkit: "), done.stderr


def test_name_is_the_experiments_not_the_folders(exports: tuple[Path, Path]) -> None:
    assert {Manifest.model_validate_json((e / "manifest.json").read_bytes()).name for e in exports} == {"tiny"}
    assert exports[1].name == "tiny-2" and free_folder(exports[1].parent, "tiny").name == "tiny-3"
