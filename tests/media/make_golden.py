"""Writes tests/golden/media: small vectors for every pure function, readable without Python.

Run with `python -m tests.media.make_golden`. Every expected number comes from another implementation: OpenCV,
SciPy, scikit-image, librosa, or MediaPipe (tests/golden/faces/detections.json).
"""

from __future__ import annotations

import cmath
import json
import statistics
from fractions import Fraction

import cv2
import librosa
import numpy as np
from scipy import ndimage, signal
from skimage.measure import block_reduce

from dfkit.media.faces import SHORT_RANGE, FaceModels
from dfkit.media.warp import Roi, warp_roi

from .face_cases import GOLDEN as FACES
from .face_cases import synthetic_head
from .test_resample import reference_filter

GOLDEN = FACES.parent / "media"
ROIS = [(100.0, 80.0, 60.0, 0.0), (33.5, 71.25, 120.0, 0.3), (-4.0, 12.5, 47.3, -1.2), (640.2, 360.9, 511.1, 2.9)]


def main() -> None:
    """Writes all files."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "mfcc": make_mfcc(),
        "resample": make_resample(),
        "roi": make_roi(),
        "detections": make_detections(),
        "warp": make_warp(),
        "boxes": make_boxes(),
        "match": make_match(),
        "crop": make_crop(),
        "smooth": make_smooth(),
        "cut": make_cut(),
    }.items():
        path = GOLDEN / f"{name}.json"
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
        print(path.name, path.stat().st_size)


def make_mfcc() -> dict:
    """librosa on a quarter of a second."""
    rng = np.random.default_rng(1)
    times = np.arange(4608) / 16000
    samples = (0.3 * np.sin(2 * np.pi * 300 * times) + rng.normal(0, 0.02, 4608)).round(4)
    cases = []
    for hop_length, centered in ((640, False), (512, True)):
        found = librosa.feature.mfcc(
            y=samples.astype(np.float32), sr=16000, n_mfcc=40, n_fft=2048, hop_length=hop_length, center=centered
        )
        cases.append(
            {
                "hop_length": hop_length,
                "centered": centered,
                "samples": samples.tolist(),
                "mfcc": found.T.round(4).tolist(),
            }
        )
    return {"source": f"librosa {librosa.__version__}", "cases": cases}


def make_resample() -> dict:
    """scipy.signal.resample_poly with the same design made by scipy.signal.firwin."""
    rng = np.random.default_rng(2)
    cases = []
    for rate in (8000, 22050, 44100, 48000):
        up, down = 16000 // np.gcd(rate, 16000), rate // np.gcd(rate, 16000)
        samples = rng.uniform(-1, 1, 800).round(4)
        made = signal.resample_poly(samples, up, down, window=reference_filter(rate, 16000) / up)
        cases.append(
            {"rate_in": rate, "rate_out": 16000, "samples": samples.tolist(), "resampled": made.round(6).tolist()}
        )
    return {"source": "scipy.signal.resample_poly with firwin(kaiser)", "tolerance": 5e-4, "cases": cases}


def make_roi() -> dict:
    """Corners of turned squares by cv2.boxPoints, maps between them by cv2.getPerspectiveTransform."""
    cases = []
    for x, y, side, angle in ROIS:
        corners = cv2.boxPoints(((x, y), (side, side), np.degrees(angle)))  # bottom left, top left, top right, ...
        out = np.array([[0, 192], [0, 0], [192, 0], [192, 192]], np.float32)
        matrix = cv2.getPerspectiveTransform(out, corners)
        points = np.array([[0, 0], [96, 96], [10, 150], [191, 3.5]], np.float64)
        moved = cv2.perspectiveTransform(points[None], matrix)[0]
        cases.append({"roi": [x, y, side, angle], "points": points.tolist(), "projected": moved.round(3).tolist()})
    return {"source": f"OpenCV {cv2.__version__}", "out_px": 192, "cases": cases}


def make_detections() -> dict:
    """The network's raw output for four synthetic heads, and what MediaPipe makes of the same pictures."""
    expected = json.loads((FACES / "detections.json").read_text(encoding="utf-8"))["detections"]
    models, cases = FaceModels(), []
    for rgb, detection in zip(list(synthetic_head(76))[::25], expected, strict=True):
        side = float(max(rgb.shape[:2]))
        picture = warp_roi(rgb, Roi(side / 2, side / 2, side, 0.0), SHORT_RANGE.input_px, replicate=False)
        boxes, scores = models.detect(picture.astype(np.float32) * np.float32(2 / 255) - np.float32(1))
        kept = np.flatnonzero(scores > -3)
        cases.append(
            {
                "picture_px": side,
                "anchors": kept.tolist(),
                "raw_scores": scores[kept].astype(float).round(4).tolist(),
                "raw_boxes": boxes[kept].astype(float).round(4).tolist(),
                "detection": detection,
            }
        )
    note = "all other anchors score -100; detection: score, left, top, right, bottom, six key points x, y, pixels"
    return {"source": "mediapipe 0.10.21 face_detection", "note": note, "cases": cases}


