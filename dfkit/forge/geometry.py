"""Landmark sets, smooth warps from one face to another, and masks, all within a box around the face."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

# Numbers of the 468-point mesh.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
JAW = OVAL[9:28]
OUTER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
EYES = (
    33, 160, 159, 158, 133, 153, 145, 144, 263, 387, 386, 385, 362, 380, 374, 373,
)  # fmt: skip
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
NOSE = (168, 6, 197, 195, 5, 4, 1, 2, 98, 97, 326, 327, 129, 358)
CHEEKS = (50, 280, 205, 425, 36, 266, 117, 346, 187, 411)
WHOLE_FACE = (*OVAL, *OUTER_LIP, *INNER_LIP, *EYES, *BROWS, *NOSE, *CHEEKS)
# What speech does not move: the frame in which a mouth is carried from one picture to another.
STEADY = (33, 133, 362, 263, 168, 6, 5, 1, 2, 98, 327, 129, 358, 234, 454, 50, 280)
AROUND_MOUTH = (*JAW, 2, 98, 327, 129, 358, 50, 280, 36, 266, 234, 454, 117, 346)
MOUTH_TOP = (50, 4, 280)
"""Cheek, tip of the nose, cheek: with `JAW` around the lower half of a face."""
MOUTH_CORNERS = (61, 291)
CHIN, NOSE_BASE = 152, 2
# Nodes of a warp along a face's side: a face has no detail of its shape below a fiftieth of it.
GRID_NODES = 44
FOREHEAD_SHARE = 0.45
# Smoothing of the spline, in squared pixels of the kernel: landmarks are right to about a pixel.
SPLINE_SMOOTHING = 10.0


class Box(NamedTuple):
    """Whole pixels of a picture; ends are excluded."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as an index of a picture: rows, then columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0


def face_box(landmarks: np.ndarray, shape: tuple[int, ...], *, margin: float = 0.12) -> Box:
    """Box around a face, cut to the picture.

    Args:
        landmarks: (N, 2) pixels.
        shape: Of the picture: height, width, ...
        margin: Added on each side, as a share of the face's longer side.
    Returns:
        The box; at least 2 by 2 pixels.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    pad = margin * float((high - low).max())
    x0, y0 = (int(np.clip(np.floor(v - pad), 0, s - 2)) for v, s in zip(low, shape[1::-1], strict=True))
    x1, y1 = (int(np.clip(np.ceil(v + pad), 2, s)) for v, s in zip(high, shape[1::-1], strict=True))
    return Box(x0, y0, max(x1, x0 + 2), max(y1, y0 + 2))


def face_width(landmarks: np.ndarray) -> float:
    """Width of the landmarks' box, pixels."""
    return float(landmarks[:, 0].max() - landmarks[:, 0].min())


def warp_into(rgb: np.ndarray, box: Box, target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Samples a picture so that its source points fall on target points.

    Args:
        rgb: (H, W, 3) uint8, in which `source` lies.
        box: Of the target picture.
        target: (K, 2) pixels of the target picture.
        source: (K, 2) pixels of `rgb`.
    Returns:
        (box height, box width, 3) float32 in [0, 255].
    """
    height, width = box.size
    columns = np.linspace(box.x0, box.x1 - 1, min(width, GRID_NODES))
    rows = np.linspace(box.y0, box.y1 - 1, min(height, GRID_NODES))
    coarse = np.stack(np.meshgrid(columns, rows), axis=-1)
    field = steady(_spline(target, source, coarse.reshape(-1, 2))).reshape(coarse.shape).astype(np.float32)
    # Corner nodes lie on the corner pixels: sampled with a map, because resize puts them half a step outside.
    x = np.linspace(0, len(columns) - 1, width, dtype=np.float32)
    y = np.linspace(0, len(rows) - 1, height, dtype=np.float32)
    dense = cv2.remap(field, *np.meshgrid(x, y), cv2.INTER_LINEAR)
    warped = cv2.remap(rgb, dense[..., 0], dense[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return warped.astype(np.float32)


def steady(positions: np.ndarray) -> np.ndarray:
    """Rounded to 1/1024 pixel: linear algebra gives other last digits on another number of threads."""
    return np.round(positions * 1024) / 1024


def _spline(at: np.ndarray, values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Thin-plate spline through `values` at `at`, slightly smoothed; (Q, 2).

    Source: Bookstein 1989, "Principal warps".
    """
    centre, scale = at.mean(axis=0), np.ptp(at, axis=0).max()
    at, queries = (at - centre) / scale, (queries - centre) / scale
    count = len(at)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(at, at) + np.eye(count) * SPLINE_SMOOTHING / scale**2
    system[:count, count:] = np.column_stack([np.ones(count), at])
    system[count:, :count] = system[:count, count:].T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, 2))]))
    return _kernel(queries, at) @ weights[:count] + np.column_stack([np.ones(len(queries)), queries]) @ weights[count:]


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 1e-12)
    return 0.5 * squared * np.log(squared)


