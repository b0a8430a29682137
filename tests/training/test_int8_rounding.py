"""Rounding by hand arithmetic; what it leaves alone; and that trained under it the INT8 graph is nearer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dfkit.export.texture import fold_norm
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.training.int8_rounding import Int8Rounding, round_positive, round_signed, round_weight, rounded_weights
from dfkit.training.task import ClipNetwork
from tests.training.tiny import SPEC

TINY = NetworkSpec(face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8, dense_dim=4)


def tiny_network() -> MMMSBA:
    torch.manual_seed(0)
    return MMMSBA(TINY).eval()


def tiny_batch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sides = {"face": SPEC.picture.face_px, "lip": SPEC.picture.lip_px}
    pictures = {
        name: torch.randint(0, 256, (2, SPEC.num_frames, side, side, 3), generator=generator, dtype=torch.uint8)
        for name, side in sides.items()
    }
    return {**pictures, "waveform": 0.1 * torch.randn(2, SPEC.num_samples, generator=generator)}


def test_weights_by_hand() -> None:
    # Row 0: scale 1/127, so 0.5 is 63.5 steps (to even: 64) and -0.25 is -31.75 (-32). Row 1 has scale 0.01.
    weight = torch.tensor([[1.0, 0.5, -0.25], [1.27, -0.014, 0.016], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[1.0, 64 / 127, -32 / 127], [1.27, -0.01, 0.02], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(round_weight(weight), expected, atol=1e-7, rtol=0)


def test_activations_by_hand() -> None:
    # 0 to 2.55 in 255 steps of 0.01: 0.123 is 12.3 steps, 2.548 is 254.8, and above the range all is 2.55.
    value = torch.tensor([0.0, 0.123, 2.548, 2.55, 7.0])
    rounded = round_positive(value, torch.tensor(2.55))
    torch.testing.assert_close(rounded, torch.tensor([0.0, 0.12, 2.55, 2.55, 2.55]), atol=1e-6, rtol=0)


def test_gradient_is_one_inside_the_range_and_zero_outside() -> None:
    value = torch.tensor([0.0, 0.123, 2.54, 2.6, 7.0], requires_grad=True)
    (round_positive(value, torch.tensor(2.55)) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [1.0, 2.0, 3.0, 0.0, 0.0]
    weight = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    round_weight(weight).sum().backward()
    # The largest weight of a channel is its range: nothing lies outside.
    assert weight.grad is not None and bool((weight.grad == 1).all())


def test_each_row_of_each_direction_has_its_own_scale() -> None:
    network = tiny_network()
    with torch.no_grad():
        for modality in ("audio", "face", "lip"):
            network.encoder(modality).gru.weight_hh_l0.fill_(0.5)
            network.encoder(modality).gru.weight_hh_l0_reverse.fill_(0.5)
        # Row 3 of one direction has the scale 12.7 / 127 = 0.1; that of another one 0.5 / 127.
        network.encoder("lip").gru.weight_hh_l0_reverse[3, 0] = 12.7
        network.encoder("lip").gru.weight_hh_l0_reverse[3, 2] = 0.13
        network.encoder("audio").gru.weight_hh_l0[3, 2] = 0.13
    rounded = rounded_weights(network)
    assert float(rounded["lip_encoder.gru.weight_hh_l0_reverse"][3, 2]) == pytest.approx(0.1, abs=1e-6)
    assert float(rounded["audio_encoder.gru.weight_hh_l0"][3, 2]) == pytest.approx(33 * 0.5 / 127, abs=1e-6)


def test_rounds_every_weight_and_no_bias() -> None:
    network = tiny_network()
    every = {name for name, value in network.named_parameters() if value.ndim > 1}
    assert rounded_weights(network).keys() == every
    # What statistics weigh stays float in the graph.
    counting = MMMSBA(network.spec.model_copy(update={"clip_statistics": True}))
    assert counting.statistics and rounded_weights(counting).keys() == every


def test_network_is_untouched_without_rounding() -> None:
    network = tiny_network()
    model, batch = ClipNetwork(network, SPEC).eval(), tiny_batch()
    with torch.no_grad():
        before = model(batch).clip_logits
        rounding = Int8Rounding(network)
        rounded = rounding(model, batch).clip_logits
        after = model(batch).clip_logits
    assert torch.equal(before, after)
    assert not torch.equal(before, rounded)
    assert rounding.activation_maxima.keys() == {f"{m}.{place}" for m in ("visual", "lip") for place in (1, 4, 7)}


def test_rounded_network_lies_on_its_own_grid() -> None:
    network = Int8Rounding(tiny_network()).rounded_network()
    for name, value in rounded_weights(network).items():
        torch.testing.assert_close(value, network.get_parameter(name), atol=1e-6, rtol=1e-6, msg=name)
    hooked = [m for m in network.modules() if isinstance(m, nn.ReLU) and m._forward_hooks]
    assert not hooked


def test_gradient_reaches_every_weight() -> None:
    network = tiny_network().train()
    output = Int8Rounding(network)(ClipNetwork(network, SPEC), tiny_batch())
    (output.clip_logits.square().sum() + output.frame_logits.square().sum()).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    assert float(network.get_parameter("lip_encoder.gru.weight_hh_l0").grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_maps_of_either_sign_by_hand() -> None:
    # -0.55 to 2 in 255 steps of 0.01, zero on step 55 of them.
    value = torch.tensor([-7.0, -0.55, -0.123, 0.0, 1.996, 3.0])
    rounded = round_signed(value, torch.tensor(0.55), torch.tensor(2.0))
    torch.testing.assert_close(rounded, torch.tensor([-0.55, -0.55, -0.12, 0.0, 2.0, 2.0]), atol=1e-6, rtol=0)


def test_a_texture_trunk_is_rounded_where_its_int8_graph_is() -> None:
    torch.manual_seed(0)
    spec = TINY.model_copy(update={"face_trunk": "efficientnet_lite0", "face_blocks": 3})
    network = MMMSBA(spec).train()
    rounding = Int8Rounding(network)
    output = rounding(ClipNetwork(network, SPEC), tiny_batch())
    output.clip_logits.square().sum().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    # Stem and three blocks, of which the first expands nothing and the last has a shortcut.
    blocks = [f"blocks.{n}.{layer}" for n in (1, 2) for layer in ("expand", "depthwise", "project")]
    signed = ["blocks.0.project", "blocks.1.project", "blocks.2.project", "blocks.2"]
    places = ["stem", "blocks.0.depthwise", "blocks.0.project", *blocks, "blocks.2"]
    names = [f"visual.trunk.{place}" for place in places]
    names += [f"visual.trunk.{place}, below zero" for place in signed]
    assert {name for name in rounding.activation_maxima if name.startswith("visual")} == set(names)
    assert rounding.activation_maxima["visual.trunk.stem"] <= 6
    # Whole channels are scaled by what follows: the folded weights lie on a grid, too.
    rounded = rounding.rounded_network()
    layer = rounded.picture_network("face").trunk.blocks[1].expand  # type: ignore[union-attr,index]
    with torch.no_grad():
        layer.norm.weight.uniform_(-2, 2)  # type: ignore[union-attr]
    folded = fold_norm(layer).weight  # type: ignore[arg-type]
    torch.testing.assert_close(round_weight(folded), folded, atol=1e-6, rtol=1e-5)
