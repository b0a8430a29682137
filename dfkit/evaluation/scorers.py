"""From a batch of prepared clips to logits: one network, a bundle's graphs, dropout passes, changed views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dfkit.clip import ClipSpec
from dfkit.distill.evaluate import ClipLogits
from dfkit.distill.objective import Batch
from dfkit.distill.task import ClipNetwork
from dfkit.errors import ConfigError
from dfkit.evaluation.uncertainty import logits_of, spread_of
from dfkit.models.mmms_ba import NetworkOutput
from dfkit.runtime.backends import Graphs
from dfkit.runtime.results import p_fake_of
from dfkit.runtime.whole_video import pool_steps

GAIN_DB = 2.0
"""Of test-time augmentation: clearly audible, and no recording is off by less."""
MIN_PASSES = 2


@dataclass(frozen=True)
class Scores:
    """Answers for one batch."""

    clip: np.ndarray
    """(B, 2)."""
    frame: np.ndarray
    """(B, T, 2)."""
    spread: dict[str, np.ndarray] = field(default_factory=dict)
    """Uncertainties by name, each (B,)."""


class Scorer(Protocol):
    """Something that answers."""

    def __call__(self, batch: Batch) -> Scores:
        """Logits of a batch as `ClipDataset` gives it, on the CPU."""
        ...


@dataclass(frozen=True)
class Answers:
    """What a scorer said of some clips."""

    logits: ClipLogits
    spread: dict[str, np.ndarray]
    """By name, each (N,)."""


def score_all(
    scorers: Mapping[str, Scorer], batches: Iterable[Batch], *, num_frames: int
) -> tuple[dict[str, Answers], np.ndarray]:
    """Runs several scorers over the same clips, each clip decoded once.

    Args:
        scorers: By name.
        batches: Of prepared clips.
        num_frames: T; shorter `uniform50` clips are padded with zeros.
    Returns:
        Answers by scorer, and (N, T) uint8 frame labels.
    """
    kept: dict[str, list[Scores]] = {name: [] for name in scorers}
    indices, labels = [], []
    for batch in batches:
        indices.append(batch["index"].numpy())
        labels.append(_padded(batch["frame_labels"].numpy(), num_frames))
        for name, scorer in scorers.items():
            scores = scorer(batch)
            kept[name].append(Scores(scores.clip, _padded(scores.frame, num_frames), scores.spread))
    where = np.concatenate(indices) if indices else np.zeros(0, np.int64)
    answers = {}
    for name, parts in kept.items():
        clip = np.concatenate([p.clip for p in parts]) if parts else np.zeros((0, 2))
        frame = np.concatenate([p.frame for p in parts]) if parts else np.zeros((0, num_frames, 2))
        spread = {key: np.concatenate([p.spread[key] for p in parts]) for key in (parts[0].spread if parts else ())}
        answers[name] = Answers(ClipLogits(where, clip, frame), spread)
    return answers, np.concatenate(labels) if labels else np.zeros((0, num_frames), np.uint8)


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, length - values.shape[1]), *((0, 0),) * (values.ndim - 2)))


class NetworkScorer:
    """A checkpoint's network as it is."""

    def __init__(self, model: ClipNetwork) -> None:
        self.model = model.eval()

    def __call__(self, batch: Batch) -> Scores:
        """See `Scorer`."""
        output = run_network(self.model, batch)
        return Scores(output.clip_logits.cpu().numpy(), output.frame_logits.cpu().numpy())


@torch.no_grad()
def run_network(model: ClipNetwork, batch: Batch) -> NetworkOutput:
    """A network's output for a batch, on the network's device."""
    device = next(model.parameters()).device
    return model({name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)})


