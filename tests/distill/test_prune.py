"""Pruning is exact: what a cut network says is what the whole one says without the cut units."""

from __future__ import annotations

import pytest
import torch

from dfkit.distill.prune import (
    WeightSlice,
    channel_weight_slices,
    group_importance,
    gru_weight_slices,
    most_important_units,
    patch_kernel,
    prune,
)
from dfkit.errors import ConfigError
from dfkit.models import MMMSBA, NetworkSpec

WHOLE = NetworkSpec(face_channels=(16, 16, 24), lip_channels=(8, 16, 16), gru_hidden=24, dense_dim=10)
CUT = NetworkSpec(face_channels=(8, 8, 16), lip_channels=(8, 8, 8), gru_hidden=16, dense_dim=10)


@pytest.fixture
def whole() -> MMMSBA:
    torch.manual_seed(0)
    return MMMSBA(WHOLE).eval()


def groups(network: MMMSBA) -> list[tuple[list, int, int]]:
    """Every group of the network: its slices, its units, and how many the cut keeps."""
    found = []
    for name in ("face", "lip"):
        whole, cut = (getattr(spec, f"{name}_channels") for spec in (WHOLE, CUT))
        found += [(channel_weight_slices(name, n), whole[n], cut[n]) for n in range(3)]
    for name in ("audio", "face", "lip"):
        found += [
            (gru_weight_slices(name, WHOLE.gru_hidden, reverse=r), WHOLE.gru_hidden, CUT.gru_hidden)
            for r in (False, True)
        ]
    return found


def silence_dropped_units(network: MMMSBA) -> None:
    """Takes away all that the units which pruning would drop receive and send, so that they stay at zero."""
    with torch.no_grad():
        weights = network.state_dict()
        for slices, units, count in groups(network):
            kept = most_important_units(group_importance(weights, slices, units), count)
            dropped = torch.tensor([k for k in range(units) if k not in kept.tolist()], dtype=torch.long)
            for weight_slice in slices:
                weights[weight_slice.tensor].index_fill_(weight_slice.dim, weight_slice.offset + dropped, 0.0)


def run(network: MMMSBA) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    pictures = torch.rand(2, 6, 3, 32, 32, generator=generator)
    with torch.no_grad():
        output = network(torch.randn(2, 6, 40, generator=generator), pictures, pictures[..., :24, :24])
    return torch.cat([output.clip_logits[:, None], output.frame_logits], dim=1)


def test_is_exact_where_the_dropped_units_are_silent(whole: MMMSBA) -> None:
    silence_dropped_units(whole)
    before = run(whole)
    cut = prune(whole, CUT)
    # Sums of fewer float32 terms in another order: DESIGN, section 5, found 5e-8.
    torch.testing.assert_close(run(cut), before, atol=1e-6, rtol=0)
    # And the silenced network is not what it was: the test does not compare constants.
    torch.manual_seed(0)
    assert (run(MMMSBA(WHOLE).eval()) - before).abs().max() > 1e-3


def test_shapes_of_the_student(whole: MMMSBA) -> None:
    cut = prune(whole, CUT)
    assert cut.spec == CUT
    assert cut.state_dict()["lip_encoder.gru.weight_ih_l0_reverse"].shape == (48, 8)
    assert cut.state_dict()["audio_dense.1.weight"].shape == (10, 32)


def test_l2_keeps_the_strong_units(whole: MMMSBA) -> None:
    strong = [1, 5, 20]
    slices = gru_weight_slices("audio", 24, reverse=True)
    with torch.no_grad():
        for weight_slice in slices:
            whole.state_dict()[weight_slice.tensor].index_fill_(
                weight_slice.dim, weight_slice.offset + torch.tensor(strong), 9.0
            )
    assert most_important_units(group_importance(whole.state_dict(), slices, 24), 3).tolist() == strong


def test_taylor_is_the_change_of_the_loss() -> None:
    """For a loss that is linear in the weights, |sum of w * g| is exactly the loss lost with the unit."""
    torch.manual_seed(0)
    network = MMMSBA(WHOLE)
    gradients = {name: torch.randn_like(value) for name, value in network.state_dict().items()}
    slices = channel_weight_slices("face", 1)
    scores = group_importance(network.state_dict(), slices, 16, gradients=[gradients])
    weights = {name: value.clone() for name, value in network.state_dict().items()}

    def loss() -> float:
        return sum(float((weights[n].double() * gradients[n].double()).sum()) for n in weights)

    before = loss()
    for weight_slice in slices:
        weights[weight_slice.tensor].index_fill_(weight_slice.dim, torch.tensor([weight_slice.offset + 4]), 0.0)
    assert abs(before - loss()) == pytest.approx(float(scores[4]), rel=1e-6)


def test_taylor_does_not_cancel_between_minibatches() -> None:
    """Gradients were averaged before the absolute value: +1 in one minibatch and -1 in the next gave 0.

    Unit 0 changes the loss by +1 and -1: importance 1. Unit 1 by 0.5 and 0.25: 0.375. Within a minibatch the group's
    weights are one sum: unit 2's two weights, +3 and -3, together change nothing.
    """
    weights = {"w": torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 3.0]])}
    gradients = [
        {"w": torch.tensor([[1.0, 9.0], [0.5, 9.0], [1.0, -1.0]])},
        {"w": torch.tensor([[-1.0, 9.0], [0.25, 9.0], [-1.0, 1.0]])},
    ]
    got = group_importance(weights, [WeightSlice("w", 0)], 3, gradients=gradients)
    assert got.tolist() == [1.0, 0.375, 0.0]
    assert most_important_units(got, 1).tolist() == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gru_hidden": 32}, "gru_hidden 32: the teacher has 24"),
        ({"gru_hidden": 12}, "not a multiple of 8"),
        ({"dense_dim": 8}, "dense_dim 8: the teacher has 10"),
    ],
)
def test_unreachable_widths_are_named(whole: MMMSBA, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prune(whole, CUT.model_copy(update=change))


def test_a_patch_sees_what_the_pool_chose_from() -> None:
    """Where the four places of the pool agree, their maximum is their mean, and the patch's kernel gives it."""
    torch.manual_seed(0)
    kernel = torch.randn(5, 3, 3, 3)
    flat = torch.rand(1, 3, 1, 1).expand(1, 3, 16, 16)
    expected = torch.nn.functional.conv2d(flat, kernel, stride=2)
    got = torch.nn.functional.conv2d(flat, patch_kernel(kernel), stride=4)
    torch.testing.assert_close(got, expected[:, :, :4, :4])
    # Inside of the patch each pixel weighs what the mean of the four places gives it: by hand, of one channel.
    one = patch_kernel(torch.arange(9.0).reshape(1, 1, 3, 3).expand(1, 3, 3, 3))[0, 0]
    assert one[3, 3] == 8 / 4 and one[1, 3] == (2 + 8) / 4 and one[2, 2] == 4 / 4
    assert float(one.sum()) == pytest.approx(36)


def test_a_stem_is_changed_after_the_widths(whole: MMMSBA) -> None:
    cut, patched = prune(whole, CUT), prune(whole, CUT.model_copy(update={"stem": "patch4"}))
    for name, value in cut.state_dict().items():
        changed = patched.state_dict()[name]
        assert changed.shape[-1] == 4 if name.endswith("extractor.0.weight") else torch.equal(changed, value)
    with pytest.raises(ConfigError, match="stem conv3: the teacher has patch4"):
        prune(patched, CUT)
