"""Losses against hand arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from dfkit.config import LossConfig
from dfkit.errors import ShapeError
from dfkit.measures.decision import fit_temperature
from dfkit.models import NetworkOutput
from dfkit.training.losses import (
    attention_loss,
    balanced_class_weights,
    classification_loss,
    distill_loss,
    effective_number_weights,
    feature_loss,
    focal_loss,
    supervised_contrastive_loss,
    temporal_loss,
    video_logits,
)
from dfkit.training.objective import label_loss


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


def test_feature_loss_by_hand() -> None:
    teacher = torch.tensor([[[1.0, 3.0], [2.0, 0.0], [5.0, 5.0]]])
    student = torch.tensor([[[1.0, 1.0], [5.0, 4.0], [0.0, 0.0]]])
    valid = torch.tensor([[True, True, False]])
    # Squares 0, 4 and 9, 16; mean 29 / 4 over variance 2; the third step is padding.
    assert feature_loss(student, teacher, valid, variance=2.0).item() == pytest.approx(29 / 8)
    # The mean of a layer leaves all of its variance unexplained.
    made = np.random.default_rng(0).normal(5, 3, (4, 50, 6))
    mean = torch.from_numpy(np.broadcast_to(made.mean((0, 1)), made.shape).copy())
    variance = float(made.var((0, 1)).mean())
    every = torch.ones(4, 50, dtype=torch.bool)
    assert feature_loss(mean, torch.from_numpy(made), every, variance=variance).item() == pytest.approx(1.0)
    assert feature_loss(mean, mean, ~every, variance=variance).item() == 0.0
    with pytest.raises(ShapeError, match=r"student features \(1, 3, 2\) and teacher features \(1, 2, 2\)"):
        feature_loss(student, teacher[:, :2], valid, variance=1.0)


def test_attention_loss_by_hand() -> None:
    teacher = torch.tensor([[[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]]])
    student = torch.tensor([[[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]]])
    valid = torch.tensor([[True, True, False]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5) + math.log(4.0)) / 2
    assert attention_loss(student, teacher, valid).item() == pytest.approx(expected, rel=1e-6)
    assert attention_loss(teacher, teacher, valid).item() == pytest.approx(0.0, abs=1e-7)
    assert attention_loss(student, teacher, ~valid & False).item() == 0.0


def test_attention_that_looks_nowhere_near_is_still_pulled() -> None:
    """An unscaled softmax says exactly 0 beyond 100 nats: the loss stays finite, and so does its slope."""
    scores = torch.tensor([[[200.0, 0.0]]], requires_grad=True)
    loss = attention_loss(scores.softmax(-1), torch.tensor([[[0.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool))
    loss.backward()
    assert 80 < loss.item() < 100 and scores.grad is not None and bool(torch.isfinite(scores.grad).all())
    scores = torch.tensor([[[60.0, 0.0]]], requires_grad=True)
    attention_loss(scores.softmax(-1), torch.tensor([[[0.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool)).backward()
    # Slope of a cross-entropy: softmax less target.
    torch.testing.assert_close(scores.grad, torch.tensor([[[1.0, -1.0]]]))


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_hints_in_double_precision(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    valid = torch.tensor([[True, not masked, True], [True, True, not masked]])
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda value: feature_loss(value, teacher, valid, variance=0.7), (student,))
    maps = teacher.softmax(-1)
    assert torch.autograd.gradcheck(lambda value: attention_loss(value.softmax(-1), maps, valid), (student,))


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


def test_a_videos_logits_are_those_of_its_most_suspicious_track() -> None:
    """The mean over all clips was matched to the teacher's answer: an untouched second face was taught to be fake."""
    logits = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0], [0.0, 3.0]], requires_grad=True)
    videos, tracks = torch.tensor([7, 7, 2, 7]), torch.tensor([0, 0, 0, 1])
    found, names = video_logits(logits, videos, tracks)
    assert names.tolist() == [2, 7]
    # Of video 7 track 0 has the mean (2, 1), margin -1; track 1 has margin 3.
    assert found.tolist() == [[5.0, 5.0], [0.0, 3.0]]
    one_track, _ = video_logits(logits[:3], videos[:3], tracks[:3])
    assert one_track.tolist() == [[5.0, 5.0], [2.0, 1.0]]
    found[1, 1].backward()
    assert logits.grad is not None and logits.grad.tolist() == [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]


