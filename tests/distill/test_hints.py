"""A student that matches its teacher's features and attention maps as well."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfkit.config import Config, DistillConfig
from dfkit.config.flags import DistillFlags
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.prepare import convert_npz
from dfkit.data.storage import PreparedData
from dfkit.distill import distill
from dfkit.distill.teacher_features import ROWS_FILE, refuse_unmatchable, teacher_features
from dfkit.errors import CheckpointError, ConfigError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.hints import HintLosses, TeacherFeatures, attention_term, teacher_attention
from dfkit.training.objective import label_loss, teacher_loss
from dfkit.training.task import ClipNetwork, ClipTask
from dfkit.workspace import Workspace
from tests.training.test_fit import StopAfterFirst
from tests.training.tiny import SPEC, WIDTHS, tiny_config
from tools.speed.made_data import make_synthetic_data

BOTH = {"feature_weight": 1.0, "attention_weight": 0.5}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_data(tmp_path_factory.mktemp("data") / "x", num_videos=8, clips_per_video=2, spec=SPEC)


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights larger than a new network's: its answers, features and maps differ from clip to clip."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.manual_seed(0)
    network = MMMSBA(NetworkSpec(**WIDTHS))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
    save_checkpoint(path, network, SPEC, kind="teacher", facts={})
    return path


def configured(changes: dict[str, Any], **shared: Any) -> Config:
    content = tiny_config(**shared).model_dump(mode="json")
    content["distill"] |= changes
    return Config.model_validate(content)


def distilled(teacher: Path, data_dir: Path, folder: Path, config: Config) -> Path:
    student = distill.distill_student(
        teacher, data_dir, Workspace(folder), config, make_view=lambda *_: pytest.fail("both see clip2s")
    )
    return Path(student.run_dir)


def rows_of(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def features_of(path: Path, data_dir: Path, names: tuple[str, ...], clips: list[int]) -> dict[str, np.ndarray]:
    """A network's features on some clips, straight from its checkpoint."""
    model = ClipNetwork(load_checkpoint(path).network, SPEC)
    batch = torch.utils.data.default_collate([ClipDataset(PreparedData(data_dir))[clip] for clip in clips])
    with torch.no_grad():
        output = model(batch)
    return {name: output.features[name].numpy() for name in names}


def test_the_file_holds_the_teachers_features(data_dir: Path, teacher_path: Path, tmp_path: Path) -> None:
    section = configured(BOTH).distill
    data, teacher = PreparedData(data_dir), load_checkpoint(teacher_path)
    stored = teacher_features(teacher, data, [5, 0, 3], section, tmp_path)
    names = ("face_cnn", "lip_cnn", "audio_dense", "face_dense", "lip_dense")
    assert (tuple(stored.widths), stored.clips) == (names, (0, 3, 5))
    # Two bytes a value: 50 steps of two CNNs and three dense layers.
    assert stored.row_bytes == 2 * 50 * (16 + 16 + 3 * 100)
    assert (tmp_path / ROWS_FILE).stat().st_size == 3 * stored.row_bytes
    expected = features_of(teacher_path, data_dir, names, [0, 3, 5])
    for name, value in stored.read([5, 0]).items():
        # float16 keeps 11 bits.
        np.testing.assert_allclose(value.numpy(), expected[name][[2, 0]], rtol=1e-3, atol=1e-4)
    for name in names:
        flat = expected[name].reshape(-1, expected[name].shape[-1]).astype(np.float64)
        np.testing.assert_allclose(stored.means[name], flat.mean(0), rtol=1e-4, atol=1e-5)
        assert stored.variances[name] == pytest.approx(flat.var(0).mean(), rel=1e-3)
    # An interrupted run finds them again; those of other clips or layers it does not take.
    before = (tmp_path / ROWS_FILE).stat().st_mtime_ns
    assert teacher_features(teacher, data, [0, 3, 5], section, tmp_path) == stored
    assert (tmp_path / ROWS_FILE).stat().st_mtime_ns == before
    maps_alone = section.model_copy(update={"feature_weight": 0.0})
    assert tuple(teacher_features(teacher, data, [0, 3, 5], maps_alone, tmp_path).widths) == names[2:]


def test_cut_off_features_are_made_again(data_dir: Path, teacher_path: Path, tmp_path: Path) -> None:
    section = configured(BOTH).distill
    data, teacher = PreparedData(data_dir), load_checkpoint(teacher_path)
    stored = teacher_features(teacher, data, [0, 3], section, tmp_path)
    whole = (tmp_path / ROWS_FILE).read_bytes()
    (tmp_path / ROWS_FILE).write_bytes(whole[:-2])
    assert teacher_features(teacher, data, [0, 3], section, tmp_path) == stored
    assert (tmp_path / ROWS_FILE).read_bytes() == whole


