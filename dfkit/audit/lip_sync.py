"""Phoneme-lip sync: how well the lips of a video follow from its sound, by what real videos show.

A ridge regression from the phonemes around a picture to three distances between landmarks of the lips is fitted on
real videos alone. Of a video, the error and the correlation of that fit, and the lag at which it is best, are what
a logistic regression tells fake from real by: whether fakes follow their sound less or more closely than real
speakers is learned, not assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.audit.motion import align
from dfkit.audit.phonemes import STEPS_PER_PICTURE, WINDOW_STEPS, PhonemeRecogniser
from dfkit.audit.video_features import Arrays, chosen_clips
from dfkit.data.storage import PreparedData

LIP_DISTANCES = ((13, 14), (61, 291), (0, 17))
"""Pairs of landmarks: inner lips, corners of the mouth, outer lips."""
STILL_RADII = 0.005
"""Deviation below which a distance is not scaled up: the tracker's own noise."""
RIDGE = 1.0
"""Penalty; lips are scaled to deviation 1, posteriors are probabilities."""
MIN_MASS = 1e-4
"""Tokens that the sound of real videos holds less of are left out: about 55 of 191 are left of English speech."""
MAX_LAG_S = 0.5
INNER_PARTS = 5
"""Parts of the training videos; each gets its features by a fit that lacks its groups."""
FEATURES = ("error", "correlation", "best_correlation", "best_lag_s", "best_lag_size_s")
SHIFT_S = 0.4
NUM_OTHERS = 4
"""Other speakers' sounds that each real video is tried with."""


@dataclass(frozen=True)
class SoundAndLips:
    """Phonemes and lips of all videos. T pictures of a clip."""

    posteriors: tuple[NDArray[np.float16], ...]
    """Of each video (clips, 2 (T - 1) + 7, 191); half precision, since they take 0.3 MB of 8 clips."""
    lips: tuple[NDArray[np.float32], ...]
    """Of each video (clips, T, 3), centred and scaled over the video."""
    fps: float

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(N,) videos in which either the lips or the sound does not change at all."""
        return np.array(
            [
                not (np.ptp(lips, axis=(0, 1)).any() and np.ptp(posteriors, axis=(0, 1)).any())
                for lips, posteriors in zip(self.lips, self.posteriors, strict=True)
            ]
        )


def read_sound_and_lips(data: PreparedData) -> Arrays:
    """Phonemes and lip distances of the chosen clips, clip after clip.

    Args:
        data: Under a contract that `unsuitable_contract` has nothing against.
    Returns:
        `posteriors` (C, 2 (T - 1) + 7, 191) float16, `lips` (C, T, 3) float32 in face radii, `videos` (C,) index.
    """
    recogniser = PhonemeRecogniser()
    posteriors, lips, videos = [], [], []
    for video, clips in chosen_clips(data).items():
        for clip in clips:
            record = data.record(clip, pictures=False)
            posteriors.append(recogniser.posteriors(record.waveform, data.spec).astype(np.float16))
            lips.append(lip_distances(record.landmarks))
            videos.append(video)
    return {"posteriors": np.stack(posteriors), "lips": np.stack(lips), "videos": np.array(videos)}


def lip_distances(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Three distances of the lips, free of the head's motion.

    Args:
        landmarks: (T, 468, 2) pixels.
    Returns:
        (T, 3) in face radii.
    """
    shape = align(landmarks).shape
    return np.stack([np.abs(shape[:, a] - shape[:, b]) for a, b in LIP_DISTANCES], axis=1).astype(np.float32)


def of_videos(arrays: Arrays, positions: Sequence[int], fps: float) -> SoundAndLips:
    """Puts the arrays of `read_sound_and_lips` together by video.

    Args:
        arrays: Of all videos.
        positions: Index of each video wanted, in `PreparedData.videos`.
        fps: Pictures per second.
    """
    places = [np.flatnonzero(arrays["videos"] == video) for video in positions]
    return SoundAndLips(
        tuple(arrays["posteriors"][clips] for clips in places),
        tuple(_scale(arrays["lips"][clips]) for clips in places),
        fps,
    )


