"""Features of every clip, their median per video, and a random forest under grouped folds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.audit.findings import BASELINE_FILE, AucScore, FoldedVideos, format_scores, write_finding
from dfkit.audit.motion import motion_features
from dfkit.audit.sound_lip import sound_lip_features
from dfkit.audit.spectrum import spectrum_features
from dfkit.clip import ClipSpec
from dfkit.config import SplitConfig
from dfkit.data.samples import ClipRecord
from dfkit.data.storage import PreparedData
from dfkit.errors import MissingExtraError
from dfkit.measures.bootstrap import REPEATS
from dfkit.measures.spacing import evenly_spaced

KIND = "dfkit baseline"
ALL_FEATURES = "all features"
MAX_CLIPS = 8
"""Clips read of one video, spread over it: a long video costs no more than a short one."""
NUM_TREES = 500
ClipFeatures = dict[str, dict[str, float]]
"""Features by family and name."""
NO_LANDMARKS = "motion and sound-lip features need the landmarks and PCM of clip2s; this is uniform50 data"


@dataclass(frozen=True)
class BaselineResult:
    """AUC by video of a random forest on hand-made features."""

    data: str
    total: AucScore
    """All features: the number that a network is held against."""
    families: tuple[AucScore, ...]
    features: dict[str, tuple[str, ...]]
    """Names by family."""
    videos: tuple[dict[str, Any], ...]
    """Key, label, group and out-of-fold `p_fake` of each, for paired comparisons."""
    groups_known: bool
    folds: int
    seed: int
    notes: tuple[str, ...] = ()
    path: str | None = None

    def summary(self) -> list[str]:
        """The baseline as lines of text."""
        count = sum(map(len, self.features.values()))
        groups = len({video["group"] for video in self.videos})
        return [
            f"{self.data}: {len(self.videos)} videos, {groups} groups, {self.folds} grouped folds; "
            f"{count} features, random forest",
            *format_scores([*self.families, self.total]),
            *(f"note: {note}" for note in self.notes),
            f"written to {self.path}" if self.path else "not written: the data is read from S3",
        ]

    def to_json(self) -> dict[str, Any]:
        """Content of `baseline.json`."""
        return {
            "kind": KIND,
            "data": self.data,
            **{name: value for name, value in self.total.to_json().items() if name != "name"},
            "families": [score.to_json() for score in self.families],
            "features": {name: list(names) for name, names in self.features.items()},
            "groups_known": self.groups_known,
            "folds": self.folds,
            "seed": self.seed,
            "notes": list(self.notes),
            "videos": list(self.videos),
        }


def clip_features(record: ClipRecord, spec: ClipSpec) -> ClipFeatures:
    """Features of one clip.

    Args:
        record: The clip.
        spec: Its contract.
    Returns:
        By family and name; of a `uniform50` sample the family `spectrum` alone.
    """
    spectrum = {"spectrum": spectrum_features(record.face)}
    if spec.preset == "uniform50":
        return spectrum
    return {
        "motion": motion_features(record.landmarks, fps=spec.fps),
        "sound-lip": sound_lip_features(record.landmarks, record.waveform, spec),
        **spectrum,
    }


def baseline(
    data: PreparedData, *, folds: int = 5, seed: int = 0, repeats: int = REPEATS, split: SplitConfig | None = None
) -> BaselineResult:
    """Fits a random forest on hand-made features under grouped folds; writes `baseline.json`.

    Args:
        data: Labelled; up to `MAX_CLIPS` clips of each video are decoded.
        folds: Grouped folds, those of `dfkit train` at the same number and seed.
        seed: Of folds, forest and bootstrap.
        repeats: Resamples of the intervals.
        split: Of the experiment; see `FoldedVideos.from_data`.
    Returns:
        AUC by video, of all features and of each family alone.
    Raises:
        DataError: A class is missing, groups are too few, or a foreign baseline.json is there.
    """
    forest = feature_forest(seed)
    videos = FoldedVideos.from_data(data, folds=folds, seed=seed, repeats=repeats, split=split)
    features, columns = video_features(data, videos.positions)
    everything = np.concatenate(list(columns.values()), axis=1)
    p_fake = videos.out_of_fold(everything, forest)
    notes = [data.info.form]
    if not data.groups_known:
        notes.append("groups unknown: persons may leak")
    if data.spec.preset == "uniform50":
        notes.append(NO_LANDMARKS)
    result = BaselineResult(
        data=data.path,
        total=videos.score_predictions(ALL_FEATURES, everything, p_fake),
        families=tuple(videos.score(name, values, forest) for name, values in columns.items()),
        features=features,
        videos=tuple(_video_rows(data, videos, p_fake)),
        groups_known=data.groups_known,
        folds=len(videos.test_parts),
        seed=seed,
        notes=tuple(notes),
    )
    path = write_finding(data, BASELINE_FILE, result.to_json())
    return replace(result, path=path)


def feature_forest(seed: int) -> Callable[[], Any]:
    """Makes unfitted random forests with balanced classes.

    Args:
        seed: Of the forest.
    Raises:
        MissingExtraError: There is no scikit-learn.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    return lambda: RandomForestClassifier(
        NUM_TREES, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=1
    )


def video_features(
    data: PreparedData, positions: Sequence[int]
) -> tuple[dict[str, tuple[str, ...]], dict[str, NDArray[np.float64]]]:
    """Median of the features over each video's clips.

    Args:
        data: Up to `MAX_CLIPS` clips of each video are decoded.
        positions: Indices of the videos.
    Returns:
        Names by family, and (videos, features) by family; NaN where no clip of a video has a value.
    """
    clips_of: dict[int, list[int]] = {index: [] for index in positions}
    for key in data.clips:
        if key.video_index in clips_of:
            clips_of[key.video_index].append(key.index)
    videos = [_features_of_clips(data, indices) for indices in clips_of.values()]
    first_clip = videos[0][0]
    names = {family: tuple(features) for family, features in first_clip.items()}
    columns = {
        family: np.stack([_median(clips, family, features) for clips in videos]) for family, features in names.items()
    }
    return names, columns


def _median(clips: Sequence[ClipFeatures], family: str, names: Sequence[str]) -> NDArray[np.float64]:
    """(features,) median over clips; NaN where no clip has a value, as in a video without sound."""
    values = np.array([[clip[family][name] for name in names] for clip in clips])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=0))


def _features_of_clips(data: PreparedData, indices: list[int]) -> list[ClipFeatures]:
    places = evenly_spaced(len(indices), MAX_CLIPS)
    return [clip_features(data[indices[place]], data.spec) for place in places]


def _video_rows(data: PreparedData, videos: FoldedVideos, p_fake: NDArray[np.float64]) -> list[dict[str, Any]]:
    return [
        {"key": data.videos[index].key, "label": int(label), "group": group, "p_fake": round(float(p), 6)}
        for index, label, group, p in zip(videos.positions, videos.labels, videos.groups, p_fake, strict=True)
    ]
