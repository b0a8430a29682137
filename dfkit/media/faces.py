"""The face networks of MediaPipe, checked by hash and run through LiteRT on one thread.

A detector for faces within about 2 m, one for distant faces, which is loaded when it is first needed, and landmarks.

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

from dfkit.clip import NUM_LANDMARKS, FaceVariant, FoundBy
from dfkit.errors import DfkitError
from dfkit.native_log import native_log

MODEL_FOLDER = Path(__file__).parent / "face_models"
MODEL_SHA256 = {
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "face_detection_full_range_sparse.tflite": "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
}
INT8_SHA256 = {
    "face_detection_short_range_int8.tflite": "b4c95fece35dc4212d95acb39428fc0e696a430baacc6ef57157ef1b5aa4869f",
    "face_landmark_int8.tflite": "32a7de2059121455c040883df5345c2b5983e8b2c28b80a937d1c057c23b6c62",
    "face_detection_full_range_sparse_int8.tflite": "6e4ae419a1df48d206bdbbe59cc4c462c1192edd29c8d494237aefc9db84bf72",
}
VARIANTS: dict[FaceVariant, dict[str, str]] = {"float16": MODEL_SHA256, "int8": INT8_SHA256}
"""SHA-256 by file name, in the order of `ROLES`."""
FaceRole = Literal["detector", "landmarks", "full_range_detector"]
_ROLE_ORDER: tuple[FaceRole, ...] = ("detector", "landmarks", "full_range_detector")
ROLES = {name: role for models in VARIANTS.values() for name, role in zip(models, _ROLE_ORDER, strict=True)}
"""What each file is run for."""
SECOND_STAGE: FaceRole = "full_range_detector"
"""The role that bundles of before it lack: they are served without a second stage."""
VALUES_PER_LANDMARK: dict[FaceVariant, int] = {"float16": 3, "int8": 2}
"""x, y and z; dfkit reads x and y."""
LANDMARK_PX = 192
LANDMARK_RANGE = (0.0, 1.0)
"""What grey levels 0 and 255 are for the landmark network."""


@dataclass(frozen=True)
class FaceDetector:
    """Constants of one of the two detectors, from MediaPipe's graph of that name."""

    name: FoundBy
    input_px: int
    """Side of its input; its boxes are in these pixels, too."""
    input_range: tuple[float, float]
    """What grey levels 0 and 255 are for it."""
    anchor_grids: tuple[tuple[int, int], ...]
    """Cells a side and anchors a cell, in the order of its outputs."""
    min_score: float
    """Least score of a detection, after the sigmoid."""

    @property
    def num_anchors(self) -> int:
        """Boxes that it scores."""
        return sum(cells * cells * per_cell for cells, per_cell in self.anchor_grids)


SHORT_RANGE = FaceDetector("short_range", 128, (-1.0, 1.0), ((16, 2), (8, 6)), 0.5)
"""Faces within about 2 m of the camera: 896 anchors."""
FULL_RANGE = FaceDetector("full_range", 192, (-1.0, 1.0), ((48, 1),), 0.6)
"""Faces within about 5 m: 2304 anchors."""


@dataclass(frozen=True)
class Origin:
    """Where a face model comes from."""

    source: str
    license: str


_WHEEL = "mediapipe 0.10.21 (PyPI, mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl)"
_INT8 = "made int8 by dfkit's tools/int8_faces.py"
_DETECTION = f"{_WHEEL}: mediapipe/modules/face_detection/face_detection_short_range.tflite"
_LANDMARK = f"{_WHEEL}: mediapipe/modules/face_landmark/face_landmark.tflite"
_FULL_RANGE = f"{_WHEEL}: mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite"
_LICENSE = "Apache-2.0, copyright The MediaPipe Authors"
ORIGINS = {
    "face_detection_short_range.tflite": Origin(_DETECTION, _LICENSE),
    "face_landmark.tflite": Origin(_LANDMARK, _LICENSE),
    "face_detection_full_range_sparse.tflite": Origin(_FULL_RANGE, _LICENSE),
    "face_detection_short_range_int8.tflite": Origin(f"{_DETECTION}, {_INT8}", f"{_LICENSE}; changed by dfkit"),
    "face_landmark_int8.tflite": Origin(f"{_LANDMARK}, {_INT8}", f"{_LICENSE}; changed by dfkit"),
    "face_detection_full_range_sparse_int8.tflite": Origin(f"{_FULL_RANGE}, {_INT8}", f"{_LICENSE}; changed by dfkit"),
}


