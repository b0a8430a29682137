"""`FaceTexture` rewritten for export: batch normalization inside the convolutions, statistics that INT8 leaves alone.

A convolution of stride 1 pads itself; one of stride 2 gets its odd row and column in front of it, which converters
make SAME padding of again. The picture's own border is pixel 127, which the trunk's scaling takes to zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkit.export.folded_conv import FoldedConv
from dfkit.models.efficientnet_lite import (
    PIXEL_MEAN,
    PIXEL_SCALE,
    ConvNorm,
    FaceTexture,
    InvertedBottleneck,
    pad_same,
    scale_pixels,
)

LARGEST_PIXEL = 255
BORDER = PIXEL_MEAN / LARGEST_PIXEL
"""The border of a picture of [0, 1]: a value that INT8 has."""


def fold_norm(layer: ConvNorm) -> nn.Conv2d:
    """The layer's convolution with its batch normalization, in evaluation mode, inside; it does not pad."""
    norm, old = layer.norm, layer.conv
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    gain = norm.weight.detach().double() * (variance.double() + norm.eps).rsqrt()
    conv = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride, groups=old.groups)  # type: ignore[arg-type]
    conv.weight.data = (old.weight.detach().double() * gain[:, None, None, None]).float()
    conv.bias.data = (norm.bias.detach().double() - mean.double() * gain).float()  # type: ignore[union-attr]
    return conv


def take_unit_pixels(conv: nn.Conv2d) -> nn.Conv2d:
    """Changes the convolution, in place, so that pictures of [0, 1] give what scaled ones gave."""
    weight, bias = conv.weight.data.double(), conv.bias.data.double()  # type: ignore[union-attr]
    conv.weight.data = (weight * (LARGEST_PIXEL / PIXEL_SCALE)).float()
    conv.bias.data = (bias - weight.sum((1, 2, 3)) * (PIXEL_MEAN / PIXEL_SCALE)).float()  # type: ignore[union-attr]
    return conv


class SameConv(nn.Module):
    """A convolution under TensorFlow's SAME padding."""

    def __init__(self, conv: nn.Conv2d, *, border: float = 0.0) -> None:
        """Takes the convolution over.

        Args:
            conv: Of a square kernel, without padding.
            border: What is padded with.
        """
        super().__init__()
        self.conv, self.border = conv, border
        if conv.stride == (1, 1) and not border:
            conv.padding = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        if not self.conv.padding[0] and self.conv.kernel_size[0] > 1:
            maps = pad_same(maps, self.conv.kernel_size[0], self.conv.stride[0], value=self.border)
        made: Tensor = self.conv(maps)
        return made


class FoldedBottleneck(nn.Module):
    """An `InvertedBottleneck` of three convolutions and nothing beside."""

    def __init__(self, block: InvertedBottleneck) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in (block.expand, block.depthwise, block.project):
            if isinstance(layer, ConvNorm):
                layers += [SameConv(fold_norm(layer)), *([nn.ReLU6()] if layer.activate else [])]
        self.layers, self.shortcut = nn.Sequential(*layers), block.shortcut

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.layers(maps)
        return out + maps if self.shortcut else out


class SpaceStatistics(nn.Module):
    """Mean and standard deviation over space; a module of its own, so that recipes can name it."""

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 2 C). The squares are of what is left without the mean: their sum is never negative."""
        # Channels last, as TFLite holds them: no transposing.
        maps = maps.permute(0, 2, 3, 1)
        mean = maps.mean(dim=(1, 2), keepdim=True)
        variance = (maps - mean).square().mean(dim=(1, 2))
        return torch.cat([mean.flatten(1), variance.sqrt()], dim=1)


class TextureGraph(nn.Module):
    """Pictures (N, side, side, 3) in [0, 1] to features (N, 2 C)."""

    def __init__(self, texture: FaceTexture) -> None:
        """Takes over a trunk's weights; it stays as it is."""
        super().__init__()
        conv = take_unit_pixels(fold_norm(texture.trunk.stem))
        self.first: nn.Module = FoldedConv(conv, border=BORDER, plain=SameConv(conv, border=BORDER))
        self.stem = nn.ReLU6()
        self.blocks = nn.Sequential(*(FoldedBottleneck(block) for block in texture.trunk.blocks))  # type: ignore[arg-type]
        self.statistics = SpaceStatistics()

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        features: Tensor = self.statistics(self.blocks(self.stem(self.first(pictures))))
        return features


class TextureOnnx(TextureGraph):
    """The same of pictures (N, side, side, 3) uint8, scaled as the trunk was trained: ONNX pads with zeros alone."""

    def __init__(self, texture: FaceTexture) -> None:
        super().__init__(texture)
        self.first = SameConv(fold_norm(texture.trunk.stem))

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        maps: Tensor = self.stem(self.first(scale_pixels(pictures.permute(0, 3, 1, 2))))
        features: Tensor = self.statistics(self.blocks(maps))
        return features
