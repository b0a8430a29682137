"""Corrections of class imbalance, alone and together, by hand arithmetic: one real clip for three fakes."""

from __future__ import annotations

import pytest

from dfkit.config import TrainConfig
from dfkit.errors import DataError
from dfkit.training.balance import class_weights, effective_class_balance, note_class_balance

LABELS = [0, 1, 1, 1]


def section(**changes: object) -> TrainConfig:
    return TrainConfig.model_validate(changes)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [({"class_weights": "balanced"}, [2.0, 2 / 3]), ({"class_weights": [1, 5]}, [1.0, 5.0])],
)
def test_class_weights(loss: dict, expected: list[float]) -> None:
    weights = class_weights(LABELS, section(loss=loss))
    assert weights is not None and weights.tolist() == pytest.approx(expected)
    assert class_weights(LABELS, section(loss={"class_weights": None})) is None


def test_one_correction_gives_both_classes_one_half() -> None:
    for chosen in ({}, {"sampling": {"type": "weighted"}, "loss": {"class_weights": None}}):
        balance = effective_class_balance(LABELS, section(**chosen))
        assert balance.share == pytest.approx((0.5, 0.5))
        assert balance.per_clip == pytest.approx((2.0, 2 / 3))
        assert len(balance.corrections) == 1


def test_two_corrections_correct_twice() -> None:
    """Sampler and weights: 3 to 1 in favour of fakes becomes 3 to 1 in favour of reals."""
    balance = effective_class_balance(LABELS, section(sampling={"type": "weighted"}))
    assert balance.share == pytest.approx((0.75, 0.25))
    # Mean 1 over the four clips: 3.0 + 3 * (1 / 3) = 4.
    assert balance.per_clip == pytest.approx((3.0, 1 / 3))
    focal = {"loss": {"type": "focal", "focal_alpha": [3, 1]}}
    assert effective_class_balance(LABELS, section(**focal)).share == pytest.approx((0.75, 0.25))


def test_alpha_of_a_loss_that_is_not_used_is_no_correction() -> None:
    assert len(effective_class_balance(LABELS, section(loss={"focal_alpha": [3, 1]})).corrections) == 1


def test_two_corrections_are_said_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    note_class_balance(LABELS, section())
    assert capsys.readouterr().err == ""
    note_class_balance(LABELS, section(sampling={"type": "weighted"}))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2 corrections of class imbalance at once (weighted sampler, class weights 2.000 and 0.667)" in captured.err
    assert "a real clip counts 3.000, a fake one 0.333" in captured.err
    assert "75.0% is real and 25.0% fake" in captured.err


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="0 real and 2 fake"):
        effective_class_balance([1, 1], section())
