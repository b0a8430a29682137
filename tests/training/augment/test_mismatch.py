"""Sound that is not the face's, made of real sound: of another moment, or of another group."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config.augment import MismatchConfig
from dfkit.data.datasets import ClipDataset
from dfkit.data.joined_sound import JoinedSound, as_loud_as
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.training.augment.mismatch import Mismatch
from tests.data.makers import make_clip, make_prepared, make_row

SPEC = ClipSpec(picture=PictureSpec(face_px=16, lip_px=16))
CLIPS = 3
"""Of each video, a second apart: four seconds of sound."""
ALL = MismatchConfig(swap=0.5, shift=0.49)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    rows = [make_row(n, n // 4, (f"person{n % 4 // 2 + n // 4 * 2}",)) for n in range(8)]
    return PreparedData(make_prepared(tmp_path_factory.mktemp("data"), rows, clips=CLIPS, spec=SPEC))


def sound_of(video: int, picture: int) -> np.ndarray:
    """Sound of a made video from any picture on."""
    return make_clip(seed=video, start_index=picture, spec=SPEC).waveform


@pytest.mark.parametrize("pictures", [-25, -10, -1, 0, 7, 25])
def test_sound_of_another_moment_is_joined_of_neighbours(data: PreparedData, pictures: int) -> None:
    # The second clip of the third video begins with picture 25; the makers' sound is one piece.
    assert np.array_equal(JoinedSound(data).moved(2 * CLIPS + 1, pictures), sound_of(2, 25 + pictures))


def test_where_the_video_ends_there_is_no_more(data: PreparedData) -> None:
    sound = JoinedSound(data)
    assert sound.moved(0, -1) is None and sound.moved(CLIPS - 1, 1) is None


def test_a_gap_is_not_joined_over(tmp_path: Path) -> None:
    """Clips three seconds apart leave a second between them that nothing was prepared of."""
    spec = SPEC.model_copy(update={"num_frames": 20})
    gaps = PreparedData(make_prepared(tmp_path / "x", [make_row(0, 0, ("a",))], clips=2, spec=spec))
    sound = JoinedSound(gaps)
    # Clips of 0.8 s, a second apart: their sound of 1,024 samples before and behind does not meet.
    assert sound.moved(0, 10) is None and sound.moved(0, 25) is not None


def test_sound_is_as_loud_and_stays_in_range() -> None:
    rng = np.random.default_rng(0)
    soft, loud = (rng.uniform(-a, a, 8000).astype(np.float32) for a in (0.01, 0.5))
    rms = [float(np.sqrt(np.mean(np.square(each)))) for each in (as_loud_as(soft, loud), loud)]
    assert rms[0] == pytest.approx(rms[1], rel=1e-4)
    click = np.zeros(8000, np.float32)
    click[0] = 0.5
    assert np.abs(as_loud_as(click, loud)).max() == pytest.approx(1.0)
    assert not as_loud_as(np.zeros(10, np.float32), loud).any()


def test_pictures_stay_and_all_frames_are_fake(data: PreparedData) -> None:
    mismatch = Mismatch(data, range(len(data)), ALL, seed=3)
    record = data.record(4)
    changed = mismatch.apply(record, epoch=0, index=4)
    assert changed.mismatched and changed.label == 1 and changed.frame_labels.tolist() == [1] * SPEC.num_frames
    assert record.label == 0 and not record.frame_labels.any() and not record.mismatched
    assert changed.face is record.face and np.array_equal(changed.landmarks, record.landmarks)
    assert changed.waveform.shape == record.waveform.shape and not np.array_equal(changed.waveform, record.waveform)


def test_other_sound_is_of_another_group_the_same_part_and_the_same_label(data: PreparedData) -> None:
    known = [index for index in range(len(data)) if data.clips[index].video_index != 2]
    mismatch = Mismatch(data, known, MismatchConfig(swap=0.99), seed=0)
    sounds = {index: data.record(index, pictures=False).waveform for index in range(len(data))}
    heard = set()
    for epoch in range(60):
        changed = mismatch.apply(data.record(0, pictures=False), epoch=epoch, index=0)
        if changed.mismatched:
            (found,) = [i for i, each in sounds.items() if np.corrcoef(each, changed.waveform)[0, 1] > 0.999]
            heard.add(data.clips[found].video_index)
    # Videos 0 and 1 are the clip's own group, 2 is of another part, 4 to 7 are fake.
    assert heard == {3}


def test_shares_and_that_a_draw_repeats(data: PreparedData) -> None:
    mismatch = Mismatch(data, range(len(data)), MismatchConfig(swap=0.3, shift=0.2), seed=1)
    record = data.record(1, pictures=False)
    draws = [mismatch.apply(record, epoch=epoch, index=1) for epoch in range(400)]
    # 400 draws of 0.5: four standard deviations are 0.1.
    assert np.mean([each.mismatched for each in draws]) == pytest.approx(0.5, abs=0.1)
    again = pickle.loads(pickle.dumps(mismatch)).apply(record, epoch=7, index=1)
    assert np.array_equal(again.waveform, draws[7].waveform)


def test_a_shift_is_by_the_drawn_time_in_both_directions(data: PreparedData) -> None:
    mismatch = Mismatch(data, range(len(data)), MismatchConfig(shift=0.99, shift_s=(0.2, 0.4)), seed=0)
    moved = {pictures: sound_of(0, 25 + pictures).tobytes() for pictures in range(-25, 26)}
    found = set()
    for epoch in range(60):
        changed = mismatch.apply(data.record(1, pictures=False), epoch=epoch, index=1)
        if changed.mismatched:
            found |= {pictures for pictures, each in moved.items() if each == changed.waveform.tobytes()}
    assert min(found) < 0 < max(found) and {abs(pictures) for pictures in found} <= set(range(5, 11))


def test_always_gives_every_clip_other_sound(data: PreparedData) -> None:
    config = MismatchConfig(swap=0.01, shift=0.01)
    always = Mismatch(data, range(len(data)), config, seed=0, always=True)
    clips = ClipDataset(data, mismatch=always, pictures=False)
    assert all(bool(clips[index]["mismatched"]) for index in range(len(clips)))
    sample = clips[0]
    assert torch.equal(sample["frame_labels"], torch.ones(SPEC.num_frames, dtype=torch.uint8))
    assert int(sample["video_label"]) == 0 and int(sample["label"]) == 1


def test_one_group_alone_keeps_its_sound(data: PreparedData) -> None:
    mismatch = Mismatch(data, [0, 1, 2], MismatchConfig(swap=0.99), seed=0, always=True)
    record = data.record(0, pictures=False)
    assert mismatch.apply(record, epoch=0, index=0) is record


def test_mfcc_alone_has_no_sound_to_exchange(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(data), "spec", SPEC.model_copy(update={"preset": "uniform50"}))
    with pytest.raises(DataError, match="hold MFCC alone"):
        Mismatch(data, [0], ALL, seed=0)


def test_some_clips_keep_their_sound() -> None:
    with pytest.raises(ValidationError, match="no clip would keep its own sound"):
        MismatchConfig(swap=0.5, shift=0.5)
