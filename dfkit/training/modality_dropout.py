"""Modality dropout: whole modalities are hidden from clips of a batch, as by a muted video or a covered face."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dfkit.clip import AudioSpec

INPUTS = {"audio": ("waveform", "mfcc"), "face": ("face",), "lip": ("lip",), "motion": ("landmarks",)}
"""Tensors of a batch that belong to each modality; which ones are there depends on the preset."""


def silent_mfcc(spec: AudioSpec) -> Tensor:
    """MFCC of digital silence, (n_mfcc,) float32: every mel band at the floor, so the first coefficient alone.

    The orthonormal DCT-II of a constant c over n bands is c * sqrt(n) in its first coefficient.
    """
    silent = torch.zeros(spec.n_mfcc)
    silent[0] = 10.0 * math.log10(spec.amin) * math.sqrt(spec.n_mels)
    return silent


def choose_hidden(num_clips: int, num_modalities: int, *, chance: float, generator: torch.Generator) -> Tensor:
    """Draws which modalities are hidden from each clip.

    Args:
        num_clips: B.
        num_modalities: M, at least 2.
        chance: Probability of each modality of each clip, independently; a clip that would lose all keeps one, drawn
            evenly.
        generator: On the CPU, so that the draw is the same on every device.
    Returns:
        (B, M) bool, True = hidden; no row is all True.
    """
    hidden = torch.rand(num_clips, num_modalities, generator=generator) < chance
    kept = torch.randint(num_modalities, (num_clips,), generator=generator)
    lost_all = hidden.all(dim=1)
    hidden[lost_all, kept[lost_all]] = False
    return hidden


def hide_modalities(
    batch: dict[str, Tensor],
    modalities: tuple[str, ...],
    *,
    chance: float,
    generator: torch.Generator,
    audio: AudioSpec,
) -> dict[str, Tensor]:
    """Hides modalities from the clips of a batch.

    Args:
        batch: Prepared clips; unchanged.
        modalities: Those that the network takes; others are never hidden.
        chance: Probability of each modality of each clip; see `choose_hidden`.
        generator: On the CPU.
        audio: MFCC settings, which decide the MFCC of silence.
    Returns:
        A new batch; hidden sound is silence, pictures are black, landmarks stand still in one point. `hidden`
        (B, M) bool says which, in the order of the modalities.
    """
    size = len(batch["index"])
    hidden = choose_hidden(size, len(modalities), chance=chance, generator=generator)
    if "mismatched" in batch:
        # Nothing gives a wrong sound away where either side of it is missing.
        hidden[batch["mismatched"].cpu()] = False
    changed = {**batch, "hidden": hidden.to(batch["index"].device)}
    for number, modality in enumerate(modalities):
        changed |= hidden_inputs(batch, modality, changed["hidden"][:, number], audio)
    return changed


def hidden_inputs(batch: dict[str, Tensor], modality: str, rows: Tensor, audio: AudioSpec) -> dict[str, Tensor]:
    """The tensors of a modality, hidden from some clips.

    Args:
        batch: Prepared clips; unchanged.
        modality: Which one.
        rows: (B,) bool, True = hidden.
        audio: MFCC settings.
    """
    changed = {}
    for name in INPUTS[modality]:
        if name not in batch:
            continue
        values = batch[name]
        blank = silent_mfcc(audio) if name == "mfcc" else torch.zeros(())
        is_hidden = rows.view(-1, *[1] * (values.ndim - 1))
        changed[name] = torch.where(is_hidden, blank.to(values), values)
    return changed


def muted(batch: dict[str, Tensor], audio: AudioSpec) -> dict[str, Tensor]:
    """A batch without its sound, as training hides it: what serving gives a model for a video without sound."""
    rows = torch.ones(len(batch["index"]), dtype=torch.bool, device=batch["index"].device)
    return {**batch, **hidden_inputs(batch, "audio", rows, audio)}


def can_be_muted(modalities: tuple[str, ...], *, chance: float, preset: str) -> bool:
    """Whether a network has learnt to judge by its pictures alone.

    Args:
        modalities: That it takes.
        chance: Its modality dropout in training.
        preset: Of its clips; `uniform50` keeps to whole videos with sound.
    """
    return chance > 0 and "audio" in modalities and len(modalities) > 1 and preset == "clip2s"
