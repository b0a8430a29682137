"""Reads a checkpoint file without running any code from it; what cannot be read so is refused by name.

Only tensors and plain values come through: torch's `weights_only`, with numpy's numbers allowed besides. What else a
file holds (models, argparse.Namespace, paths) is named by its class, with the lines of Python that save the weights
alone.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfkit.errors import CheckpointError, one_line
from dfkit.file_kinds import PROPER, kind_of

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
FIX_COPY = "copy the file again, and wait for the end"
NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
           "float16", "float32", "float64", "str")  # fmt: skip
"""numpy's kinds of numbers and text that may stand in a checkpoint; no objects, which would be code."""
MODULE_CLASSES = ("torch.nn.", "lightning.", "pytorch_lightning.", "transformers.")
"""Where classes of whole models come from: a pickled model names its layers, too."""
PLAIN = re.compile(
    r"torch\.(?!nn\.)[\w.]+|collections\.OrderedDict|numpy\.dtype|_codecs\.encode|(builtins|__builtin__)\.(set|frozenset)"
)
"""Names in a pickle that stand for tensors and plain values."""
MAX_NAMED = 6


def numpy_globals() -> list[Any]:
    """What a pickled number of numpy 1 or 2 is put together by: numbers and text only, neither arrays nor objects."""
    scalar: Any = np.float64(0).__reduce__()[0]
    made_by = [(scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")]
    kinds: list[Any] = [type(np.dtype(name)) for name in NUMBERS]
    return [*made_by, (np.dtype, "numpy.dtype"), *kinds]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads what a checkpoint holds.

    Args:
        path: Of torch.save, in either of its formats, or a safetensors file.
    Returns:
        Tensors on the CPU and plain values; numpy's numbers are Python's.
    Raises:
        CheckpointError: The file is missing, is no checkpoint, is damaged, or holds more than tensors and
            plain values.
    """
    path = Path(path)
    kind = _require_checkpoint(path)
    if kind == "safetensors" or (path.suffix.lower() == ".safetensors" and kind is None):
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(numpy_globals()):
            warnings.simplefilter("ignore")  # what torch says of old files is for those who wrote them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch raises any of a dozen types
        raise _refusal(path, error, kind) from error
    if isinstance(content, torch.Tensor) or not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors", fix=saving_lines(path)
        )
    return {name: plain_number(value) for name, value in content.items()}


def plain_number(value: Any) -> Any:
    """A number of numpy, or a tensor without dimensions, as Python's; anything else as it is."""
    if isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.ndim == 0):
        return value.item()
    return value


def saving_lines(path: Path, *, load: str | None = None) -> str:
    """Lines of Python that save the weights and numbers of a file alone, and where to run them."""
    loaded = load or f"torch.load({str(path)!r}, map_location='cpu', weights_only=False)"
    target = str(path.with_name(f"{path.stem}-plain.pth"))
    return "\n    ".join(
        (
            "save its weights alone, where it was made (the third line runs code from the file: only if you trust it):",
            "import pickle, torch",
            "plain = lambda v: plain(v.state_dict()) if hasattr(v, 'state_dict') else "
            "{k: plain(x) for k, x in v.items()} if isinstance(v, dict) else "
            "torch.as_tensor(v) if hasattr(v, 'dtype') else v if type(v) in (int, float, str, bool) else str(v)",
            f"content = {loaded}",
            f"torch.save(plain(content), {target!r})",
        )
    )


def _require_checkpoint(path: Path) -> str | None:
    """Refuses what is certainly no checkpoint; gives `checkpoint`, `safetensors`, `pickle`, or None where unknown."""
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.suffix in SUFFIXES)
        fix = f"name a file in it: {', '.join(inside[:MAX_NAMED])}" if inside else "name a .pth file"
        raise CheckpointError(f"{path}: a folder, not a checkpoint", fix=fix)
    if not path.is_file():
        what = "no file but a device or pipe" if path.exists() else "no such checkpoint"
        raise CheckpointError(f"{path}: {what}", fix="check the path given with --teacher or --checkpoint")
    try:
        kind = kind_of(path, "checkpoint")
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror})", fix="allow this user to read the file"
        ) from error
    foreign = None if kind is None or kind.name in PROPER["checkpoint"] else kind
    if foreign is not None and foreign.name == "archive" and _is_torchscript(path):
        raise CheckpointError(
            f"{path}: a TorchScript program, not a checkpoint of weights",
            fix=saving_lines(path, load=f"torch.jit.load({str(path)!r}, map_location='cpu')"),
        )
    if foreign is not None and foreign.name == "archive":
        inside = [name for name in _zip_names(path) if name.endswith(SUFFIXES)]
        fix = f"unpack it, and give {' or '.join(inside[:MAX_NAMED])}" if inside else foreign.fix
        raise CheckpointError(f"{path}: {foreign.found}, not a checkpoint", fix=fix)
    if foreign is not None:
        raise CheckpointError(f"{path}: {foreign.found}, not a whole checkpoint", fix=foreign.fix)
    return None if kind is None else kind.name


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _is_torchscript(path: Path) -> bool:
    return any(name.endswith("/constants.pkl") for name in _zip_names(path))


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path, device="cpu"))
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(
            f"{path}: a damaged or cut-off safetensors file ({one_line(error)})", fix=FIX_COPY
        ) from error


