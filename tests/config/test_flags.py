"""Flags of `dfkit train` over a configuration."""

from __future__ import annotations

import pytest

from dfkit.config import Config
from dfkit.config.flags import TrainFlags
from dfkit.errors import ConfigError

BASE = Config.model_validate({"train": {"epochs": 3, "loss": {"class_weights": None}}})


def test_each_flag_goes_before_the_configuration_and_is_named() -> None:
    flags = TrainFlags(
        kfold=4,
        workers=2,
        use_weighted_sampler=True,
        class_weights=(1.0, 2.5),
        modalities="audio, visual",
        save_format="original",
        own_split=True,
    )
    config = flags.apply_to(BASE)
    train = config.train
    assert (config.split.folds, train.num_workers, train.sampling.type) == (4, 2, "weighted")
    assert (train.loss.class_weights, train.modalities, train.save.format) == (
        (1.0, 2.5),
        ("audio", "face"),
        "original",
    )
    assert not config.split.use_given
    assert train.epochs == 3
    assert config.flags == (
        "--kfold 4",
        "--workers 2",
        "--use-weighted-sampler",
        "--class-weights 1 2.5",
        "--modalities audio, visual",
        "--save-format original",
        "--own-split",
    )
    # Resumed with the same flags over its own configuration, a run is the same run.
    assert flags.apply_to(config) == config


def test_no_flag_changes_nothing() -> None:
    assert TrainFlags().apply_to(BASE) is BASE


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (BASE, "balanced"),
        (Config.model_validate({"train": {"loss": {"class_weights": [1, 3]}}}), (1.0, 3.0)),
        (
            Config.model_validate(
                {
                    "train": {
                        "loss": {"class_weights": None},
                        "save": {"config": {"training": {"class_weights": [1, 4]}}},
                    }
                }
            ),
            (1.0, 4.0),
        ),
    ],
)
def test_weighted_loss_takes_the_weights_that_are_named(base: Config, expected: object) -> None:
    assert TrainFlags(use_weighted_loss=True).apply_to(base).train.loss.class_weights == expected


def test_unusable_values_are_refused_with_the_flag() -> None:
    with pytest.raises(ConfigError, match=r"--modalities audio,depth: 1 wrong values:(.|\n)*train\.modalities"):
        TrainFlags(modalities="audio,depth").apply_to(BASE)
    with pytest.raises(ConfigError, match="--class-weights 0 1"):
        TrainFlags(class_weights=(0.0, 1.0)).apply_to(BASE)
