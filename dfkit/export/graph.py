"""The network rewritten for export: two graphs without loops, masks or batch.

`encode` turns one picture into features as frames arrive, `score` turns a clip's features, PCM and landmarks
into logits; batch and streaming both run the two, so they agree by construction. A `lite` network (no
pictures) has no `encode`.

TFLite has no GRU operator and litert-torch lowers no loops: the recurrence is unrolled over the T steps of
a clip. All directions of all modalities advance together, one batched product per step, which needs sound
and pictures on one time grid (T_a = T); `clip2s` gives that, and `uniform50` pools its MFCC onto it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkit.clip import ClipSpec
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA
from dfkit.models.motion import MotionFrontEnd


class EncodeGraph(nn.Module):
    """One face and one lip picture to their features."""

    def __init__(self, network: MMMSBA) -> None:
        super().__init__()
        self.modalities = network.spec.pictures
        self.cnns = nn.ModuleDict({m: network.cnn(m)[:6] for m in self.modalities})
        self.last = nn.ModuleDict({m: network.cnn(m)[6:8] for m in self.modalities})

    def forward(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        """Features of one picture per modality.

        Args:
            pictures: (N, side, side, 3) float32 in [0, 1], one per picture modality, in order.
        Returns:
            (N, C) per modality.
        """
        features = []
        for name, picture in zip(self.modalities, pictures, strict=True):
            maps = self.last[name](self.cnns[name](picture.permute(0, 3, 1, 2)))
            # mean() becomes one MEAN; AdaptiveAvgPool2d becomes a pool and two transposes.
            features.append(maps.mean(dim=(2, 3)))
        return tuple(features)


class FusedBiGru(nn.Module):
    """Several Bi-GRUs of equal width and length as one recurrence.

    Direction d of modality m sits at place d * M + m of a batch of 2 M recurrences. The reset and update
    gates' hidden biases are folded into the input side; the candidate's must stay inside the reset product.
    """

    recurrent: Tensor
    candidate_bias: Tensor

    def __init__(self, grus: list[nn.GRU]) -> None:
        super().__init__()
        self.num_grus, self.hidden = len(grus), grus[0].hidden_size
        hidden = self.hidden
        self.projections = nn.ModuleList()
        recurrent, candidate_bias = [], []
        for end in ("", "_reverse"):
            for gru in grus:
                weight_ih, weight_hh, bias_ih, bias_hh = (
                    getattr(gru, f"{name}_l0{end}").detach()
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                projection = nn.Linear(gru.input_size, 3 * hidden)
                folded = bias_ih.clone()
                folded[: 2 * hidden] += bias_hh[: 2 * hidden]
                projection.weight.data, projection.bias.data = weight_ih.clone(), folded
                self.projections.append(projection)
                recurrent.append(weight_hh.t())
                candidate_bias.append(bias_hh[2 * hidden :])
        self.register_buffer("recurrent", torch.stack(recurrent).contiguous())
        self.register_buffer("candidate_bias", torch.stack(candidate_bias)[:, None, :].contiguous())

    def forward(self, *steps: Tensor) -> list[Tensor]:
        """Runs all directions over T steps.

        Args:
            steps: (T, C) per modality, all of one T.
        Returns:
            (T, 2 H) per modality, forward then backward.
        """
        count, hidden = self.num_grus, self.hidden
        length = steps[0].shape[0]
        forward = [self.projections[m](steps[m]) for m in range(count)]
        backward = [self.projections[count + m](steps[m]).flip(0) for m in range(count)]
        gates = torch.stack(forward + backward)
        state = torch.zeros_like(gates[:, :1, :hidden])
        states = []
        for step in range(length):
            now = gates[:, step : step + 1]
            product = torch.bmm(state, self.recurrent)
            both = torch.sigmoid(now[:, :, : 2 * hidden] + product[:, :, : 2 * hidden])
            reset, update = both[:, :, :hidden], both[:, :, hidden:]
            candidate = torch.tanh(
                now[:, :, 2 * hidden :] + reset * (product[:, :, 2 * hidden :] + self.candidate_bias)
            )
            state = candidate + update * (state - candidate)
            states.append(state)
        joined = torch.cat(states, dim=1)
        return [torch.cat([joined[m], joined[count + m].flip(0)], dim=-1) for m in range(count)]


class ScoreGraph(nn.Module):
    """A clip's features and sound to its logits."""

    def __init__(self, network: MMMSBA, spec: ClipSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec
        self.modalities = network.spec.modalities
        dense = spec.preset == "clip2s"
        self.front_end = MfccFrontEnd(spec.audio, spec.num_frames) if dense and "audio" in self.modalities else None
        self.motion = MotionFrontEnd(spec.fps) if "motion" in self.modalities else None
        self.recurrence = FusedBiGru([network.encoder(m).gru for m in self.modalities])
        self.dense = nn.ModuleDict({m: network.dense(m)[1:] for m in self.modalities})
        self.classifier = network.classifier

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of one clip.

        Args:
            inputs: Per modality, in order: for sound PCM (1, num_samples) float32 in [-1, 1] (`clip2s`) or MFCC
                (T, n_mfcc) pooled onto the pictures (`uniform50`); for pictures features (T, C) from `encode`; for
                motion landmarks (T, 468, 2) float32 in source pixels.
        Returns:
            Frame logits (T, 2) and clip logits (1, 2), the mean of the frame logits.
        """
        steps = dict(zip(self.modalities, inputs, strict=True))
        if "audio" in steps and self.front_end is not None:
            steps["audio"] = self.front_end(steps["audio"])[0]
        if self.motion is not None:
            steps["motion"] = self.motion(steps["motion"][None])[0]
        encoded = self.recurrence(*(steps[m] for m in self.modalities))
        dense: dict[str, Tensor] = {
            m: self.dense[m](value)[None] for m, value in zip(self.modalities, encoded, strict=True)
        }
        blocks, _ = self.network.join_blocks(dense, dict.fromkeys(dense))
        frame_logits = self.classifier(torch.cat(list(blocks.values()), dim=-1))[0]
        return frame_logits, frame_logits.mean(dim=0, keepdim=True)