def fit_affine(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Least-squares affine map.

    Args:
        source: (K, 2).
        target: (K, 2).
        weights: (K,) of the points.
    Returns:
        (2, 3): target = matrix @ (x, y, 1).
    """
    root = np.sqrt(weights)[:, None]
    known = np.column_stack([source, np.ones(len(source))])
    solution, *_ = np.linalg.lstsq(known * root, target * root, rcond=None)
    return solution.T


def face_mask(landmarks: np.ndarray, box: Box, *, grow: float, feather: float) -> np.ndarray:
    """Soft mask of a whole face.

    Args:
        landmarks: (468, 2) pixels of the picture.
        box: Where the mask is wanted.
        grow: Size of the oval about its centre, 1 = as it is.
        feather: Width of the soft edge as a share of the face's width; it lies inside of the oval.
    Returns:
        (box height, box width) float32 in [0, 1].
    """
    oval = inner_face(landmarks)
    centre = oval.mean(axis=0)
    return soft_polygon(centre + (oval - centre) * grow, box, feather * face_width(landmarks))


def inner_face(landmarks: np.ndarray) -> np.ndarray:
    """The oval of a face with its upper edge drawn down towards the brows, where no fringe of hair hangs.

    Args:
        landmarks: (468, 2) pixels.
    Returns:
        (36, 2), in the order of `OVAL`.
    """
    oval = landmarks[list(OVAL)].astype(np.float64)
    up = landmarks[OVAL[0]] - landmarks[CHIN]
    height = np.linalg.norm(up)
    up = up / height
    brow = float((landmarks[list(BROWS)] @ up).max())
    above = oval @ up - brow
    # A share of the forehead is kept, so that the brows lie well inside of the soft edge.
    lower = np.where(above > 0, above * (1 - FOREHEAD_SHARE), 0)
    return oval - lower[:, None] * up


def mouth_mask(landmarks: np.ndarray, moved_lips: np.ndarray, box: Box) -> np.ndarray:
    """Soft mask around the mouth as it was and as it will be, inside of the lower face.

    Args:
        landmarks: (468, 2) of the picture that is changed.
        moved_lips: (K, 2) where the new lips will lie.
        box: Where the mask is wanted.
    Returns:
        (box height, box width) float32 in [0, 1].
    """
    width = face_width(landmarks)
    lips = np.concatenate([landmarks[list(OUTER_LIP)], moved_lips]).astype(np.float32)
    hull = cv2.convexHull(lips)[:, 0]
    near = _fill(hull, box)
    reach = max(3, round(0.17 * width)) | 1
    near = cv2.dilate(near, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    sides = landmarks[list((*JAW, 50, NOSE_BASE, 280))]
    middle = sides.mean(axis=0)
    lower_face = _fill(cv2.convexHull((middle + (sides - middle) * 0.9).astype(np.float32))[:, 0], box)
    return _feather(np.minimum(near, lower_face), 0.06 * width)


def soft_polygon(corners: np.ndarray, box: Box, feather_px: float) -> np.ndarray:
    """Mask of a polygon whose edge fades inwards; (box height, box width) float32."""
    return _feather(_fill(corners, box), feather_px)


def _fill(corners: np.ndarray, box: Box) -> np.ndarray:
    mask = np.zeros(box.size, np.uint8)
    shifted = np.round((corners - (box.x0, box.y0)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [shifted], 255, lineType=cv2.LINE_AA, shift=4)
    return mask


def _feather(mask: np.ndarray, feather_px: float) -> np.ndarray:
    """Lets an edge fade over `feather_px`, inwards only: outside of the polygon the mask stays 0."""
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform((framed > 127).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    t = np.clip(depth / max(feather_px, 1.0), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)
