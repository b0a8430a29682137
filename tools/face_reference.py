"""Writes the faces that MediaPipe itself finds, as golden files for tests/media.

Run by `make face-reference` from dfkit's environment with scikit-image. MediaPipe 0.10.21 needs numpy 1.x and
brings a second cv2, so it gets an environment of its own; pictures go to it through a pipe.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Without its dependencies: jax and opencv-contrib are not needed for face_mesh.
MEDIAPIPE = ["mediapipe==0.10.21"]
BESIDE = [
    "numpy<2",
    "absl-py",
    "attrs",
    "flatbuffers",
    "protobuf>=4.25.3,<5",
    "matplotlib",
    "opencv-python-headless<4.12",
    "sounddevice",
]
FULL_RANGE = -1
"""In place of a number of faces: run the full-range detector."""
MOST_DISTANT = 3
"""Detections that are stored of one picture with a small face."""


def main() -> int:
    """Makes the environment if needed and writes one file per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("DFKIT_SHARED", ROOT.parent / "shared")))
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "dfkit-mediapipe")
    parser.add_argument("--worker", type=int, help="internal: number of faces, 0 or -1 to detect; pictures on stdin")
    arguments = parser.parse_args()
    if arguments.worker is not None:
        return run_worker(arguments.worker, sys.stdin.buffer, sys.stdout.buffer)
    sys.path.insert(0, str(ROOT))
    from tests.media.face_cases import GOLDEN, distant_faces, encode_golden, list_cases, synthetic_head

    python = make_environment(arguments.environment)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for case in list_cases(arguments.shared):
        landmarks = ask_mediapipe(python, case.frames(), case.max_faces)
        seen = ~np.isnan(landmarks[:, :, 0, 0])
        np.savez_compressed(GOLDEN / f"{case.name}.npz", landmarks=_narrow(encode_golden(landmarks)))
        print(f"{case.name}: {len(landmarks)} pictures, faces {seen.sum(axis=0).tolist()}")
    heads = list(synthetic_head(76))[::25]
    _write_detections(GOLDEN / "detections.json", ask_mediapipe(python, iter(heads), 0))
    pictures = list(distant_faces(arguments.shared))
    answers = ask_mediapipe(python, (picture.rgb for picture in pictures), FULL_RANGE)
    _write_distant(GOLDEN / "distant.json", [picture.name for picture in pictures], answers)
    _write_pictures(GOLDEN.parent / "media", python, list(synthetic_head(4, size=192)))
    return 0


