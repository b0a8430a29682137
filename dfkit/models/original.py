"""Original MMMS-BA checkpoints, read as they are; `dfkit.original.checkpoints` writes them.

Format: keys `epoch`, `model_state_dict`, optimizer and scheduler states, `best_val_*`, sometimes `config`.
Keys of weights trained on several GPUs start with `module.`.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfkit.errors import CheckpointError
from dfkit.models.mmms_ba import CNN_MODALITIES, MMMSBA, PREFIX, NetworkSpec

WEIGHTS_KEY = "model_state_dict"
METRIC_NAMES = ("acc", "loss", "precision", "recall", "f1")
STREAMS = ("audio", "face", "lip")
CHANNELS = {"face_channels": (64, 128, 256), "lip_channels": (32, 64, 128)}
MAX_NAMED = 6


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a torch checkpoint without running any code from it.

    Raises:
        CheckpointError: The file is missing, is no checkpoint, is damaged, or holds more than tensors and
            plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint", fix="check the path given with --teacher or --checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of tensors and plain values ({str(error).splitlines()[0][:120]})",
            fix="save it again with torch.save({'model_state_dict': model.state_dict()}, path)",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{path}: damaged or not a torch checkpoint ({str(error).splitlines()[0][:120]})",
            fix="copy the file again; a whole one opens with torch.load(path, weights_only=True)",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors")
    return content


def original_weights(content: dict[str, Any], *, where: str) -> dict[str, Tensor]:
    """The weights of an original checkpoint under plain names (`module.` taken off).

    Raises:
        CheckpointError: There is no `model_state_dict`, or it holds something that is not a tensor.
    """
    weights = content.get(WEIGHTS_KEY, content)
    if not isinstance(weights, dict) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        raise CheckpointError(
            f"{where}: no '{WEIGHTS_KEY}' of tensors among its keys ({', '.join(map(str, list(content)[:MAX_NAMED]))})",
            fix="give a checkpoint of the MMMS-BA teacher, or one that dfkit train wrote",
        )
    if all(str(name).startswith("module.") for name in weights):
        weights = {str(name).removeprefix("module."): value for name, value in weights.items()}
    return weights


def infer_spec(weights: dict[str, Tensor], *, where: str) -> NetworkSpec:
    """Widths, modalities and attention variant of a state dict.

    Raises:
        CheckpointError: A tensor that the widths are read from is missing.
    """
    names = PREFIX
    modalities: Any = tuple(m for m, prefix in names.items() if f"{prefix}_encoder.gru.weight_hh_l0" in weights)
    if not modalities or "classifier.0.weight" not in weights:
        raise CheckpointError(
            f"{where}: not an MMMS-BA checkpoint: found {', '.join(list(weights)[:MAX_NAMED])}; expected tensors "
            "such as 'audio_encoder.gru.weight_hh_l0' and 'classifier.0.weight'"
        )
    try:
        hidden = weights[f"{names[modalities[0]]}_encoder.gru.weight_hh_l0"].shape[1]
        dense = weights[f"{names[modalities[0]]}_dense.1.weight"].shape[0]
        widths: dict[str, Any] = {
            f"{m}_channels": tuple(weights[f"{names[m]}_feature_extractor.{i}.weight"].shape[0] for i in (0, 3, 6))
            for m in modalities
            if m in CNN_MODALITIES
        }
        if "audio" in modalities:
            widths["audio_dim"] = weights["audio_encoder.gru.weight_ih_l0"].shape[1]
    except KeyError as error:
        raise CheckpointError(f"{where}: tensor {error} is missing") from error
    width = weights["classifier.0.weight"].shape[1]
    for attention in ("bi_modal", "self", "none"):
        spec = NetworkSpec(
            modalities=modalities,
            gru_hidden=hidden,
            dense_dim=dense,
            attention=attention,
            **widths,
        )
        if spec.head_dim == width:
            return spec
    raise CheckpointError(
        f"{where}: classifier.0.weight takes {width} inputs; expected 9, 6 or 3 times the dense width {dense}"
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
        raise CheckpointError(f"{where}: tensors do not fit the network: {'; '.join(problems[:MAX_NAMED])}{more}")
    network.load_state_dict(weights)


def load_teacher(path: str | Path, *, frame_resampling: str = "padded") -> MMMSBA:
    """Loads an original checkpoint as a network with the same parameter names, in eval mode.

    Args:
        path: A `.pth` file of the original implementation, or one written by `dfkit train`.
        frame_resampling: `padded` gives the original's frame logits on padded batches, `valid` makes each
            clip independent of its neighbours; see `MMMSBA`. Without padding the two are equal.
    Returns:
        The network; `teacher(audio, frames, lips, audio_mask=None, frame_mask=None)` gives a `NetworkOutput`.
    Raises:
        CheckpointError: The file or a tensor does not fit, by name.
    """
    content = read_checkpoint(path)
    weights = original_weights(content, where=str(path))
    assert frame_resampling in ("padded", "valid")
    network = MMMSBA(infer_spec(weights, where=str(path)), frame_resampling=frame_resampling)  # type: ignore[arg-type]
    load_weights(network, weights, where=str(path))
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
    if faults:
        raise CheckpointError(
            f"the original format has no room for this network: {'; '.join(faults)}",
            fix="--save-format dfkit, or leave train.modalities and the channels in train.widths out",
        )
