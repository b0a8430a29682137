"""Results of a video: scores of clips and frames, joined per track, and a verdict or a reason.

What a video is called and why is decided by `dfkit.measures.decision`. A frame seen by several clips has the mean of
their frame logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dfkit.clip import FoundBy
from dfkit.errors import ModelAnswerError
from dfkit.measures.decision import Decision, Verdict, VerdictName, VideoScores, judge, p_fake_of
from dfkit.measures.evidence import Evidence, FaceEvidence
from dfkit.media.coverage import FileRead
from dfkit.runtime.evidence import FaceMeter
from dfkit.runtime.manifest import Manifest

Status = Literal["ok", "no_face", "no_audio", "too_short", "unreadable", "model_error"]
"""`model_error`: the model answers NaN or infinity, which is no fault of the file."""
STATUS_ORDER: tuple[Status, ...] = ("unreadable", "no_audio", "too_short", "no_face", "model_error")
"""Of several reasons for no verdict the first is given."""
DIGITS = 6
"""Decimals of a probability in JSON and CSV."""


@dataclass(frozen=True)
class ClipScore:
    """Scores of one clip of one track."""

    track_id: int
    start_index: int
    """First grid frame."""
    start_s: float
    end_s: float
    clip_logits: np.ndarray
    """(2,) float32."""
    frame_logits: np.ndarray
    """(T, 2) float32."""
    p_fake: float
    found_by: FoundBy | None = None
    """The face detector that found its track first."""
    distance: float | None = None
    """Of its features from those of the real training videos, see `Familiarity`; None where it is not measured."""


@dataclass(frozen=True)
class TrackResult:
    """One face over the whole video."""

    track_id: int
    p_fake: float
    """Of its clips, put together by the bundle's aggregation."""
    clips: tuple[tuple[float, float, float], ...]
    """Start and end in seconds, and p_fake of each clip."""
    frames: tuple[tuple[float, float], ...]
    """Time in seconds and p_fake of each grid frame that a clip covers."""
    found_by: FoundBy | None = None
    """The face detector that found it first; None under `uniform50`, which follows no face."""


@dataclass(frozen=True)
class WorstClip:
    """The most suspicious clip of a video."""

    track_id: int
    start_s: float
    end_s: float
    p_fake: float

    def to_json(self) -> dict[str, Any]:
        """The fields, rounded."""
        return {
            "track_id": self.track_id,
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "p_fake": round(self.p_fake, DIGITS),
        }


@dataclass(frozen=True)
class VideoResult:
    """Verdict on one video with all that it rests on, or the status that explains why there is none."""

    video: str
    status: Status
    verdict: VerdictName | None
    p_fake: float | None
    threshold: float
    modalities: tuple[str, ...]
    reason: str | None
    """Why there is no verdict, why it is `review` whatever the score is, or that there was no sound to judge."""
    tracks: tuple[TrackResult, ...] = ()
    """In order of track id."""
    worst_clip: WorstClip | None = None
    """The most suspicious clip of all tracks; of equally suspicious ones the earliest."""
    worst_track: TrackResult | None = None
    """The most suspicious track, whose `p_fake` is the video's."""
    read: FileRead | None = None
    """How much of the file was read; None where it could not be opened."""
    evidence: FaceEvidence | None = None
    """What the faces of the most suspicious track are like."""
    distance: float | None = None
    """Of the features of the most suspicious track from those of the real training videos; None where it is not
    measured."""
    max_distance: float | None = None
    """Largest one at which a score means something."""
    no_sound: str | None = None
    """Why the pictures alone were judged; None where nothing was missing."""

    def summary(self) -> list[str]:
        """One line for the terminal: verdict and score, or status and reason."""
        if self.p_fake is None:
            return [f"{self.video}: {self.status}: {self.reason}"]
        num_clips = sum(len(track.clips) for track in self.tracks)
        clips = f"{num_clips} clip{'' if num_clips == 1 else 's'}"
        # A face that went away and came back is a track of its own: tracks are not persons.
        tracks = f", {len(self.tracks)} tracks" if len(self.tracks) > 1 else ""
        score = f"p_fake {self.p_fake:.3f} (threshold {self.threshold:.3f}, {clips}{tracks})"
        worst = self.worst_clip
        assert worst is not None, "a video with a score has a clip"
        where = f"most suspicious from {worst.start_s:.1f} s: {worst.p_fake:.3f}"
        is_distant = self.worst_track is not None and self.worst_track.found_by == "full_range"
        distant = "; a distant face (found at full range)" if is_distant else ""
        return [f"{self.video}: {self.verdict}, {score}; {where}{distant}", *(f"  {line}" for line in self.remarks())]

    def remarks(self) -> list[str]:
        """What a reader of the verdict should know: that there was no sound, why it is `review`, what of the file was
        read, and which of its parts."""
        said = [] if self.no_sound is None else [self.no_sound]
        if self.p_fake is not None and self.reason not in (None, self.no_sound):
            said.append(f"review, because {(self.reason or '').removeprefix(f'{self.no_sound}; ')}")
        if self.read is None:
            return said
        if self.read.missing is not None:
            said.append(f"read {self.read.text}: {self.read.missing}")
        return [*said, *self.read.notes]

    def to_json(self) -> dict[str, Any]:
        """The fields that `dfkit predict --json` prints."""
        return {
            "video": self.video,
            "status": self.status,
            "verdict": self.verdict,
            "p_fake": None if self.p_fake is None else round(self.p_fake, DIGITS),
            "threshold": self.threshold,
            "modalities": list(self.modalities),
            "reason": self.reason,
            "read": None if self.read is None else self.read.to_json(),
            "notes": [] if self.read is None else list(self.read.notes),
            "evidence": self._evidence_json(),
            "worst_clip": None if self.worst_clip is None else self.worst_clip.to_json(),
            "tracks": [_track_json(track) for track in self.tracks],
        }

    def _evidence_json(self) -> dict[str, float | None] | None:
        if self.evidence is None and self.distance is None:
            return None
        face = {} if self.evidence is None else _face_json(self.evidence)
        distance = None if self.distance is None else round(self.distance, 3)
        return {**face, "distance": distance, "max_distance": self.max_distance}


