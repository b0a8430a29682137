"""Losses against hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dfkit.distill.evaluate import fit_temperature
from dfkit.distill.losses import balanced_class_weights, classification_loss, distill_loss, video_means
from dfkit.errors import ShapeError


def test_distill_loss_by_hand() -> None:
    # temperature 2: teacher softmax(ln 3, 0) = (3/4, 1/4), student (1/2, 1/2); KL in nats, times 4.
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]])
    student = torch.tensor([[0.0, 0.0]])
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert distill_loss(student, teacher, temperature=2.0).item() == pytest.approx(expected, rel=1e-6)
    assert distill_loss(teacher, teacher, temperature=2.0).item() == pytest.approx(0.0, abs=1e-7)


def test_distill_loss_takes_the_mean_over_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 5, 2, generator=generator) for _ in range(2))
    single = [
        distill_loss(student[b, t : t + 1], teacher[b, t : t + 1], temperature=3.0) for b in range(3) for t in range(5)
    ]
    torch.testing.assert_close(distill_loss(student, teacher, temperature=3.0), torch.stack(single).mean())


def test_distill_loss_gradient_pulls_towards_the_teacher() -> None:
    student = torch.zeros(1, 2, requires_grad=True)
    distill_loss(student, torch.tensor([[1.0, -1.0]]), temperature=2.0).backward()
    # d/ds = T * (softmax(s/T) - softmax(t/T)); softmax(0.5, -0.5) = 0.7311.
    torch.testing.assert_close(student.grad, torch.tensor([[2 * (0.5 - 0.7310586), 2 * (0.5 - 0.2689414)]]))


def test_distill_loss_refuses_other_shapes() -> None:
    with pytest.raises(ShapeError):
        distill_loss(torch.zeros(2, 2), torch.zeros(3, 2), temperature=1.0)


def test_classification_loss_by_hand() -> None:
    logits, labels = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    weights = torch.tensor([1.0, 3.0])
    expected = (1 * -math.log(0.75) + 3 * -math.log(0.5)) / 4
    assert classification_loss(logits, labels, class_weights=weights).item() == pytest.approx(expected, rel=1e-6)
    smoothed = 0.9 * -math.log(0.75) + 0.1 * 0.5 * (-math.log(0.75) - math.log(0.25)) - 0.0
    got = classification_loss(logits[:1], labels[:1], label_smoothing=0.1).item()
    assert got == pytest.approx(smoothed, rel=1e-6)


def test_balanced_weights_give_both_classes_the_same_total() -> None:
    weights = balanced_class_weights([1, 1, 1, 0])
    assert (weights * torch.tensor([1.0, 3.0])).tolist() == pytest.approx([2.0, 2.0])


def test_video_means() -> None:
    logits = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    means, videos = video_means(logits, torch.tensor([7, 7, 2]))
    assert videos.tolist() == [2, 7]
    assert means.tolist() == [[5.0, 5.0], [2.0, 1.0]]


def test_temperature_is_found_where_it_is_known() -> None:
    """Labels drawn from softmax(logits / 2.5): the best temperature is 2.5 up to sampling noise."""
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 6, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-margin / 2.5))).astype(int)
    logits = np.stack([np.zeros_like(margin), margin], axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.05)