def test_temperature_is_found_where_it_is_known() -> None:
    """Labels drawn at temperature 2.5: it is found up to sampling noise."""
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 6, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-margin / 2.5))).astype(int)
    fit = fit_temperature(margin, labels)
    assert fit.temperature == pytest.approx(2.5, rel=0.05) and not fit.at_bound


def logits_of(p_fake: float) -> list[float]:
    """Logits whose softmax gives fake this probability."""
    return [0.0, math.log(p_fake / (1 - p_fake))]


def test_focal_loss_as_in_its_paper() -> None:
    """Lin et al. 2017, section 3.2: with gamma 2, p 0.9 counts a hundredth, p 0.5 at most a quarter."""
    for p, share in ((0.9, 1 / 100), (0.5, 1 / 4)):
        logits, label = torch.tensor([logits_of(p)]), torch.tensor([1])
        plain = classification_loss(logits, label).item()
        assert plain == pytest.approx(-math.log(p), rel=1e-5)
        assert focal_loss(logits, label, gamma=2.0).item() == pytest.approx(share * plain, rel=1e-5)


def test_focal_alpha_is_per_class() -> None:
    logits, labels = torch.tensor([logits_of(0.5), logits_of(0.75)]), torch.tensor([0, 1])
    # (1 - 0.5) * ln 2 * 3 for the real one, (1 - 0.75) * -ln 0.75 * 0.5 for the fake one; mean of two.
    expected = (3 * 0.5 * math.log(2) + 0.5 * 0.25 * -math.log(0.75)) / 2
    got = focal_loss(logits, labels, gamma=1.0, alpha=torch.tensor([3.0, 0.5]))
    assert got.item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ShapeError, match="one number per class"):
        focal_loss(logits, labels, gamma=2.0, alpha=torch.tensor(0.25))


def test_focal_loss_without_gamma_is_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(4, 5, 2, generator=generator), torch.randint(2, (4, 5), generator=generator)
    weights = torch.tensor([0.7, 2.0])
    for options in ({}, {"label_smoothing": 0.2}, {"class_weights": weights, "label_smoothing": 0.1}):
        torch.testing.assert_close(
            focal_loss(logits, labels, gamma=0.0, **options), classification_loss(logits, labels, **options)
        )


def test_effective_number_by_hand() -> None:
    # beta 0.9, one real and two fakes: effective numbers 1 and 1.9; weights 1 and 1 / 1.9, scaled to the sum of 2.
    scale = 2 / (1 + 1 / 1.9)
    assert effective_number_weights([0, 1, 1], beta=0.9).tolist() == pytest.approx([scale, scale / 1.9])
    assert effective_number_weights([0, 1, 1], beta=0.0).tolist() == [1.0, 1.0]
    # Towards beta 1 the inverse of the counts, 2 to 1.
    real, fake = effective_number_weights([0, 1, 1], beta=1 - 1e-7).tolist()
    assert real / fake == pytest.approx(2, rel=1e-3)


def test_temporal_loss_by_hand() -> None:
    """Log-probabilities of p 0.5, 0.5, 0.8, then a jump beyond the limit of 4 nats."""
    frames = torch.tensor([[logits_of(0.5), logits_of(0.5), logits_of(0.8)]])
    labels = torch.tensor([[0, 0, 0]])
    jump = (math.log(0.5 / 0.2) ** 2 + math.log(0.8 / 0.5) ** 2) / 4
    assert temporal_loss(frames, labels).item() == pytest.approx(jump, rel=1e-5)
    far = torch.tensor([[[0.0, 20.0], [20.0, 0.0]]])
    assert temporal_loss(far, labels[:, :2]).item() == pytest.approx(16.0)


def test_temporal_loss_lets_the_answer_change_with_the_label_and_skips_padding() -> None:
    frames = torch.tensor([[logits_of(0.1), logits_of(0.9), logits_of(0.2)]])
    assert temporal_loss(frames, torch.tensor([[0, 1, 0]])).item() == 0.0
    mask = torch.tensor([[True, True, False]])
    same = torch.zeros(1, 3, dtype=torch.long)
    assert temporal_loss(frames, same, mask).item() == pytest.approx(temporal_loss(frames[:, :2], same[:, :2]).item())
    assert temporal_loss(frames[:, :1], same[:, :1]).item() == 0.0