def _refusal(path: Path, error: Exception, kind: str | None) -> CheckpointError:
    """Why torch could not read a file, in words for its owner."""
    if _is_torchscript(path):
        return CheckpointError(
            f"{path}: a TorchScript program, not a checkpoint of weights",
            fix=saving_lines(path, load=f"torch.jit.load({str(path)!r}, map_location='cpu')"),
        )
    classes = foreign_classes(path, error)
    if kind == "pickle":
        named = f", with {', '.join(classes)}" if classes else ""
        return CheckpointError(
            f"{path}: a pickle of Python{named}, not written by torch.save",
            fix=saving_lines(path, load=f"pickle.load(open({str(path)!r}, 'rb'))"),
        )
    if classes:
        whole = [name for name in classes if name.startswith(MODULE_CLASSES)]
        # The layers of torch say that it is a model; the classes of its owner say which one.
        own = [name for name in classes if name not in whole] or classes
        named = ", ".join(own[:MAX_NAMED]) + (f" and {len(own) - MAX_NAMED} more" if len(own) > MAX_NAMED else "")
        what = f"a whole pickled model ({named})" if whole else f"objects of {named}"
        return CheckpointError(
            f"{path}: holds {what}; reading them would run code from the file, so only tensors and plain values are "
            "read",
            fix=saving_lines(path),
        )
    if kind is None:
        return CheckpointError(
            f"{path}: neither a checkpoint of torch nor a safetensors file ({_said(error)})",
            fix="give a .pth of torch.save({'model_state_dict': model.state_dict()}, PATH), or a .safetensors file",
        )
    return CheckpointError(f"{path}: a damaged checkpoint ({_said(error)})", fix=FIX_COPY)


def _said(error: Exception) -> str:
    """What torch says; of its page about pickles, which advises to run a file's code, nothing."""
    if isinstance(error, pickle.UnpicklingError):
        return "its pickled list of contents cannot be read"
    return f"{type(error).__name__}: {one_line(error)}"


def foreign_classes(path: Path, error: Exception) -> list[str]:
    """Names of classes and functions in a file that are neither tensors nor plain values; nothing of it is run."""
    try:
        with torch.serialization.safe_globals(numpy_globals()):
            found = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # of torch's older format, a plain pickle, or damaged
        found = {name for name in _named_in(path) if not PLAIN.fullmatch(name)}
    if isinstance(error, pickle.UnpicklingError) and not found:
        found = set(re.findall(r"(?:GLOBAL |<class ')([\w.]+)", str(error)))
    return sorted(name for name in found if re.fullmatch(r"[\w.]+", name))


def _named_in(path: Path) -> set[str]:
    """Names of all classes and functions in a file's pickles, one behind the other, up to what is none."""
    names: set[str] = set()
    with path.open("rb") as file:
        try:
            while True:
                names |= _named_in_pickle(pickletools.genops(file))
        except Exception:  # the end of the pickles: tensors follow, or nothing
            return names


def _named_in_pickle(opcodes: Iterable[tuple[Any, Any, int | None]]) -> set[str]:
    names: set[str] = set()
    strings: list[str] = []
    remembered: dict[int, str] = {}  # a name that stands there twice is fetched from the memo
    for opcode, argument, _ in opcodes:
        if opcode.name == "GLOBAL":
            names.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            names.add(".".join(strings[-2:]))
        elif opcode.name == "MEMOIZE":
            remembered[len(remembered)] = strings[-1] if strings else ""
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            strings.append(remembered.get(int(argument), ""))
        elif isinstance(argument, str):
            strings.append(argument)
    return names