def make_warp() -> dict:
    """A turned square by scipy.ndimage.map_coordinates. OpenCV rounds to 1/32 pixel: 4 levels at black borders."""
    rng = np.random.default_rng(6)
    picture = ndimage.gaussian_filter(rng.uniform(0, 255, (24, 30, 3)), (2, 2, 0))
    picture = np.clip((picture - 128) * 4 + 128, 0, 255).astype(np.uint8)
    cases = []
    for x, y, side, angle in ((15.0, 12.0, 10.0, 0.0), (13.2, 11.4, 22.5, 0.5), (4.0, 20.0, 18.0, -1.0)):
        v, u = np.meshgrid(np.arange(12) / 12 - 0.5, np.arange(12) / 12 - 0.5, indexing="ij")
        where = (y + side * (np.sin(angle) * u + np.cos(angle) * v), x + side * (np.cos(angle) * u - np.sin(angle) * v))
        for mode, replicate in (("nearest", True), ("grid-constant", False)):
            made = [ndimage.map_coordinates(picture[..., c].astype(float), where, order=1, mode=mode) for c in range(3)]
            warped = np.stack(made, axis=-1).round(2).tolist()
            cases.append({"roi": [x, y, side, angle], "replicate": replicate, "warped": warped})
    return {"source": "scipy.ndimage", "tolerance": 5, "out_px": 12, "picture": picture.tolist(), "cases": cases}


def make_boxes() -> dict:
    """Region, face box and lip box of MediaPipe's landmarks by plain Python."""
    landmarks = json.loads((GOLDEN / "track.json").read_text(encoding="utf-8"))["landmarks"][0]
    xs, ys = [point[0] for point in landmarks], [point[1] for point in landmarks]
    centre = [(min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2]
    longer = max(max(xs) - min(xs), max(ys) - min(ys))
    eyes = complex(*landmarks[263]) - complex(*landmarks[33])
    # The outer lip by name, as FACEMESH_LIPS of MediaPipe chains it: lower edge, then upper edge, both from 61.
    lip = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409]
    lip_centre = [statistics.fmean(xs[i] for i in lip), statistics.fmean(ys[i] for i in lip)]
    return {
        "source": "plain Python on MediaPipe's landmarks of head-0.png (track.json)",
        "roi": [*centre, 1.5 * longer, cmath.phase(eyes)],
        "face_scale": 1.3,
        "face": [*centre, 1.3 * longer],
        "lip_scale": 0.5,
        "lip": [*lip_centre, 0.5 * longer],
    }


def make_match() -> dict:
    """Overlaps of boxes in whole numbers, by fractions."""
    box = [0, 0, 10, 10]
    lost = [[[5, 0, 15, 10]], [[6, 0, 16, 10]], [[6, 0, 16, 10], [2, 0, 12, 10], [1, 0, 11, 10]], []]
    matches = []
    for boxes in lost:
        overlaps = [_iou(box, other) for other in boxes]
        best = overlaps.index(max(overlaps)) if overlaps else None
        matches.append(best if best is not None and overlaps[best] > Fraction(3, 10) else None)
    return {"source": "fractions", "box": box, "lost": lost, "matches": matches}


