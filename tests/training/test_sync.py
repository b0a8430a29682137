"""Training on sound and face: which sound, when, and what a network that was given wrong sound learns from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.utils.data import default_collate

from dfkit.clip import CLIP2S
from dfkit.config import Config
from dfkit.data.datasets import ClipDataset
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.distill import distill
from dfkit.errors import ConfigError, DivergedError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.front_end import MfccFrontEnd
from dfkit.training.first_weights import standardise
from dfkit.training.loaders import make_loaders
from dfkit.training.losses import SYNC_LAGS, sync_loss
from dfkit.training.modality_dropout import hide_modalities
from dfkit.training.objective import label_loss, teacher_loss
from dfkit.training.task import ClipNetwork, ClipTask
from dfkit.training.train import train_labels, train_teacher
from dfkit.workspace import Workspace
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import SPEC, tiny_config

LITE = {"modalities": ["audio", "motion"], "aligned_products": True}
WRONG = {"swap": 0.3, "shift": 0.3}
THIRDS = {"refit": False, "val_share": 0.34, "test_share": 0.34}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    rows = [make_row(n, n % 2, (f"person{n}",)) for n in range(12)]
    return PreparedData(make_prepared(tmp_path_factory.mktemp("data") / "x", rows, clips=2, spec=SPEC))


def lite(**train: object) -> Config:
    content = tiny_config(split=THIRDS).model_dump(mode="json")
    content["train"] |= LITE | train
    content["distill"] |= {key: value for key, value in train.items() if key in content["distill"]}
    return Config.model_validate(content)


def test_sync_loss_by_hand() -> None:
    # One clip of two steps: in time the cosines are 1 and 1; no shift fits into it, and there is no other clip.
    stream = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert sync_loss(stream, 3 * stream, temperature=1.0).item() == 0.0
    # Two such clips, the second turned by 90 degrees: own 1, the other's 0, so log(1 + exp(-1 / temperature)).
    both = torch.cat([stream, stream.flip(-1)])
    for temperature in (1.0, 0.5):
        expected = math.log1p(math.exp(-1 / temperature))
        assert sync_loss(both, both, temperature=temperature).item() == pytest.approx(expected, rel=1e-6)
    assert sync_loss(both[:0], both[:0], temperature=1.0).item() == 0.0


def test_sync_loss_knows_sound_that_is_late() -> None:
    generator = torch.Generator().manual_seed(0)
    stream = torch.randn(1, 50, 16, generator=generator)
    in_time, late = (sync_loss(stream.roll(by, dims=1), stream, temperature=0.1).item() for by in (0, SYNC_LAGS[-1]))
    # A candidate in time has mean cosine 1 against some 0: nearly certain. Late by a known lag, nearly certainly wrong.
    assert in_time < 0.02 and late > 5


def test_reals_with_their_own_sound_and_both_streams_are_compared(data: PreparedData) -> None:
    config = lite(loss={"sync_weight": 0.7}).train
    task = ClipTask(ClipNetwork(network(config), SPEC), config=config, class_weights=None)
    logged: dict[str, torch.Tensor] = {}
    task.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    task.model.eval()
    batch = default_collate([ClipDataset(data)[index] for index in range(8)])
    batch["hidden"] = torch.zeros(8, 2, dtype=torch.bool)
    batch["hidden"][0, 0] = batch["hidden"][1, 1] = True
    with torch.no_grad():
        output = task.score(batch)
        got = task.sync_loss(output, batch)
        # Clips come two a video, every second video real: of 0, 1, 4 and 5 the first two lack a stream.
        streams = (output.features[f"{name}_dense"][[4, 5]] for name in ("audio", "motion"))
        expected = sync_loss(*streams, temperature=config.loss.sync_temperature)
    assert float(got) == pytest.approx(0.7 * float(expected)) and float(logged["train_sync_loss"]) == float(expected)


def network(config: object) -> MMMSBA:
    from dfkit.training.train import network_spec

    torch.manual_seed(0)
    return MMMSBA(network_spec(config, SPEC))  # type: ignore[arg-type]


@pytest.mark.parametrize("modalities", [["audio"], ["face", "lip"]])
def test_without_sound_and_another_stream_it_is_refused(modalities: list[str]) -> None:
    config = lite(modalities=modalities, loss={"sync_weight": 1.0}).train
    with pytest.raises(ConfigError, match="compares sound with another stream"):
        ClipTask(ClipNetwork(network(config), SPEC), config=config, class_weights=None)


def test_nothing_is_hidden_from_clips_with_other_sound(data: PreparedData) -> None:
    batch = default_collate([ClipDataset(data, pictures=False)[index] for index in range(24)])
    batch["mismatched"] = torch.arange(24) % 2 == 0
    generator = torch.Generator().manual_seed(0)
    hidden = hide_modalities(batch, ("audio", "motion"), chance=0.9, generator=generator, audio=CLIP2S.audio)["hidden"]
    assert not hidden[::2].any() and hidden[1::2].any(1).sum() > 6


def test_the_first_weights_suit_the_scale(data: PreparedData) -> None:
    """The network on inputs as they are gives what torch's first weights give on standardised ones."""
    config = lite().train
    plain, scaled = (ClipNetwork(network(config), SPEC).eval() for _ in range(2))
    clips = list(range(len(data)))
    standardise(scaled, data, clips)
    front_end = MfccFrontEnd(SPEC.audio, SPEC.num_frames)
    sounds = torch.stack([torch.from_numpy(data.record(clip, pictures=False).waveform) for clip in clips])
    steps = front_end(sounds)
    flat = steps.flatten(0, 1)
    deviation = flat.std(0).clamp(min=0.01 * float(flat.std(0).max()))
    with torch.no_grad():
        expected = plain.network.encoder("audio")((steps - flat.mean(0)) / deviation)
        got = scaled.network.encoder("audio")(steps)
    assert torch.allclose(got, expected, atol=1e-4)
    # Plain weights saturate: the first coefficient alone is of the order of -100 here.
    with torch.no_grad():
        saturated = plain.network.encoder("audio")(steps).abs().gt(0.99).float().mean()
    assert got.abs().gt(0.99).float().mean() < 0.01 < saturated


