"""What a clip's steps are like on the whole, and two-sided: a fake may have too little of something or too much.

Means of sound and of the face's features, and how fast, how evenly and how far the face moves, carry over to
generators that were never seen where a network that is trained on few people holds on to what it saw. As they are, in
a line, they say little: a generator may move a face less than people do or more. So each is cut into ramps between its
own quantiles, and what adds up the ramps is a piecewise linear function of each value.

It is fitted as a whole before a network is trained, and stays as it is (`training.fitted_statistics`).

Source: generalised additive models (Hastie and Tibshirani 1986, DOI 10.1214/ss/1177013604) on a basis of linear
splines.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_RAMPS = 5
"""Of each value, between quantiles."""
OUTERMOST = 0.02
"""Share of the training clips below the first edge, and above the last."""
LARGEST = 6.0
"""Of what a ReLU6 gives, which makes the ramps."""
SMALLEST_SHARE = 0.01
"""Of the stream's largest value: the least range of any. One that hardly varies in training may vary elsewhere, and
INT8 moves it."""
SMALLEST_PART = 0.25
"""Of its even share of the range: the least width of a ramp."""


class ClipStatistics(nn.Module):
    """Values of one stream over a clip to what they say of the clip."""

    edges: Tensor

    def __init__(self, num_values: int) -> None:
        """Makes ramps over [-1, 1] that nothing reads yet; see `set_edges`.

        Args:
            num_values: S, of a clip.
        """
        super().__init__()
        self.register_buffer("edges", torch.linspace(-1, 1, NUM_RAMPS + 1).repeat(num_values, 1))
        self.linear = nn.Linear(num_values * NUM_RAMPS, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def set_edges(self, values: Tensor) -> None:
        """Puts the ramps between quantiles of the training clips' values, (N, S), none of them too steep."""
        shares = torch.linspace(OUTERMOST, 1 - OUTERMOST, NUM_RAMPS + 1)
        edges = torch.quantile(values.float(), shares.to(values.device), dim=0).t()
        span = edges[:, -1] - edges[:, 0]
        span = span.clamp(min=SMALLEST_SHARE * float(edges.abs().max()) or 1.0)
        widths = torch.maximum(edges.diff(dim=1), span[:, None] * (SMALLEST_PART / NUM_RAMPS))
        ends = torch.cat([torch.zeros_like(edges[:, :1]), widths.cumsum(1)], dim=1)
        middle = (edges[:, :1] + edges[:, -1:] - ends[:, -1:]) / 2
        self.edges.copy_(middle + ends)

    def ramps(self, values: Tensor) -> Tensor:
        """How far each value is up its ramps, in [0, 1]: (B, S) to (B, S NUM_RAMPS)."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        steps = F.relu6((values[:, :, None] - low) * (LARGEST / (high - low)))
        return steps.flatten(1) * (1 / LARGEST)

    def forward(self, values: Tensor) -> Tensor:
        """Logits: (B, S) to (B, 2)."""
        ramps = self.ramps(values)
        logits: Tensor = self.linear(ramps)
        return logits
