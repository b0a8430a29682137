"""The two face networks of MediaPipe, checked by hash and run through LiteRT on one thread."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from dfkit.errors import DfkitError
from dfkit.native_log import native_log

MODEL_FOLDER = Path(__file__).parent / "face_models"
MODEL_SHA256 = {
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}
DETECTOR_PX = 128
LANDMARK_PX = 192
NUM_LANDMARKS = 468
NUM_ANCHORS = 896


def load_model(name: str, *, folder: Path = MODEL_FOLDER) -> Interpreter:
    """Opens one face model after checking that its bytes are the expected ones.

    Args:
        name: A key of `MODEL_SHA256`.
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
    if digest != MODEL_SHA256[name]:
        raise DfkitError(
            f"face model {path} has SHA-256 {digest}, expected {MODEL_SHA256[name]}",
            fix="reinstall dfkit: pip install --force-reinstall dfkit",
        )
    with native_log():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter


class FaceModels:
    """Runs both networks. Holds their tensors, so one object serves one thread at a time."""

    def __init__(self, *, folder: Path = MODEL_FOLDER) -> None:
        self._detector = load_model("face_detection_short_range.tflite", folder=folder)
        self._landmark = load_model("face_landmark.tflite", folder=folder)
        self._detector_input = self._detector.get_input_details()[0]["index"]
        self._landmark_input = self._landmark.get_input_details()[0]["index"]
        self._box_output, self._score_output = _outputs_by_size(self._detector, NUM_ANCHORS * 16, NUM_ANCHORS)
        self._point_output, self._presence_output = _outputs_by_size(self._landmark, NUM_LANDMARKS * 3, 1)

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
        points = self._landmark.get_tensor(self._point_output).reshape(NUM_LANDMARKS, 3)[:, :2]
        return points, float(self._landmark.get_tensor(self._presence_output).reshape(-1)[0])


def _outputs_by_size(interpreter: Interpreter, *sizes: int) -> list[int]:
    # Output names differ between converters, sizes do not.
    found = {int(np.prod(d["shape"])): d["index"] for d in interpreter.get_output_details()}
    return [found[size] for size in sizes]
