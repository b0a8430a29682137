"""The two face networks of MediaPipe, checked by hash and run through LiteRT on one thread.

They are shipped twice: as MediaPipe has them (`float16`), and with int8 convolution weights (`int8`) at less than half
the size; see face_models/README.md. Prepared data says which of them found its faces; a bundle is served with the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from dfkit.clip import NUM_LANDMARKS, FaceVariant
from dfkit.errors import DfkitError
from dfkit.native_log import native_log

MODEL_FOLDER = Path(__file__).parent / "face_models"
MODEL_SHA256 = {
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}
INT8_SHA256 = {
    "face_detection_short_range_int8.tflite": "7a0fcd4e5f5c4b78ca4f2635f41f0b75268bb78524a306b5417849304d28d04a",
    "face_landmark_int8.tflite": "791bb082f7732a30adc7ca2b78ae1afb3112e1b5a8731d23759c8aab187b76f0",
}
VARIANTS: dict[FaceVariant, dict[str, str]] = {"float16": MODEL_SHA256, "int8": INT8_SHA256}
"""SHA-256 by file name, detector first."""
FaceRole = Literal["detector", "landmarks"]
_ROLE_ORDER: tuple[FaceRole, ...] = ("detector", "landmarks")
ROLES = {name: role for models in VARIANTS.values() for name, role in zip(models, _ROLE_ORDER, strict=True)}
"""What each file is run for."""
VALUES_PER_LANDMARK: dict[FaceVariant, int] = {"float16": 3, "int8": 2}
"""x, y and z; dfkit reads x and y."""
DETECTOR_PX = 128
LANDMARK_PX = 192
NUM_ANCHORS = 896
DETECTOR_RANGE = (-1.0, 1.0)
"""What grey levels 0 and 255 are for the detector."""
LANDMARK_RANGE = (0.0, 1.0)
"""What grey levels 0 and 255 are for the landmark network."""


@dataclass(frozen=True)
class Origin:
    """Where a face model comes from."""

    source: str
    license: str


_WHEEL = "mediapipe 0.10.21 (PyPI, mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl)"
_INT8 = "made int8 by dfkit's tools/int8_faces.py"
_DETECTION = f"{_WHEEL}: mediapipe/modules/face_detection/face_detection_short_range.tflite"
_LANDMARK = f"{_WHEEL}: mediapipe/modules/face_landmark/face_landmark.tflite"
_LICENSE = "Apache-2.0, copyright The MediaPipe Authors"
ORIGINS = {
    "face_detection_short_range.tflite": Origin(_DETECTION, _LICENSE),
    "face_landmark.tflite": Origin(_LANDMARK, _LICENSE),
    "face_detection_short_range_int8.tflite": Origin(f"{_DETECTION}, {_INT8}", f"{_LICENSE}; changed by dfkit"),
    "face_landmark_int8.tflite": Origin(f"{_LANDMARK}, {_INT8}", f"{_LICENSE}; changed by dfkit"),
}


def variant_of(names: Iterable[str]) -> FaceVariant | None:
    """The variant whose files have exactly these names; None where it is neither."""
    named = set(names)
    return next((variant for variant, models in VARIANTS.items() if set(models) == named), None)


def scale_levels(picture: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Grey levels to what a network takes: any shape, uint8, to float32 with 0 and 255 at the two ends."""
    scaled = picture.astype(np.float32)
    scaled *= np.float32((ends[1] - ends[0]) / 255)
    if ends[0]:
        scaled += np.float32(ends[0])
    return scaled


def load_model(name: str, *, folder: Path = MODEL_FOLDER) -> Interpreter:
    """Opens one face model after checking that its bytes are the expected ones.

    Args:
        name: A file of `VARIANTS`.
        folder: Where the file lies.
    Returns:
        An interpreter on one thread, with its tensors allocated.
    Raises:
        DfkitError: The file is missing or is not the one this version was built with.
    """
    path = folder / name
    if not path.is_file():
        raise DfkitError(f"face model {path} is missing", fix="reinstall dfkit: pip install --force-reinstall dfkit")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    expected = (MODEL_SHA256 | INT8_SHA256)[name]
    if digest != expected:
        raise DfkitError(
            f"face model {path} has SHA-256 {digest}, expected {expected}",
            fix="reinstall dfkit: pip install --force-reinstall dfkit",
        )
    with native_log():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter


class FaceModels:
    """Runs both face networks. Not thread-safe: the interpreters keep their tensors between calls."""

    def __init__(self, variant: FaceVariant = "float16", *, folder: Path = MODEL_FOLDER) -> None:
        """Loads both networks.

        Args:
            variant: Which of the shipped pairs.
            folder: Where the files lie.
        Raises:
            DfkitError: A file is missing or is not the one this version was built with.
        """
        self._detector, self._landmark = (load_model(name, folder=folder) for name in VARIANTS[variant])
        self._values = VALUES_PER_LANDMARK[variant]
        self._detector_input = self._detector.get_input_details()[0]["index"]
        self._landmark_input = self._landmark.get_input_details()[0]["index"]
        self._box_output, self._score_output = _outputs_by_size(self._detector, NUM_ANCHORS * 16, NUM_ANCHORS)
        self._point_output, self._presence_output = _outputs_by_size(self._landmark, NUM_LANDMARKS * self._values, 1)

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Runs the detector.

        Args:
            picture: Shape (128, 128, 3), float32 in [-1, 1], RGB.
        Returns:
            Raw boxes with key points, (896, 16) float32, and raw scores before the sigmoid, (896,) float32.
        """
        self._detector.set_tensor(self._detector_input, picture[None])
        self._detector.invoke()
        boxes = self._detector.get_tensor(self._box_output).reshape(NUM_ANCHORS, 16)
        return boxes, self._detector.get_tensor(self._score_output).reshape(NUM_ANCHORS)

    def landmark(self, picture: np.ndarray) -> tuple[np.ndarray, float]:
        """Runs the landmark network.

        Args:
            picture: Shape (192, 192, 3), float32 in [0, 1], RGB.
        Returns:
            Points (468, 2) float32 in pixels of the picture, and the presence before the sigmoid.
        """
        self._landmark.set_tensor(self._landmark_input, picture[None])
        self._landmark.invoke()
        points = self._landmark.get_tensor(self._point_output).reshape(NUM_LANDMARKS, self._values)[:, :2]
        return points, float(self._landmark.get_tensor(self._presence_output).reshape(-1)[0])


def _outputs_by_size(interpreter: Interpreter, *sizes: int) -> list[int]:
    # Output names differ between converters, sizes do not.
    found = {int(np.prod(d["shape"])): d["index"] for d in interpreter.get_output_details()}
    return [found[size] for size in sizes]