def _write_pictures(folder: Path, python: Path, heads: list[np.ndarray]) -> None:
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    landmarks = ask_mediapipe(python, iter(heads), 1)[:, 0]
    names = [f"head-{index}.png" for index in range(len(heads))]
    for name, rgb in zip(names, heads, strict=True):
        cv2.imwrite(str(folder / name), rgb[..., ::-1])
    content = {"source": "mediapipe 0.10.21 face_mesh", "pictures": names, "landmarks": landmarks.round(2).tolist()}
    (folder / "track.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def _write_detections(path: Path, answers: np.ndarray) -> None:
    note = "score, left, top, right, bottom, six key points x, y; pixels of synthetic_head pictures 0, 25, 50, 75"
    content = {"source": "mediapipe 0.10.21 face_detection, short range", "layout": note}
    path.write_text(json.dumps({**content, "detections": answers.round(4).tolist()}) + "\n", encoding="utf-8")


def _write_distant(path: Path, names: list[str], answers: np.ndarray) -> None:
    note = "score, left, top, right, bottom, six key points x, y; pixels; best first"
    found = {
        name: [row.round(4).tolist() for row in rows if not np.isnan(row[0])]
        for name, rows in zip(names, answers, strict=True)
    }
    content = {"source": "mediapipe 0.10.21 face_detection, full range", "layout": note, "detections": found}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def make_environment(folder: Path) -> Path:
    """Makes the environment with MediaPipe unless it is there; returns its interpreter."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    if subprocess.run([str(python), "-c", "import mediapipe"], capture_output=True, check=False).returncode:
        subprocess.run([*install, "--no-deps", *MEDIAPIPE], check=True)
        subprocess.run([*install, *BESIDE], check=True)
    return python


def ask_mediapipe(python: Path, frames: Iterator[np.ndarray], max_faces: int) -> np.ndarray:
    """Sends pictures through MediaPipe.

    Args:
        python: Interpreter of its environment.
        frames: (H, W, 3) uint8 pictures of one size.
        max_faces: Faces to follow; 0 to run the short-range detector alone, `FULL_RANGE` the other one.
    Returns:
        (frames, max_faces, 468, 2) float64 pixels, NaN where there is no face; of the short-range detector
        (frames, 17); of the full-range one (frames, 3, 17) with NaN behind the last detection.
    """
    command = [str(python), __file__, "--worker", str(max_faces)]
    with tempfile.TemporaryFile() as answers:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=answers, stderr=subprocess.DEVNULL) as worker:
            assert worker.stdin is not None
            count = 0
            for rgb in frames:
                worker.stdin.write(np.array(rgb.shape[:2], "<i4").tobytes() + rgb.tobytes())
                count += 1
            worker.stdin.close()
        if worker.returncode:
            raise SystemExit(f"MediaPipe ended with {worker.returncode}; run {' '.join(command)} to see why")
        answers.seek(0)
        values = np.frombuffer(answers.read(), "<f8")
    shapes = {0: (count, 17), FULL_RANGE: (count, MOST_DISTANT, 17)}
    return values.reshape(shapes.get(max_faces, (count, max_faces, 468, 2)))


def run_worker(max_faces: int, pictures: BinaryIO, answers: BinaryIO) -> int:
    """Inside MediaPipe's environment: pictures in, landmarks in pixels out."""
    # MediaPipe's native code prints to stdout.
    answers = os.fdopen(os.dup(answers.fileno()), "wb")
    os.dup2(2, 1)
    import mediapipe

    solutions = mediapipe.solutions
    follow = None
    if max_faces > 0:
        follow = solutions.face_mesh.FaceMesh(static_image_mode=False, refine_landmarks=False, max_num_faces=max_faces)
    # 0.5 and 0.6 are the graphs' own least scores.
    model, score = (1, 0.6) if max_faces == FULL_RANGE else (0, 0.5)
    detect = solutions.face_detection.FaceDetection(model_selection=model, min_detection_confidence=score)
    while header := pictures.read(8):
        height, width = (int(value) for value in np.frombuffer(header, "<i4"))
        rgb = np.frombuffer(pictures.read(height * width * 3), np.uint8).reshape(height, width, 3)
        if follow is not None:
            values = _list_landmarks(follow.process(rgb), max_faces, width, height)
        else:
            most = MOST_DISTANT if max_faces == FULL_RANGE else 1
            values = _list_detections(detect.process(rgb), most, width, height)
        answers.write(values.astype("<f8").tobytes())
    answers.close()
    return 0


def _list_landmarks(found: Any, max_faces: int, width: int, height: int) -> np.ndarray:
    values = np.full((max_faces, 468, 2), np.nan)
    for face, landmarks in enumerate((found.multi_face_landmarks or [])[:max_faces]):
        values[face] = [(point.x * width, point.y * height) for point in landmarks.landmark]
    return values


def _list_detections(found: Any, most: int, width: int, height: int) -> np.ndarray:
    detections = found.detections or []
    assert len(detections) <= most, "more faces than the reference has room for"
    values = np.full((most, 17), np.nan)
    for row, detection in zip(values, detections, strict=False):
        box, points = detection.location_data.relative_bounding_box, detection.location_data.relative_keypoints
        edges = [box.xmin * width, box.ymin * height, (box.xmin + box.width) * width, (box.ymin + box.height) * height]
        row[:] = [detection.score[0], *edges, *(v for p in points for v in (p.x * width, p.y * height))]
    return values


def _narrow(values: np.ndarray) -> np.ndarray:
    # Differences fit 16 bits except where a face comes or goes.
    return values.astype(np.int16) if np.abs(values).max() < 32768 else values


if __name__ == "__main__":
    raise SystemExit(main())
