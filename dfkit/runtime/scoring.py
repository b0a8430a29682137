"""From faces and sound to clip scores: each picture is encoded once, overlapping clips share its features."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dfkit.clip import ClipSpec, FoundBy
from dfkit.errors import ConfigError
from dfkit.measures.decision import p_fake_of
from dfkit.measures.familiarity import Familiarity
from dfkit.media.stream import ClipCutter, FaceFrame
from dfkit.runtime.backends import Graphs
from dfkit.runtime.results import ClipScore, require_finite

MAX_SOUND_LAG_S = 10.0
"""Clips wait so long for their sound; a stream whose sound stops would fill the memory otherwise."""


class NoSound:
    """Stands for the sound of a muted video: zeros, which is how training hides sound from a network."""

    def has(self, end: int) -> bool:
        """Always True; see `Sound`."""
        return True

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """(num_samples,) float32 zeros; see `Sound`."""
        return np.zeros(num_samples, np.float32)

    def forget(self, start: int) -> None:
        """Nothing to do."""


class Sound(Protocol):
    """Sound of a video at the spec's sample rate; sample 0 is at the first picture."""

    def has(self, end: int) -> bool:
        """Whether `read` may be called up to sample `end`: the sound has arrived, or has ended before it."""
        ...

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """Samples from `start` on: (num_samples,) float32, zeros outside of the sound.

        `start` counts from the first picture, may be negative, and never falls from call to call: what lies before
        it may be forgotten.
        """
        ...

    def forget(self, start: int) -> None:
        """Says that nothing before sample `start` will be read: a stretch without a clip is never read at all."""
        ...


@dataclass(frozen=True)
class EncodedFace:
    """A `FaceFrame` after the encoder: its features in place of its pictures."""

    track_id: int
    index: int
    interpolated: bool
    features: dict[str, np.ndarray]
    """`face_features`, `lip_features`, each (C,) float32; none for a model without pictures."""
    landmarks: np.ndarray
    """(468, 2) float32, source pixels."""
    found_by: FoundBy | None


class ClipScorer:
    """Encodes faces as they become final and scores each clip as soon as it is complete.

    Memory: features of the last T pictures of each track in view, and of clips that wait for their sound.
    """

    def __init__(
        self,
        graphs: Graphs,
        spec: ClipSpec,
        sound: Sound | None,
        *,
        calibration_temperature: float,
        where: str,
        familiarity: Familiarity | None = None,
    ) -> None:
        """Starts without faces.

        Args:
            graphs: Loaded model.
            spec: The clip contract.
            sound: None for a model that takes none.
            calibration_temperature: From logits to p_fake.
            where: Names the model in errors.
            familiarity: What each clip's features are held against; nothing where None.
        """
        self._graphs, self._spec, self._sound = graphs, spec, sound
        self._temperature, self._where, self._familiarity = calibration_temperature, where, familiarity
        # The cutter looks at a face's track, index and whether it was seen; it need not hold the picture.
        self._cutter: Any = ClipCutter(spec)
        self._waiting: deque[list[EncodedFace]] = deque()

    def push(self, faces: Iterable[FaceFrame], index: int) -> list[ClipScore]:
        """Takes all faces of one grid frame.

        Args:
            faces: The faces of the frame.
            index: The frame, in rising order without holes; negative while the look-ahead fills.
        Returns:
            Clips that are complete now, in order of start, then of track.
        """
        self._waiting.extend(self._cutter.push([self._encode(face) for face in faces], index))
        scores = self.score_waiting()
        if self._sound is not None:
            # No later clip starts before the one that would end here.
            start = self._waiting[0][0].index if self._waiting else index - self._spec.num_frames + 1
            self._sound.forget(self._first_sample(start))
        return scores

    def finish(self, num_grid_frames: int) -> list[ClipScore]:
        """Scores the clips that end with the video; the sound must have ended, too."""
        self._waiting.extend(self._cutter.finish(num_grid_frames))
        return self.score_waiting()

    def score_waiting(self) -> list[ClipScore]:
        """Scores the clips whose sound has come.

        Raises:
            ConfigError: The sound lags behind the pictures by more than MAX_SOUND_LAG_S.
        """
        scores = []
        while self._waiting and self._has_sound(self._waiting[0]):
            scores.append(self._score(self._waiting.popleft()))
        if self._waiting:
            lag_s = (self._waiting[-1][0].index - self._waiting[0][0].index) / self._spec.fps
            if lag_s > MAX_SOUND_LAG_S:
                raise ConfigError(
                    f"the sound lags {lag_s:.1f} s behind the pictures, {MAX_SOUND_LAG_S:g} s at most",
                    fix="push sound as it arrives, silence as zeros, and check that both clocks are one",
                )
        return scores

    def _first_sample(self, start_index: int) -> int:
        start_s = start_index / self._spec.fps
        return round(start_s * self._spec.audio.sample_rate) - self._spec.lead_samples

    def _has_sound(self, faces: list[EncodedFace]) -> bool:
        return self._sound is None or self._sound.has(self._first_sample(faces[0].index) + self._spec.num_samples)

    def _encode(self, face: FaceFrame) -> EncodedFace:
        features = self._graphs.encode({"face": face.face[None], "lip": face.lip[None]})
        return EncodedFace(
            face.track_id,
            face.index,
            face.interpolated,
            {name: values[0] for name, values in features.items()},
            face.landmarks,
            face.found_by,
        )

    def _score(self, faces: list[EncodedFace]) -> ClipScore:
        inputs = {name: np.stack([face.features[name] for face in faces]) for name in faces[0].features}
        distance = None if self._familiarity is None else self._familiarity.distance(inputs)
        inputs["landmarks"] = np.stack([face.landmarks for face in faces])
        if self._sound is not None:
            inputs["pcm"] = self._sound.read(self._first_sample(faces[0].index), self._spec.num_samples)
        frame_logits, clip_logits = self._graphs.score(inputs)
        start_s = faces[0].index / self._spec.fps
        require_finite(frame_logits, clip_logits, where=self._where, what=f"the clip at {start_s:.2f} s")
        return ClipScore(
            track_id=faces[0].track_id,
            start_index=faces[0].index,
            start_s=start_s,
            end_s=start_s + self._spec.clip_s,
            clip_logits=clip_logits,
            frame_logits=frame_logits,
            p_fake=float(p_fake_of(clip_logits, calibration_temperature=self._temperature)),
            found_by=faces[0].found_by,
            distance=distance,
        )
