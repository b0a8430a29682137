"""What storing a clip costs a detector: the teacher's logits on stored and on live clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dfkit.clip import CLIP2S
from dfkit.data.prepare import prepare
from dfkit.data.storage import PreparedData
from dfkit.media.mfcc import mfcc
from dfkit.media.stream import read_clips
from dfkit.models.original import load_teacher

# Two suffice for the test; over six clips of three files the figures were 3.1e-6, 6.0e-3 and 0.34.
CLIPS = ("lipnet-bbaf2n.mpg", "talking-face-pc-avs-00067.mp4")
CLIPS_PER_FILE = 1
# Powers of two of ../shared/teacher/GOLDEN.md that make the picture branches count.
STRESS = {
    "feature_extractor.0.weight": 2,
    "feature_extractor.3.weight": 2,
    "feature_extractor.6.weight": 4,
    "visual_encoder.gru.weight_ih": 4,
    "lip_encoder.gru.weight_ih": 4,
    "dense.1.weight": 4,
    "classifier.0.weight": 8,
}


@pytest.fixture(scope="module")
def pairs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[Tensor], list[Tensor]]]:
    """(live, stored) inputs of the teacher."""
    folder = tmp_path_factory.mktemp("logits")
    sources = folder / "videos"
    sources.mkdir()
    for name in CLIPS:
        (sources / name).write_bytes((shared / "clips" / name).read_bytes())
    prepare(sources, folder / "out")
    data = PreparedData(folder / "out")
    found = []
    for index, row in enumerate(data.videos):
        stored = [data[i] for i in data.clip_indices([index])[:CLIPS_PER_FILE]]
        live = list(read_clips(row.path, CLIP2S))[:CLIPS_PER_FILE]
        for here, there in zip(live, stored, strict=True):
            found.append((inputs(here.waveform, here.face, here.lip), inputs(there.waveform, there.face, there.lip)))
    return found


def inputs(waveform: np.ndarray, face: np.ndarray, lip: np.ndarray) -> list[Tensor]:
    pictures = [torch.from_numpy(p).permute(0, 3, 1, 2)[None].float() / 255 for p in (face, lip)]
    return [torch.from_numpy(mfcc(waveform, CLIP2S.audio))[None], *pictures]


def stressed(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.mul_(next((f for part, f in STRESS.items() if part in name), 1))
    return network


def clip_logits(network: nn.Module, clips: list[list[Tensor]]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(*clip).clip_logits for clip in clips])


def test_change_of_logits_is_small(shared: Path, pairs: list[tuple[list[Tensor], list[Tensor]]]) -> None:
    """Stored clips move the teacher far less than a real fault of the pictures does."""
    live, stored = [live for live, _ in pairs], [stored for _, stored in pairs]
    teacher = load_teacher(shared / "teacher" / "fold4.pth")
    plain = float((clip_logits(teacher, live) - clip_logits(teacher, stored)).abs().max())
    stressed(teacher)
    reference = clip_logits(teacher, live)
    stress = float((reference - clip_logits(teacher, stored)).abs().max())
    swapped = [[audio, face.flip(2), lip] for audio, face, lip in live]
    control = float((reference - clip_logits(teacher, swapped)).abs().max())
    print(f"change of logits by storing: plain {plain:.1e}, stressed {stress:.1e}; swapped channels {control:.1e}")
    assert plain <= 1e-3
    assert stress <= control / 5
