"""What storing a clip costs a detector: logits of teacher and student on stored and on live clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dfkit.clip import CLIP2S
from dfkit.data.prepare import prepare
from dfkit.data.storage import PreparedData
from dfkit.distill.prune import prune
from dfkit.media.mfcc import mfcc
from dfkit.media.stream import read_clips
from dfkit.models import NetworkSpec, load_teacher
from tests.models import teacher_cases

# Two suffice for the test.
CLIPS = ("lipnet-bbaf2n.mpg", "talking-face-pc-avs-00067.mp4")
CLIPS_PER_FILE = 1
# The student of the export tests: original checkpoint, stressed weights, pruned to GRU-128.
STUDENT = NetworkSpec(face_channels=(32, 64, 128), lip_channels=(16, 32, 64), gru_hidden=128)


@pytest.fixture(scope="module")
def pairs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[Tensor], list[Tensor]]]:
    """(live, stored) inputs of the teacher."""
    folder = tmp_path_factory.mktemp("logits")
    sources = folder / "videos"
    sources.mkdir()
    for name in CLIPS:
        (sources / name).write_bytes((shared / "clips" / name).read_bytes())
    prepare(sources, folder / "out", unlabelled=True)
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


def clip_logits(network: nn.Module, clips: list[list[Tensor]]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(*clip).clip_logits for clip in clips])


def changes(network: nn.Module, pairs: list[tuple[list[Tensor], list[Tensor]]]) -> tuple[float, float]:
    """Largest change of a logit by storing, and by swapping red and blue of the live faces."""
    live = [live for live, _ in pairs]
    reference = clip_logits(network, live)
    stored = float((reference - clip_logits(network, [stored for _, stored in pairs])).abs().max())
    swapped = [[audio, face.flip(2), lip] for audio, face, lip in live]
    return stored, float((reference - clip_logits(network, swapped)).abs().max())


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_change_of_logits_is_small(which: str, shared: Path, pairs: list[tuple[list[Tensor], list[Tensor]]]) -> None:
    """Stored clips move a detector far less than a real fault of the pictures does."""
    plain = load_teacher(shared / "teacher" / "fold4.pth")
    stressed = load_teacher(shared / "teacher" / "fold4.pth")
    # Powers of two that make the picture branches count; before pruning, so that the student inherits them.
    teacher_cases.stress(stressed)
    networks = [prune(network, STUDENT) if which == "student" else network for network in (plain, stressed)]
    (as_is, _), (stress, control) = (changes(network.eval(), pairs) for network in networks)
    print(f"{which}: change of logits by storing {as_is:.1e}, stressed {stress:.1e}; swapped channels {control:.1e}")
    assert as_is <= 1e-3
    assert stress <= control / 5
