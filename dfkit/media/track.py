"""Follows faces from picture to picture.

A face is looked for in the region that its last landmarks give; the detector runs only when nobody is
followed, when somebody was just lost, and now and then for newcomers. Where it leaves a picture without a face, the
full-range detector looks for distant ones, at once and then now and then. A cut ends every track.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfkit.clip import FoundBy
from dfkit.media.cut import is_cut, sample_luma
from dfkit.media.detect import box_iou, detect_faces, detection_roi
from dfkit.media.faces import FULL_RANGE, SHORT_RANGE, FaceDetector, FaceModels
from dfkit.media.landmark import MIN_PRESENCE, find_landmarks, landmark_box, landmark_roi
from dfkit.media.picture import Picture, as_picture
from dfkit.media.warp import Roi

DETECT_EVERY = 8
"""Pictures between two looks for newcomers; 0.32 s at 25 fps, within the look-ahead."""
FULL_RANGE_EVERY = 8
"""Pictures between two looks for distant faces while there is no face at all: a distant face is found within the
look-ahead, and a video without any costs one such look in eight pictures."""
SAME_REGION_IOU = 0.5
"""Regions that overlap by more are one face (MediaPipe's value)."""
SAME_FACE_IOU = 0.3
"""A found face takes up a lost track whose last box it overlaps by more than this."""


@dataclass
class Track:
    """Last landmarks of a face that is followed."""

    track_id: int
    landmarks: np.ndarray
    found_by: FoundBy
    """The detector that found it first."""
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
    found_by: FoundBy
    """The detector that found the track first."""


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
        self._since_full_range = FULL_RANGE_EVERY
        self._luma: np.ndarray | None = None
        self._segment: int | None = None

    def update(self, rgb: Picture | np.ndarray) -> TrackedPicture:
        """Takes the next picture.

        Args:
            rgb: Planes, or (H, W, 3) uint8 RGB.
        Returns:
            The faces seen in it.
        """
        picture = as_picture(rgb)
        lost = self._end_scene_at_cut(picture)
        faces = self._follow(picture)
        self._since_full_range += 1
        if self._must_detect(len(faces)):
            self._since_detection = 0
            faces += self._find_new(picture, faces, SHORT_RANGE)
            if not faces and self._models.second_stage and self._since_full_range >= FULL_RANGE_EVERY:
                self._since_full_range = 0
                faces = self._find_new(picture, faces, FULL_RANGE)
        else:
            self._since_detection += 1
        seen = {face.track_id for face in faces}
        lost += self._age_missing(seen)
        return TrackedPicture(self._scene, tuple(sorted(faces, key=lambda f: f.track_id)), tuple(lost))

    def _end_scene_at_cut(self, picture: Picture) -> list[int]:
        luma = sample_luma(picture)
        # Two recordings that were joined are two scenes, however alike.
        joined = self._segment is not None and picture.segment != self._segment
        cut = joined or (self._luma is not None and is_cut(self._luma, luma))
        self._luma, self._segment = luma, picture.segment
        if not cut:
            return []
        ended = [track.track_id for track in self._tracks]
        self._tracks = []
        self._scene += 1
        return ended

    def _follow(self, picture: Picture) -> list[TrackedFace]:
        faces: list[TrackedFace] = []
        for track in self._tracks:
            if track.missing:
                continue
            landmarks, presence = find_landmarks(picture, landmark_roi(track.landmarks), self._models)
            if presence < MIN_PRESENCE or (faces and _is_taken(landmark_roi(landmarks), faces)):
                continue
            track.landmarks = landmarks
            faces.append(TrackedFace(track.track_id, landmarks, presence, track.found_by))
        return faces

    def _must_detect(self, num_followed: int) -> bool:
        if num_followed >= self._max_faces:
            return False
        # A face just lost is looked for at once and, being missing, in every picture until it is given up.
        return num_followed < max(1, len(self._tracks)) or self._since_detection + 1 >= DETECT_EVERY

    def _find_new(self, picture: Picture, followed: list[TrackedFace], detector: FaceDetector) -> list[TrackedFace]:
        found: list[TrackedFace] = []
        for detection in detect_faces(picture, self._models, detector)[: self._max_faces]:
            roi = detection_roi(detection)
            if len(followed) + len(found) >= self._max_faces or _is_taken(roi, followed + found):
                continue
            landmarks, presence = find_landmarks(picture, roi, self._models)
            if presence < MIN_PRESENCE or _is_taken(landmark_roi(landmarks), followed + found):
                continue
            seen = {face.track_id for face in followed + found}
            track = self._take_track(landmarks, seen, detector.name)
            found.append(TrackedFace(track.track_id, landmarks, presence, track.found_by))
        return found

    def _take_track(self, landmarks: np.ndarray, seen: set[int], found_by: FoundBy) -> Track:
        missing = [track for track in self._tracks if track.track_id not in seen]
        match = match_lost(landmark_box(landmarks), [landmark_box(track.landmarks) for track in missing])
        if match is not None:
            missing[match].landmarks = landmarks
            return missing[match]
        track = Track(self._next_id, landmarks, found_by)
        self._next_id += 1
        self._tracks.append(track)
        return track

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
