"""The export graphs as one Core AI asset, `model.aimodel`, with the functions `encode` and `score`.

Core AI is what iOS 27 has in place of Core ML. float32, beside the .tflite, which stays what dfkit's own runtime and
benchmarks run and what apps for older iOS take. The package's interpreter runs on Linux, in tenths of a second a call:
it shows that the numbers are right, and nothing about speed. The converter names an asset's constants by numbers that
differ from process to process: two exports hold the same values in other bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfkit.clip import ClipSpec
from dfkit.errors import MissingExtraError
from dfkit.export import program
from dfkit.export.converter import conversion, quiet_converter
from dfkit.export.graph import EncodeGraph, ScoreGraph
from dfkit.export.signature import encode_example, score_example, score_inputs
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.manifest import Backend, Signature

ASSET = "model.aimodel"
"""A folder."""
PROGRAM_FILE = f"{ASSET}/main.mlirb"
EXTRA = "coreai"
CREATED_S = 0.0
"""The asset's creation date: no bundle says when it was made."""


def require_extra() -> None:
    """Asks for the package before minutes go into something else.

    Raises:
        MissingExtraError: coreai-torch is not installed.
    """
    if importlib.util.find_spec("coreai_torch") is None:
        raise MissingExtraError("coreai-torch", EXTRA)


def convert(network: MMMSBA, spec: ClipSpec) -> dict[str, bytes]:
    """Converts both graphs to one asset.

    Args:
        network: In eval mode; without pictures there is only `score`.
        spec: The clips it takes.
    Returns:
        Content by file name, all in the folder `model.aimodel`.
    Raises:
        MissingExtraError: coreai-torch is not installed.
        ConversionError: The converter failed.
    """
    require_extra()
    with quiet_converter():
        from coreai_torch import TorchConverter, get_decomp_table
    with conversion("conversion to Core AI"), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        # Release: else the asset holds stack traces with this machine's paths.
        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        names = score_inputs(network, spec), list(program.LOGITS)
        parts: list[tuple[str, torch.nn.Module, tuple[torch.Tensor, ...], tuple[list[str], list[str]]]]
        parts = [("score", ScoreGraph(network, spec).eval(), score_example(network, spec), names)]
        if network.spec.pictures:
            pictures = list(network.spec.pictures), program.feature_names(network)
            parts.append(("encode", EncodeGraph(network).eval(), encode_example(network, spec), pictures))
        for key, graph, example, (inputs, outputs) in parts:
            exported = torch.export.export(graph, example).run_decompositions(get_decomp_table())
            converter.add_exported_program(exported, input_names=inputs, output_names=outputs, entrypoint_name=key)
        asset = converter.to_coreai().save_asset(Path(folder) / ASSET)
        asset.update_metadata(lambda metadata: setattr(metadata, "creation_date", CREATED_S))
        files = sorted(path for path in Path(folder, ASSET).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def describe(network: MMMSBA, spec: ClipSpec) -> Backend:
    """Functions, inputs and outputs by name; see `program.describe`."""
    return program.describe(network, spec, PROGRAM_FILE, by_position=False)


class ProgramGraphs(program.ProgramGraphs):
    """An asset, loaded into the package's interpreter."""

    name = "coreai"

    def __init__(self, backend: Backend, content: Mapping[str, bytes]) -> None:
        """Loads the asset.

        Args:
            backend: From `describe`.
            content: From `convert`.
        Raises:
            MissingExtraError: coreai-torch is not installed.
        """
        super().__init__(backend)
        require_extra()
        self._loop, self._kept = asyncio.Runner(), contextlib.AsyncExitStack()
        with tempfile.TemporaryDirectory() as folder:
            for name, data in content.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self._model = self._loop.run(_open(Path(folder) / ASSET, self._kept))
        weakref.finalize(self, _close, self._loop, self._kept)
        signatures = [s for s in (backend.encode, backend.score) if s is not None]
        self._functions: dict[str, Any] = {s.key: self._model.load_function(s.key) for s in signatures}

    def _execute(self, signature: Signature, feeds: list[np.ndarray]) -> list[np.ndarray]:
        from coreai.runtime import NDArray

        named = {entry.tensor: NDArray(feed) for entry, feed in zip(signature.inputs, feeds, strict=True)}
        answers = self._loop.run(_call(self._functions[signature.key], named))
        return [np.array(answers[entry.tensor].numpy()) for entry in signature.outputs]


async def _open(path: Path, kept: contextlib.AsyncExitStack) -> Any:
    """The asset compiled for this machine, as long as `kept` is open."""
    from coreai.authoring.asset import AIModelAsset

    return await kept.enter_async_context(AIModelAsset.load(path).executable())


async def _call(function: Any, inputs: dict[str, Any]) -> Any:
    return await function(inputs)


def _close(loop: asyncio.Runner, kept: contextlib.AsyncExitStack) -> None:
    loop.run(kept.aclose())
    loop.close()
