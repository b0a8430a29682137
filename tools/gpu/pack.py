"""Packs prepared data into one file of at most 50 MB: `python -m tools.gpu.pack DATA --out crops.npz`.

A machine with a GPU often has neither dfkit's decoders nor room for the prepared data. The pack holds what networks
see: each clip's face and lip pictures as two H.264 videos, its MFCC, labels and groups, and the part of each video in
each fold. Every clip is encoded alike, so the loss tells nothing of the label, but it is there: a pack's figures are
not those of the data. H.264 takes a third of what a transform of our own took at equal PSNR, JPEG more.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from dfkit.config import SplitConfig
from dfkit.data.leave_out import leave_out_folds
from dfkit.data.splits import make_split
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.experiment import read_config
from dfkit.files import whole_file
from dfkit.models.front_end import MfccFrontEnd
from tools.gpu.crops import SEEN, TEST, TRAIN

MAX_MB = 50.0
CRF = 20


def encode_pictures(pictures: NDArray[np.uint8], *, fps: float, crf: int) -> bytes:
    """One MP4 of the pictures of a clip, 4:2:0.

    Args:
        pictures: (T, side, side, 3) RGB, an even side.
        fps: Pictures per second.
        crf: Constant rate factor of x264.
    """
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.width = stream.height = pictures.shape[1]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "slow", "threads": "1"}
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return target.getvalue()


def join(blobs: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Byte strings as one array, and where each ends."""
    ends = np.cumsum([len(blob) for blob in blobs]).astype(np.int64)
    return np.frombuffer(b"".join(blobs), np.uint8), ends


def fold_parts(data: PreparedData, by: str, split: SplitConfig) -> tuple[list[str], NDArray[np.uint8]]:
    """Names of the folds, and the part of each video in each.

    Nothing is chosen on a GPU machine, neither an epoch nor a threshold: validation videos are trained on.

    Args:
        data: Prepared data.
        by: What is left out, such as `method`.
        split: Shares and seed of the usual split.
    Returns:
        The usual grouped split first, then those that leave out a family; (F, V) uint8, 0 for a video in no part.
    """
    usual = make_split(data, val_share=split.val_share, test_share=split.test_share, seed=split.seed)
    folds = leave_out_folds(data, by, seed=split.seed)
    parts = np.zeros((1 + len(folds), len(data.videos)), np.uint8)
    parts[0, list(usual.train)], parts[0, list(usual.val)], parts[0, list(usual.test)] = TRAIN, SEEN, TEST
    for row, fold in zip(parts[1:], folds, strict=True):
        row[[*fold.train, *fold.val]], row[list(fold.seen)], row[list(fold.test)] = TRAIN, SEEN, TEST
    return ["grouped", *(fold.name for fold in folds)], parts


def pack(data: PreparedData, path: Path, split: SplitConfig, *, by: str = "method", crf: int = CRF) -> float:
    """Writes the pack.

    Args:
        data: Prepared under `clip2s`, labelled.
        path: The file.
        split: Of the experiment, for the fold that leaves nothing out.
        by: What the folds leave out.
        crf: Quality of the pictures.
    Returns:
        Its size in MB.
    """
    front_end = MfccFrontEnd(data.spec.audio, data.spec.num_frames)
    faces, lips, mfcc = [], [], []
    for index in range(len(data)):
        record = data.record(index)
        faces.append(encode_pictures(record.face, fps=data.spec.fps, crf=crf))
        lips.append(encode_pictures(record.lip, fps=data.spec.fps, crf=crf))
        with torch.no_grad():
            mfcc.append(front_end(torch.from_numpy(record.waveform)[None])[0].numpy().astype(np.float16))
    names, parts = fold_parts(data, by, split)
    facts = {
        "videos_hash": videos_hash(data),
        "crf": crf,
        "fps": data.spec.fps,
        "face_px": data.spec.picture.face_px,
        "lip_px": data.spec.picture.lip_px,
        "folds": names,
        "left_out": by,
        "videos": [
            {"path": Path(row.path).name, "label": row.label, "group": str(group), "method": row.method or ""}
            for row, group in zip(data.videos, data.groups, strict=True)
        ],
    }
    face_bytes, face_ends = join(faces)
    lip_bytes, lip_ends = join(lips)
    with whole_file(path) as temporary, Path(temporary).open("wb") as file:
        np.savez(
            file,
            facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
            face_bytes=face_bytes,
            face_ends=face_ends,
            lip_bytes=lip_bytes,
            lip_ends=lip_ends,
            mfcc=np.stack(mfcc),
            clip_video=np.array([clip.video_index for clip in data.clips], np.int64),
            parts=parts,
        )
    return path.stat().st_size / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Packs, and fails where the file is too large to travel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--config", type=Path, help="experiment; its section split cuts the fold that leaves out nothing"
    )
    parser.add_argument("--crf", type=int, default=CRF)
    parser.add_argument("--leave-out", default="method")
    arguments = parser.parse_args(argv)
    split = read_config(arguments.config).split
    size_mb = pack(PreparedData(arguments.data), arguments.out, split, by=arguments.leave_out, crf=arguments.crf)
    print(f"{arguments.out}: {size_mb:.1f} MB")
    if size_mb > MAX_MB:
        print(f"above {MAX_MB:g} MB. Fix: a higher --crf, or fewer clips (clip.hop_s)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