def _scale(lips: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every video counts alike in the fit, whatever the speaker's mouth; a still mouth stays still."""
    return (lips - lips.mean(axis=(0, 1))) / np.maximum(lips.std(axis=(0, 1)), STILL_RADII)


@dataclass
class _Sums:
    """Sums over pictures that a ridge regression follows from; those of parts are added up."""

    count: int
    x: NDArray[np.float64]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]
    y: NDArray[np.float64]

    @classmethod
    def of(cls, inputs: NDArray[np.float32], outputs: NDArray[np.float32]) -> _Sums:
        """Of (M, K) inputs and (M, 3) outputs."""
        x, y = inputs.astype(np.float64), outputs.astype(np.float64)
        return cls(len(x), x.sum(axis=0), x.T @ x, x.T @ y, y.sum(axis=0))

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, name) + getattr(other, name) for name in vars(self)))

    def ridge(self) -> _Ridge:
        """The regression with the penalty `RIDGE`; its constant is not penalised."""
        mean_x, mean_y = self.x / self.count, self.y / self.count
        covariance = self.xx - self.count * np.outer(mean_x, mean_x)
        slopes = np.linalg.solve(
            covariance + RIDGE * np.eye(len(mean_x)), self.xy - self.count * np.outer(mean_x, mean_y)
        )
        return _Ridge(np.asarray(slopes, np.float64), mean_y - mean_x @ slopes)


@dataclass
class _Ridge:
    slopes: NDArray[np.float64]
    constant: NDArray[np.float64]

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """(..., K) to (..., 3)."""
        return inputs @ self.slopes + self.constant


