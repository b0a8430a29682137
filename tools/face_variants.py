"""What the INT8 face models change beside the float16 ones: landmarks, crops and logits, clip by clip.

    python tools/face_variants.py --teacher fold4.pth VIDEO [VIDEO ...]

Logits are those of the teacher with stressed weights, pruned to GRU-128; `logits_channels` is what swapped colour
channels do to them. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from dfkit.clip import CLIP2S, FaceVariant
from dfkit.distill.prune import prune
from dfkit.export.parity import ParityClip, torch_logits
from dfkit.media.crop import make_boxes
from dfkit.media.faces import MODEL_FOLDER, VARIANTS, FaceModels
from dfkit.media.stream import Clip, read_clips
from dfkit.models import MMMSBA, NetworkSpec, load_teacher

STUDENT = NetworkSpec(face_channels=(32, 64, 128), lip_channels=(16, 32, 64), gru_hidden=128)
STRESS = {
    "classifier.0.weight": 8,
    **{
        f"{part}_feature_extractor.{place}.weight": factor
        for part in ("visual", "lip")
        for place, factor in ((0, 2), (3, 2), (6, 4))
    },
    **{f"{part}_encoder.gru.weight_ih_l0{end}": 4 for part in ("visual", "lip") for end in ("", "_reverse")},
    **{f"{part}_dense.1.weight": 4 for part in ("audio", "visual", "lip")},
}
"""Factors on a teacher's weights, so that pictures move the logits (those of its golden file, GOLDEN.md)."""


def make_student(teacher_path: Path) -> MMMSBA:
    """The teacher with stressed weights, pruned to the default student's widths."""
    teacher = load_teacher(teacher_path)
    with torch.no_grad():
        for name, weight in teacher.named_parameters():
            weight.mul_(STRESS.get(name, 1))
    return prune(teacher, STUDENT).eval()


def compare(one: Clip, other: Clip) -> dict[str, float]:
    """Differences of a clip by two sets of face models: lips and landmarks in percent of the face width, crops in grey
    levels (mean over pixels, largest of a frame)."""
    widths = np.ptp(one.landmarks[..., 0], axis=1)
    points = np.linalg.norm(one.landmarks - other.landmarks, axis=-1) / widths[:, None]
    boxes = [[make_boxes(marks, CLIP2S.picture)[1] for marks in clip.landmarks] for clip in (one, other)]
    lips = [np.hypot(a.x - b.x, a.y - b.y) / w for a, b, w in zip(*boxes, widths, strict=True)]
    grey = [
        np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(axis=(1, 2, 3))
        for a, b in ((one.face, other.face), (one.lip, other.lip))
    ]
    return {
        "landmarks_percent_mean": 100 * float(points.mean()),
        "lips_percent_p95": 100 * float(np.percentile(lips, 95)),
        "face_grey_mean": float(grey[0].mean()),
        "face_grey_most": float(grey[0].max()),
        "lip_grey_mean": float(grey[1].mean()),
        "lip_grey_most": float(grey[1].max()),
    }


def main() -> int:
    """Prints one line per clip, then the largest value of each column as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--teacher", type=Path, required=True, help="original checkpoint")
    options = parser.parse_args()
    student = make_student(options.teacher)
    variants: tuple[FaceVariant, FaceVariant] = ("float16", "int8")
    rows = []
    for video in options.videos:
        clips = [list(read_clips(video, CLIP2S, models=FaceModels(variant))) for variant in variants]
        for pair in zip(*clips, strict=True):
            arrays = [{"face": clip.face, "lip": clip.lip, "pcm": clip.waveform} for clip in pair]
            swapped = {k: v if k == "pcm" else v[..., ::-1].copy() for k, v in arrays[0].items()}
            shown = [ParityClip(video.name, "real", values) for values in (*arrays, swapped)]
            logits = torch_logits(student, CLIP2S, shown).clip
            moved = np.abs(logits[1:] - logits[0]).max(axis=1)
            row = compare(*pair) | {"logits": float(moved[0]), "logits_channels": float(moved[1])}
            print(video.name, f"{pair[0].start_s:g} s", {name: round(value, 4) for name, value in row.items()})
            rows.append(row)
    sizes = {v: sum((MODEL_FOLDER / name).stat().st_size for name in VARIANTS[v]) / 1e6 for v in variants}
    most = {name: round(max(row[name] for row in rows), 4) for name in rows[0]}
    print(json.dumps({"clips": len(rows), "most": most, "mb": {v: round(mb, 3) for v, mb in sizes.items()}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
