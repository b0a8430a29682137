"""Augments clips: each step is drawn and applied to face, lips, landmarks and sound alike.

Every step has a random stream of its own, made from (seed, epoch, clip, step): the same triple gives the same
clip whatever the worker, the batch or the other steps, so a resumed run sees what an unbroken one saw.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfkit.clip import CLIP2S, ClipSpec
from dfkit.config.augment import AugmentConfig, Step
from dfkit.data.samples import ClipRecord
from dfkit.errors import ConfigError
from dfkit.training.augment import masks, pictures, sound

NEEDS_PCM = ("sound_rate", "sound_band", "sound_noise", "sound_codec", "loudness")
LABELS = {"real": 0, "fake": 1}

StepFunction = Callable[[ClipRecord, Any, np.random.Generator, ClipSpec], ClipRecord]
STEPS: dict[str, StepFunction] = {
    "flip": pictures.flip,
    "rotate": pictures.rotate,
    "color_jitter": pictures.jitter_colors,
    "blur": pictures.blur,
    "resize": pictures.resize,
    "face_size": pictures.shrink_face,
    "noise": pictures.add_noise,
    "jpeg": pictures.compress,
    "h264": pictures.reencode,
    "erase": masks.erase,
    "sound_rate": sound.lower_rate,
    "sound_band": sound.limit_band,
    "sound_noise": sound.add_noise,
    "sound_codec": sound.reencode,
    "loudness": sound.set_loudness,
    "time_mask": masks.mask_time,
}


@dataclass(frozen=True)
class Augmenter:
    """Augments clips as a configuration says. Safe to pickle; keeps no state between clips."""

    config: AugmentConfig
    seed: int
    """Of the run."""
    spec: ClipSpec = CLIP2S
    """Contract that the clips were prepared under."""

    def __post_init__(self) -> None:
        if self.spec.preset == "uniform50":
            self._refuse_pcm()

    def apply(self, record: ClipRecord, *, epoch: int, index: int) -> ClipRecord:
        """Augments one clip.

        Args:
            record: As stored; left as it is.
            epoch: From 0 on.
            index: Position of the clip in its data set.
        Returns:
            A clip of the same shapes and types; the record itself where nothing was drawn.
        Raises:
            ConfigError: A step needs the waveform, and this is a `uniform50` sample.
        """
        if not len(record.waveform):
            self._refuse_pcm()
        for name, step in self.config.active().items():
            # The name's CRC: a new step put between others must not change what these draw.
            rng = np.random.default_rng([self.seed, epoch, index, zlib.crc32(name.encode())])
            if _applies_to(step, record) and rng.random() < step.prob:
                record = STEPS[name](record, step, rng, self.spec)
        return record

    def _refuse_pcm(self) -> None:
        refused = [f"augment.{name}" for name in NEEDS_PCM if name in self.config.active()]
        if "time_mask" in self.config.active() and self.config.time_mask.of != ("pictures",):
            refused.append(f"augment.time_mask.of {list(self.config.time_mask.of)}")
        if refused:
            raise ConfigError(
                f"{', '.join(refused)}: needs the waveform, and uniform50 data hold MFCC alone",
                fix="leave these steps out (time_mask with `of: [pictures]`), or train on clip2s data",
            )


def _applies_to(step: Step, record: ClipRecord) -> bool:
    """Whether a step is for clips of this label; a clip without label gets only the steps for all."""
    return step.only == "all" or record.label == LABELS[step.only]
