"""Scoring under the preset `uniform50`: one answer for a whole video, from 50 pictures spread over it.

Kept for students of the original teacher. Frame spacing gives a video's length away, so such a model may
have learnt lengths: its bundle warns. No face is tracked, and there is no stream: which pictures are taken
is known at the end only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dfkit.measures.decision import VideoScores, judge, p_fake_of
from dfkit.media.container import media_error
from dfkit.media.stream import FaceFrame
from dfkit.media.uniform50 import view_uniform50
from dfkit.runtime.backends import Graphs
from dfkit.runtime.manifest import Manifest
from dfkit.runtime.results import TrackResult, VideoResult, WorstClip, judged, require_finite


def pool_steps(steps: np.ndarray, num_steps: int) -> np.ndarray:
    """Average-pools a sequence onto another number of steps.

    Args:
        steps: (T_a, C).
        num_steps: T; bin n covers rows from floor(n T_a / T) up to ceil((n + 1) T_a / T), as torch's adaptive
            pooling has it.
    Returns:
        (T, C) float32.
    """
    length = len(steps)
    starts = [n * length // num_steps for n in range(num_steps)]
    ends = [-(-(n + 1) * length // num_steps) for n in range(num_steps)]
    return np.stack([steps[s:e].mean(axis=0) for s, e in zip(starts, ends, strict=True)]).astype(np.float32)


def score_whole_video(
    path: Path,
    graphs: Graphs,
    manifest: Manifest,
    *,
    where: str,
    fixed_grid: bool = True,
    watch: Callable[[FaceFrame], None] | None = None,
) -> VideoResult:
    """Scores a file with a `uniform50` model.

    Args:
        path: Media file.
        graphs: Loaded model.
        manifest: Its manifest.
        where: Names the model in errors.
        fixed_grid: An exported graph has one grid of 50 steps: sound is pooled onto it, and a video with fewer
            frames is refused. Without it the model hears the whole sound track at its own length, as the original does.
        watch: Is shown every picture taken, once the video is scored.
    Returns:
        One track with one clip, which is the video.
    Raises:
        MediaError: `unreadable`, `no_audio`, or `too_short` with fewer than 50 frames.
        ModelAnswerError: The model answers NaN or infinity.
    """
    spec = manifest.clip_spec
    view = view_uniform50(path, spec=spec)
    if fixed_grid and len(view.face) < spec.num_frames:
        raise media_error(
            path,
            "too_short",
            f"{len(view.face)} frames can be read, the model takes {spec.num_frames}",
            "use a longer recording",
        )
    mfcc = pool_steps(view.mfcc, spec.num_frames) if fixed_grid else view.mfcc
    frame_logits, clip_logits = graphs.score(graphs.encode({"face": view.face, "lip": view.lip}) | {"mfcc": mfcc})
    require_finite(frame_logits, clip_logits, where=where, what=str(path))
    verdict = judge(VideoScores.of_clip(clip_logits), manifest.decision)
    p_frames = p_fake_of(frame_logits, calibration_temperature=manifest.decision.temperature)
    frames = tuple((float(t), float(p)) for t, p in zip(view.times_s, p_frames, strict=True))
    if watch is not None:
        nowhere = np.zeros((0, 2), np.float32)
        for index, (face, lip, t_s) in enumerate(zip(view.face, view.lip, view.times_s, strict=True)):
            watch(FaceFrame(0, index, float(t_s), face, lip, nowhere, interpolated=False, scene=0))
    clip = WorstClip(0, 0.0, float(view.times_s[-1]), verdict.p_fake)
    track = TrackResult(0, verdict.p_fake, ((clip.start_s, clip.end_s, clip.p_fake),), frames)
    return judged(str(path), verdict, (track,), clip, manifest)
