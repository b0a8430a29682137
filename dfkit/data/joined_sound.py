"""Sound of prepared videos beyond one clip: overlapping clips of a video joined, so that a clip can be given sound of
another moment or of another video that is as real as its own."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from dfkit.data.storage import PreparedData
from dfkit.errors import DataError

LEAST_RMS = 1e-5
"""Sound up to which no gain is for; -100 dBFS."""


class JoinedSound:
    """Sound of videos by time. Safe to pickle, as `PreparedData` is."""

    def __init__(self, data: PreparedData) -> None:
        """Sorts the clips of every video by time; no sound is read.

        Raises:
            DataError: The data hold MFCC instead of sound (`uniform50`).
        """
        if data.spec.preset != "clip2s":
            raise DataError(
                f"{data.path}: sound of other moments needs the waveform, and {data.spec.preset} data hold MFCC alone",
                fix="dfkit prepare the videos under --preset clip2s",
            )
        self.data = data
        self._clips: dict[int, dict[int, int]] = defaultdict(dict)
        """Of each video: clip by its first picture; all tracks of a video have one sound."""
        for key in data.clips:
            self._clips[key.video_index].setdefault(self._first_picture(key.index), key.index)

    def own(self, index: int) -> NDArray[np.float32]:
        """Sound of a clip, (num_samples,)."""
        return self.data.record(index, pictures=False).waveform

    def moved(self, index: int, pictures: int) -> NDArray[np.float32] | None:
        """Sound of the same video that begins so many pictures later than the clip's own.

        Args:
            index: Clip.
            pictures: Negative for earlier sound.
        Returns:
            (num_samples,); None where the prepared clips do not cover that time without a gap.
        """
        spec = self.data.spec
        clips = self._clips[self.data.clips[index].video_index]
        place = (self._first_picture(index) + pictures) * spec.audio.hop_length
        end, parts = place + spec.num_samples, []
        while place < end:
            starts = [first for first in clips if first * spec.audio.hop_length <= place]
            if not starts:
                return None
            first = max(starts)
            skipped = place - first * spec.audio.hop_length
            if skipped >= spec.num_samples:
                return None
            part = self.own(clips[first])[skipped : skipped + end - place]
            parts.append(part)
            place += len(part)
        return np.concatenate(parts)

    def of_other(self, index: int, other: int) -> NDArray[np.float32]:
        """Sound of another clip, (num_samples,), as loud as the clip's own."""
        return as_loud_as(self.own(other), self.own(index))

    def _first_picture(self, index: int) -> int:
        return round(self.data.clips[index].start_s * self.data.spec.fps)


def as_loud_as(waveform: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Brings sound to the power of other sound; less where its peak would leave full scale. Silence stays silent.

    Args:
        waveform: (N,) in [-1, 1].
        reference: (M,) in [-1, 1].
    """
    rms, wanted = (float(np.sqrt(np.mean(np.square(each, dtype=np.float64)))) for each in (waveform, reference))
    if rms <= LEAST_RMS:
        return waveform
    peak = float(np.abs(waveform).max())
    return waveform * np.float32(min(wanted / rms, 1 / peak))
