"""Which of a donor's frames suits each frame best: the mouth as far open, the head turned alike."""

from __future__ import annotations

import numpy as np

UPPER_INNER_LIP, LOWER_INNER_LIP = 13, 14
LEFT_EYE_CORNER, RIGHT_EYE_CORNER = 33, 263
LEFT_CHEEK, RIGHT_CHEEK, NOSE_TIP = 234, 454, 1
TURN_WEIGHT = 1.0
# A jump in the donor's time shows as a flicker: it has to pay off by this much.
JUMP_COST = 0.08


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """Distance of the inner lips over the distance of the outer corners of the eyes.

    Args:
        landmarks: (num_frames, 468, 2) pixels.
    Returns:
        (num_frames,), unitless; NaN where no face is.
    """
    lips = np.linalg.norm(landmarks[:, UPPER_INNER_LIP] - landmarks[:, LOWER_INNER_LIP], axis=1)
    eyes = np.linalg.norm(landmarks[:, LEFT_EYE_CORNER] - landmarks[:, RIGHT_EYE_CORNER], axis=1)
    return lips / eyes


def head_turn(landmarks: np.ndarray) -> np.ndarray:
    """Where the nose stands between the cheeks: -1 at the left one, 0 in the middle, 1 at the right one."""
    left, right = landmarks[:, LEFT_CHEEK, 0], landmarks[:, RIGHT_CHEEK, 0]
    return (2 * landmarks[:, NOSE_TIP, 0] - left - right) / (right - left)


def match_frames(landmarks: np.ndarray, donor: np.ndarray) -> np.ndarray:
    """The donor's frame for each frame, at the least total cost of unlike poses and jumps in time.

    Args:
        landmarks: (N, 468, 2), no NaN.
        donor: (M, 468, 2); frames of NaN are not chosen.
    Returns:
        (N,) int, indices into `donor`.
    Source: Viterbi's algorithm; a step forward, back or none is free, any jump costs `JUMP_COST`.
    """
    visible = np.flatnonzero(~np.isnan(donor[:, 0, 0]))
    donor = donor[visible]
    cost = np.abs(mouth_opening(landmarks)[:, None] - mouth_opening(donor)[None])
    cost = cost + TURN_WEIGHT * np.abs(head_turn(landmarks)[:, None] - head_turn(donor)[None])
    total = cost[0].copy()
    previous = np.zeros(cost.shape, int)
    here = np.arange(len(donor))
    for index in range(1, len(cost)):
        best_any = int(np.argmin(total))
        options = np.stack(
            [total, np.roll(total, 1), np.roll(total, -1), np.full(len(donor), total[best_any] + JUMP_COST)]
        )
        options[1, 0] = options[2, -1] = np.inf
        origins = np.stack([here, here - 1, here + 1, np.full(len(donor), best_any)])
        # Standing still is allowed, but moving on is preferred where both cost the same.
        options[0] += 1e-4
        choice = np.argmin(options, axis=0)
        previous[index] = origins[choice, here]
        total = options[choice, here] + cost[index]
    path = [int(np.argmin(total))]
    for index in range(len(cost) - 1, 0, -1):
        path.append(int(previous[index, path[-1]]))
    return visible[np.array(path[::-1])]
