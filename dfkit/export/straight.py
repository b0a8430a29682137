"""The straight way, to be measured against: the network as it is through litert-torch, nothing rewritten.

The CNNs stay at the teacher's width, stem and size of pictures, each `nn.GRU` is unrolled by the converter operator by
operator, features pass through AdaptiveAvgPool2d. Only the MFCC is this project's, since `torch.stft` does not lower at
all.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.export.converter import GraphPart, convert_graphs
from dfkit.export.signature import encode_example, score_example
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.models.motion import MotionFrontEnd

SEED = 0


class StraightEncode(nn.Module):
    """One picture per modality through the CNNs as they are."""

    def __init__(self, network: MMMSBA) -> None:
        super().__init__()
        self.network = network

    def forward(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        """(1, side, side, 3) float32 in [0, 1] to (1, C), per modality."""
        parts = zip(self.network.spec.pictures, pictures, strict=True)
        return tuple(self.network.picture_network(m)(p.permute(0, 3, 1, 2)) for m, p in parts)


class StraightScore(nn.Module):
    """A clip's features, sound and landmarks through `MMMSBA.fuse` as it is."""

    def __init__(self, network: MMMSBA, spec: ClipSpec) -> None:
        super().__init__()
        self.network = network
        modalities = network.spec.modalities
        dense = spec.preset == "clip2s" and "audio" in modalities
        self.front_end = MfccFrontEnd(spec.audio, spec.num_frames) if dense else None
        self.motion = MotionFrontEnd(spec.fps) if "motion" in modalities else None

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs of `ScoreGraph` to frame logits (T, 2) and clip logits (1, 2)."""
        steps: dict[str, Tensor] = dict(zip(self.network.spec.modalities, inputs, strict=True))
        batched = {name: value[None] for name, value in steps.items()}
        if self.front_end is not None:
            batched["audio"] = self.front_end(steps["audio"])
        if self.motion is not None:
            batched["motion"] = self.motion(batched["motion"])
        output = self.network.fuse(batched)
        return output.frame_logits[0], output.clip_logits


def straight_network(student: MMMSBA) -> MMMSBA:
    """The student's topology and GRU width with the original's CNNs, freshly initialised: weights cost no time."""
    teacher = NetworkSpec()
    cnns = {"face_channels": teacher.face_channels, "lip_channels": teacher.lip_channels, "stem": teacher.stem}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        return MMMSBA(student.spec.model_copy(update=cnns)).eval()


def straight_spec(spec: ClipSpec, teacher_picture: Mapping[str, object] | None) -> ClipSpec:
    """The student's contract with pictures of the size that its teacher sees.

    Args:
        spec: The student's.
        teacher_picture: `PictureSpec` of the teacher as its student's checkpoint has it; None for other checkpoints.
    """
    if teacher_picture is None:
        return spec
    picture = PictureSpec.model_validate(teacher_picture)
    return spec.resized(picture.face_px, picture.lip_px)


def straight_model(network: MMMSBA, spec: ClipSpec) -> bytes:
    """Converts it to a float32 .tflite with the same two signatures as the export's.

    Raises:
        MissingExtraError: litert-torch is not installed.
        ConversionError: The converter failed.
    """
    parts: list[GraphPart] = [("score", StraightScore(network, spec).eval(), score_example(network, spec))]
    if network.spec.pictures:
        parts.insert(0, ("encode", StraightEncode(network).eval(), encode_example(network, spec)))
    return convert_graphs(parts)
