"""The MFCC inside an exported INT8 graph, against librosa's numbers."""

from __future__ import annotations

from pathlib import Path

import librosa
import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter

from dfkit.clip import CLIP2S
from dfkit.export import tflite
from dfkit.export.recipes import RECIPES
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec


class SoundOnly(torch.nn.Module):
    """The front end under the name that the recipes look for."""

    def __init__(self) -> None:
        super().__init__()
        self.front_end = MfccFrontEnd(CLIP2S.audio, CLIP2S.num_frames)

    def forward(self, pcm: torch.Tensor) -> torch.Tensor:
        # Some operator behind it: a graph's last tensor is named as an output, and no rule would find the DCT.
        return self.front_end(pcm).flip(1)


def voice() -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(CLIP2S.num_samples) / 16000
    tone = sum(np.sin(2 * np.pi * 140 * n * t + n) / n for n in range(1, 20))
    return (0.1 * tone * (1 + np.sin(2 * np.pi * 3 * t)) + 0.003 * rng.standard_normal(len(t))).astype(np.float32)


def test_float16_constants_keep_the_mfcc_within_a_thousandth(tmp_path: Path) -> None:
    pcm = voice()
    path = tmp_path / "mfcc.tflite"
    litert_torch.signature("score", SoundOnly().eval(), (torch.from_numpy(pcm)[None],)).convert().export(str(path))
    network = MMMSBA(NetworkSpec(modalities=("audio",)))
    plain = path.read_bytes()
    halved = tflite.quantize(plain, RECIPES["mixed_int8"], network, CLIP2S, [])
    assert len(halved) < 0.7 * len(plain)
    mel = librosa.feature.melspectrogram(
        y=pcm, sr=16000, n_fft=2048, hop_length=640, center=False, n_mels=128, power=2.0
    )
    expected = librosa.feature.mfcc(S=librosa.power_to_db(mel, amin=1e-10, top_db=80.0), n_mfcc=40).T
    runner = Interpreter(model_content=halved, num_threads=1).get_signature_runner("score")
    got = next(iter(runner(args_0=pcm[None]).values()))[0, ::-1]
    worst = np.abs(got - expected).max() / np.abs(expected).max()
    print(f"MFCC with float16 constants: {worst:.2g} of the largest coefficient")
    # The export's own limit.
    assert worst < 1e-3