def _face_json(evidence: FaceEvidence) -> dict[str, float | None]:
    return {
        "face_px": round(evidence.face_px, 1),
        "face_luma": round(evidence.luma, 1),
        "change": None if evidence.change is None else round(evidence.change, 3),
        "pictures_per_s": round(evidence.pictures_per_s, 2),
    }


def _track_json(track: TrackResult) -> dict[str, Any]:
    return {
        "track_id": track.track_id,
        "found_by": track.found_by,
        "p_fake": round(track.p_fake, DIGITS),
        "clips": [
            {"start_s": round(start, 3), "end_s": round(end, 3), "p_fake": round(p, DIGITS)}
            for start, end, p in track.clips
        ],
        "frames": [{"t_s": round(t, 3), "p_fake": round(p, DIGITS)} for t, p in track.frames],
    }


def require_finite(frame_logits: np.ndarray, clip_logits: np.ndarray, *, where: str, what: str) -> None:
    """Refuses answers that are no numbers: comparing them would make a verdict out of nothing.

    Args:
        frame_logits: (T, 2).
        clip_logits: (2,).
        where: Names the model.
        what: Names what was scored.
    Raises:
        ModelAnswerError: One is NaN or infinite.
    """
    if not (np.isfinite(frame_logits).all() and np.isfinite(clip_logits).all()):
        raise ModelAnswerError(
            f"{where}: the model answers NaN or infinity for {what}",
            fix="check the bundle with dfkit verify, and export again",
        )


def scores_of(clips: Sequence[ClipScore]) -> VideoScores:
    """Clips of one video as `judge` takes them, in their order."""
    return VideoScores(
        np.stack([clip.clip_logits for clip in clips]),
        np.array([clip.track_id for clip in clips], np.int64),
        np.array([clip.start_s for clip in clips]),
    )


def _track_result(
    track_id: int, p_fake: float, clips: Sequence[ClipScore], *, fps: float, decision: Decision
) -> TrackResult:
    ordered = sorted(clips, key=lambda clip: clip.start_index)
    indices, frame_logits = _mean_frames(ordered)
    p_frames = p_fake_of(frame_logits, calibration_temperature=decision.temperature)
    frames = tuple((int(i) / fps, float(p)) for i, p in zip(indices, p_frames, strict=True))
    spans = tuple((clip.start_s, clip.end_s, clip.p_fake) for clip in ordered)
    return TrackResult(track_id, p_fake, spans, frames, ordered[0].found_by)


