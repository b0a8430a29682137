"""Reads a pack of `tools.gpu.pack`, decodes it once, and keeps it as tensors on the device."""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfkit.errors import DataError

TRAIN, SEEN, TEST = 1, 2, 3
"""Parts of a fold: `SEEN` are fakes of families that it trains on, of people that it does not."""
SIDES = {112: 48, 160: 64, 224: 96}
"""Sides of the face pictures, and of the lips beside each; smaller ones are averaged from the largest."""


@dataclass(frozen=True)
class Crops:
    """N clips of V videos, T pictures each, on one device."""

    folder: Path
    """Decoded pictures, see `decode_pack`; each side goes to the device when it is first asked for."""
    mfcc: Tensor
    """(N, T, 40) float32."""
    clip_video: NDArray[np.int64]
    """(N,) video of each clip."""
    labels: NDArray[np.int64]
    """(V,) 0 or 1."""
    parts: NDArray[np.uint8]
    """(F, V) part of each video in each fold: 0 none, `TRAIN`, `SEEN`, `TEST`."""
    facts: dict[str, Any]
    """As packed: `folds` (names), `videos`, `videos_hash`, `crf`, `fps`, sides."""
    loaded: dict[str, Tensor] = field(default_factory=dict)
    """Pictures by name of their file."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.mfcc.device

    def pictures(self, crop: str, side: int) -> Tensor:
        """All pictures of `face` or `lip` at a side: (N, T, side, side, 3) uint8 RGB."""
        name = picture_file(crop, side)
        if name not in self.loaded:
            self.loaded[name] = torch.from_numpy(np.load(self.folder / name)).to(self.device)
        return self.loaded[name]

    def clips(self, fold: int, part: int) -> NDArray[np.int64]:
        """Clips of a part of a fold, rising."""
        return np.flatnonzero(self.parts[fold][self.clip_video] == part)

    def held_out(self, fold: int) -> dict[str, NDArray[np.int64]]:
        """Clips of `unseen` and of `seen` fakes, each with the fold's held-out real ones."""
        real = self.labels[self.clip_video] == 0
        tested = self.parts[fold][self.clip_video] == TEST
        seen = self.parts[fold][self.clip_video] == SEEN
        return {"unseen": np.flatnonzero(tested), "seen": np.flatnonzero((seen & ~real) | (tested & real))}


def decode_video(blob: bytes) -> NDArray[np.uint8]:
    """Pictures of one MP4: (T, side, side, 3) RGB.

    Raises:
        DataError: It cannot be decoded.
    """
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(blob)
        file.flush()
        capture = cv2.VideoCapture(file.name)
        pictures = []
        while True:
            is_read, picture = capture.read()
            if not is_read:
                break
            pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        capture.release()
    if not pictures:
        raise DataError("a clip of the pack cannot be decoded", fix="OpenCV needs its FFmpeg backend with H.264")
    return np.stack(pictures)


def picture_file(crop: str, side: int) -> str:
    """Name of the file of `face` or `lip` pictures of a side."""
    return f"{crop}_{side}.npy"


def decode_pack(path: Path, folder: Path) -> None:
    """Decodes all pictures of a pack into files of the folder, which processes can then share.

    Args:
        path: The pack.
        folder: Gets a file for each crop and side, see `picture_file`: (N, T, side, side, 3) uint8.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(path) as stored:
        for crop, sides in (("face", list(SIDES)), ("lip", list(SIDES.values()))):
            whole = stored[f"{crop}_bytes"].tobytes()
            ends = stored[f"{crop}_ends"].tolist()
            blobs = [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            num_frames = len(decode_video(blobs[0]))
            arrays = {
                side: np.lib.format.open_memmap(
                    folder / picture_file(crop, side), "w+", np.uint8, (len(blobs), num_frames, side, side, 3)
                )
                for side in sides
            }

            def decode(index: int, blobs: list[bytes] = blobs, arrays: dict[int, Any] = arrays) -> None:
                pictures = decode_video(blobs[index])
                for side, array in arrays.items():
                    array[index] = [shrink(picture, side) for picture in pictures]

            with ThreadPoolExecutor() as pool:
                list(pool.map(decode, range(len(blobs))))
            for array in arrays.values():
                array.flush()


def shrink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A square picture averaged to a side; itself where it has that side."""
    if picture.shape[0] == side:
        return picture
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def load_crops(path: Path, decoded: Path, device: torch.device) -> Crops:
    """The pack on a device.

    Args:
        path: The pack.
        decoded: Folder of `decode_pack`.
        device: Gets the tensors.
    """
    with np.load(path) as stored:
        facts = json.loads(stored["facts"].tobytes())
        mfcc = torch.from_numpy(stored["mfcc"].astype(np.float32))
        clip_video, parts = stored["clip_video"], stored["parts"]
    labels = np.array([video["label"] for video in facts["videos"]], np.int64)
    return Crops(decoded, mfcc.to(device), clip_video, labels, parts, facts)