class BundleScorer:
    """A bundle's graphs on prepared clips, one at a time as on a phone."""

    def __init__(self, graphs: Graphs, spec: ClipSpec) -> None:
        self.graphs, self.spec = graphs, spec

    def __call__(self, batch: Batch) -> Scores:
        """See `Scorer`."""
        answers = [self._score({k: v[n].numpy() for k, v in batch.items()}) for n in range(len(batch["index"]))]
        return Scores(np.stack([clip for _, clip in answers]), np.stack([frame for frame, _ in answers]))

    def _score(self, sample: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        inputs: dict[str, np.ndarray] = self.graphs.encode({name: sample[name] for name in ("face", "lip")})
        if self.spec.preset == "uniform50":
            steps = sample["mfcc"][sample["audio_mask"]]
            return self.graphs.score(inputs | {"mfcc": pool_steps(steps, self.spec.num_frames)})
        return self.graphs.score(inputs | {"pcm": sample["waveform"], "landmarks": sample["landmarks"]})


class DropoutScorer:
    """Monte-Carlo dropout: the mean probability over passes with dropout left on, and their spread.

    The network's dropout lies behind its Bi-GRUs, so the CNNs run once and only the rest is repeated.
    Source: Gal and Ghahramani 2016, arXiv:1506.02142, section 4.
    """

    def __init__(self, model: ClipNetwork, *, passes: int, seed: int = 0) -> None:
        """Checks that there is something to draw.

        Args:
            model: Its dropout shares are those it was built with.
            passes: N.
            seed: With the clip's index it fixes what is dropped, whatever the batches.
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
    def __call__(self, batch: Batch) -> Scores:
        """See `Scorer`; spread is of the clip: `std`, `entropy` and `mutual_information`."""
        with recorded_fuse(self.model.network) as calls:
            run_network(self.model, batch)
        (arguments,) = calls
        clips, frames = [], []
        with torch.random.fork_rng(), dropout_on(self.model):
            torch.manual_seed(self.seed * 1_000_003 + int(batch["index"][0]))
            for _ in range(self.passes):
                output = self.model.network.fuse(*arguments)
                clips.append(p_fake_of(output.clip_logits.cpu().numpy(), calibration_temperature=1.0))
                frames.append(p_fake_of(output.frame_logits.cpu().numpy(), calibration_temperature=1.0))
        passes = np.stack(clips)
        return Scores(logits_of(passes.mean(0)), logits_of(np.stack(frames).mean(0)), spread_of(passes))


@contextmanager
def recorded_fuse(network: Any) -> Iterator[list[tuple[Any, ...]]]:
    """Notes what the part after the CNNs is called with."""
    calls: list[tuple[Any, ...]] = []
    plain = network.fuse

    def fuse(*arguments: Any) -> NetworkOutput:
        calls.append(arguments)
        return plain(*arguments)

    network.fuse = fuse
    try:
        yield calls
    finally:
        del network.fuse


@contextmanager
def dropout_on(model: nn.Module) -> Iterator[None]:
    """Dropout layers alone in training mode."""
    layers = [part for part in model.modules() if isinstance(part, nn.Dropout)]
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()


class ViewsScorer:
    """Test-time augmentation: the mean probability over the clip, its mirror image, and a louder and a softer one.

    Landmarks are not mirrored: a network that takes motion is shown the sound's views only.
    """

    def __init__(self, model: ClipNetwork, spec: ClipSpec) -> None:
        self.model, self.spec = model.eval(), spec
        taken = model.network.spec.modalities
        self.mirrors = bool(model.network.spec.pictures) and "motion" not in taken
        self.gains_db: Sequence[float] = (GAIN_DB, -GAIN_DB) if "audio" in taken else ()
        if not self.mirrors and not self.gains_db:
            raise ConfigError(
                f"--tta has no view for modalities {', '.join(taken)}: landmarks are not mirrored",
                fix="leave --tta out",
            )

    @property
    def said(self) -> str:
        """The views, for people."""
        gains = [f"sound {gain:+g} dB" for gain in self.gains_db]
        return ", ".join(["as is", *(["mirrored"] if self.mirrors else []), *gains])

    def views(self, batch: Batch) -> Iterator[Batch]:
        """The batch and its changed copies."""
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

    def __call__(self, batch: Batch) -> Scores:
        """See `Scorer`; spread is the standard deviation over the views."""
        outputs = [run_network(self.model, view) for view in self.views(batch)]
        clips = np.stack([p_fake_of(o.clip_logits.cpu().numpy(), calibration_temperature=1.0) for o in outputs])
        frames = np.stack([p_fake_of(o.frame_logits.cpu().numpy(), calibration_temperature=1.0) for o in outputs])
        return Scores(logits_of(clips.mean(0)), logits_of(frames.mean(0)), {"std": clips.std(0)})
