"""One variant of the face models from prepared data to the bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.export.bundle import CARD_FILE
from dfkit.export.export import export_student, open_student
from dfkit.media.faces import variant_of
from dfkit.runtime.bundle import open_bundle
from tests.export import tiny


def set_faces(data_dir: Path, faces: str | None) -> Path:
    """Writes the variant into data.json as prepare does; None: as it was before there was a choice."""
    path = data_dir / "data.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("face_models", None)
    content |= {} if faces is None else {"face_models": faces}
    path.write_text(json.dumps(content), encoding="utf-8")
    return data_dir


@pytest.mark.parametrize(
    ("prepared", "asked", "served"),
    [("int8", None, "int8"), (None, None, "float16"), ("int8", "int8", "int8"), (None, "int8", "int8")],
)
def test_a_bundle_is_served_with_what_prepared_its_data(
    converted_once: None, tmp_path: Path, prepared: str | None, asked: str | None, served: str
) -> None:
    """Data was prepared with float16 models and its students were served with INT8 ones, without a word."""
    data = set_faces(tiny.tiny_data(tmp_path / "data"), prepared)
    checkpoint = tiny.tiny_checkpoint(tmp_path / "best.pth", data)
    section = tiny.CONFIG.export.model_copy(update={"face_models": asked})
    config = tiny.CONFIG.model_copy(update={"export": section})
    summary = export_student(checkpoint, tmp_path / "exports", config, recipe="fp32")
    bundle = open_bundle(summary.bundle)
    assert variant_of(bundle.manifest.face_models) == served
    card = (Path(summary.bundle) / CARD_FILE).read_text(encoding="utf-8")
    differs = (prepared or "float16") != served
    warning = "> **served with int8 face models, trained on faces that float16 ones found"
    assert (warning in card) is differs
    assert ("not by the float16 ones of the training data" in card) is differs
    assert ("as in the training data" in card) is not differs
    assert any("face models" in line for line in summary.warnings) is differs


def test_data_that_other_face_models_prepared_is_refused(tmp_path: Path) -> None:
    """Parity and static ranges would be taken on crops that the student was not trained on."""
    data = set_faces(tiny.tiny_data(tmp_path / "data"), "int8")
    checkpoint = tiny.tiny_checkpoint(tmp_path / "best.pth", data, face_models="float16")
    with pytest.raises(DataError, match=r"prepared with int8 face models, .* was trained on float16 ones\n  Fix: "):
        open_student(checkpoint, None)
    set_faces(data, None)
    assert PreparedData(open_student(checkpoint, None)[1].path).info.face_models == "float16"
