"""A checkpoint in place of a bundle: the runtime's own detector, with torch behind it instead of an exported graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dfkit
from dfkit.errors import ShapeError
from dfkit.evaluation.ensemble_members import build_clip_network
from dfkit.measures.decision import Decision
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.models.mmms_ba import NetworkOutput
from dfkit.models.pictures import to_unit_range
from dfkit.runtime.bundle import Bundle, FolderSource, face_model_entries
from dfkit.runtime.detector import Detector, FaceWatcher, ScoredFile
from dfkit.runtime.manifest import DecisionEntry, Manifest
from dfkit.runtime.results import ClipScore
from dfkit.training.task import ClipNetwork
from dfkit.weights.selection import WeightsChoice

OutputCallback = Callable[[NetworkOutput], None]
"""Gets the network's output for each clip."""
UNIFORM50_WARNING = "uniform50: frame spacing and sound length give a video's duration away"


class TorchGraphs:
    """The two graphs of `dfkit.runtime.backends.Graphs`, run by torch."""

    name: Any = "torch"
    recipe = "fp32"

    def __init__(self, model: ClipNetwork, *, num_threads: int = 1) -> None:
        """Puts a network behind the interface of exported graphs.

        Args:
            model: With its front ends.
            num_threads: CPU threads of torch, for the whole process.
        """
        torch.set_num_threads(num_threads)
        self.model, self.num_threads = model.eval(), num_threads
        self.on_output: OutputCallback | None = None
        """Called with the network's output for each clip, attention maps included."""

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Features of pictures, as `Graphs.encode` gives them.

        Args:
            pictures: `face` and `lip`, (n, side, side, 3) uint8, as far as the network takes them.
        Returns:
            `face_features` and `lip_features`, (n, features) float32.
        Raises:
            ShapeError: A picture is missing or has another shape or type.
        """
        features = {}
        for name in self.model.network.spec.pictures:
            picture = pictures.get(name)
            if picture is None or picture.dtype != np.uint8 or picture.ndim != 4:
                found = "nothing" if picture is None else f"{picture.dtype} {picture.shape}"
                raise ShapeError(f"encode takes '{name}' as uint8 (n, side, side, 3), got {found}")
            unit = to_unit_range(torch.from_numpy(picture)[None].to(self._device))
            features[f"{name}_features"] = self.model.network.frame_features(name, unit)[0].cpu().numpy()
        return features

    @torch.no_grad()
    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Logits of one clip, as `Graphs.score` gives them; a `uniform50` network takes MFCC of any length.

        Args:
            inputs: What the network's modalities ask for: `face_features`, `lip_features`, `landmarks`, and `pcm`, or
                `mfcc` under `uniform50`.
        Returns:
            Frame logits (T, 2) and clip logits (2,).
        Raises:
            ShapeError: An input is missing.
        """
        model = self.model
        steps: dict[str, Tensor] = {}
        for modality in model.network.spec.modalities:
            if modality == "audio":
                sound = self._tensor(inputs, "mfcc" if model.front_end is None else "pcm")
                steps[modality] = sound if model.front_end is None else model.front_end(sound)
            elif modality == "motion":
                assert model.motion is not None
                steps[modality] = model.motion(self._tensor(inputs, "landmarks"))
            else:
                steps[modality] = self._tensor(inputs, f"{modality}_features")
        output = model.network.fuse(steps)
        if self.on_output is not None:
            self.on_output(output)
        return output.frame_logits[0].cpu().numpy(), output.clip_logits[0].cpu().numpy()

    def _tensor(self, inputs: Mapping[str, np.ndarray], name: str) -> Tensor:
        if name not in inputs:
            raise ShapeError(f"score takes '{name}', got only {sorted(inputs)}")
        return torch.from_numpy(np.ascontiguousarray(inputs[name], np.float32))[None].to(self._device)


class CheckpointDetector(Detector):
    """`dfkit.runtime.Detector` for a checkpoint: decoding, faces, clips and joining are the runtime's own."""

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        num_threads: int = 1,
        decoder_threads: int = 0,
        weights: WeightsChoice | None = None,
    ) -> None:
        """Opens a checkpoint.

        Args:
            checkpoint: Of dfkit (teacher or student) or of the original implementation.
            num_threads: CPU threads of torch.
            decoder_threads: As of `Detector`.
            weights: Plain or EMA weights; the plain ones where left out.
        Raises:
            CheckpointError: It cannot be used.
        """
        loaded = load_checkpoint(checkpoint, weights)
        graphs = TorchGraphs(build_clip_network(loaded), num_threads=num_threads)
        super().__init__(
            Bundle(loaded.path, checkpoint_manifest(loaded), FolderSource(loaded.path.parent)),
            graphs=graphs,
            decoder_threads=decoder_threads,
        )
        # A uniform50 teacher hears the whole sound track and takes short videos, too.
        self.fixed_grid = loaded.kind == "student"
        self.torch_graphs = graphs
        self.last_clips: list[ClipScore] = []
        """Clips of the video that was scored last, in the order in which the network scored them."""

    def _score_file(self, path: Path, scored: ScoredFile, watch: FaceWatcher | None) -> None:
        self.last_clips = scored.clips
        super()._score_file(path, scored, watch)


def checkpoint_manifest(checkpoint: Checkpoint) -> Manifest:
    """A manifest that describes a checkpoint to the runtime; it lists no files and no exported graph."""
    decision = Decision.from_facts(checkpoint.facts) or Decision()
    warnings = (UNIFORM50_WARNING,) if checkpoint.clip_spec.preset == "uniform50" else ()
    return Manifest(
        name=checkpoint.path.stem,
        dfkit_version=dfkit.__version__,
        clip_spec=checkpoint.clip_spec,
        modalities=checkpoint.network.spec.modalities,
        network=checkpoint.network.spec.model_dump(mode="json"),
        backends={},
        operating_point=decision.operating_point,
        calibration=decision.calibration,
        aggregation=decision.aggregation,
        decision_muted=DecisionEntry.of(Decision.muted_from_facts(checkpoint.facts)),
        files={},
        face_models=face_model_entries(checkpoint.facts.get("face_models") or "float16"),
        warnings=warnings,
        metrics={"weights": checkpoint.weights},
    )
