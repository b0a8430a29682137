"""Scorers, from a batch of prepared clips to logits: network, bundle, Monte-Carlo dropout, test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from dfkit.clip import ClipSpec
from dfkit.errors import ConfigError
from dfkit.evaluation.uncertainty import logits_from_p_fake, predictive_uncertainty
from dfkit.measures.decision import p_fake_of
from dfkit.models.mmms_ba import NetworkOutput
from dfkit.runtime.backends import Graphs
from dfkit.runtime.whole_video import pool_steps
from dfkit.training.modality_dropout import muted
from dfkit.training.objective import Batch, on_device_of
from dfkit.training.scoring import ClipLogits
from dfkit.training.task import ClipNetwork

GAIN_DB = 2.0
"""Change of loudness in test-time augmentation: clearly audible, and no recording is off by less."""
MIN_PASSES = 2
"""Fewest passes of Monte-Carlo dropout that have a standard deviation."""


@dataclass(frozen=True)
class BatchPredictions:
    """Logits of one batch of B clips."""

    clip: np.ndarray
    """(B, 2) clip logits."""
    frame: np.ndarray
    """(B, T, 2) frame logits."""
    uncertainty: dict[str, np.ndarray] = field(default_factory=dict)
    """By measure (such as `std`), each (B,); empty for a scorer that predicts once."""


class Scorer(Protocol):
    """Anything that turns a batch of prepared clips into logits."""

    def __call__(self, batch: Batch) -> BatchPredictions:
        """Predicts a batch.

        Args:
            batch: As `ClipDataset` and its collation give it, on the CPU.
        """
        ...


@dataclass(frozen=True)
class ClipPredictions:
    """Logits of N clips by one scorer, with their uncertainty."""

    logits: ClipLogits
    uncertainty: dict[str, np.ndarray]
    """By measure, each (N,); empty for a scorer that predicts once."""


def score_all(
    scorers: Mapping[str, Scorer], batches: Iterable[Batch], *, num_frames: int
) -> tuple[dict[str, ClipPredictions], np.ndarray]:
    """Runs several scorers over the same clips, each clip decoded once.

    Args:
        scorers: By name.
        batches: Of prepared clips; may be empty.
        num_frames: T; shorter `uniform50` clips are padded with zeros.
    Returns:
        Predictions by scorer, and (N, T) uint8 frame labels.
    """
    batch_predictions: dict[str, list[BatchPredictions]] = {name: [] for name in scorers}
    batch_indices, batch_labels = [], []
    for batch in batches:
        batch_indices.append(batch["index"].numpy())
        batch_labels.append(_pad_frames(batch["frame_labels"].numpy(), num_frames))
        for name, scorer in scorers.items():
            batch_predictions[name].append(scorer(batch))
    if not batch_indices:
        nothing = ClipLogits(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, num_frames, 2)))
        return {name: ClipPredictions(nothing, {}) for name in scorers}, np.zeros((0, num_frames), np.uint8)
    indices = np.concatenate(batch_indices)
    predictions = {
        name: _concatenate_batches(indices, batches_of_scorer, num_frames)
        for name, batches_of_scorer in batch_predictions.items()
    }
    return predictions, np.concatenate(batch_labels)


def _concatenate_batches(indices: np.ndarray, batches: Sequence[BatchPredictions], num_frames: int) -> ClipPredictions:
    clip = np.concatenate([batch.clip for batch in batches])
    frame = np.concatenate([_pad_frames(batch.frame, num_frames) for batch in batches])
    uncertainty = {
        measure: np.concatenate([batch.uncertainty[measure] for batch in batches]) for measure in batches[0].uncertainty
    }
    return ClipPredictions(ClipLogits(indices, clip, frame), uncertainty)


def _pad_frames(values: np.ndarray, num_frames: int) -> np.ndarray:
    """(B, T', ...) to (B, num_frames, ...), zeros behind the last frame."""
    padding = [(0, 0)] * values.ndim
    padding[1] = (0, num_frames - values.shape[1])
    return np.pad(values, padding)


class NetworkScorer:
    """Predicts with a checkpoint's network in eval mode."""

    def __init__(self, model: ClipNetwork) -> None:
        self.model = model.eval()

    def __call__(self, batch: Batch) -> BatchPredictions:
        """Predicts a batch in one forward pass; see `Scorer`."""
        output = run_network(self.model, batch)
        return BatchPredictions(output.clip_logits.cpu().numpy(), output.frame_logits.cpu().numpy())


@torch.no_grad()
def run_network(model: ClipNetwork, batch: Batch) -> NetworkOutput:
    """Forward pass of a batch, which is moved to the network's device; no gradients."""
    output: NetworkOutput = model(on_device_of(model, batch))
    return output


class BundleScorer:
    """A bundle's graphs on prepared clips, one at a time as on a phone."""

    def __init__(self, graphs: Graphs, spec: ClipSpec) -> None:
        self.graphs, self.spec = graphs, spec

    def __call__(self, batch: Batch) -> BatchPredictions:
        """Predicts a batch clip by clip; see `Scorer`."""
        clips, frames = [], []
        for row in range(len(batch["index"])):
            frame_logits, clip_logits = self._score({name: values[row].numpy() for name, values in batch.items()})
            clips.append(clip_logits)
            frames.append(frame_logits)
        return BatchPredictions(np.stack(clips), np.stack(frames))

    def _score(self, sample: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Frame logits (T, 2) and clip logits (2,) of one clip."""
        inputs: dict[str, np.ndarray] = self.graphs.encode(
            {name: sample[name] for name in ("face", "lip") if name in sample}
        )
        if self.spec.preset == "uniform50":
            steps = sample["mfcc"][sample["audio_mask"]]
            return self.graphs.score(inputs | {"mfcc": pool_steps(steps, self.spec.num_frames)})
        return self.graphs.score(inputs | {"pcm": sample["waveform"], "landmarks": sample["landmarks"]})


class MutedScorer:
    """Another scorer on clips without their sound."""

    def __init__(self, scorer: Scorer, spec: ClipSpec) -> None:
        self.scorer, self.spec = scorer, spec

    def __call__(self, batch: Batch) -> BatchPredictions:
        """Predicts a batch by its pictures alone; see `Scorer`."""
        return self.scorer(muted(batch, self.spec.audio))


class McDropoutScorer:
    """Monte-Carlo dropout: the mean probability over passes with dropout left on, and their disagreement.

    The network's dropout lies behind its Bi-GRUs, so the CNNs run once and only the rest is repeated.
    Source: Gal and Ghahramani 2016, arXiv:1506.02142, section 4.
    """

    def __init__(self, model: ClipNetwork, *, passes: int, seed: int = 0) -> None:
        """Keeps a network whose dropout can be left on.

        Args:
            model: With at least one dropout layer; its probabilities stay those it was built with.
            passes: Forward passes behind the CNNs, at least 2.
            seed: With the index of a batch's first clip it fixes what is dropped.
        Raises:
            ConfigError: Too few passes, or a network without dropout.
        """
        if passes < MIN_PASSES:
            raise ConfigError(
                f"--mc-dropout {passes}: at least {MIN_PASSES} passes make a spread", fix="--mc-dropout 20"
            )
        if not any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules()):
            raise ConfigError("the network has no dropout to leave on", fix="leave --mc-dropout out")
        self.model, self.passes, self.seed = model.eval(), passes, seed

    @torch.no_grad()
    def __call__(self, batch: Batch) -> BatchPredictions:
        """Predicts a batch with the clips' `std`, `entropy` and `mutual_information` over the passes; see `Scorer`."""
        with recorded_fuse_calls(self.model.network) as calls:
            run_network(self.model, batch)
        (arguments,) = calls
        clip_passes, frame_passes = [], []
        with torch.random.fork_rng(), dropout_enabled(self.model):
            torch.manual_seed(self.seed * 1_000_003 + int(batch["index"][0]))
            for _ in range(self.passes):
                output = self.model.network.fuse(*arguments)
                clip_passes.append(_clip_p_fake(output))
                frame_passes.append(_frame_p_fake(output))
        clip_p_fake, frame_p_fake = np.stack(clip_passes), np.stack(frame_passes)
        return BatchPredictions(
            logits_from_p_fake(clip_p_fake.mean(axis=0)),
            logits_from_p_fake(frame_p_fake.mean(axis=0)),
            predictive_uncertainty(clip_p_fake),
        )


def _clip_p_fake(output: NetworkOutput) -> np.ndarray:
    """(B,) probabilities of fake."""
    return p_fake_of(output.clip_logits.cpu().numpy(), calibration_temperature=1.0)


def _frame_p_fake(output: NetworkOutput) -> np.ndarray:
    """(B, T) probabilities of fake."""
    return p_fake_of(output.frame_logits.cpu().numpy(), calibration_temperature=1.0)


@contextmanager
def recorded_fuse_calls(network: Any) -> Iterator[list[tuple[Any, ...]]]:
    """Within the block, records the arguments of each call of `fuse`, the part of a network behind its CNNs."""
    calls: list[tuple[Any, ...]] = []
    original_fuse = network.fuse

    def fuse(*arguments: Any) -> NetworkOutput:
        calls.append(arguments)
        return original_fuse(*arguments)

    network.fuse = fuse
    try:
        yield calls
    finally:
        del network.fuse


@contextmanager
def dropout_enabled(model: nn.Module) -> Iterator[None]:
    """Within the block, dropout layers are in training mode, and nothing else is."""
    layers = [part for part in model.modules() if isinstance(part, nn.Dropout)]
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()


class TtaScorer:
    """Test-time augmentation: the mean probability over the clip, its mirror image, and a louder and a softer one.

    Landmarks are not mirrored: a network that takes motion is shown the sound's views only.
    """

    def __init__(self, model: ClipNetwork, spec: ClipSpec) -> None:
        """Chooses the views that the network's modalities allow.

        Args:
            model: The network.
            spec: Contract of the clips.
        Raises:
            ConfigError: No view can be made for this network.
        """
        self.model, self.spec = model.eval(), spec
        modalities = model.network.spec.modalities
        self.mirrors = bool(model.network.spec.pictures) and "motion" not in modalities
        self.gains_db: Sequence[float] = (GAIN_DB, -GAIN_DB) if "audio" in modalities else ()
        if not self.mirrors and not self.gains_db:
            raise ConfigError(
                f"--tta has no view for modalities {', '.join(modalities)}: landmarks are not mirrored",
                fix="leave --tta out",
            )

    @property
    def description(self) -> str:
        """Names of the views, separated by commas."""
        names = ["as is"]
        if self.mirrors:
            names.append("mirrored")
        names += [f"sound {gain:+g} dB" for gain in self.gains_db]
        return ", ".join(names)

    def views(self, batch: Batch) -> Iterator[Batch]:
        """The batch as it is, mirrored, louder and softer, as far as the network's modalities allow."""
        yield batch
        if self.mirrors:
            yield {**batch, "face": batch["face"].flip(3), "lip": batch["lip"].flip(3)}
        for gain_db in self.gains_db:
            yield self._louder(batch, gain_db)

    def _louder(self, batch: Batch, gain_db: float) -> Batch:
        if self.spec.preset == "clip2s":
            return {**batch, "waveform": batch["waveform"] * 10 ** (gain_db / 20)}
        # In a log spectrum a gain is a constant, which an orthonormal DCT puts into its first coefficient alone.
        mfcc = batch["mfcc"].clone()
        mfcc[..., 0] += gain_db * self.spec.audio.n_mels**0.5
        return {**batch, "mfcc": mfcc}

    def __call__(self, batch: Batch) -> BatchPredictions:
        """Predicts a batch with the clips' standard deviation over the views; see `Scorer`."""
        outputs = [run_network(self.model, view) for view in self.views(batch)]
        clip_p_fake = np.stack([_clip_p_fake(output) for output in outputs])
        frame_p_fake = np.stack([_frame_p_fake(output) for output in outputs])
        return BatchPredictions(
            logits_from_p_fake(clip_p_fake.mean(axis=0)),
            logits_from_p_fake(frame_p_fake.mean(axis=0)),
            {"std": clip_p_fake.std(axis=0)},
        )
