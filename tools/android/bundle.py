"""Makes the small bundle that `make android` packs where none is named: a stressed, untrained student.

    python -m tools.android.bundle --out android_demo/build/bundle

Its answers say nothing about videos, and its name and warnings say so. Its weights are seeded and so strong that every
input moves every output: golden vectors on it prove something.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import dfkit
from dfkit.clip import CLIP2S, DEFAULT_FACES
from dfkit.export.bundle import CARD_FILE, face_model_files, versions, with_manifest, write_bundle
from dfkit.export.golden import ArrayStore, calibration_of, choose_inputs, golden_set
from dfkit.export.golden_clips import base_clips
from dfkit.export.stages import convert_all
from dfkit.export.stress import stressed_network
from dfkit.measures.decision import Calibration, OperatingPoint
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import Checkpoint
from dfkit.runtime.bundle import face_model_entries, file_entry
from dfkit.runtime.golden_index import GOLDEN_FILE, GoldenIndex
from dfkit.runtime.manifest import Manifest
from dfkit.runtime.serving import serving_of

STUDENT = NetworkSpec(face_channels=(32, 64, 128), lip_channels=(16, 32, 64), gru_hidden=128)
WARNING = "untrained: random weights, for building and testing the app only; its answers say nothing about a video"
RECIPE = "mixed_int8"
POINT = OperatingPoint(threshold=0.5, review_low=0.45, review_high=0.55, name="chosen by hand")


def make(target: Path) -> None:
    """Writes the bundle.

    Args:
        target: Folder; what lies there is replaced.
    """
    clips = base_clips(CLIP2S)
    network = stressed_network(MMMSBA(STUDENT).eval(), CLIP2S, clips)
    checkpoint = Checkpoint(network, CLIP2S, "student", Path("untrained.pth"))
    stages = convert_all(checkpoint, ("tflite",), RECIPE, calibration_of(network, clips, RECIPE))
    shipped = {"tflite": stages["tflite int8"]}
    store = ArrayStore()
    vectors = golden_set("shipped", store, CLIP2S, shipped, choose_inputs(checkpoint, shipped, clips, 0.0))
    manifest = Manifest(
        name="untrained",
        dfkit_version=dfkit.__version__,
        clip_spec=CLIP2S,
        modalities=STUDENT.modalities,
        network=STUDENT.model_dump(mode="json"),
        backends={name: stage.backend for name, stage in shipped.items()},  # type: ignore[misc]
        operating_point=POINT,
        calibration=Calibration(),
        files={},
        face_models=face_model_entries(DEFAULT_FACES),
        serving=serving_of(CLIP2S, DEFAULT_FACES),
        warnings=(WARNING,),
        versions=versions(),
    )
    files = {
        **with_manifest(shipped["tflite"].files, manifest),
        **store.files,
        GOLDEN_FILE: GoldenIndex(sets=(vectors,)).model_dump_json().encode(),
        CARD_FILE: f"# {manifest.name}\n{WARNING}\n".encode(),
        **face_model_files(DEFAULT_FACES),
    }
    entries = {name: file_entry(content) for name, content in sorted(files.items())}
    shutil.rmtree(target, ignore_errors=True)
    target.with_name(f"{target.name}.zip").unlink(missing_ok=True)
    write_bundle(target, files, manifest.model_copy(update={"files": entries}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    make(parser.parse_args().out)