@dataclass
class SyncModel:
    """A `FoldModel`: lips from phonemes on the real videos of the training part, then fake from real by the fit."""

    videos: SoundAndLips
    classifier: Any
    """Of scikit-learn, unfitted at first; takes NaN."""
    _tokens: NDArray[np.int64] = field(init=False)
    _ridge: _Ridge | None = field(init=False, default=None)

    def fit(self, rows: NDArray[np.int64], labels: NDArray[np.int64], groups: Sequence[str]) -> None:
        """Fits the regression on reals; the classifier sees every video by a regression that lacks its group."""
        reals = rows[labels == 0]
        mass = np.mean([self.videos.posteriors[row].mean(axis=(0, 1), dtype=np.float64) for row in reals], axis=0)
        self._tokens = np.flatnonzero(mass > MIN_MASS)
        part_of = _parts(labels, groups)
        sums: dict[int, _Sums] = {}
        for row, label, part in zip(rows, labels, part_of, strict=True):
            if label == 0:
                mine = self._sums(row)
                sums[part] = sums[part] + mine if part in sums else mine
        features = np.full((len(rows), len(FEATURES)), np.nan)
        for part in set(part_of):
            ridge = _fit([each for other, each in sums.items() if other != part])
            for place in np.flatnonzero(part_of == part):
                features[place] = self._features(rows[place], ridge)
        self._ridge = _fit(list(sums.values()))
        self.classifier.fit(features, labels)

    def p_fake(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The classifier's probability of class 1."""
        return np.asarray(self.classifier.predict_proba(self.features(rows))[:, 1])

    def features(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(M, 5) by `FEATURES`; NaN where lips or sound do not change."""
        return np.stack([self._features(row, self._ridge) for row in rows])

    def agreement(self, lips_of: int, sound_of: int, *, late_s: float = 0.0) -> tuple[float, float]:
        """Correlation of a video's lips with what a sound says of them, as it is and late by some time.

        Args:
            lips_of: Place of the video.
            sound_of: Place of the video whose sound is taken; the clips that both have are compared.
            late_s: How much later the sound is made.
        Returns:
            On the same pictures: without and with the delay.
        """
        num_clips = min(len(self.videos.lips[lips_of]), len(self.videos.lips[sound_of]))
        lips = self.videos.lips[lips_of][:num_clips]
        expected = self._expected(sound_of, self._ridge)[:num_clips]
        late = round(late_s * self.videos.fps)
        kept = lips.shape[1] - late
        return correlation(expected[:, late:], lips[:, late:]), correlation(expected[:, :kept], lips[:, late:])

    def _inputs(self, row: int) -> NDArray[np.float32]:
        """(clips, T, K): the chosen tokens in the window around each picture."""
        posteriors = self.videos.posteriors[row][..., self._tokens].astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(posteriors, WINDOW_STEPS, axis=1)[:, ::STEPS_PER_PICTURE]
        return windows.reshape(*windows.shape[:2], -1)

    def _sums(self, row: int) -> _Sums:
        inputs = self._inputs(row)
        return _Sums.of(inputs.reshape(-1, inputs.shape[-1]), self.videos.lips[row].reshape(-1, len(LIP_DISTANCES)))

    def _expected(self, row: int, ridge: _Ridge | None) -> NDArray[np.float64]:
        if ridge is None:
            return np.zeros(self.videos.lips[row].shape)
        return ridge(self._inputs(row))

    def _features(self, row: int, ridge: _Ridge | None) -> NDArray[np.float64]:
        expected, lips = self._expected(row, ridge), self.videos.lips[row]
        lags = lag_correlations(expected, lips, round(MAX_LAG_S * self.videos.fps))
        middle = len(lags) // 2
        if not np.isfinite(lags[middle]):
            return np.full(len(FEATURES), np.nan)
        best = int(np.nanargmax(lags))
        lag_s = (best - middle) / self.videos.fps
        error = float(np.square(expected - lips).mean())
        return np.array([error, lags[middle], lags[best], lag_s, abs(lag_s)])


def _parts(labels: NDArray[np.int64], groups: Sequence[str]) -> NDArray[np.int64]:
    """(M,) part of each video: whole groups in turn, those with real videos first, so that these are spread evenly."""
    with_reals = {group for label, group in zip(labels, groups, strict=True) if label == 0}
    order = sorted(set(groups), key=lambda group: (group not in with_reals, group))
    part_of = {group: place % INNER_PARTS for place, group in enumerate(order)}
    return np.array([part_of[group] for group in groups])


def _fit(sums: Sequence[_Sums]) -> _Ridge | None:
    """The regression over some parts; None where there are none."""
    return sum(sums[1:], start=sums[0]).ridge() if sums else None


def lag_correlations(expected: NDArray[np.float64], lips: NDArray[np.float32], max_lag: int) -> NDArray[np.float64]:
    """Correlation by lag.

    Args:
        expected: (clips, T, 3) of the sound.
        lips: (clips, T, 3).
        max_lag: Pictures in either direction, less than T - 1.
    Returns:
        (2 max_lag + 1,) from lips that are early by `max_lag` to lips that are late by it.
    """
    T = lips.shape[1]
    return np.array(
        [
            correlation(expected[:, max(-lag, 0) : T - max(lag, 0)], lips[:, max(lag, 0) : T - max(-lag, 0)])
            for lag in range(-max_lag, max_lag + 1)
        ]
    )


def correlation(expected: NDArray[np.floating[Any]], lips: NDArray[np.floating[Any]]) -> float:
    """Pearson correlation over all pictures, mean over the distances that change; NaN where none does.

    Args:
        expected: (clips, T, 3).
        lips: (clips, T, 3).
    """
    a, b = (each.reshape(-1, each.shape[-1]).astype(np.float64) for each in (expected, lips))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.sqrt(np.square(a).sum(axis=0) * np.square(b).sum(axis=0))
    changes = scale > 1e-9
    return float(((a * b).sum(axis=0)[changes] / scale[changes]).mean()) if changes.any() else float("nan")
