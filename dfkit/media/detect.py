"""BlazeFace: picture in, face boxes with six key points out.

The network scores fixed anchors, 896 at short range and 2304 at full range. Each carries one box and six key points as
offsets from the anchor's centre, in pixels of the input. What overlaps is merged, weighted by its score.
Source: Bazarevsky et al. 2019, arXiv:1907.05047; constants from MediaPipe's face detection graphs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dfkit.media.faces import SHORT_RANGE, FaceDetector, FaceModels, scale_levels
from dfkit.media.picture import Picture, as_picture
from dfkit.media.warp import Roi, warp_roi

SCORE_CLIP = 100.0
"""Raw scores are clipped to +-this before the sigmoid."""
MERGE_IOU = 0.3
"""Detections that overlap a better one by more than this are merged into it."""
ROI_SCALE = 1.5
"""Side of the landmark region as a multiple of the longer side of the box."""
RIGHT_EYE, LEFT_EYE = 0, 1
"""Key points between which the region is made level; right and left are the person's."""


@lru_cache(maxsize=2)
def make_anchors(detector: FaceDetector = SHORT_RANGE) -> np.ndarray:
    """Centres of a detector's anchors, (A, 2) float32 in [0, 1], x then y.

    Row by row; at short range a 16 x 16 grid with two anchors a cell, then an 8 x 8 grid with six, at full range
    a 48 x 48 grid with one.
    """
    parts = []
    for cells, per_cell in detector.anchor_grids:
        centres = (np.arange(cells, dtype=np.float32) + np.float32(0.5)) / np.float32(cells)
        x, y = np.meshgrid(centres, centres)
        parts.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), per_cell, axis=0))
    anchors = np.concatenate(parts).astype(np.float32)
    anchors.setflags(write=False)
    return anchors


def decode_detections(
    raw_boxes: np.ndarray, raw_scores: np.ndarray, detector: FaceDetector = SHORT_RANGE
) -> np.ndarray:
    """Turns the network's output into detections above the least score.

    Args:
        raw_boxes: (A, 16) float32: centre x, y, width, height, then six key points x, y, in
            pixels of the input, relative to the anchor's centre.
        raw_scores: (A,) float32, before the sigmoid.
        detector: Whose output it is.
    Returns:
        (N, 17) float32, best first: score, then left, top, right, bottom and six key points x, y; 0 to 1
        spans the input picture.
    """
    scores = 1.0 / (1.0 + np.exp(-np.clip(raw_scores.astype(np.float64), -SCORE_CLIP, SCORE_CLIP)))
    kept = np.flatnonzero(scores >= detector.min_score)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    values = raw_boxes[kept] / np.float32(detector.input_px)
    anchors = make_anchors(detector)[kept]
    centre = values[:, 0:2] + anchors
    half = values[:, 2:4] / 2
    points = values[:, 4:16] + np.tile(anchors, 6)
    return np.concatenate([scores[kept, None], centre - half, centre + half, points], axis=1).astype(np.float32)


def box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with many.

    Args:
        box: (4,) left, top, right, bottom.
        boxes: (N, 4), the same order and unit.
    Returns:
        (N,) in [0, 1]; 0 where both areas are empty.
    """
    width = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    height = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = area + areas - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1), 0)


def merge_detections(detections: np.ndarray) -> np.ndarray:
    """Non-maximum suppression that averages what it suppresses, weighted by score.

    Args:
        detections: (N, 17), best first, as from `decode_detections`.
    Returns:
        (M, 17), best first: the score of the best of each cluster, coordinates averaged over the cluster.
    """
    merged = []
    remaining = detections
    while len(remaining):
        overlaps = box_iou(remaining[0, 1:5], remaining[:, 1:5]) > MERGE_IOU
        overlaps[0] = True
        cluster = remaining[overlaps]
        weights = cluster[:, :1]
        best = cluster[0].copy()
        best[1:] = (cluster[:, 1:] * weights).sum(axis=0) / weights.sum()
        merged.append(best)
        remaining = remaining[~overlaps]
    return np.stack(merged) if merged else np.zeros((0, 17), np.float32)


def detection_roi(detection: np.ndarray) -> Roi:
    """Region for the landmark network: the box, turned level with the eyes, made square and enlarged.

    Args:
        detection: (17,) in pixels of the source.
    Returns:
        The region in pixels of the source.
    """
    left, top, right, bottom = (float(v) for v in detection[1:5])
    points = detection[5:].reshape(6, 2)
    dx, dy = (float(v) for v in points[LEFT_EYE] - points[RIGHT_EYE])
    side = max(right - left, bottom - top) * ROI_SCALE
    return Roi((left + right) / 2, (top + bottom) / 2, side, float(np.arctan2(dy, dx)))


def whole_picture(picture: Picture) -> Roi:
    """The square that holds a whole picture in its middle; what lies outside is black."""
    return Roi(picture.width / 2, picture.height / 2, float(max(picture.width, picture.height)), 0.0)


def detect_faces(picture: Picture | np.ndarray, models: FaceModels, detector: FaceDetector = SHORT_RANGE) -> np.ndarray:
    """Finds faces in a picture.

    Args:
        picture: Planes, or (H, W, 3) uint8 RGB.
        models: The networks.
        detector: Which of the two looks.
    Returns:
        (N, 17) float32, best first, coordinates in pixels of the source; see `decode_detections`.
    """
    picture = as_picture(picture)
    whole = whole_picture(picture)
    width, height, side = picture.width, picture.height, whole.side
    seen = warp_roi(picture, whole, detector.input_px, replicate=False)
    raw_boxes, raw_scores = models.detect(scale_levels(seen, detector.input_range), detector)
    found = merge_detections(decode_detections(raw_boxes, raw_scores, detector))
    found[:, 1::2] = found[:, 1::2] * side + np.float32((width - side) / 2)
    found[:, 2::2] = found[:, 2::2] * side + np.float32((height - side) / 2)
    return found
