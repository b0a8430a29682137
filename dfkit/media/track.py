"""Follows faces from picture to picture.

A face is looked for in the region that its last landmarks give; the detector runs only when nobody is
followed, when somebody was just lost, and now and then for newcomers. A cut ends every track.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfkit.media.cut import is_cut, sample_luma
from dfkit.media.detect import box_iou, detect_faces, detection_roi
from dfkit.media.faces import FaceModels
from dfkit.media.landmark import MIN_PRESENCE, find_landmarks, landmark_box, landmark_roi
from dfkit.media.warp import Roi

DETECT_EVERY = 8
"""Pictures between two looks for newcomers; 0.32 s at 25 fps, within the look-ahead."""
SAME_REGION_IOU = 0.5
"""Regions that overlap by more are one face (MediaPipe's value)."""
SAME_FACE_IOU = 0.3
"""A found face takes up a lost track whose last box it overlaps by more than this."""


@dataclass
class Track:
    """Last landmarks of a face that is followed."""

    track_id: int
    landmarks: np.ndarray
    missing: int = 0
    """Pictures since it was last seen."""


@dataclass(frozen=True)
class TrackedFace:
    """Landmarks of a followed face in one picture."""

    track_id: int
    landmarks: np.ndarray
    """(468, 2) float32, pixels of the source."""
    presence: float
    """Probability that this is a face."""


@dataclass(frozen=True)
class TrackedPicture:
    """Faces that the tracker saw in one picture, and tracks that ended with it."""

    scene: int
    """Rises by one at each cut."""
    faces: tuple[TrackedFace, ...]
    """In order of track id."""
    lost: tuple[int, ...]
    """Tracks that ended with this picture and will not come back."""


class FaceTracker:
    """Causal tracker: each picture's answer depends only on it and those before."""

    def __init__(self, models: FaceModels, *, max_faces: int = 4, max_missing: int = 12) -> None:
        """Starts without tracks.

        Args:
            models: The networks.
            max_faces: Tracks followed at once.
            max_missing: Pictures after which a face that is not seen is given up.
        """
        self._models = models
        self._max_faces = max_faces
        self._max_missing = max_missing
        self._tracks: list[Track] = []
        self._next_id = 0
        self._scene = 0
        self._since_detection = 0
        self._luma: np.ndarray | None = None

    def update(self, rgb: np.ndarray) -> TrackedPicture:
        """Takes the next picture.

        Args:
            rgb: (H, W, 3) uint8.
        Returns:
            The faces seen in it.
        """
        lost = self._end_scene_at_cut(rgb)
        faces = self._follow(rgb)
        if self._must_detect(len(faces)):
            self._since_detection = 0
            faces += self._find_new(rgb, faces)
        else:
            self._since_detection += 1
        seen = {face.track_id for face in faces}
        lost += self._age_missing(seen)
        return TrackedPicture(self._scene, tuple(sorted(faces, key=lambda f: f.track_id)), tuple(lost))

    def _end_scene_at_cut(self, rgb: np.ndarray) -> list[int]:
        luma = sample_luma(rgb)
        cut = self._luma is not None and is_cut(self._luma, luma)
        self._luma = luma
        if not cut:
            return []
        ended = [track.track_id for track in self._tracks]
        self._tracks = []
        self._scene += 1
        return ended

    def _follow(self, rgb: np.ndarray) -> list[TrackedFace]:
        faces: list[TrackedFace] = []
        for track in self._tracks:
            if track.missing:
                continue
            landmarks, presence = find_landmarks(rgb, landmark_roi(track.landmarks), self._models)
            if presence < MIN_PRESENCE or (faces and _is_taken(landmark_roi(landmarks), faces)):
                continue
            track.landmarks = landmarks
            faces.append(TrackedFace(track.track_id, landmarks, presence))
        return faces

    def _must_detect(self, num_followed: int) -> bool:
        if num_followed >= self._max_faces:
            return False
        # A face just lost is looked for at once and, being missing, in every picture until it is given up.
        return num_followed < max(1, len(self._tracks)) or self._since_detection + 1 >= DETECT_EVERY

    def _find_new(self, rgb: np.ndarray, followed: list[TrackedFace]) -> list[TrackedFace]:
        found: list[TrackedFace] = []
        for detection in detect_faces(rgb, self._models)[: self._max_faces]:
            roi = detection_roi(detection)
            if len(followed) + len(found) >= self._max_faces or _is_taken(roi, followed + found):
                continue
            landmarks, presence = find_landmarks(rgb, roi, self._models)
            if presence < MIN_PRESENCE or _is_taken(landmark_roi(landmarks), followed + found):
                continue
            seen = {face.track_id for face in followed + found}
            found.append(TrackedFace(self._take_track(landmarks, seen), landmarks, presence))
        return found

    def _take_track(self, landmarks: np.ndarray, seen: set[int]) -> int:
        missing = [track for track in self._tracks if track.track_id not in seen]
        match = match_lost(landmark_box(landmarks), [landmark_box(track.landmarks) for track in missing])
        if match is not None:
            missing[match].landmarks = landmarks
            return missing[match].track_id
        track = Track(self._next_id, landmarks)
        self._next_id += 1
        self._tracks.append(track)
        return track.track_id

    def _age_missing(self, seen: set[int]) -> list[int]:
        for track in self._tracks:
            track.missing = 0 if track.track_id in seen else track.missing + 1
        lost = [track.track_id for track in self._tracks if track.missing > self._max_missing]
        self._tracks = [track for track in self._tracks if track.missing <= self._max_missing]
        return lost


def match_lost(box: np.ndarray, lost: list[np.ndarray]) -> int | None:
    """Which lost track a found face takes up.

    Args:
        box: (4,) left, top, right, bottom around its landmarks.
        lost: Last boxes of the tracks that are missing, in order of track id.
    Returns:
        Index of the box that it overlaps most, the first of equal ones; None where none is overlapped enough.
    """
    if not lost:
        return None
    overlaps = box_iou(box, np.stack(lost))
    best = int(np.argmax(overlaps))
    return best if overlaps[best] > SAME_FACE_IOU else None


def is_same_region(roi: Roi, others: list[Roi]) -> bool:
    """Whether a region, taken upright, overlaps one of others so much that both hold one face.

    Args:
        roi: A region that a new face would be looked for in.
        others: Regions of the faces that are followed.
    """
    if not others:
        return False
    return bool((box_iou(_roi_box(roi), np.stack([_roi_box(other) for other in others])) > SAME_REGION_IOU).any())


def _is_taken(roi: Roi, faces: list[TrackedFace]) -> bool:
    return is_same_region(roi, [landmark_roi(face.landmarks) for face in faces])


def _roi_box(roi: Roi) -> np.ndarray:
    half = roi.side / 2
    return np.array([roi.x - half, roi.y - half, roi.x + half, roi.y + half])
