"""Original MMMS-BA checkpoints, read as they are; `dfkit.original.checkpoints` writes them.

Format: keys `epoch`, `model_state_dict`, optimizer and scheduler states, `best_val_*`, sometimes `config`.
`dfkit.weights` finds the weights in other containers and under other prefixes, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from dfkit.errors import CheckpointError, one_line
from dfkit.models.mmms_ba import CNN_MODALITIES, MMMSBA, PREFIX, NetworkSpec
from dfkit.weights.selection import WeightsChoice
from dfkit.weights.stored import read_weights

WEIGHTS_KEY = "model_state_dict"
MARK = "classifier.0.weight"
"""Name of a tensor that every MMMS-BA network has."""
METRIC_NAMES = ("acc", "loss", "precision", "recall", "f1")
STREAMS = ("audio", "face", "lip")
CHANNELS = {"face_channels": (64, 128, 256), "lip_channels": (32, 64, 128)}
MAX_NAMED = 6
FIX_SAVE = "give a checkpoint of the MMMS-BA teacher, or one that dfkit train or dfkit distill wrote"


def infer_spec(weights: dict[str, Tensor], *, where: str) -> NetworkSpec:
    """Widths, modalities and attention variant of a state dict.

    Raises:
        CheckpointError: A tensor that the widths are read from is missing.
    """
    names = PREFIX
    modalities: Any = tuple(m for m, prefix in names.items() if f"{prefix}_encoder.gru.weight_hh_l0" in weights)
    if not modalities or MARK not in weights:
        raise CheckpointError(
            f"{where}: not an MMMS-BA checkpoint: found {', '.join(list(weights)[:MAX_NAMED])}; expected tensors "
            "such as 'audio_encoder.gru.weight_hh_l0' and 'classifier.0.weight'",
            fix=FIX_SAVE,
        )
    try:
        hidden = weights[f"{names[modalities[0]]}_encoder.gru.weight_hh_l0"].shape[1]
        dense = weights[f"{names[modalities[0]]}_dense.1.weight"].shape[0]
        widths: dict[str, Any] = {
            f"{m}_channels": tuple(weights[f"{names[m]}_feature_extractor.{i}.weight"].shape[0] for i in (0, 3, 6))
            for m in modalities
            if m in CNN_MODALITIES
        }
        for name in set(modalities) & set(CNN_MODALITIES):
            kernel = weights[f"{names[name]}_feature_extractor.0.weight"]
            widths["stem"] = "patch4" if kernel.shape[-1] == 4 else "conv3"
        if "audio" in modalities:
            widths["audio_dim"] = weights["audio_encoder.gru.weight_ih_l0"].shape[1]
        width = weights[MARK].shape[1]
    except KeyError as error:
        raise CheckpointError(f"{where}: tensor {error} is missing", fix=FIX_SAVE) from error
    except IndexError as error:
        raise CheckpointError(f"{where}: tensors of another shape than MMMS-BA's", fix=FIX_SAVE) from error
    for attention in ("bi_modal", "self", "none"):
        try:
            spec = NetworkSpec(modalities=modalities, gru_hidden=hidden, dense_dim=dense, attention=attention, **widths)
        except ValidationError as error:
            raise CheckpointError(
                f"{where}: no MMMS-BA network has such widths: {one_line(error)}", fix=FIX_SAVE
            ) from error
        if spec.head_dim == width:
            return spec
    raise CheckpointError(
        f"{where}: classifier.0.weight takes {width} inputs; expected 9, 6 or 3 times the dense width {dense}",
        fix=FIX_SAVE,
    )


def load_weights(network: MMMSBA, weights: dict[str, Tensor], *, where: str) -> None:
    """Puts weights into a network; every name and shape must fit.

    Raises:
        CheckpointError: Naming missing, extra and misshapen tensors.
    """
    expected = network.state_dict()
    problems = [f"missing {name}" for name in expected if name not in weights]
    problems += [f"unknown {name}" for name in weights if name not in expected]
    for name, tensor in expected.items():
        if name in weights and weights[name].shape != tensor.shape:
            problems.append(f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}")
    problems += [f"{name} holds NaN or Inf" for name, value in weights.items() if not torch.isfinite(value).all()]
    if problems:
        more = f"; and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise CheckpointError(
            f"{where}: tensors do not fit the network: {'; '.join(problems[:MAX_NAMED])}{more}", fix=FIX_SAVE
        )
    network.load_state_dict(weights)


def load_teacher(path: str | Path, *, frame_resampling: str = "padded", weights: WeightsChoice | None = None) -> MMMSBA:
    """Loads an original checkpoint as a network with the same parameter names, in eval mode.

    Args:
        path: A `.pth` file of the original implementation, or one written by `dfkit train`.
        frame_resampling: `padded` gives the original's frame logits on padded batches, `valid` makes each
            clip independent of its neighbours; see `MMMSBA`. Without padding the two are equal.
        weights: Plain or EMA weights where a file holds both; the plain ones where left out.
    Returns:
        The network; `teacher(audio, frames, lips, audio_mask=None, frame_mask=None)` gives a `NetworkOutput`.
    Raises:
        CheckpointError: The file or a tensor does not fit, by name.
    """
    tensors = read_weights(path, weights, mark=MARK).tensors
    assert frame_resampling in ("padded", "valid")
    network = MMMSBA(infer_spec(tensors, where=str(path)), frame_resampling=frame_resampling)  # type: ignore[arg-type]
    load_weights(network, tensors, where=str(path))
    return network.eval()


def refuse_foreign_network(spec: NetworkSpec) -> None:
    """Refuses a network that the original implementation cannot build, and so cannot load.

    Raises:
        CheckpointError: Naming each property; GRU and dense widths and the fusion are free there.
    """
    faults = []
    if spec.modalities != STREAMS:
        faults.append(f"modalities {', '.join(spec.modalities)} instead of audio, face (visual), lip")
    for name, channels in CHANNELS.items():
        if getattr(spec, name) != channels:
            faults.append(f"{name} {getattr(spec, name)} instead of {channels}")
    for name, own in (("stem", "conv3"), ("face_trunk", "mmms_ba")):
        if getattr(spec, name) != own:
            faults.append(f"{name} {getattr(spec, name)} instead of {own}")
    if spec.aligned:
        faults.append("aligned products")
    if spec.clip_statistics:
        faults.append("clip statistics")
    if faults:
        raise CheckpointError(
            f"the original format has no room for this network: {'; '.join(faults)}",
            fix="--save-format dfkit, or the network of configs/original.yaml: train.modalities [audio, face, lip], "
            "train.face_trunk mmms_ba, train.clip_statistics false, and the channels in train.widths left out",
        )