def _mean_frames(clips: list[ClipScore]) -> tuple[np.ndarray, np.ndarray]:
    """Grid frames that any of the clips covers, and the mean of their logits, (N,) and (N, 2)."""
    places = np.concatenate([clip.start_index + np.arange(len(clip.frame_logits)) for clip in clips])
    values = np.concatenate([clip.frame_logits for clip in clips]).astype(np.float64)
    indices, inverse, counts = np.unique(places, return_inverse=True, return_counts=True)
    sums = np.zeros((len(indices), 2))
    np.add.at(sums, inverse, values)
    return indices, sums / counts[:, None]


def judge_clips(
    video: str,
    clips: Iterable[ClipScore],
    manifest: Manifest,
    *,
    read: FileRead | None = None,
    faces: FaceMeter | None = None,
    no_sound: str | None = None,
) -> VideoResult:
    """Makes the result of a video out of its clips.

    Args:
        video: Name to report.
        clips: At least one.
        manifest: Its decision is the rule.
        read: How much of the file was read; all of it where None.
        faces: What its faces are like; good enough where None.
        no_sound: Why its clips were scored without sound; the decision for muted videos is the rule then.
    Returns:
        A result with status `ok`.
    """
    modalities = tuple(m for m in manifest.modalities if no_sound is None or m != "audio")
    scored, decision = list(clips), manifest.decision_by(modalities)
    assert scored, "a video without clips has a reason, not a result"
    max_distance = None if manifest.familiarity is None else manifest.familiarity.max_distance

    def evidence_of_track(track: int) -> Evidence:
        distance = distance_of(scored, track)
        return replace(evidence_of(read, faces, track), distance=distance, max_distance=max_distance)

    verdict = judge(scores_of(scored), decision, evidence_of=evidence_of_track)
    tracks = tuple(
        _track_result(
            track_id,
            p_fake,
            [clip for clip in scored if clip.track_id == track_id],
            fps=manifest.clip_spec.fps,
            decision=decision,
        )
        for track_id, p_fake in verdict.track_p_fake.items()
    )
    worst = scored[verdict.worst_clip]
    worst_clip = WorstClip(worst.track_id, worst.start_s, worst.end_s, worst.p_fake)
    evidence = None if faces is None else faces.of_track(verdict.track_id)
    result = judged(video, verdict, tracks, worst_clip, manifest, read=read, evidence=evidence)
    result = replace(result, distance=distance_of(scored, verdict.track_id), max_distance=max_distance)
    if no_sound is None:
        return result
    return replace(
        result,
        threshold=decision.threshold,
        modalities=modalities,
        reason="; ".join((no_sound, *verdict.reasons)),
        no_sound=no_sound,
    )


def distance_of(clips: Sequence[ClipScore], track_id: int) -> float | None:
    """Median distance of a track's clips; None where none was measured. NaN where one is no number."""
    distances = [clip.distance for clip in clips if clip.track_id == track_id and clip.distance is not None]
    return float(np.median(distances)) if distances else None


def evidence_of(read: FileRead | None, faces: FaceMeter | None, track_id: int) -> Evidence:
    """What the score of a track rests on."""
    face = None if faces is None else faces.of_track(track_id)
    if read is None:
        return Evidence(face=face)
    sound_share = None if read.sound is None else read.sound.share
    return Evidence(read.pictures.share, sound_share, face)


def judged(
    video: str,
    verdict: Verdict,
    tracks: tuple[TrackResult, ...],
    worst_clip: WorstClip,
    manifest: Manifest,
    *,
    read: FileRead | None = None,
    evidence: FaceEvidence | None = None,
) -> VideoResult:
    """Result of a video with a verdict, which says what is most suspicious: p_fake of several may round to 1."""
    return VideoResult(
        video=video,
        status="ok",
        verdict=verdict.verdict,
        p_fake=verdict.p_fake,
        threshold=manifest.operating_point.threshold,
        modalities=tuple(manifest.modalities),
        reason="; ".join(verdict.reasons) or None,
        tracks=tracks,
        worst_clip=worst_clip,
        worst_track=next(track for track in tracks if track.track_id == verdict.track_id),
        read=read,
        evidence=evidence,
    )


def result_without_score(
    video: str, status: Status, reason: str, manifest: Manifest, *, read: FileRead | None = None
) -> VideoResult:
    """Result of a video that gets no score.

    Args:
        video: Name to report.
        status: Why, in one word.
        reason: Why, in a sentence, with a fix.
        manifest: Threshold and modalities to report.
        read: How much of the file was read, as far as it is known.
    """
    return VideoResult(
        video=video,
        status=status,
        verdict=None,
        p_fake=None,
        threshold=manifest.operating_point.threshold,
        modalities=tuple(manifest.modalities),
        reason=reason,
        read=read,
    )
