"""The motion stream: alignment against a solver, what it must not see, and the network around it."""

import numpy as np
import pytest
import torch

from dfkit.clip import CLIP2S, UNIFORM50
from dfkit.errors import ConfigError, ShapeError
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.models.motion import MOTION_DIM, MOTION_POINTS, OFFSET_SCALE, MotionFrontEnd, align
from dfkit.training.task import ClipNetwork

SMALL = {"gru_hidden": 8, "face_channels": (8, 8, 8), "lip_channels": (8, 8, 8)}


def walk(steps: int = 6, seed: int = 0) -> np.ndarray:
    """(1, steps, 468, 2): a shape that changes a little from picture to picture."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(1, 1, 468, 2)) * 40 + 200
    return (shape + rng.normal(size=(1, steps, 468, 2))).astype(np.float32)


def turned(landmarks: np.ndarray, seed: int = 1) -> np.ndarray:
    """Every picture shifted, turned and scaled on its own, as a head that moves in front of a camera."""
    rng = np.random.default_rng(seed)
    out = np.empty_like(landmarks)
    for step in range(landmarks.shape[1]):
        angle, size = rng.uniform(-0.6, 0.6), rng.uniform(0.5, 2)
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        out[:, step] = landmarks[:, step] @ turn.T + rng.uniform(-300, 300, 2)
    return out


def test_alignment_is_the_least_squares_similarity() -> None:
    landmarks = turned(walk()).astype(np.float64)
    got = align(torch.from_numpy(landmarks)).numpy()[0]
    # The same target shape, then numpy's own solver for x' = a x - b y + tx, y' = b x + a y + ty.
    centred = landmarks[0] - landmarks[0].mean(axis=1, keepdims=True)
    unit = centred / np.sqrt((centred**2).sum(-1).mean(-1))[:, None, None]
    target = unit.mean(axis=0)
    target /= np.sqrt((target**2).sum(-1).mean())
    for step, (x, y) in enumerate(centred.transpose(0, 2, 1)):
        ones, zeros = np.ones_like(x), np.zeros_like(x)
        rows = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
        solution = np.linalg.lstsq(rows, np.concatenate([target[:, 0], target[:, 1]]), rcond=None)[0]
        expected = (rows @ solution).reshape(2, -1).T
        # The radius' floor of 1e-3, squared, on a mean shape of radius 1: 5e-7 of values up to 4.
        np.testing.assert_allclose(got[step], expected, atol=5e-6)


def test_a_still_face_that_the_camera_moves_has_no_motion() -> None:
    still = np.repeat(walk(steps=1), 6, axis=1)
    features = MotionFrontEnd(25)(torch.from_numpy(turned(still)))
    assert features.shape == (1, 6, MOTION_DIM)
    # float32 pixels of some hundreds, speeds times 25.
    assert features.abs().max() < 2e-3


def test_offsets_and_speeds_of_one_moving_point() -> None:
    still = np.repeat(walk(steps=1), 4, axis=1)
    place = MOTION_POINTS.index(13)
    moved = still.copy()
    moved[0, 2:, 13, 1] += 4.0
    features = MotionFrontEnd(25)(torch.from_numpy(moved))[0].numpy()
    radius = np.sqrt(((still[0, 0] - still[0, 0].mean(0)) ** 2).sum(-1).mean())
    x_of, y_of, half = 2 * place, 2 * place + 1, MOTION_DIM // 2
    # The point goes by 4 px: half of it to either side of its mean; the fit shifts by 1/468 of it.
    np.testing.assert_allclose(features[:, y_of] / OFFSET_SCALE * radius, [-2, -2, 2, 2], rtol=0.02)
    np.testing.assert_allclose(features[:, half + y_of] / 25 * radius, [0, 0, 4, 0], atol=0.05)
    np.testing.assert_allclose(features[:, half + x_of] / 25 * radius, 0, atol=0.05)


def test_a_face_without_extent_stays_finite() -> None:
    assert torch.isfinite(MotionFrontEnd(25)(torch.zeros(1, 3, 468, 2))).all()


def test_other_landmarks_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(1, 3, 478, 2\).*468"):
        MotionFrontEnd(25)(torch.zeros(1, 3, 478, 2))


def test_points_are_distinct_points_of_the_mesh() -> None:
    assert len(set(MOTION_POINTS)) == len(MOTION_POINTS)
    assert max(MOTION_POINTS) < 468


def batch_of(spec: object = CLIP2S, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "face": torch.randint(0, 256, (1, 50, 32, 32, 3), dtype=torch.uint8, generator=generator),
        "lip": torch.randint(0, 256, (1, 50, 32, 32, 3), dtype=torch.uint8, generator=generator),
        "waveform": torch.randn(1, CLIP2S.num_samples, generator=generator) * 0.1,
        "landmarks": torch.from_numpy(walk(50)),
    }


@pytest.mark.parametrize(
    "modalities",
    [("audio", "motion"), ("motion",), ("audio", "face", "lip", "motion"), ("face", "motion"), ("audio",), ("lip",)],
)
@pytest.mark.parametrize("attention", ["bi_modal", "self", "none"])
def test_any_list_of_streams_trains_every_parameter(modalities: tuple[str, ...], attention: str) -> None:
    spec = NetworkSpec(modalities=modalities, attention=attention, **SMALL)  # type: ignore[arg-type]
    model = ClipNetwork(MMMSBA(spec), CLIP2S)
    output = model(batch_of())
    assert output.frame_logits.shape == (1, 50, 2)
    assert output.features["merged"].shape == (1, spec.head_dim)
    (output.clip_logits.sum() + output.frame_logits.square().sum()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # A ReLU of random weights may leave a channel dark; a GRU, a dense layer or the head never.
    assert [name for name in without if "feature_extractor" not in name] == []


def test_motion_changes_the_answer_and_lips_do_not_reach_the_lite_model() -> None:
    torch.manual_seed(0)
    model = ClipNetwork(MMMSBA(NetworkSpec(modalities=("audio", "motion"), **SMALL)), CLIP2S).eval()
    batch = batch_of()
    with torch.no_grad():
        before = model(batch).clip_logits
        other_lips = model(batch | {"lip": 255 - batch["lip"]}).clip_logits
        still = model(batch | {"landmarks": batch["landmarks"][:, :1].expand(-1, 50, -1, -1)}).clip_logits
    assert torch.equal(before, other_lips)
    assert (before - still).abs().max() > 1e-4


def test_order_of_the_list_does_not_matter_and_doubles_are_refused() -> None:
    assert NetworkSpec(modalities=("motion", "audio")).modalities == ("audio", "motion")
    with pytest.raises(ValueError, match="none of them twice"):
        NetworkSpec(modalities=("audio", "audio"))
    with pytest.raises(ValueError, match="at least one"):
        NetworkSpec(modalities=())


def test_head_widths_follow_from_the_pairs() -> None:
    assert NetworkSpec().head_dim == 900
    # One pair of 200 and two plain blocks.
    assert NetworkSpec(modalities=("audio", "motion")).head_dim == 400
    # Six pairs and four plain blocks.
    assert NetworkSpec(modalities=("audio", "face", "lip", "motion")).head_dim == 1600


def test_motion_on_uniform50_is_refused() -> None:
    network = MMMSBA(NetworkSpec(modalities=("audio", "motion"), **SMALL))
    with pytest.raises(ConfigError, match="landmarks"):
        ClipNetwork(network, UNIFORM50)
