"""Degrades pictures of both classes alike, on the device: what sharing a video does to it, drawn without its label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantization steps of luma, ITU-T T.81, table K.1; scaled by quality as libjpeg does."""
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""The same of both colour differences, table K.2."""
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""JFIF 1.02."""


@dataclass(frozen=True)
class Degradation:
    """How one clip is degraded."""

    side_px: int
    """The face is shrunk to this side and enlarged again; nothing where it is the crop's own or more."""
    quality: int
    """JPEG quality, 1 to 100; 100: not quantized."""
    blur_px: float = 0.0
    """Standard deviation."""
    noise: float = 0.0
    """Standard deviation, of 1."""
    brightness: float = 1.0
    contrast: float = 1.0
    mirrored: bool = False


REDUCED = Degradation(side_px=56, quality=60)
"""What `reduced` figures are measured under: every face at 56 px and JPEG 60, real and fake alike."""


def draw(generator: torch.Generator) -> Degradation:
    """Draws a degradation; nothing about the clip has a say in it."""
    u = torch.rand(9, generator=generator).tolist()
    return Degradation(
        side_px=round(40 + u[0] * 72),
        quality=round(35 + u[1] * 60) if u[2] < 0.8 else 100,
        blur_px=1.2 * u[3] if u[4] < 0.3 else 0.0,
        noise=0.03 * u[5] if u[6] < 0.3 else 0.0,
        brightness=0.7 + 0.6 * u[7],
        contrast=0.8 + 0.4 * u[8],
        mirrored=bool(torch.rand((), generator=generator) < 0.5),
    )


def degrade(pictures: Tensor, how: Degradation, *, scale: float = 1.0) -> Tensor:
    """Degrades the pictures of one clip.

    Args:
        pictures: (T, 3, h, w) in [0, 1], sides multiples of 8.
        how: What is done.
        scale: Of `side_px` for these pictures: a lip crop of 48 px beside a face of 112 has 3/7.
    Returns:
        The same shape, in [0, 1].
    """
    side = pictures.shape[-1]
    small = max(8, round(how.side_px * scale))
    if small < side:
        shrunk = F.interpolate(pictures, size=(small, small), mode="area")
        pictures = F.interpolate(shrunk, size=(side, side), mode="bilinear", align_corners=False)
    if how.blur_px > 0.1:
        pictures = blur(pictures, how.blur_px)
    if how.noise:
        pictures = pictures + how.noise * torch.randn_like(pictures)
    if how.quality < 100:
        pictures = quantize_blocks(pictures.clamp(0, 1), how.quality)
    mean = pictures.mean()
    pictures = ((pictures - mean) * how.contrast + mean) * how.brightness
    if how.mirrored:
        pictures = pictures.flip(-1)
    return pictures.clamp(0, 1)


def blur(pictures: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of (T, 3, h, w)."""
    radius = max(1, math.ceil(3 * sigma_px))
    places = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (places / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    wide = F.conv2d(F.pad(pictures, (radius, radius, 0, 0), mode="replicate"), kernel, groups=3)
    return F.conv2d(F.pad(wide, (0, 0, radius, radius), mode="replicate"), kernel.transpose(2, 3), groups=3)


def quantize_blocks(pictures: Tensor, quality: int) -> Tensor:
    """What JPEG loses at a quality, without its coding: 8 x 8 DCT coefficients rounded, chroma at full size.

    Args:
        pictures: (T, 3, h, w) in [0, 1], sides multiples of 8.
        quality: 1 to 99, libjpeg's scale.
    """
    factor = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    tables = jpeg_tables(pictures.device)
    steps = (tables.steps * factor).clamp(1, 255) / 255
    t, _, h, w = pictures.shape
    # JPEG shifts luma to lie around zero; the colour differences do already.
    planes = torch.einsum("ck,tkhw->tchw", tables.to_ycc, pictures - 0.5).view(t, 3, h // 8, 8, w // 8, 8)
    coefficients = torch.einsum("tcyixj,ui,vj->tcyxuv", planes, tables.basis, tables.basis)
    steps = steps[None, :, None, None]
    rounded = torch.round(coefficients / steps) * steps
    planes = torch.einsum("tcyxuv,ui,vj->tcyixj", rounded, tables.basis, tables.basis).reshape(t, 3, h, w)
    return torch.einsum("ck,tkhw->tchw", tables.to_rgb, planes) + 0.5


class JpegTables(NamedTuple):
    """Constants on a device; made once, since each copy to a GPU waits for all that it has to do."""

    steps: Tensor
    """(3, 8, 8) of luma and both colour differences, at quality 50."""
    to_ycc: Tensor
    to_rgb: Tensor
    """(3, 3)."""
    basis: Tensor
    """(8, 8), orthonormal DCT-II, a row per frequency."""


@cache
def jpeg_tables(device: torch.device) -> JpegTables:
    """The constants of `quantize_blocks`."""
    luma, chroma = (torch.tensor(table, dtype=torch.float32) for table in (LUMINANCE, CHROMINANCE))
    to_ycc = torch.tensor(TO_YCC)
    places = torch.arange(8, dtype=torch.float32)
    basis = torch.cos(math.pi * (2 * places[None] + 1) * places[:, None] / 16) / 2
    basis[0] /= math.sqrt(2)
    tables = (torch.stack([luma, chroma, chroma]), to_ycc, torch.linalg.inv(to_ycc), basis)
    return JpegTables(*(table.to(device) for table in tables))
