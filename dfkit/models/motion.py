"""Motion of the face from its landmarks: what the tracker already knows, as a stream of its own.

The 468 points of every picture are aligned to the clip's mean shape by the similarity (shift, turn, size)
that fits best, which has a closed form in two dimensions. What is left is how the face moves in itself: how
far a fixed subset of points lies from its mean place, and how fast it goes.

Only sums and products: the same module trains, exports to TFLite and exports to ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkit.clip import NUM_LANDMARKS
from dfkit.errors import ShapeError

OUTER_LIPS = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)
INNER_LIPS = (78, 81, 13, 311, 308, 402, 14, 178)
EYES = (33, 159, 133, 145, 362, 386, 263, 374)
BROWS_NOSE_CHIN = (105, 334, 1, 152)
MOTION_POINTS = (*OUTER_LIPS, *INNER_LIPS, *EYES, *BROWS_NOSE_CHIN)
"""Points of MediaPipe's face mesh that the stream consists of; part of every checkpoint with `motion`."""
MOTION_DIM = 4 * len(MOTION_POINTS)
"""Values per picture: x and y of the offset and of the speed of each point."""
GROUP_SIZES = tuple(map(len, (OUTER_LIPS, INNER_LIPS, EYES, BROWS_NOSE_CHIN)))
NUM_STATISTICS = 3 * len(GROUP_SIZES)
"""Of `motion_statistics`."""
SMALLEST_MOTION = 1e-2
"""Added before the logarithm is taken: rounding alone shall not tell one still face from another."""
OFFSET_SCALE = 10.0
"""Offsets are a few hundredths of the face's radius: brought to the order of 1, like the speeds."""
SMALLEST_RADIUS_PX = 1e-3
"""Of a face without extent, as in a black clip: keeps the division finite."""


class MotionFrontEnd(nn.Module):
    """Landmarks of a clip to offsets and speeds."""

    points: Tensor

    def __init__(self, fps: float) -> None:
        """Fixes the clock.

        Args:
            fps: Pictures per second; speeds are per second.
        """
        super().__init__()
        self.fps = fps
        self.register_buffer("points", torch.tensor(MOTION_POINTS), persistent=False)

    def forward(self, landmarks: Tensor) -> Tensor:
        """Aligns and differentiates.

        Args:
            landmarks: (B, T, 468, 2) float32, source pixels, x then y.
        Returns:
            (B, T, MOTION_DIM) float32: offsets from the clip's mean place (tenths of the face's radius), then
            speeds (radii per second; zero at the first picture).
        Raises:
            ShapeError: Another rank or number of points.
        """
        if landmarks.ndim != 4 or tuple(landmarks.shape[2:]) != (NUM_LANDMARKS, 2):
            raise ShapeError(f"landmarks have shape {tuple(landmarks.shape)}, expected (B, T, {NUM_LANDMARKS}, 2)")
        aligned = align(landmarks).index_select(2, self.points).flatten(2)
        offset = aligned - aligned.mean(dim=1, keepdim=True)
        moved = aligned[:, 1:] - aligned[:, :-1]
        speed = torch.cat([torch.zeros_like(moved[:, :1]), moved], dim=1)
        return torch.cat([offset * OFFSET_SCALE, speed * self.fps], dim=2)


def motion_statistics(steps: Tensor) -> Tensor:
    """How fast, how unevenly and how far each group of points moves, as logarithms.

    Args:
        steps: (B, T, MOTION_DIM) of `MotionFrontEnd`.
    Returns:
        (B, NUM_STATISTICS): mean speed, mean change of speed from picture to picture, and spread around the mean place,
        of the points around and inside the lips, of the eyes, and of brows, nose and chin.
    """
    offsets, speeds = (half.unflatten(2, (-1, 2)) for half in steps.split(MOTION_DIM // 2, dim=2))
    # Of the first picture no speed is known.
    speeds = speeds[:, 1:]
    values = []
    for offset, speed in zip(offsets.split(GROUP_SIZES, dim=2), speeds.split(GROUP_SIZES, dim=2), strict=True):
        changed = speed[:, 1:] - speed[:, :-1]
        values += [_mean_length(speed), _mean_length(changed), _spread(offset)]
    return torch.log(torch.stack(values, dim=1) + SMALLEST_MOTION)


def _mean_length(vectors: Tensor) -> Tensor:
    """Over steps and points: (B, T, P, 2) to (B,); zero where there is no step, as in a clip of two pictures."""
    lengths = _root((vectors * vectors).sum(dim=-1))
    return lengths.sum(dim=(1, 2)) / max(1, lengths.shape[1] * lengths.shape[2])


def _spread(offsets: Tensor) -> Tensor:
    return _root((offsets * offsets).sum(dim=-1).mean(dim=(1, 2)))


def _root(squares: Tensor) -> Tensor:
    return torch.sqrt(squares + SMALLEST_MOTION**2)


def align(landmarks: Tensor) -> Tensor:
    """Fits every picture's points to the clip's mean shape by a similarity, in the least-squares sense.

    Args:
        landmarks: (B, T, P, 2).
    Returns:
        (B, T, P, 2), centred; the mean shape's root-mean-square radius is 1.
    Source: Umeyama 1991, DOI 10.1109/34.88573; in two dimensions a rotation with a scale is a product of
        complex numbers, and the fit their inner product.
    """
    # From some point of the face, not from the picture's corner, the sums stay small.
    near = landmarks - landmarks[:, :, :1]
    centred = near - mean_of_points(near)
    unit = centred / radius(centred)
    mean_shape = unit.mean(dim=1, keepdim=True)
    mean_shape = mean_shape / radius(mean_shape)
    x, y = unit[..., 0], unit[..., 1]
    mean_x, mean_y = mean_shape[..., 0], mean_shape[..., 1]
    # Of the fit a x - b y, b x + a y: both inner products as the two channels of one mean.
    products = torch.stack([x * mean_x + y * mean_y, x * mean_y - y * mean_x], dim=-1)
    fit = mean_of_points(products)
    cosine, sine = fit[..., 0], fit[..., 1]
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)


def radius(shape: Tensor) -> Tensor:
    """Root-mean-square distance of (..., P, 2) centred points from the origin: (..., 1, 1)."""
    squares = mean_of_points((shape * shape).sum(dim=-1, keepdim=True))
    return torch.sqrt(squares + SMALLEST_RADIUS_PX**2)


def mean_of_points(values: Tensor) -> Tensor:
    """Mean over the 468 points in two steps, (B, T, 468, C) to (B, T, 1, C).

    TFLite adds a mean up in plain order: over 18 sums of 26 its rounding is a tenth of that over 468.
    """
    return values.unflatten(2, (18, 26)).mean(dim=3).mean(dim=2, keepdim=True)
