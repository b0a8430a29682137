"""Clips whose sound is not that of their pictures, made of real ones while training: self-supervision without fakes.

A clip keeps its pictures and gets the sound of another clip or of another moment of its own video, and is then fake
from its first to its last frame, whatever it was: only how sound and pictures go together gives that away.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dfkit.config.augment import MismatchConfig
from dfkit.data.joined_sound import JoinedSound
from dfkit.data.samples import ClipRecord
from dfkit.data.storage import PreparedData


class Mismatch:
    """Gives training clips other sound. Safe to pickle; keeps no state between clips."""

    def __init__(
        self, data: PreparedData, indices: Sequence[int], config: MismatchConfig, seed: int, *, always: bool = False
    ) -> None:
        """Looks for what each clip may get.

        Args:
            data: Prepared under `clip2s`.
            indices: Clips of one part: no sound of another part is heard.
            config: How often.
            seed: Of the run.
            always: Whether every clip gets other sound, in the shares of the two kinds.
        Raises:
            DataError: The data hold no waveform.
        """
        self.sound, self.config, self.seed, self.always = JoinedSound(data), config, seed, always
        self._clips_of: dict[int | None, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        """By label and group. A clip gets sound of clips of its own label: no sound by itself says that it is wrong."""
        for index in indices:
            key = data.clips[index]
            self._clips_of[key.label][key.group].append(index)
        self._clips_of = {label: dict(groups) for label, groups in self._clips_of.items()}

    def apply(self, record: ClipRecord, *, epoch: int, index: int) -> ClipRecord:
        """Gives a clip other sound, or leaves it.

        Args:
            record: As stored; left as it is.
            epoch: From 0 on; equal epoch and index give equal sound.
            index: Of the clip in the data.
        Returns:
            The record itself where nothing was drawn, or where no other sound was to be had.
        """
        rng = np.random.default_rng([self.seed, epoch, index, zlib.crc32(b"mismatch")])
        drawn = rng.random() * (self.config.share if self.always else 1)
        if drawn < self.config.swap:
            waveform = self._of_another(index, rng)
        elif drawn < self.config.share:
            waveform = self._of_another_moment(index, rng)
        else:
            return record
        if waveform is None:
            return record
        frame_labels = np.ones_like(record.frame_labels)
        return replace(record, waveform=waveform, label=1, frame_labels=frame_labels, mismatched=True)

    def _of_another(self, index: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
        """Groups are drawn evenly: one with many clips would else be most of what is heard."""
        key = self.sound.data.clips[index]
        groups = [group for group in self._clips_of[key.label] if group != key.group]
        if not groups:
            return None
        clips = self._clips_of[key.label][groups[rng.integers(len(groups))]]
        return self.sound.of_other(index, clips[rng.integers(len(clips))])

    def _of_another_moment(self, index: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
        """By a drawn time in a drawn direction, or in the other one, or by less, as far as the video goes."""
        fps = self.sound.data.spec.fps
        least, most = (round(seconds * fps) for seconds in self.config.shift_s)
        pictures = int(rng.integers(least, most + 1)) * int(rng.choice([-1, 1]))
        for tried in (pictures, -pictures, int(np.sign(pictures)) * least, -int(np.sign(pictures)) * least):
            waveform = self.sound.moved(index, tried)
            if waveform is not None:
                return waveform
        return None