def _iou(a: list[int], b: list[int]) -> Fraction:
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return Fraction(shared, sum(areas) - shared)


def make_crop() -> dict:
    """Blocks averaged by scikit-image, then scipy.ndimage.map_coordinates with the edge going on.

    A tolerance for each case: half a level for rounding, half a one for the means of blocks, and, where positions are
    not whole 1 / 32 pixels, to which OpenCV rounds them, 1 / 64 pixel of the steepest slope along either axis.
    """
    rng = np.random.default_rng(4)
    picture = ndimage.gaussian_filter(rng.uniform(0, 255, (20, 24, 3)), (2, 2, 0))
    picture = np.clip((picture - 128) * 3 + 128, 0, 255).astype(np.uint8)
    slope = sum(int(np.abs(np.diff(picture.astype(int), axis=axis)).max()) for axis in (0, 1))
    cases = []
    for x, y, side, out_px in (
        (12.0, 10.0, 8.0, 8),
        (11.25, 9.75, 10.5, 8),
        (12.25, 9.25, 18.0, 8),
        (11.3, 9.8, 10.7, 8),
        (2.1, 3.4, 9.9, 6),
        (12.2, 9.1, 17.3, 8),
        (9.7, 8.2, 19.0, 5),
    ):
        left, top, width, values = x - side / 2, y - side / 2, side, picture.astype(float)
        shrink = int(side / out_px)
        if shrink >= 2:
            # Blocks begin a block before the pixel in which the first sample lies.
            first = side / out_px / 2 - 0.5
            x0, y0 = (int(np.floor(edge + first)) - shrink for edge in (left, top))
            rows = np.clip(np.arange(y0, y0 + 40 * shrink), 0, 19)
            columns = np.clip(np.arange(x0, x0 + 40 * shrink), 0, 23)
            values = block_reduce(values[rows][:, columns], (shrink, shrink, 1), np.mean)
            left, top, width = (left - x0) / shrink, (top - y0) / shrink, side / shrink
        grid = (np.arange(out_px) + 0.5) * width / out_px - 0.5
        places = np.concatenate([top + grid, left + grid]) * 32
        where = np.meshgrid(top + grid, left + grid, indexing="ij")
        crop = np.stack(
            [ndimage.map_coordinates(values[..., c], where, order=1, mode="nearest") for c in range(3)], axis=-1
        )
        tolerance = 0.5 * (1 + (shrink >= 2)) + (0.0 if np.allclose(places, places.round()) else slope / 64)
        case = {"box": [x, y, side], "out_px": out_px, "tolerance": tolerance, "crop": crop.round(3).tolist()}
        cases.append(case)
    return {"source": "scikit-image and scipy.ndimage", "picture": picture.tolist(), "cases": cases}


def make_smooth() -> dict:
    """Gaps by numpy.interp, weights by scipy's Hann window, means by numpy.average."""
    rng = np.random.default_rng(5)
    values = rng.uniform(0, 100, (31, 2)).round(3)
    seen = np.ones(31, bool)
    seen[[4, 5, 6, 20]] = False
    filled = np.stack([np.interp(np.arange(31), np.flatnonzero(seen), values[seen, k]) for k in range(2)], axis=1)
    window = signal.windows.hann(15, sym=True)[1:-1]
    smooth = np.average(filled[9:22], axis=0, weights=window)
    return {
        "source": "numpy.interp, scipy.signal.windows.hann, numpy.average",
        "values": values.tolist(),
        "seen": seen.tolist(),
        "now": 15,
        "max_gap": 12,
        "filled": filled.round(4).tolist(),
        "weights": window[6:].round(6).tolist(),
        "smooth": smooth.round(4).tolist(),
    }


def make_cut() -> dict:
    """Luma by whole-number arithmetic on flat pictures."""
    colours = [(0, 0, 0), (255, 255, 255), (200, 30, 90), (12, 250, 7)]
    luma = [(77 * r + 150 * g + 29 * b) // 256 for r, g, b in colours]
    return {"source": "hand arithmetic", "colours": colours, "luma": luma}


if __name__ == "__main__":
    main()