def test_features_beyond_float16_are_refused(data_dir: Path, teacher_path: Path, tmp_path: Path) -> None:
    teacher = load_checkpoint(teacher_path)
    with torch.no_grad():
        teacher.network.cnn("lip")[6].bias.fill_(1e6)
    with pytest.raises(CheckpointError, match=r"its features lip_cnn reach 1e\+06, more than float16 holds"):
        teacher_features(teacher, PreparedData(data_dir), [0], configured(BOTH).distill, tmp_path)
    assert not list(tmp_path.iterdir())


def made_hints(folder: Path, config: DistillConfig) -> tuple[HintLosses, dict[str, np.ndarray], MMMSBA]:
    """Losses against made features of three clips, 4 frames each: two modalities, a CNN of 6 channels."""
    rng = np.random.default_rng(0)
    widths = {"face_cnn": 6, "audio_dense": 3, "face_dense": 3}
    made = {name: rng.normal(0, 1, (3, 4, width)).astype(np.float16) for name, width in widths.items()}
    (folder / ROWS_FILE).write_bytes(np.concatenate([value.reshape(3, -1) for value in made.values()], 1).tobytes())
    means = {name: value.astype(np.float64).mean((0, 1)).tolist() for name, value in made.items()}
    variances = {name: float(value.astype(np.float64).var((0, 1)).mean()) for name, value in made.items()}
    features = TeacherFeatures(folder / ROWS_FILE, (2, 4, 9), 4, widths, means, variances)
    spec = NetworkSpec(modalities=("audio", "face"), face_channels=(8, 8, 5), gru_hidden=8, dense_dim=3)
    torch.manual_seed(0)
    return HintLosses(features, spec, config), {k: v.astype(np.float64) for k, v in made.items()}, MMMSBA(spec).eval()


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def test_terms_by_another_implementation(tmp_path: Path) -> None:
    """numpy, clip by clip, with hidden modalities and padded frames."""
    config = configured({"feature_weight": 0.25, "attention_weight": 2.0}).distill
    hints, made, network = made_hints(tmp_path, config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for projection in hints.projections.values():
            projection.weight.copy_(torch.randn(projection.weight.shape, generator=generator))
    frame_mask = torch.tensor([[True] * 4, [True, True, True, False], [True] * 4])
    hidden = torch.tensor([[False, False], [False, True], [False, False]])
    steps = {"audio": torch.randn(3, 4, 40, generator=generator), "face": torch.randn(3, 4, 5, generator=generator)}
    with torch.no_grad():
        output = network.fuse(steps, frame_mask, frame_mask)
        batch = {"index": torch.tensor([9, 2, 4]), "frame_mask": frame_mask, "hidden": hidden}
        terms = hints(output, batch, network)
    assert {name: weight for name, (weight, _) in terms.items()} == {"feature": 0.25, "attention": 2.0}

    rows, own = [2, 0, 1], {name: value.double().numpy() for name, value in output.features.items()}
    seen = {"audio": frame_mask.numpy(), "face": frame_mask.numpy() & ~hidden.numpy()[:, [1]]}
    distances = []
    for name, target in made.items():
        valid = seen[name.split("_")[0]]
        student = own[name][valid]
        standardised = (student - student.mean(0)) / np.sqrt(student.var(0) + 1e-6)
        projected = standardised @ hints.projections[name].weight.detach().double().numpy().T + target.mean((0, 1))
        distances.append(((projected - target[rows][valid]) ** 2).mean() / target.var((0, 1)).mean())
    assert len(distances) == 3
    assert float(terms["feature"][1]) == pytest.approx(np.mean(distances), rel=1e-5)

    divergences: dict[str, list[float]] = {"audio_face": [], "face_audio": []}
    for place, length in ((0, 4), (2, 4)):  # the face of the clip in the middle was hidden
        audio, face = (made[f"{name}_dense"][rows[place], :length] for name in ("audio", "face"))
        for name, teacher in (("audio_face", softmax(audio @ face.T)), ("face_audio", softmax(face @ audio.T))):
            student = output.attention[name][place, :length, :length].double().numpy()
            divergences[name] += (teacher * np.log(teacher / student)).sum(-1).tolist()
    expected = np.mean([np.mean(each) for each in divergences.values()])
    assert float(terms["attention"][1]) == pytest.approx(expected, rel=1e-4)


def test_gradients_in_double_precision(tmp_path: Path) -> None:
    """Through projection, attention and both terms, down to the weights of the dense layers."""
    hints, _, network = made_hints(tmp_path, configured(BOTH).distill)
    hints, network = hints.double(), network.double()
    targets = {name: value.double() for name, value in hints.features.read([9, 2]).items()}
    # Of the second clip the sound was hidden, of the first the last frame is padding.
    frames = torch.tensor([[True, True, True, False], [True] * 4])
    seen = {"audio": frames & torch.tensor([[True], [False]]), "face": frames}
    wanted = teacher_attention(network, targets, frames)
    generator = torch.Generator().manual_seed(2)
    shapes = ((6, 5), (3, 3), (3, 3), (2, 4, 5), (2, 4, 3), (2, 4, 3))
    values = [torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def losses(*values: torch.Tensor) -> Any:
        weights, (cnn, audio, face) = values[:3], values[3:]
        for projection, weight in zip(hints.projections.values(), weights, strict=True):
            del projection.weight
            projection.weight = weight  # the parameter gives way to the checked value
        features = {"face_cnn": cnn, "audio_dense": audio, "face_dense": face}
        _, maps = network.join_blocks({"audio": audio, "face": face}, {"audio": frames, "face": frames})
        return hints.feature_term(features, targets, seen), attention_term(maps, wanted, seen)

    assert torch.autograd.gradcheck(losses, values)


def test_a_batch_without_anything_to_match_still_has_a_gradient(tmp_path: Path) -> None:
    """Several processes wait for every parameter's gradient, a projection's too."""
    hints, _, network = made_hints(tmp_path, configured(BOTH).distill)
    output = network.fuse({"audio": torch.randn(1, 4, 40), "face": torch.randn(1, 4, 5)})
    terms = hints(output, {"index": torch.tensor([4]), "hidden": torch.tensor([[False, True]])}, network)
    sum(loss for _, loss in terms.values()).backward()  # type: ignore[union-attr]
    assert float(terms["attention"][1].detach()) == 0.0
    gradients = {name: float(parameter.grad.abs().sum()) for name, parameter in hints.named_parameters()}  # type: ignore[union-attr]
    assert len(gradients) == 6 and all((value > 0) == ("audio" in name) for name, value in gradients.items())


def test_every_layer_starts_at_its_mean(tmp_path: Path) -> None:
    """Pruning moves some layers by many times their variance: the loss would be theirs alone."""
    hints, _, network = made_hints(tmp_path, configured(BOTH).distill)
    output = network.fuse({"audio": torch.randn(3, 4, 40), "face": 100 + torch.randn(3, 4, 5)})
    terms = hints(output, {"index": torch.tensor([2, 4, 9])}, network)
    # Over all stored clips what the means leave unexplained is the whole variance.
    assert float(terms["feature"][1].detach()) == pytest.approx(1.0, rel=1e-5)


def test_without_weights_the_loss_is_the_old_one(data_dir: Path, teacher_path: Path) -> None:
    config = configured({"feature_weight": 0.0, "attention_weight": 0.0, "alpha": 0.6})
    setup = distill.prepare_distillation(teacher_path, data_dir, config, make_view=lambda *_: pytest.fail("one view"))
    assert distill.make_hints(setup, config.distill, Path("nowhere")) is None
    model = ClipNetwork(distill.prune_teacher(setup, config.distill), SPEC).eval()
    data = ClipDataset(PreparedData(data_dir))
    batch = torch.utils.data.default_collate([data[clip] for clip in setup.indices["train"][:3]])
    losses = []
    for changes in ({}, BOTH):
        section = configured({**changes, "alpha": 0.6}).distill
        hints = None
        if changes:
            features = teacher_features(setup.teacher, setup.data, setup.indices["train"], section, teacher_path.parent)
            hints = HintLosses(features, model.network.spec, section)
        task = ClipTask(model, config=section, class_weights=None, teacher=setup.teacher_logits, hints=hints)
        task.log = lambda *_, **__: None  # type: ignore[method-assign]
        with torch.no_grad():
            losses.append(task.training_step(batch, 0)["loss"])
    with torch.no_grad():
        output = model(batch)
    by_teacher = teacher_loss(output, batch, setup.teacher_logits, config.distill)
    by_labels = label_loss(output, batch, config.distill.loss, None)
    assert float(losses[0]) == float(0.6 * by_teacher + (1 - 0.6) * by_labels)
    # With weights: alpha's share of 1.0 and 0.5 times the terms is added.
    with torch.no_grad():
        (_, feature), (_, attention) = hints(output, batch, model.network).values()  # type: ignore[misc]
    assert float(losses[1]) == pytest.approx(float(losses[0] + 0.6 * (feature + 0.5 * attention)), rel=1e-6)


def unexplained_share(student: np.ndarray, teacher: np.ndarray) -> float:
    """Share of the teacher's variance that the best linear map of the student's features leaves unexplained."""
    own, target = (value.reshape(-1, value.shape[-1]).astype(np.float64) for value in (student, teacher))
    own, target = own - own.mean(0), target - target.mean(0)
    solution = np.linalg.lstsq(own, target, rcond=1e-6)[0]
    return float(((own @ solution - target) ** 2).sum() / (target**2).sum())


def test_features_come_closer_than_without(data_dir: Path, teacher_path: Path, tmp_path: Path) -> None:
    shared: dict[str, Any] = {"epochs": 8, "batch_size": 2, "optimizer": {"learning_rate": 5e-3}, "dropout": 0.0}
    runs = {}
    for name, weights in (("with", {"feature_weight": 2.0, "attention_weight": 1.0}), ("without", {})):
        config = configured({"alpha": 1.0, **weights}, **shared)
        runs[name] = distilled(teacher_path, data_dir, tmp_path / name, config)
    logged = rows_of(runs["with"])
    for term in ("train_feature_loss", "train_attention_loss"):
        assert logged[-1][term] < 0.8 * logged[0][term]
        assert term not in rows_of(runs["without"])[0]
    names = ("face_cnn", "lip_cnn", "audio_dense", "face_dense", "lip_dense")
    teacher = features_of(teacher_path, data_dir, names, list(range(16)))
    unexplained = {}
    for name, run_dir in runs.items():
        student = features_of(run_dir / "last.pth", data_dir, names, list(range(16)))
        unexplained[name] = {layer: unexplained_share(student[layer], teacher[layer]) for layer in names}
    assert np.mean(list(unexplained["with"].values())) < 0.8 * np.mean(list(unexplained["without"].values()))

    kept = torch.load(runs["with"] / "best.pth", weights_only=True)["model_state_dict"]
    assert kept.keys() == torch.load(runs["without"] / "best.pth", weights_only=True)["model_state_dict"].keys()
    state = torch.load(runs["with"] / "last.ckpt", weights_only=True)
    projections = {k: v for k, v in state["state_dict"].items() if "projections" in k}
    # Weight and bias for two CNNs and three dense layers; the weights start from zero.
    assert len(projections) == 10
    assert all(float(value.abs().sum()) > 0 for value in projections.values())
    # The features are no part of a finished run.
    assert not list(runs["with"].glob("teacher_features*"))


def test_resumed_equals_unbroken(
    data_dir: Path, teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(BOTH, epochs=3, batch_size=2, modality_dropout=0.3)
    unbroken = distilled(teacher_path, data_dir, tmp_path / "a", config)

    class Interrupt(StopAfterFirst):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            raise KeyboardInterrupt

    real = distill.run_and_score
    monkeypatch.setattr(distill, "run_and_score", lambda *a, **k: real(*a, **{**k, "callbacks": [Interrupt()]}))
    with pytest.raises(KeyboardInterrupt):
        distilled(teacher_path, data_dir, tmp_path / "b", config)
    monkeypatch.undo()
    (run_dir,) = (tmp_path / "b" / "runs").iterdir()
    assert torch.load(run_dir / "last.ckpt", weights_only=True)["epoch"] == 0
    assert (run_dir / ROWS_FILE).is_file()
    distill.distill_student(
        teacher_path, data_dir, Workspace(tmp_path / "b"), config, make_view=lambda *_: pytest.fail("x"), resume=run_dir
    )
    ours, theirs = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (run_dir, unbroken))
    assert ours["epoch"] == 2
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    assert [row["train_feature_loss"] for row in rows_of(run_dir)] == [
        row["train_feature_loss"] for row in rows_of(unbroken)
    ]


def test_what_cannot_be_matched_is_refused(data_dir: Path, tmp_path: Path) -> None:
    section, none = configured(BOTH).distill, configured({}).distill
    with pytest.raises(
        ConfigError, match=r"feature_weight 1 and distill\.attention_weight 0\.5: teacher and"
    ) as caught:
        refuse_unmatchable(NetworkSpec(), section, views="uniform50, clip2s")
    assert "Fix: leave them at 0" in str(caught.value)
    refuse_unmatchable(NetworkSpec(), none, views="uniform50, clip2s")
    with pytest.raises(ConfigError, match="the teacher has no attention"):
        refuse_unmatchable(NetworkSpec(attention="none"), section, views=None)
    with pytest.raises(ValueError, match="alpha 0: feature_weight and attention_weight are parts"):
        configured({**BOTH, "alpha": 0.0})
    # Before anything is computed: the student's data is of the teacher's preset, so the view is never made.
    torch.manual_seed(0)
    path = tmp_path / "none.pth"
    save_checkpoint(path, MMMSBA(NetworkSpec(**WIDTHS, attention="none")), SPEC, kind="teacher", facts={})
    with pytest.raises(ConfigError, match="the teacher has no attention"):
        distilled(path, data_dir, tmp_path, configured(BOTH))
    assert not (tmp_path / "runs").exists()
    distilled(path, data_dir, tmp_path, configured({"feature_weight": 1.0}, epochs=1))


def test_flags_switch_them_on() -> None:
    config = DistillFlags(feature_weight=0.5, attention_weight=0.1).apply_to(tiny_config())
    assert (config.distill.feature_weight, config.distill.attention_weight) == (0.5, 0.1)
    assert config.flags == ("--feature-weight 0.5", "--attention-weight 0.1")


@pytest.fixture(scope="module")
def npz_data(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npz") / "data"
    convert_npz(shared / "teacher" / "npz-sample", folder, progress=False)
    return folder


def averaged(steps: np.ndarray, num_frames: int) -> np.ndarray:
    """Sound steps averaged onto pictures: of picture i those from floor(i S / T) to ceil((i + 1) S / T)."""
    count = len(steps)
    return np.stack(
        [steps[i * count // num_frames : -(-(i + 1) * count // num_frames)].mean(0) for i in range(num_frames)]
    )


def test_sound_of_uniform50_is_averaged_onto_the_pictures(npz_data: Path, tmp_path: Path) -> None:
    """A teacher hears hundreds of steps there, its student one per picture: the two would not fit together."""
    data = PreparedData(npz_data)
    torch.manual_seed(0)
    network = MMMSBA(NetworkSpec(**WIDTHS)).eval()
    path = tmp_path / "teacher.pth"
    save_checkpoint(path, network, data.spec, kind="teacher", facts={})
    clips = list(range(len(data)))
    content = configured(BOTH, epochs=1).model_dump(mode="json")
    config = Config.model_validate({**content, "clip": data.spec.model_dump(), "split": {"refit": False}})
    stored = teacher_features(load_checkpoint(path), data, clips, config.distill, tmp_path)
    samples = [ClipDataset(data)[clip] for clip in clips]
    assert len({len(sample["mfcc"]) for sample in samples}) > 1
    for clip, sample in enumerate(samples):
        with torch.no_grad():
            output = ClipNetwork(network, data.spec)(collate_padded([sample]))
        found = {name: value[0].numpy() for name, value in stored.read([clip]).items()}
        frames = len(sample["face"])
        heard = averaged(output.features["audio_dense"][0].numpy(), frames)
        # float16, and sums of a padded batch.
        np.testing.assert_allclose(found["audio_dense"][:frames], heard, atol=1e-3)
        np.testing.assert_allclose(found["face_dense"][:frames], output.features["face_dense"][0].numpy(), atol=1e-3)
        assert not found["face_dense"][frames:].any()
    (logged,) = rows_of(distilled(path, npz_data, tmp_path, config))
    assert math.isfinite(logged["train_feature_loss"]) and 0 < logged["train_attention_loss"] < 5


def test_the_teacher_sees_pictures_of_its_own_size(data_dir: Path, teacher_path: Path, tmp_path: Path) -> None:
    small = SPEC.resized(32, 16)
    data = make_synthetic_data(tmp_path / "small", num_videos=8, clips_per_video=2, spec=small)
    config = configured(BOTH, epochs=1).model_copy(update={"clip": small})
    setup = distill.prepare_distillation(teacher_path, data, config, make_view=lambda *_: data_dir)
    assert (setup.data.spec, setup.seen.spec) == (small, SPEC)
    hints = distill.make_hints(setup, config.distill, tmp_path)
    assert hints is not None
    clips = setup.indices["train"]
    expected = features_of(teacher_path, data_dir, ("face_cnn",), clips)["face_cnn"]
    np.testing.assert_allclose(hints.features.read(clips)["face_cnn"].numpy(), expected, rtol=1e-3, atol=1e-4)
