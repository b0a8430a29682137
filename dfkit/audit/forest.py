"""Hand-made features of every clip, their median per video, and a random forest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.audit.motion import motion_features
from dfkit.audit.sound_lip import sound_lip_features
from dfkit.audit.spectrum import spectrum_features
from dfkit.audit.video_features import Arrays, chosen_clips
from dfkit.clip import ClipSpec
from dfkit.data.samples import ClipRecord
from dfkit.data.storage import PreparedData
from dfkit.errors import MissingExtraError

NUM_TREES = 500
FAMILIES = ("motion", "sound-lip", "spectrum")
NAMES = "_names"
"""Ends the name of the array that holds a family's names."""
ClipFeatures = dict[str, dict[str, float]]
"""Features by family and name."""
NO_LANDMARKS = "motion and sound-lip features need the landmarks and PCM of clip2s; this is uniform50 data"


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


def read_features(data: PreparedData) -> Arrays:
    """Median of the features over each video's clips.

    Args:
        data: Up to `MAX_CLIPS` clips of each video are decoded.
    Returns:
        `videos` (N,) index; by family (N, K) values, NaN where no clip of a video has one, and `FAMILY_names` (K,).
    """
    names: dict[str, tuple[str, ...]] = {}
    columns: dict[str, list[NDArray[np.float64]]] = {}
    clips_of = chosen_clips(data)
    for clips in clips_of.values():
        features = [clip_features(data[clip], data.spec) for clip in clips]
        names = {family: tuple(values) for family, values in features[0].items()}
        for family, each in names.items():
            columns.setdefault(family, []).append(_median(features, family, each))
    arrays: Arrays = {"videos": np.array(list(clips_of))}
    for family, each in names.items():
        arrays |= {family: np.stack(columns[family]), f"{family}{NAMES}": np.array(each)}
    return arrays


def _median(clips: Sequence[ClipFeatures], family: str, names: Sequence[str]) -> NDArray[np.float64]:
    """(features,) median over clips; NaN where no clip has a value, as in a video without sound."""
    values = np.array([[clip[family][name] for name in names] for clip in clips])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=0))
