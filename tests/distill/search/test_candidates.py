"""Widths that a search tries: multiples of 8, never above the teacher's, the most important first."""

from __future__ import annotations

import pytest
import torch

from dfkit.clip import CLIP2S, UNIFORM50
from dfkit.config import SearchConfig
from dfkit.distill.prune import channel_weight_slices, check_widths
from dfkit.distill.search.candidates import kept_importance, make_candidates, round_width, scale_widths
from dfkit.errors import ConfigError
from dfkit.models import MMMSBA, NetworkSpec

ORIGINAL = NetworkSpec()
SMALL = NetworkSpec(face_channels=(16, 16, 24), lip_channels=(8, 16, 16), gru_hidden=24, dense_dim=10)


@pytest.mark.parametrize(
    ("whole", "share", "width"),
    # 0.375 x 32 = 12 lies halfway; round goes to the even multiple, 2 x 8.
    [(256, 0.5, 128), (64, 0.375, 24), (32, 0.375, 16), (64, 0.01, 8), (300, 1.0, 300), (300, 0.99, 296), (4, 0.5, 4)],
)
def test_widths_are_multiples_of_eight(whole: int, share: float, width: int) -> None:
    assert round_width(whole, share) == width


def test_candidates_of_the_original_can_be_pruned() -> None:
    teacher = MMMSBA(ORIGINAL)
    candidates = make_candidates(teacher, SearchConfig(), CLIP2S)
    assert len(candidates) == 12 * 3 * 2
    for candidate in candidates:
        check_widths(ORIGINAL, candidate.spec)
    assert [c.kept_importance for c in candidates] == sorted((c.kept_importance for c in candidates), reverse=True)
    assert candidates[0].label == "cnn-0.5-gru-192"
    assert candidates[-1].label == "cnn-0.125-patch4-56px-gru-64"
    assert candidates[0].widths.face_channels == (32, 64, 128)


def test_widths_above_the_teacher_are_left_out() -> None:
    teacher = MMMSBA(SMALL)
    candidates = make_candidates(teacher, SearchConfig(gru_hidden=(32, 16), cnn_shares=(0.9, 0.5)), CLIP2S)
    assert {c.spec.gru_hidden for c in candidates} == {16}
    with pytest.raises(ConfigError, match="the teacher has 24"):
        make_candidates(teacher, SearchConfig(gru_hidden=(32,)), CLIP2S)


def test_equal_widths_are_one_candidate() -> None:
    search = SearchConfig(gru_hidden=(16,), cnn_shares=(0.4, 0.35, 0.3), stems=("conv3",), face_px=(112,))
    candidates = make_candidates(MMMSBA(SMALL), search, CLIP2S)
    assert len(candidates) == len({c.spec for c in candidates}) == 1


def test_sizes_and_stems_are_crossed_with_the_widths() -> None:
    search = SearchConfig(gru_hidden=(16,), cnn_shares=(0.5,))
    candidates = make_candidates(MMMSBA(SMALL), search, CLIP2S)
    sides = [(c.clip_spec.picture.face_px, c.clip_spec.picture.lip_px, c.spec.stem) for c in candidates]
    sizes = ((112, 48), (80, 32), (56, 32))
    assert sides == [(face, lip, stem) for face, lip in sizes for stem in ("conv3", "patch4")]
    # What makes no difference to a signature is not in its name: the graphs are shared.
    assert len({c.encode_label for c in candidates}) == 6 and {c.score_label for c in candidates} == {"cnn-0.5-gru-16"}
    assert candidates[0].label == "cnn-0.5-gru-16" and candidates[0].settings["face_px"] is None
    assert candidates[-1].settings | {"widths": None} == {
        "widths": None, "stem": "patch4", "face_px": 56, "lip_px": 32,
    }  # fmt: skip
    patched = MMMSBA(SMALL.model_copy(update={"stem": "patch4"}))
    assert {c.spec.stem for c in make_candidates(patched, search, CLIP2S)} == {"patch4"}
    assert {c.clip_spec for c in make_candidates(MMMSBA(SMALL), search, UNIFORM50)} == {UNIFORM50}


def test_a_face_trunk_stays_whole() -> None:
    textured = SMALL.model_copy(update={"face_trunk": "efficientnet_lite0", "face_blocks": 1})
    search = SearchConfig(gru_hidden=(16,), cnn_shares=(1.0, 0.5), stems=("conv3",), face_px=(112,))
    whole, half = make_candidates(MMMSBA(textured), search, CLIP2S)
    assert whole.spec.face_channels == half.spec.face_channels and whole.spec.lip_channels > half.spec.lip_channels
    assert whole.kept_importance > half.kept_importance
    alone = textured.model_copy(update={"modalities": ("audio", "face")})
    assert len(make_candidates(MMMSBA(alone), search.model_copy(update={"stems": ("conv3", "patch4")}), CLIP2S)) == 1


def test_lite_has_no_cnn_to_cut() -> None:
    lite = NetworkSpec(modalities=("audio", "motion"), gru_hidden=32, dense_dim=8)
    candidates = make_candidates(MMMSBA(lite), SearchConfig(gru_hidden=(24, 8)), CLIP2S)
    assert [c.spec.gru_hidden for c in candidates] == [24, 8]


def test_kept_importance_by_hand() -> None:
    """All groups kept whole but one, of whose L2 importance 3 of 4 equal parts stay."""
    teacher = MMMSBA(SMALL)
    weights = teacher.state_dict()
    with torch.no_grad():
        for weight_slice in channel_weight_slices("face", 0):
            weights[weight_slice.tensor].fill_(1.0)
    assert kept_importance(teacher, SMALL) == pytest.approx(1.0)
    cut = SMALL.model_copy(update={"face_channels": (12, 16, 24)})
    # 12 groups: three convolutions each of face and lip, two directions each of three GRUs.
    assert kept_importance(teacher, cut) == pytest.approx((11 + 12 / 16) / 12)


def test_narrower_changes_widths_alone() -> None:
    cut = scale_widths(ORIGINAL, 0.25, 128)
    assert (cut.face_channels, cut.lip_channels, cut.gru_hidden) == ((16, 32, 64), (8, 16, 32), 128)
    assert (
        cut.model_copy(update={"face_channels": (64, 128, 256), "lip_channels": (32, 64, 128), "gru_hidden": 300})
        == ORIGINAL
    )