def test_every_epoch_is_judged_by_copies_with_other_sound(data: PreparedData) -> None:
    indices = split_clips(data, lite().split)
    plain, wrong = (
        make_loaders(data, indices, lite(**train).train, pictures=False) for train in ({}, {"mismatch": WRONG})
    )
    (before,), (batch,) = ([default_collate_all(loaders.watched)] for loaders in (plain, wrong))
    num = len(indices["val"])
    assert len(before["index"]) == num and not before["mismatched"].any()
    assert batch["index"].tolist() == indices["val"] * 2
    assert not batch["mismatched"][:num].any() and batch["mismatched"][num:].all()
    again = default_collate_all(wrong.watched)
    assert torch.equal(again["waveform"], batch["waveform"])
    # Thresholds and reports are made of the clips as they are.
    assert not default_collate_all(wrong.val)["mismatched"].any()


def default_collate_all(loader: object) -> dict[str, torch.Tensor]:
    batches = list(loader)  # type: ignore[call-overload]
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_reals_alone_are_learnt_from(data: PreparedData) -> None:
    config = lite(mismatch=WRONG | {"of": "real"}).train
    indices = split_clips(data, lite().split)
    loaders = make_loaders(data, indices, config, pictures=False)
    for loader in (loaders.train, loaders.watched):
        assert default_collate_all(loader)["video_label"].tolist().count(1) == 0
    assert {data.clips[index].label for index in loaders.test.dataset.indices} == {0, 1}  # type: ignore[attr-defined]
    reals = [index for index in indices["train"] if data.clips[index].label == 0]
    labels = train_labels(data, indices["train"], config)
    # Of the real clips 0.6 get other sound.
    assert (len(labels), sum(labels)) == (len(reals), round(0.6 * len(reals)))


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match="nothing would be fake"):
        lite(mismatch={"of": "real"})
    with pytest.raises(ValidationError, match="is logged where mismatch"):
        lite(monitor="val_sync_auc")


def test_the_teacher_has_no_say_about_other_sound(data: PreparedData, tmp_path: Path) -> None:
    config = lite(epochs=1, mismatch=WRONG, loss={"sync_weight": 0.5}, monitor="val_sync_auc")
    summary = train_teacher(data.path, Workspace(tmp_path), config)
    rows = [json.loads(line) for line in (Path(summary.run_dir) / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= rows[0]["val_sync_auc"] <= 1 and rows[0]["train_sync_loss"] > 0
    setup = distill.prepare_distillation(
        summary.checkpoint, data.path, config, make_view=lambda *_: pytest.fail("view")
    )
    section = config.distill
    task = ClipTask(
        ClipNetwork(distill.prune_teacher(setup, section), SPEC).eval(),
        config=section,
        class_weights=None,
        teacher=setup.teacher_logits,
    )
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    batch = default_collate([ClipDataset(data, pictures=False)[index] for index in range(5)])
    wrong = torch.tensor([True, False, False, True, False])
    batch |= {"mismatched": wrong}
    with torch.no_grad():
        output = task.model(batch)
        got = float(task.distillation_loss(output, batch))
        kept, changed = ({name: value[rows] for name, value in batch.items()} for rows in (~wrong, wrong))
        by_teacher = float(teacher_loss(output.rows(~wrong), kept, setup.teacher_logits, section))
        by_label = float(label_loss(output.rows(wrong), changed, section.loss, None))
    assert got == pytest.approx(0.6 * by_teacher + 0.4 * by_label, rel=1e-5)


def test_a_metric_that_nothing_was_there_for_chooses_no_epoch(tmp_path: Path) -> None:
    # The validation part has one real and one fake: no other sound of the same kind is to be had.
    rows = [make_row(n, n % 2, (f"person{n}",)) for n in range(6)]
    folder = make_prepared(tmp_path / "x", rows, spec=SPEC)
    with pytest.raises(DivergedError, match="val_sync_auc is nan"):
        train_teacher(folder, Workspace(tmp_path), lite(mismatch={"swap": 0.3}, monitor="val_sync_auc"))


def test_the_original_cannot_hold_the_products(data: PreparedData, tmp_path: Path) -> None:
    from dfkit.errors import CheckpointError

    with pytest.raises(CheckpointError, match="aligned products"):
        train_teacher(data.path, Workspace(tmp_path), lite(save={"format": "original"}))
    assert NetworkSpec().model_dump()["aligned"] is False
