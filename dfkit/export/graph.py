"""The network rewritten for export: two graphs without loops, masks or batch.

`encode` turns one picture into features as frames arrive, `score` turns a clip's features, PCM and landmarks
into logits; batch and streaming both run the two, so they agree by construction. A `lite` network (no
pictures) has no `encode`.

TFLite has no GRU operator and litert-torch lowers no loops: `score` is converted as what comes before the recurrence,
one step, and what comes behind it, and `dfkit/export/recurrence.py` joins them. As one module, for other formats and
for a look at its layers, it is unrolled over the T steps of a clip. All directions of all modalities advance together,
which needs sound and pictures on one time grid (T_a = T); `clip2s` gives that, and `uniform50` pools its MFCC onto it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfkit.clip import ClipSpec
from dfkit.export.folded_conv import FoldedConv
from dfkit.export.texture import TextureGraph
from dfkit.models.efficientnet_lite import FaceTexture
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA
from dfkit.models.motion import MotionFrontEnd

SMALLEST_SHARE = 0.05
"""Of the largest deviation among a step's values: one that hardly varies over the examples may vary elsewhere."""


class PlainCnn(nn.Module):
    """The original's three layers, with folded pixels."""

    def __init__(self, cnn: nn.Sequential) -> None:
        """Takes over a CNN of `image_cnn`."""
        super().__init__()
        conv = cnn[0]
        assert isinstance(conv, nn.Conv2d)
        self.first, self.middle, self.last = FoldedConv(conv), cnn[1:6], cnn[6:8]

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (N, side, side, 3) in [0, 1] to features (N, C)."""
        maps: Tensor = self.last(self.middle(self.first(pictures)))
        # mean() becomes one MEAN; AdaptiveAvgPool2d becomes a pool and two transposes.
        return maps.mean(dim=(2, 3))


class EncodeGraph(nn.Module):
    """One face and one lip picture to their features."""

    plain: type[nn.Module] = PlainCnn
    texture: type[nn.Module] = TextureGraph

    def __init__(self, network: MMMSBA) -> None:
        super().__init__()
        self.modalities = network.spec.pictures
        self.cnns = nn.ModuleDict({m: self._part(network.picture_network(m)) for m in self.modalities})

    def _part(self, found: nn.Module) -> nn.Module:
        if isinstance(found, FaceTexture):
            return self.texture(found)
        assert isinstance(found, nn.Sequential)
        return self.plain(found)

    def forward(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        """Features of one picture per modality.

        Args:
            pictures: (N, side, side, 3) float32 in [0, 1], one per picture modality, in order.
        Returns:
            (N, C) per modality.
        """
        return tuple(self.cnns[m](picture) for m, picture in zip(self.modalities, pictures, strict=True))


@dataclass(frozen=True)
class StepScale:
    """Brings the values of a step nearer to one range; exact in float: the layer behind takes it back.

    Dynamic INT8 rounds all values of a step in 255 levels of one size. The first of 40 MFCC is of the order of -300
    and the last of 5: unscaled, most are rounded away, and each runtime rounds another way. Means are taken off, which
    costs nothing; deviations are halved between steps and weights, which are rounded as well, as SmoothQuant does
    (Xiao et al. 2023, arXiv:2211.10438, section 4, with alpha 0.5). Steps that
    a CNN of the network's own made have one range already.
    """

    gain: Tensor
    """(C,); scaled = step * gain + offset."""
    offset: Tensor
    """(C,)."""

    @classmethod
    def of(cls, steps: Tensor) -> StepScale:
        """From examples, (N, C)."""
        deviation = steps.std(0)
        gain = deviation.clamp(min=SMALLEST_SHARE * float(deviation.max()) or 1.0).rsqrt()
        return cls(gain, -steps.mean(0) * gain)


class FusedBiGru(nn.Module):
    """Several Bi-GRUs of equal width and length as one recurrence.

    Direction d of modality m is row d * M + m of a state of 2 M rows. Each row has its own product per step; all that
    comes behind it is done for all rows at once. One batched product per step would be twelve operators
    fewer, but under dynamic INT8 TensorFlow 2.16 answers wrong there, and where steps share its weights TensorFlow 2.21
    and LiteRT before 2.3 answer at random. The reset and update gates' hidden biases are folded into the input side;
    the candidate's must stay inside the reset product.
    """

    def __init__(self, grus: list[nn.GRU]) -> None:
        super().__init__()
        self.num_grus, self.hidden = len(grus), grus[0].hidden_size
        self.num_rows, hidden = 2 * len(grus), self.hidden
        self.projections, self.recurrent = nn.ModuleList(), nn.ModuleList()
        for end in ("", "_reverse"):
            for gru in grus:
                weight_ih, weight_hh, bias_ih, bias_hh = (
                    getattr(gru, f"{name}_l0{end}").detach()
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                inside = bias_hh.clone()
                inside[: 2 * hidden] = 0
                self.projections.append(_linear(weight_ih, bias_ih + bias_hh - inside))
                self.recurrent.append(_linear(weight_hh, inside))

    def expect_scaled(self, place: int, scale: StepScale) -> None:
        """Changes the projections of the modality at `place` so that scaled steps give what plain ones gave."""
        for row in (place, self.num_grus + place):
            projection = self.projections.get_submodule(str(row))
            weight, bias = projection.get_parameter("weight").data, projection.get_parameter("bias").data
            weight /= scale.gain
            bias -= weight @ scale.offset

    def forward(self, *steps: Tensor) -> list[Tensor]:
        """Runs all directions over T steps.

        Args:
            steps: (T, C) per modality, all of one T.
        Returns:
            (T, 2 H) per modality, forward then backward.
        """
        gates = self.gates(*steps)
        state = gates.new_zeros(self.num_rows, self.hidden)
        states = []
        for of_step in gates.split(1):
            state = self.step(of_step, state)
            states.append(state)
        return self.ends(torch.cat(states))

    def gates(self, *steps: Tensor) -> Tensor:
        """What the steps bring to the gates, before any state: (T, C) per modality to (T, rows * 3 H).

        Backward directions stand in the order in which they run.
        """
        count = self.num_grus
        forward = [self.projections[m](steps[m]) for m in range(count)]
        backward = [self.projections[count + m](steps[m].flip(0)) for m in range(count)]
        return torch.cat(forward + backward, dim=-1)

    def step(self, gates: Tensor, state: Tensor) -> Tensor:
        """One step of all rows: gates (1, rows * 3 H) and state (rows, H) to the next state (rows, H)."""
        hidden = self.hidden
        gates = gates.reshape(self.num_rows, 3 * hidden)
        product = torch.cat([self.recurrent[row](state[row : row + 1]) for row in range(self.num_rows)])
        both = torch.sigmoid(gates[:, : 2 * hidden] + product[:, : 2 * hidden])
        candidate = torch.tanh(gates[:, 2 * hidden :] + both[:, :hidden] * product[:, 2 * hidden :])
        return candidate + both[:, hidden:] * (state - candidate)

    def ends(self, states: Tensor) -> list[Tensor]:
        """States of all steps, (T * rows, H), to what each modality's GRU gives: (T, 2 H), forward then backward."""
        count, hidden = self.num_grus, self.hidden
        rows = states.reshape(-1, self.num_rows * hidden).split(hidden, dim=-1)
        return [torch.cat([rows[m], rows[count + m].flip(0)], dim=-1) for m in range(count)]


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer of these values; weight (out, in), bias (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


class ScoreGraph(nn.Module):
    """A clip's features and sound to its logits."""

    def __init__(self, network: MMMSBA, spec: ClipSpec, scales: Mapping[str, StepScale] | None = None) -> None:
        """Takes over a network's weights.

        Args:
            network: In eval mode.
            spec: Its clips.
            scales: By modality: scales steps before they meet INT8; those without one stay as they are.
        """
        super().__init__()
        self.network, self.spec = network, spec
        self.modalities, self.streams = network.spec.modalities, network.spec.streams
        dense = spec.preset == "clip2s"
        self.front_end = MfccFrontEnd(spec.audio, spec.num_frames) if dense and "audio" in self.modalities else None
        self.motion = MotionFrontEnd(spec.fps) if "motion" in self.modalities else None
        self.recurrence = FusedBiGru([network.encoder(m).gru for m in self.streams])
        self.scales = {m: scale for m, scale in (scales or {}).items() if m in self.streams}
        for name, scale in self.scales.items():
            self.recurrence.expect_scaled(self.streams.index(name), scale)
        self.dense = nn.ModuleDict({m: network.dense(m)[1:] for m in self.streams})
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
        steps = self.steps(*inputs)
        encoded = self.recurrence(*self.scaled(steps))
        return self.logits(encoded, *self.on_the_whole(steps))

    def steps(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Steps as the network takes them, (T, C) by modality; `inputs` as for `forward`."""
        steps: dict[str, Tensor] = dict(zip(self.modalities, inputs, strict=True))
        if "audio" in steps and self.front_end is not None:
            steps["audio"] = self.front_end(steps["audio"])[0]
        if self.motion is not None:
            steps["motion"] = self.motion(steps["motion"][None])[0]
        return steps

    def scaled(self, steps: dict[str, Tensor]) -> list[Tensor]:
        """What the recurrence takes, (T, C) per stream."""
        scaled = {m: steps[m] * scale.gain + scale.offset for m, scale in self.scales.items()}
        return [scaled.get(m, steps[m]) for m in self.streams]

    def on_the_whole(self, steps: dict[str, Tensor]) -> list[Tensor]:
        """What the clip's statistics add to its logits, (1, 2); nothing for a network without."""
        if not self.network.spec.statistics:
            return []
        batched = {m: value[None] for m, value in steps.items()}
        return [self.network.statistics_logits(batched, dict.fromkeys(batched)).sum(1)]

    def logits(self, encoded: list[Tensor], on_the_whole: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frame and clip logits of what the recurrence gives, (T, 2 H) per stream, and of the clip on the whole."""
        named = zip(self.streams, encoded, strict=True)
        dense: dict[str, Tensor] = {m: self.dense[m](value)[None] for m, value in named}
        frame_logits = self.classifier(torch.cat(self._blocks(dense), dim=-1))[0]
        if on_the_whole is not None:
            frame_logits = frame_logits + on_the_whole
        return frame_logits, frame_logits.mean(dim=0, keepdim=True)

    def _blocks(self, dense: dict[str, Tensor]) -> list[Tensor]:
        """What `MMMSBA.join_blocks` gives, (1, T, C) each, with all pairs of streams in one batch."""
        pairs = self.network.spec.pairs
        if self.network.spec.attention != "bi_modal" or not pairs:
            return list(self.network.join_blocks(dense, dict.fromkeys(dense))[0].values())
        left, right = (torch.cat([dense[pair[side]] for pair in pairs]) for side in (0, 1))
        fused, _, _ = self.network.attend(left, right)
        # Not `split`: the converter cannot split one pair in one part.
        aligned = self.network.aligned_products(dense, dict.fromkeys(dense)).values()
        return [*(fused[n : n + 1] for n in range(len(pairs))), *aligned, *(dense[m] for m in self.streams)]


class ScoreGates(nn.Module):
    """The part of `score` before the recurrence: its inputs to (T, rows * 3 H), see `FusedBiGru.gates`, and to what
    goes past the recurrence, see `ScoreGraph.on_the_whole`."""

    def __init__(self, graph: ScoreGraph) -> None:
        super().__init__()
        # Not `graph`: torch's own graph modules have an attribute of that name.
        self.whole = graph

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Gates of all steps first."""
        steps = self.whole.steps(*inputs)
        return (self.whole.recurrence.gates(*self.whole.scaled(steps)), *self.whole.on_the_whole(steps))


class ScoreStep(nn.Module):
    """One step of the recurrence, see `FusedBiGru.step`."""

    def __init__(self, graph: ScoreGraph) -> None:
        super().__init__()
        self.recurrence = graph.recurrence

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        """(1, rows * 3 H) and (rows, H) to (rows, H)."""
        return self.recurrence.step(gates, state)


class ScoreLogits(nn.Module):
    """The part of `score` behind the recurrence: states (T * rows, H), and what went past it, to frame and clip
    logits."""

    def __init__(self, graph: ScoreGraph) -> None:
        super().__init__()
        # Not `graph`: torch's own graph modules have an attribute of that name.
        self.whole = graph

    def forward(self, states: Tensor, *on_the_whole: Tensor) -> tuple[Tensor, Tensor]:
        """Frame logits (T, 2) and clip logits (1, 2)."""
        return self.whole.logits(self.whole.recurrence.ends(states), *on_the_whole)