def test_supervised_contrastive_by_hand() -> None:
    # Two equal clips of class 0 and one at right angles of class 1, temperature 1: each of the two has
    # -ln(e / (e + 1)); the third has no other of its class and does not count. Lengths do not matter.
    features = torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0]])
    got = supervised_contrastive_loss(features, torch.tensor([0, 0, 1]), temperature=1.0)
    assert got.item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)
    # Temperature 0.5 doubles the cosines.
    got = supervised_contrastive_loss(features, torch.tensor([0, 0, 1]), temperature=0.5)
    assert got.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


@pytest.mark.parametrize("labels", [[0], [0, 1]])
def test_supervised_contrastive_without_pairs_is_nothing(labels: list[int]) -> None:
    features = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = supervised_contrastive_loss(features, torch.tensor(labels), temperature=0.1)
    loss.backward()
    assert loss.item() == 0.0
    assert features.grad is not None and features.grad.abs().max() == 0.0


LABELS = torch.tensor([0, 1, 1, 0])
WEIGHTS = torch.tensor([0.5, 1.5], dtype=torch.float64)
TAUGHT = torch.tensor([[1.0, 0.0], [-1.0, 2.0], [0.5, 0.5], [0.0, 3.0]], dtype=torch.float64)
FRAME_LABELS = torch.tensor([[0, 0, 1], [1, 1, 1], [1, 0, 0], [0, 0, 0]])
FRAME_MASK = torch.tensor([[True, True, True], [True, True, False], [True, True, True], [True, False, False]])


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda x: classification_loss(x, LABELS, class_weights=WEIGHTS, label_smoothing=0.1), (4, 2)),
        (lambda x: focal_loss(x, LABELS, gamma=2.0, alpha=WEIGHTS), (4, 2)),
        (lambda x: focal_loss(x, LABELS, gamma=0.5, class_weights=WEIGHTS, label_smoothing=0.1), (4, 2)),
        (lambda x: distill_loss(x, TAUGHT, temperature=2.0), (4, 2)),
        (lambda x: temporal_loss(x, FRAME_LABELS, FRAME_MASK), (4, 3, 2)),
        (lambda x: supervised_contrastive_loss(x, LABELS, temperature=0.5), (4, 5)),
    ],
    ids=["cross-entropy", "focal", "focal-smoothed", "distill", "temporal", "contrastive"],
)
def test_gradients_equal_finite_differences(loss: Callable[[torch.Tensor], torch.Tensor], shape: tuple) -> None:
    inputs = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(loss, (inputs,))
    (gradient,) = torch.autograd.grad(loss(inputs), inputs)
    assert gradient.abs().max() > 1e-3


