"""Hidden modalities look like a muted video or a hidden face, and never are all of a clip's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.clip import CLIP2S, UNIFORM50
from dfkit.data.datasets import ClipDataset
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.measures.decision import Decision
from dfkit.media.mfcc import mfcc
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.front_end import MfccFrontEnd
from dfkit.training.modality_dropout import can_be_muted, choose_hidden, hide_modalities, muted, silent_mfcc
from dfkit.training.scoring import clip_logits, summarize
from dfkit.training.task import ClipNetwork
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import SPEC, tiny_config


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shares_and_that_something_is_left() -> None:
    hidden = choose_hidden(20_000, 3, chance=0.3, generator=generator())
    assert not hidden.all(dim=1).any()
    # Each is lost with 0.3, less the third of the 0.3^3 of clips that lost all and got it back: 0.291.
    assert hidden.float().mean(0).tolist() == pytest.approx([0.291] * 3, abs=0.015)
    # Nearly certain loss leaves exactly one.
    assert choose_hidden(500, 3, chance=1 - 1e-9, generator=generator()).sum(1).tolist() == [2] * 500


def test_the_same_seed_hides_the_same() -> None:
    first, again, other = (choose_hidden(64, 3, chance=0.5, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def make_batch(size: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return {
        "index": torch.arange(size),
        "face": torch.from_numpy(rng.integers(1, 256, (size, 2, 8, 8, 3), dtype=np.uint8)),
        "lip": torch.from_numpy(rng.integers(1, 256, (size, 2, 4, 4, 3), dtype=np.uint8)),
        "waveform": torch.from_numpy(rng.uniform(0.1, 1, (size, 9)).astype(np.float32)),
        "landmarks": torch.from_numpy(rng.uniform(1, 9, (size, 2, 468, 2)).astype(np.float32)),
    }


def test_whole_modalities_of_single_clips() -> None:
    batch = make_batch(200)
    names = {"audio": "waveform", "face": "face", "lip": "lip"}
    changed = hide_modalities(batch, tuple(names), chance=0.5, generator=generator(), audio=CLIP2S.audio)
    hidden = choose_hidden(200, 3, chance=0.5, generator=generator())
    for number, name in enumerate(names.values()):
        for row in range(200):
            expected = torch.zeros_like(batch[name][row]) if hidden[row, number] else batch[name][row]
            assert torch.equal(changed[name][row], expected)
        assert changed[name].dtype == batch[name].dtype
    # What the network does not take stays as it is, and so does the batch that came in.
    assert changed["landmarks"] is batch["landmarks"]
    assert bool((batch["face"] > 0).all())


def test_silence_of_uniform50_is_the_front_ends_own() -> None:
    silence = mfcc(np.zeros(16000, np.float32), UNIFORM50.audio)
    np.testing.assert_allclose(silent_mfcc(UNIFORM50.audio).numpy(), silence[3], atol=1e-3)
    batch = {"index": torch.arange(4), "mfcc": torch.ones(4, 6, 40)}
    changed = hide_modalities(batch, ("audio", "motion"), chance=0.9, generator=generator(), audio=UNIFORM50.audio)
    rows = changed["mfcc"][:, 0, 0] != 1
    assert int(rows.sum()) > 0
    np.testing.assert_allclose(changed["mfcc"][rows][0, 5].numpy(), silence[0], atol=1e-3)


def test_silence_of_clip2s_reaches_the_network_as_muted_sound() -> None:
    front_end = MfccFrontEnd(CLIP2S.audio, CLIP2S.num_frames)
    got = front_end(torch.zeros(1, CLIP2S.num_samples))[0]
    # float32 sums of 128 bands of -100 dB.
    torch.testing.assert_close(got, silent_mfcc(CLIP2S.audio).expand(50, 40), atol=1e-2, rtol=0)


def test_a_clip_without_sound_or_face_still_gets_finite_logits() -> None:
    network = MMMSBA(
        NetworkSpec(
            modalities=("audio", "face", "motion"), face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8
        )
    )
    model = ClipNetwork(network, CLIP2S).eval()
    batch = {
        "face": torch.zeros(1, 50, 64, 64, 3, dtype=torch.uint8),
        "waveform": torch.zeros(1, CLIP2S.num_samples),
        "landmarks": torch.zeros(1, 50, 468, 2, requires_grad=True),
    }
    output = model(batch)
    output.clip_logits.sum().backward()
    assert torch.isfinite(output.clip_logits).all() and torch.isfinite(output.frame_logits).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_muted_clips_are_what_training_hides() -> None:
    """Serving scores a video without sound with a waveform of zeros: the same, for every clip of a batch."""
    batch = make_batch(5)
    hidden = hide_modalities(batch, ("audio", "face"), chance=1 - 1e-9, generator=generator(), audio=CLIP2S.audio)
    changed = muted(batch, CLIP2S.audio)
    assert torch.equal(changed["waveform"], torch.zeros_like(batch["waveform"]))
    rows = (hidden["waveform"] == 0).all(dim=1)
    assert int(rows.sum()) > 0 and torch.equal(hidden["waveform"][rows], changed["waveform"][rows])
    assert all(changed[name] is batch[name] for name in ("face", "lip", "landmarks"))


@pytest.mark.parametrize(
    ("modalities", "chance", "preset", "expected"),
    [
        (("audio", "face", "lip"), 0.2, "clip2s", True),
        (("audio", "motion"), 0.2, "clip2s", True),
        (("audio", "face", "lip"), 0.0, "clip2s", False),
        (("face", "lip"), 0.2, "clip2s", False),
        (("audio", "face", "lip"), 0.2, "uniform50", False),
    ],
)
def test_who_can_judge_a_muted_video(modalities: tuple[str, ...], chance: float, preset: str, expected: bool) -> None:
    assert can_be_muted(modalities, chance=chance, preset=preset) is expected


def batches(data: PreparedData, indices: Sequence[int]) -> Iterator[dict[str, torch.Tensor]]:
    """One clip each."""
    clips = ClipDataset(data, indices)
    yield from torch.utils.data.DataLoader(clips, batch_size=1)


def test_a_run_with_dropout_leaves_a_decision_for_muted_videos(tmp_path: Path) -> None:
    """Its figures are those of the checkpoint's network on clips without sound."""
    rows = [make_row(n, n % 2, (f"person{n // 2}",)) for n in range(12)]
    data_dir = make_prepared(tmp_path / "data", rows, spec=SPEC)
    summaries = {}
    for chance in (0.0, 0.4):
        config = tiny_config(epochs=1, modality_dropout=chance)
        summaries[chance] = train_teacher(data_dir, Workspace(tmp_path / str(chance)), config)
    without = load_checkpoint(summaries[0.0].checkpoint)
    assert "muted" not in without.facts and not any("muted" in note for note in summaries[0.0].notes)
    trained = load_checkpoint(summaries[0.4].checkpoint)
    decision = Decision.muted_from_facts(trained.facts)
    assert decision is not None and "not fitted" in decision.operating_point.name
    assert any(note.startswith("muted, by the picture alone: test video AUC") for note in summaries[0.4].notes)
    data = PreparedData(data_dir)
    indices = split_clips(data, tiny_config().split)["test"]
    model = ClipNetwork(trained.network, data.spec)
    silent = [{**collated, "waveform": torch.zeros_like(collated["waveform"])} for collated in batches(data, indices)]
    expected = summarize(data, clip_logits(model, silent), decision)
    found = trained.facts["muted"]["metrics"]["test"]
    assert found["videos"] == expected["videos"] > 0
    for level in ("clip", "video"):
        # Batches of another size add up in another order.
        figures = {key: value for key, value in expected[level].items() if isinstance(value, float)}
        assert {key: found[level][key] for key in figures} == pytest.approx(figures, abs=1e-5)
