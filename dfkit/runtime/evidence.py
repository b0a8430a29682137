"""Measures what the faces of a video are like, as they go by: size, light, motion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from dfkit.clip import ClipSpec
from dfkit.measures.evidence import FaceEvidence
from dfkit.media.cut import LUMA_WEIGHTS
from dfkit.media.stream import FaceFrame

SAMPLE_STEP = 4
"""Every so many rows and columns of a crop are looked at."""


class FaceMeter:
    """Takes the faces of all tracks in order of time; keeps three numbers for each."""

    def __init__(self, spec: ClipSpec) -> None:
        """Starts without faces.

        Args:
            spec: The clip contract.
        """
        self._spec = spec
        self._sizes: defaultdict[int, list[float]] = defaultdict(list)
        self._lumas: defaultdict[int, list[float]] = defaultdict(list)
        self._changes: defaultdict[int, list[float]] = defaultdict(list)
        self._num_frames: defaultdict[int, int] = defaultdict(int)
        self._last: dict[int, tuple[int, float, np.ndarray]] = {}

    def push(self, faces: Iterable[FaceFrame], *, shrink: int = 1) -> None:
        """Takes faces that became final.

        Args:
            faces: In order of time.
            shrink: What the sides of the pictures were divided by.
        """
        for face in faces:
            if face.boxes is not None:
                self._take(face, face.boxes[0].side / self._spec.picture.face_scale * shrink)

    def _take(self, face: FaceFrame, size_px: float) -> None:
        track = face.track_id
        self._num_frames[track] += 1
        last = self._last.get(track)
        if last is not None and last[1] == face.t_s:
            return  # the same picture once more
        sample = face.face[::SAMPLE_STEP, ::SAMPLE_STEP].astype(np.float32)
        self._sizes[track].append(size_px)
        self._lumas[track].append(float((sample.mean(axis=(0, 1)) * np.array(LUMA_WEIGHTS)).sum()) / sum(LUMA_WEIGHTS))
        if last is not None and last[0] == face.scene:
            self._changes[track].append(float(np.abs(sample - last[2]).mean()))
        self._last[track] = (face.scene, face.t_s, sample)

    def of_track(self, track_id: int) -> FaceEvidence | None:
        """What a track's faces are like; None of a track that was not seen."""
        if track_id not in self._sizes:
            return None
        changes = self._changes[track_id]
        return FaceEvidence(
            face_px=float(np.median(self._sizes[track_id])),
            luma=float(np.median(self._lumas[track_id])),
            change=float(np.median(changes)) if changes else None,
            pictures_per_s=len(self._sizes[track_id]) / self._num_frames[track_id] * self._spec.fps,
        )