def test_gradient_of_an_answer_that_is_certainly_right_is_finite() -> None:
    logits = torch.tensor([[0.0, 200.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([1]), gamma=0.5).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def output_of(clip: torch.Tensor, frame: torch.Tensor, merged: torch.Tensor) -> NetworkOutput:
    return NetworkOutput(clip, frame, {"merged": merged})


def test_terms_add_up_and_padded_frames_do_not_count() -> None:
    generator = torch.Generator().manual_seed(4)
    clip, frame, merged = (torch.randn(*shape, generator=generator) for shape in ((4, 2), (4, 3, 2), (4, 6)))
    config = LossConfig(
        label_smoothing=0.0, frame_weight=0.5, temporal_weight=0.15, contrastive_weight=0.3, class_weights=None
    )
    batch = {"label": LABELS, "frame_labels": FRAME_LABELS.to(torch.uint8), "frame_mask": FRAME_MASK}
    rows = [(frame[b, t], FRAME_LABELS[b, t]) for b in range(4) for t in range(3) if FRAME_MASK[b, t]]
    # Fake frames of those that are no padding: 1 of 3, 2 of 2, 1 of 3, 0 of 1.
    expected = (
        classification_loss(clip, torch.tensor([1 / 3, 1.0, 1 / 3, 0.0]))
        + 0.5 * torch.stack([classification_loss(x[None], y[None]) for x, y in rows]).mean()
        + 0.15 * temporal_loss(frame, FRAME_LABELS, FRAME_MASK)
        + 0.3 * supervised_contrastive_loss(merged, LABELS, temperature=0.1)
    )
    torch.testing.assert_close(label_loss(output_of(clip, frame, merged), batch, config, None), expected)
    changed = frame.clone()
    changed[~FRAME_MASK] = 50.0
    torch.testing.assert_close(label_loss(output_of(clip, changed, merged), batch, config, None), expected)


def test_what_is_beside_the_statistics_is_held_to_the_label_alone() -> None:
    generator = torch.Generator().manual_seed(6)
    clip, parts = torch.randn(4, 2, generator=generator), torch.randn(4, 3, 2, generator=generator)
    output = NetworkOutput(clip, torch.zeros(4, 3, 2), {"parts": parts})
    batch = {"label": LABELS, "frame_labels": FRAME_LABELS}
    alone = label_loss(output, batch, LossConfig(parts_weight=0.0, frame_weight=0.0), None)
    config = LossConfig(parts_weight=0.5, frame_weight=0.0)
    shares = torch.tensor([1 / 3, 1.0, 1 / 3, 0.0])
    # As if it spoke for all three.
    own = classification_loss(3 * parts[:, 0], shares, label_smoothing=0.1)
    torch.testing.assert_close(label_loss(output, batch, config, None), alone + 0.5 * own)


def test_focal_is_chosen_by_the_configuration() -> None:
    generator = torch.Generator().manual_seed(5)
    clip = torch.randn(4, 2, generator=generator)
    config = LossConfig(type="focal", focal_alpha=(2.0, 0.5), frame_weight=0.0, label_smoothing=0.0)
    batch = {"label": LABELS, "frame_labels": FRAME_LABELS}
    got = label_loss(output_of(clip, torch.zeros(4, 3, 2), clip), batch, config, None)
    shares = torch.tensor([1 / 3, 1.0, 1 / 3, 0.0])
    torch.testing.assert_close(got, focal_loss(clip, shares, gamma=2.0, alpha=torch.tensor([2.0, 0.5])))


def test_a_soft_label_by_hand() -> None:
    # p_fake 0.75 and a fifth of the frames fake: -(0.2 ln 0.75 + 0.8 ln 0.25); whole shares are the labels.
    logits = torch.tensor([logits_of(0.75)])
    expected = -(0.2 * math.log(0.75) + 0.8 * math.log(0.25))
    assert classification_loss(logits, torch.tensor([0.2])).item() == pytest.approx(expected, rel=1e-5)
    for label in (0, 1):
        hard, soft = (classification_loss(logits, torch.tensor([label], dtype=d)) for d in (torch.long, torch.float32))
        assert hard.item() == soft.item()
    # Focal with gamma 2 weighs each class's term by (1 - its p)^2.
    focal = -(0.2 * 0.25**2 * math.log(0.75) + 0.8 * 0.75**2 * math.log(0.25))
    assert focal_loss(logits, torch.tensor([0.2]), gamma=2.0).item() == pytest.approx(focal, rel=1e-5)


def test_one_fake_frame_of_fifty_does_not_push_real_frames_towards_fake() -> None:
    """The clip was called fake for it, and its logit is the mean of its frames': each real frame was pushed to fake.

    All frames answer margin -2, p_fake p = 1 / (1 + e^2) = 0.1192. By hand, along the margin of one real frame:
    clip term (p - 1/50) / 50, frame term 0.5 p / 50; both positive, so a step against them goes towards real. With
    the hard clip label the clip term is (p - 1) / 50, and the sum is negative.
    """
    margins = torch.full((1, 50), -2.0, requires_grad=True)
    frames = torch.stack([torch.zeros_like(margins), margins], dim=-1)
    labels = torch.zeros(1, 50, dtype=torch.long)
    labels[0, 7] = 1
    batch = {"label": torch.tensor([1]), "frame_labels": labels}
    config = LossConfig(label_smoothing=0.0, frame_weight=0.5, class_weights=None)
    label_loss(output_of(frames.mean(dim=1), frames, torch.zeros(1, 4)), batch, config, None).backward()
    assert margins.grad is not None
    p = 1 / (1 + math.exp(2))
    real = (p - 1 / 50) / 50 + 0.5 * p / 50
    fake = (p - 1 / 50) / 50 + 0.5 * (p - 1) / 50
    expected = [fake if frame == 7 else real for frame in range(50)]
    assert margins.grad[0].tolist() == pytest.approx(expected, rel=1e-4)
    assert real > 0 > fake
    assert (p - 1) / 50 + 0.5 * p / 50 < 0, "the hard label did push them towards fake"