def variant_of(names: Iterable[str]) -> FaceVariant | None:
    """The variant whose files have exactly these names, with or without the second stage; None where it is neither."""
    named = set(names)
    first_stage = {name for name in named if ROLES.get(name) != SECOND_STAGE}
    second_stage = named - first_stage
    for variant, models in VARIANTS.items():
        if first_stage == {name for name in models if ROLES[name] != SECOND_STAGE} and second_stage <= set(models):
            return variant
    return None


def has_second_stage(names: Iterable[str]) -> bool:
    """Whether a set of face models looks for distant faces, too."""
    return any(ROLES.get(name) == SECOND_STAGE for name in names)


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
    path = _find_model(name, folder)
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


def _find_model(name: str, folder: Path) -> Path:
    path = folder / name
    if not path.is_file():
        raise DfkitError(f"face model {path} is missing", fix="reinstall dfkit: pip install --force-reinstall dfkit")
    return path


class FaceModels:
    """Runs the face networks. Not thread-safe: the interpreters keep their tensors between calls."""

    def __init__(
        self, variant: FaceVariant = "float16", *, second_stage: bool = True, folder: Path = MODEL_FOLDER
    ) -> None:
        """Loads the short-range detector and the landmark network; the other detector waits until it is run.

        Args:
            variant: Which of the shipped sets.
            second_stage: Whether there is a detector for distant faces.
            folder: Where the files lie.
        Raises:
            DfkitError: A file is missing or is not the one this version was built with.
        """
        short_range, landmark, self._full_range_file = VARIANTS[variant]
        self._folder = folder
        self._loaded = {SHORT_RANGE.name: _LoadedDetector(load_model(short_range, folder=folder), SHORT_RANGE)}
        self._landmark = load_model(landmark, folder=folder)
        if second_stage:
            _find_model(self._full_range_file, folder)
        self.second_stage = second_stage
        """Whether `detect` may be asked for `FULL_RANGE`."""
        self._values = VALUES_PER_LANDMARK[variant]
        self._landmark_input = self._landmark.get_input_details()[0]["index"]
        self._point_output, self._presence_output = _outputs_by_size(self._landmark, NUM_LANDMARKS * self._values, 1)

    @property
    def is_full_range_loaded(self) -> bool:
        """Whether the detector of distant faces was needed so far."""
        return FULL_RANGE.name in self._loaded

    def detect(self, picture: np.ndarray, detector: FaceDetector = SHORT_RANGE) -> tuple[np.ndarray, np.ndarray]:
        """Runs a detector.

        Args:
            picture: Shape (P, P, 3), float32 in [-1, 1], RGB, P = `detector.input_px`.
            detector: Which one.
        Returns:
            Raw boxes with key points, (A, 16) float32, and raw scores before the sigmoid, (A,) float32, A =
            `detector.num_anchors`.
        Raises:
            DfkitError: Its file is needed for the first time and is not the one this version was built with.
        """
        if detector.name not in self._loaded:
            assert detector is FULL_RANGE and self.second_stage, "a tracker asks before it runs the second stage"
            self._loaded[detector.name] = _LoadedDetector(
                load_model(self._full_range_file, folder=self._folder), detector
            )
        return self._loaded[detector.name].run(picture)

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


class _LoadedDetector:
    """A detector's interpreter with the numbers of its tensors."""

    def __init__(self, interpreter: Interpreter, detector: FaceDetector) -> None:
        self._interpreter, self._num_anchors = interpreter, detector.num_anchors
        self._input = interpreter.get_input_details()[0]["index"]
        self._boxes, self._scores = _outputs_by_size(interpreter, self._num_anchors * 16, self._num_anchors)

    def run(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()
        boxes = self._interpreter.get_tensor(self._boxes).reshape(self._num_anchors, 16)
        return boxes, self._interpreter.get_tensor(self._scores).reshape(self._num_anchors)


def _outputs_by_size(interpreter: Interpreter, *sizes: int) -> list[int]:
    # Output names differ between converters, sizes do not.
    found = {int(np.prod(d["shape"])): d["index"] for d in interpreter.get_output_details()}
    return [found[size] for size in sizes]
