"""Results of a video: scores of clips and frames, joined per track, and a verdict or a reason.

What a video is called and why is decided by `dfkit.measures.decision`. A frame seen by several clips has the mean of
their frame logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dfkit.errors import ModelAnswerError
from dfkit.measures.decision import Decision, Verdict, VerdictName, VideoScores, judge, p_fake_of
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
    """Why there is no verdict."""
    tracks: tuple[TrackResult, ...] = ()
    """In order of track id."""
    worst_clip: WorstClip | None = None
    """The most suspicious clip of all tracks; of equally suspicious ones the earliest."""
    worst_track: TrackResult | None = None
    """The most suspicious track, whose `p_fake` is the video's."""

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
        return [f"{self.video}: {self.verdict}, {score}; {where}"]

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
            "worst_clip": None if self.worst_clip is None else self.worst_clip.to_json(),
            "tracks": [_track_json(track) for track in self.tracks],
        }


def _track_json(track: TrackResult) -> dict[str, Any]:
    return {
        "track_id": track.track_id,
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
    return TrackResult(track_id, p_fake, spans, frames)


def _mean_frames(clips: list[ClipScore]) -> tuple[np.ndarray, np.ndarray]:
    """Grid frames that any of the clips covers, and the mean of their logits, (N,) and (N, 2)."""
    places = np.concatenate([clip.start_index + np.arange(len(clip.frame_logits)) for clip in clips])
    values = np.concatenate([clip.frame_logits for clip in clips]).astype(np.float64)
    indices, inverse, counts = np.unique(places, return_inverse=True, return_counts=True)
    sums = np.zeros((len(indices), 2))
    np.add.at(sums, inverse, values)
    return indices, sums / counts[:, None]


def judge_clips(video: str, clips: Iterable[ClipScore], manifest: Manifest) -> VideoResult:
    """Makes the result of a video out of its clips.

    Args:
        video: Name to report.
        clips: At least one.
        manifest: Its decision is the rule.
    Returns:
        A result with status `ok`.
    """
    scored, decision = list(clips), manifest.decision
    assert scored, "a video without clips has a reason, not a result"
    verdict = judge(scores_of(scored), decision)
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
    return judged(video, verdict, tracks, worst_clip, manifest)


def judged(
    video: str, verdict: Verdict, tracks: tuple[TrackResult, ...], worst_clip: WorstClip, manifest: Manifest
) -> VideoResult:
    """Result of a video with a verdict, which says what is most suspicious: p_fake of several may round to 1."""
    return VideoResult(
        video=video,
        status="ok",
        verdict=verdict.verdict,
        p_fake=verdict.p_fake,
        threshold=manifest.operating_point.threshold,
        modalities=tuple(manifest.modalities),
        reason=None,
        tracks=tracks,
        worst_clip=worst_clip,
        worst_track=next(track for track in tracks if track.track_id == verdict.track_id),
    )


def result_without_score(video: str, status: Status, reason: str, manifest: Manifest) -> VideoResult:
    """Result of a video that gets no score.

    Args:
        video: Name to report.
        status: Why, in one word.
        reason: Why, in a sentence, with a fix.
        manifest: Threshold and modalities to report.
    """
    return VideoResult(
        video=video,
        status=status,
        verdict=None,
        p_fake=None,
        threshold=manifest.operating_point.threshold,
        modalities=tuple(manifest.modalities),
        reason=reason,
    )
