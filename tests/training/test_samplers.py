"""Orders of training clips: the same for the same (seed, epoch), whatever happened before."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dfkit.config import SamplingConfig
from dfkit.training import samplers
from dfkit.training.samplers import EpochOrder, FixedOrder, HardMining, evenly_drawn

VIDEOS = [0, 0, 1, 1, 2, 2]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    order = EpochOrder(VIDEOS, seed=3, keep_videos=True)
    first = order.positions()
    assert order.positions() == first and sorted(first) == list(range(6))
    assert [place // 2 for place in first[::2]] == [place // 2 for place in first[1::2]]
    seen = set()
    for epoch in range(8):
        order.set_epoch(epoch)
        seen.add(tuple(order.positions()))
    assert len(seen) > 1


def test_keys_carry_the_epoch() -> None:
    order = EpochOrder(VIDEOS, seed=3)
    order.set_epoch(5)
    assert list(order) == [(5, place) for place in order.positions()]
    assert len(order) == 6


def draws(order: EpochOrder, epochs: int) -> list[int]:
    found = []
    for epoch in range(epochs):
        order.set_epoch(epoch)
        found += order.positions()
    return found


def test_weighted_draws_take_both_classes_equally_often() -> None:
    labels = [0] * 2 + [1] * 18
    order = EpochOrder(range(20), seed=0, labels=labels, sampling=SamplingConfig(type="weighted"))
    drawn = draws(order, 100)
    assert len(drawn) == 2000
    # Binomial(2000, 1/2): four standard deviations are 89.
    assert abs(sum(place < 2 for place in drawn) - 1000) < 89
    counts = Counter(drawn)
    # Each fake is expected 2000 / 36 = 55.6 times, 7.4 of standard deviation.
    assert all(abs(counts[place] - 55.6) < 30 for place in range(2, 20))


def test_weighted_draws_of_videos_keep_their_clips_together_and_the_length() -> None:
    videos = [0, 0, 0, 1, 2, 2]
    sampling = SamplingConfig(type="weighted")
    order = EpochOrder(videos, seed=1, keep_videos=True, labels=[0, 0, 0, 1, 1, 1], sampling=sampling)
    for epoch in range(10):
        order.set_epoch(epoch)
        places = order.positions()
        assert len(places) == 6
        # Within a video clips stand in their order, but for the cut at the end.
        assert all(b == a + 1 for a, b in itertools.pairwise(places) if a in (0, 1, 4))


def test_hard_clips_replace_easy_ones_class_by_class() -> None:
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    order = EpochOrder(range(8), seed=0, labels=labels, sampling=SamplingConfig(type="shuffled", hard_share=0.5))
    assert sorted(order.positions()) == list(range(8))
    order.hardness = np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.05, 0.7, 0.6])
    # Of each class two draws: the easiest (1, 2 and 5, 4) go, the hardest (0, 3 and 6, 7) come twice.
    assert Counter(order.positions()) == {0: 2, 3: 2, 6: 2, 7: 2}
    plain = EpochOrder(range(8), seed=0).positions()
    kept = [n for n, place in enumerate(plain) if place in (0, 3, 6, 7)]
    assert [order.positions()[n] for n in kept] == [plain[n] for n in kept]


def test_hard_videos_are_judged_by_the_mean_of_their_clips() -> None:
    order = EpochOrder(
        VIDEOS, seed=0, keep_videos=True, labels=[0] * 6, sampling=SamplingConfig(type="shuffled", hard_share=0.4)
    )
    order.hardness = np.array([0.9, 0.0, 0.6, 0.6, 0.1, 0.2])
    assert Counter(order.positions()) == {0: 1, 1: 1, 2: 2, 3: 2}


def test_mining_remembers_through_a_checkpoint() -> None:
    order = EpochOrder(range(3), seed=0, labels=[0, 1, 1], sampling=SamplingConfig(type="shuffled", hard_share=0.5))
    mining = HardMining(order, {40: 0, 7: 1, 9: 2})
    assert mining.state_dict() == {"hardness": None}
    trainer = SimpleNamespace(world_size=1)
    module = SimpleNamespace(trainer=trainer)
    for index, wrong in (([7, 40], [0.25, 0.5]), ([7], [0.75])):
        batch = {"index": torch.tensor(index)}
        mining.on_train_batch_end(trainer, module, {"hardness": torch.tensor(wrong)}, batch, 0)
    mining.on_train_epoch_end(trainer, module)
    # The last answer counts; a clip that was never drawn is taken to be undecided.
    assert order.hardness is not None and order.hardness.tolist() == [0.5, 0.75, 0.5]
    other = EpochOrder(range(3), seed=0, labels=[0, 1, 1], sampling=SamplingConfig(type="shuffled", hard_share=0.5))
    resumed = HardMining(other, {40: 0, 7: 1, 9: 2})
    resumed.load_state_dict(mining.state_dict())
    assert other.positions() == order.positions()
    # As an older dfkit stored it.
    resumed.load_state_dict({"wrongness": torch.tensor([0.1, 0.2, 0.3])})
    assert other.hardness is not None and other.hardness.tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("num", [5, 6])
def test_processes_share_an_epoch(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    order, fixed = EpochOrder(range(num), seed=2), FixedOrder(num)
    whole = order.positions()
    monkeypatch.setattr(samplers.torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(samplers.torch.distributed, "get_world_size", lambda: 2)
    shares, fixed_shares = [], []
    for rank in range(2):
        monkeypatch.setattr(samplers.torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append([place for _, place in order])
        fixed_shares.append(list(fixed))
        assert len(order) == len(shares[-1]) == len(fixed) == 3
    # An odd number begins again at the front, so that both make as many steps.
    assert shares[0] + shares[1] == (whole + whole[:1])[:6]
    assert sorted({*fixed_shares[0], *fixed_shares[1]}) == list(range(num))


@pytest.mark.parametrize("keep_videos", [False, True])
def test_videos_of_a_class_are_drawn_equally_often(keep_videos: bool) -> None:
    """Of one real video of eight clips and two of two, and four fake ones of one clip, one of which is long."""
    videos = [0] * 8 + [1] * 2 + [2] * 2 + [3, 4, 5] + [6] * 9
    labels = [0] * 12 + [1] * 12
    order = EpochOrder(
        videos, seed=1, keep_videos=keep_videos, labels=labels, sampling=SamplingConfig(type="per_video")
    )
    drawn = np.zeros((30, len(videos)), int)
    for epoch in range(30):
        order.set_epoch(epoch)
        positions = order.positions()
        assert len(positions) == len(videos) and positions == order.positions()
        np.add.at(drawn[epoch], positions, 1)
    of_video = np.stack([drawn[:, np.array(videos) == video].sum(1) for video in range(7)], axis=1)
    if keep_videos:
        # Each whole video once; which clips are left over, as long videos are, is another matter.
        assert (of_video.min(0) >= 1).all()
        return
    np.testing.assert_allclose(of_video.mean(0), [4, 4, 4, 3, 3, 3, 3], atol=0.35)
    # Rounded up or down, and no further: a clip of a short video is there in every epoch.
    assert set(drawn[:, 8].tolist()) <= {2} and set(drawn[:, 0].tolist()) <= {0, 1}
    np.testing.assert_allclose(drawn.sum(0)[:8], 15, atol=8)


def test_items_are_drawn_as_often_as_their_share() -> None:
    shares = np.array([0.25, 2.5, 0.25, 1.0])
    rng = np.random.default_rng(0)
    counts = np.array([np.bincount(evenly_drawn(shares, rng), minlength=4) for _ in range(400)])
    assert (counts.sum(1) == 4).all() and (np.abs(counts - shares) < 1).all()
    np.testing.assert_allclose(counts.mean(0), shares, atol=0.08)
