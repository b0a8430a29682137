"""What the second stage finds on real clips, what it takes for a face where there is none, and what it costs.

    python tools/distant_faces.py VIDEO [VIDEO ...]

The first 2 s of each video as they are, then every fourth picture made so small that its face takes up 3 to 10 % of the
width of 1280 x 720, then the parts of the first and the last picture beside the faces. Trackers with and without the
second stage take turns. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dfkit.media.detect import detect_faces, detection_roi  # noqa: E402
from dfkit.media.faces import FULL_RANGE, SHORT_RANGE, FaceDetector, FaceModels  # noqa: E402
from dfkit.media.landmark import MIN_PRESENCE, find_landmarks, landmark_box  # noqa: E402
from dfkit.media.track import FaceTracker  # noqa: E402
from dfkit.media.video import PictureReader  # noqa: E402
from tests.media.face_cases import shrink_into  # noqa: E402

NUM_PICTURES, STEP = 50, 4
SHARES = (0.03, 0.04, 0.05, 0.07, 0.1)
SIZE, PLACE = (1280, 720), (420.0, 300.0)
MIN_REGION_PX = 48
"""Narrower strips beside a face are not looked at."""


class CountingModels(FaceModels):
    """Face models that count the runs of each detector."""

    def __init__(self, *, second_stage: bool) -> None:
        super().__init__("int8", second_stage=second_stage)
        self.runs: Counter[str] = Counter()

    def detect(self, picture: np.ndarray, detector: FaceDetector = SHORT_RANGE) -> tuple[np.ndarray, np.ndarray]:
        self.runs[detector.name] += 1
        return super().detect(picture, detector)


def follow_in_turns(pictures: list[np.ndarray], models: list[CountingModels]) -> tuple[list[Counter[str]], list[float]]:
    """Pictures by who found their faces, and seconds, for each set of models."""
    trackers, counts, seconds = [FaceTracker(m) for m in models], [Counter[str]() for _ in models], [0.0] * len(models)
    for number, rgb in enumerate(pictures):
        for place in range(len(models))[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            faces = trackers[place].update(rgb).faces
            seconds[place] += time.perf_counter() - started
            found_by = {face.found_by for face in faces}
            counts[place].update(found_by or {"nobody"})
    return counts, seconds


def accepted(rgb: np.ndarray, models: FaceModels, detector: FaceDetector) -> tuple[int, list[np.ndarray]]:
    """Detections of a picture, and the landmarks of those that the landmark network takes for a face."""
    detections = detect_faces(rgb, models, detector)
    found = [find_landmarks(rgb, detection_roi(detection), models) for detection in detections]
    return len(detections), [landmarks for landmarks, presence in found if presence >= MIN_PRESENCE]


def beside_faces(rgb: np.ndarray, faces: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The parts of a picture to the left, right, above and below all faces with their hair and neck."""
    boxes = np.stack([landmark_box(landmarks) for landmarks in faces])
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    width, height = right - left, bottom - top
    left, right = (int(np.clip(x, 0, rgb.shape[1])) for x in (left - 0.3 * width, right + 0.3 * width))
    top, bottom = (int(np.clip(y, 0, rgb.shape[0])) for y in (top - 0.5 * height, bottom + 0.3 * height))
    for region in (rgb[:, :left], rgb[:, right:], rgb[:top], rgb[bottom:]):
        if min(region.shape[:2]) >= MIN_REGION_PX:
            yield np.ascontiguousarray(region)


def count_distant(pictures: list[np.ndarray], landmarks: np.ndarray, models: FaceModels) -> dict[float, Counter[str]]:
    """Who finds the face of each picture by itself, by its share of the width; `elsewhere` where there is none."""
    counts: dict[float, Counter[str]] = {share: Counter() for share in SHARES}
    for share, count in counts.items():
        face = (*PLACE, share * SIZE[0])
        for rgb in pictures:
            found = FaceTracker(models).update(shrink_into(rgb, landmarks, face, SIZE)).faces
            count.update({f.found_by for f in found} or {"nobody"})
            count["elsewhere"] += sum(np.hypot(*(f.landmarks.mean(axis=0) - PLACE)) > 0.8 * face[2] for f in found)
    return counts


def faceless(num_pictures: int, size: tuple[int, int]) -> list[np.ndarray]:
    """A video of coloured clouds that move."""
    colours = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
    clouds = cv2.resize(colours, size, interpolation=cv2.INTER_CUBIC)
    return [np.roll(clouds, number, axis=1) for number in range(num_pictures)]


def measure_cost() -> dict[str, list[float]]:
    """Milliseconds a picture without and with the second stage in a video without any face; of loading, too."""
    models = [CountingModels(second_stage=flag) for flag in (False, True)]
    follow_in_turns(faceless(1, (64, 64)), models)
    found = {}
    for size in ((640, 360), (1920, 1080)):
        runs = [follow_in_turns(faceless(96, size), models)[1] for _ in range(6)]
        found[f"{size[0]}x{size[1]}"] = [round(1e3 * float(s) / 96, 3) for s in np.median(runs, axis=0)]
    starts = []
    for _ in range(15):
        times = [time.perf_counter()]
        for flag in (False, True):
            FaceModels("int8", second_stage=flag)
            times.append(time.perf_counter())
        starts.append(np.diff(times))
    return {**found, "loading": [round(1e3 * float(s), 2) for s in np.median(starts, axis=0)]}


def main() -> int:
    """Prints what differs by video, then everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    models = [CountingModels(second_stage=flag) for flag in (False, True)]
    totals, seconds = [Counter[str](), Counter[str]()], np.zeros(2)
    distant: dict[float, Counter[str]] = {share: Counter() for share in SHARES}
    regions: Counter[str] = Counter()
    for video in parser.parse_args().videos:
        pictures = [rgb for _, _, rgb in islice(PictureReader(video, 25.0, num_threads=1), NUM_PICTURES)]
        counts, taken = follow_in_turns(pictures, models)
        totals, seconds = [total + count for total, count in zip(totals, counts, strict=True)], seconds + taken
        if counts[0]["nobody"] or counts[1]["full_range"]:
            print(video.name, "without", dict(counts[0]), "with", dict(counts[1]), flush=True)
        for place, rgb in enumerate((pictures[0], pictures[-1])):
            faces = accepted(rgb, models[1], SHORT_RANGE)[1]
            for region in beside_faces(rgb, faces) if faces else ():
                regions["regions"] += 1
                for detector in (SHORT_RANGE, FULL_RANGE):
                    num_detections, found = accepted(region, models[1], detector)
                    regions[f"{detector.name} detections"] += num_detections
                    regions[f"{detector.name} faces"] += len(found)
            if place == 0 and faces:
                for share, count in count_distant(pictures[: 6 * STEP : STEP], faces[0], models[1]).items():
                    distant[share] += count
    result: dict[str, Any] = {
        "pictures by finder, without and with": [dict(total) for total in totals],
        "s, without and with": seconds.round(2).tolist(),
        "small faces": {f"{share:.0%}": dict(count) for share, count in distant.items()},
        "beside faces": dict(regions),
        "ms without a face": measure_cost(),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
