"""What each method changes, and what it leaves alone: in memory exactly, in the files within the encoder's loss."""

from __future__ import annotations

import numpy as np
import pytest

from dfkit.config.forge import DEFAULT_METHODS, DONOR_METHODS, METHODS, PICTURE_METHODS
from dfkit.forge import ForgeConfig
from dfkit.forge.footage import Footage
from dfkit.forge.geometry import face_box
from dfkit.forge.manipulate import Forgery, manipulate
from dfkit.forge.plan import Task
from dfkit.media.audio import read_waveform
from dfkit.media.video import read_frames
from tests.forge.conftest import Forged
from tools.forge.sheet import Pair

CONFIG = ForgeConfig()
MIN_OUTSIDE_DB = 38.0
# Largest change of a face that is not forged: two encodings of one picture, see `test_outside...`.
SAMPLES_PER_FRAME = 640


def make(method: str, partial: bool, footages: list[Footage], seed: int = 11) -> Forgery:
    donor = footages[1] if method in DONOR_METHODS else None
    return manipulate(Task(method, 1 if donor else None, partial, 1, seed), footages[0], donor, CONFIG)


def changed_frames(forgery: Forgery, footage: Footage) -> np.ndarray:
    pictures = np.array([np.any(a != b) for a, b in zip(forgery.frames, footage.frames, strict=True)])
    sounds = (forgery.waveform != footage.waveform).reshape(-1, SAMPLES_PER_FRAME).any(axis=1)
    return np.flatnonzero(pictures | sounds)


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "part"])
@pytest.mark.parametrize("method", METHODS)
def test_frame_labels_are_the_frames_that_changed(
    method: str, partial: bool, footages: list[Footage], stand_in_voice: None
) -> None:
    forgery = make(method, partial, footages)
    expected = np.arange(forgery.start_frame, forgery.end_frame)
    np.testing.assert_array_equal(changed_frames(forgery, footages[0]), expected)
    seconds = (forgery.end_frame - forgery.start_frame) / CONFIG.fps
    if partial:
        assert CONFIG.part_s[0] <= seconds <= CONFIG.part_s[1]
    elif method in PICTURE_METHODS:
        assert seconds == len(footages[0].frames) / CONFIG.fps


@pytest.mark.parametrize("method", METHODS)
def test_sound_methods_leave_the_pictures_and_picture_methods_the_sound(
    method: str, footages: list[Footage], stand_in_voice: None
) -> None:
    forgery, footage = make(method, False, footages), footages[0]
    if method in PICTURE_METHODS:
        np.testing.assert_array_equal(forgery.waveform, footage.waveform)
    else:
        assert all(a is b for a, b in zip(forgery.frames, footage.frames, strict=True))


@pytest.mark.parametrize("method", sorted(PICTURE_METHODS))
def test_nothing_outside_of_the_face_changes_and_the_inside_clearly_does(method: str, footages: list[Footage]) -> None:
    forgery, footage = make(method, False, footages), footages[0]
    inside = []
    for index in range(0, len(footage.frames), 5):
        frame, forged = footage.frames[index], forgery.frames[index]
        box = face_box(footage.landmarks[index], frame.shape)
        difference = np.abs(forged.astype(int) - frame).max(axis=2)
        outside = np.ones(difference.shape, bool)
        outside[box.slices] = False
        assert difference[outside].max() == 0
        inside.append(float(np.sort(difference[box.slices].ravel())[-200:].mean()))
    # A noise of 1.6 grey levels reaches 6 in its 200 largest of 30,000 values: the change is well above it.
    assert np.median(inside) > 12


def test_a_shift_is_recovered_from_the_files(forged: Forged) -> None:
    shifts = {entry["path"]: entry for entry in forged.entries if entry["method"] == "audio_shift"}
    assert len(shifts) == 2
    for pair in forged.pairs:
        entry = shifts.get(f"videos/{pair.forged.name}")
        if entry is None:
            continue
        twin, made = (sound(path, pair.num_frames) for path in (pair.twin, pair.forged))
        span = slice(pair.start_frame * SAMPLES_PER_FRAME, pair.end_frame * SAMPLES_PER_FRAME)
        # What is heard in the stretch, looked for in the whole twin.
        pattern = np.zeros_like(made)
        pattern[span] = made[span]
        size = 2 * len(twin)
        product = np.fft.irfft(np.fft.rfft(pattern, size) * np.conj(np.fft.rfft(twin, size)))
        lags = np.arange(size)
        lags[lags > size // 2] -= size
        wanted = abs(entry["parameters"]["shift_s"]) * 16000
        reach = (np.abs(lags) > 0.15 * 16000) & (np.abs(lags) < 1.05 * 16000)
        found = abs(int(lags[reach][np.argmax(product[reach])]))
        # AAC keeps the place of a wave to well under a millisecond.
        assert found == pytest.approx(wanted, abs=8)


def sound(path: object, num_frames: int) -> np.ndarray:
    return read_waveform(str(path), sample_rate=16000, first_picture_s=0.0, num_samples=num_frames * SAMPLES_PER_FRAME)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(float(np.mean((a.astype(float) - b) ** 2)), 1e-9)))


@pytest.mark.parametrize("method", DEFAULT_METHODS)
def test_outside_of_the_face_twin_and_forgery_are_the_same_file_after_file(
    method: str, forged: Forged, footages: list[Footage]
) -> None:
    pairs = [pair for pair in forged.pairs if pair.method == method]
    assert len(pairs) == 2
    for pair, footage in zip(pairs, footages, strict=True):
        outside, inside_changed, inside_kept = [], [], []
        both = zip(read_frames(pair.twin, 25), read_frames(pair.forged, 25), strict=True)
        for index, ((_, _, twin), (_, _, made)) in enumerate(both):
            box = face_box(footage.landmarks[index], twin.shape)
            mask = np.ones(twin.shape[:2], bool)
            mask[box.slices] = False
            outside.append(psnr(twin[mask], made[mask]))
            changed = pair.start_frame <= index < pair.end_frame
            (inside_changed if changed else inside_kept).append(psnr(twin[box.slices], made[box.slices]))
        assert min(outside) >= MIN_OUTSIDE_DB
        if method not in PICTURE_METHODS:
            assert min(inside_changed) > 60, "the pictures are those of the twin"
        elif inside_kept:
            assert np.mean(inside_changed) < np.mean(inside_kept) - 3, "the labelled frames are the changed ones"


def test_donors_of_faces_lips_and_voices_are_other_persons(forged: Forged) -> None:
    entries = [entry for entry in forged.entries if entry["method"] in DONOR_METHODS]
    assert len(entries) == 2 * len(DONOR_METHODS)
    for entry in entries:
        assert entry["donor"] != entry["source"]
        lent = entry["sound"] if entry["method"] == "audio_swap" else entry["face_of"]
        assert lent != entry["person"]
    for entry in forged.entries:
        if entry["method"] not in DONOR_METHODS:
            assert entry["donor"] is None
            assert entry["person"] == entry["face_of"] == entry["sound"]


def test_a_swapped_face_looks_more_like_the_donor_than_before(footages: list[Footage]) -> None:
    """Warped onto the donor's landmarks, the forged face is nearer to the donor's than the real one is."""
    from dfkit.forge.geometry import WHOLE_FACE, Box, warp_into

    forgery = make("face_swap", False, footages)
    points = list(WHOLE_FACE)
    target, donor = footages
    index = 30
    other = int(forgery.parameters["first_donor_frame"])
    height, width = donor.frames[other].shape[:2]
    whole = Box(0, 0, width, height)
    box = face_box(donor.landmarks[other], donor.frames[other].shape, margin=-0.15)

    def likeness(frame: np.ndarray) -> float:
        face = warp_into(frame, whole, donor.landmarks[other][points], target.landmarks[index][points])
        a, b = face[box.slices].mean(axis=2), donor.frames[other][box.slices].mean(axis=2)
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    assert likeness(forgery.frames[index]) > likeness(target.frames[index]) + 0.02


def test_pairs_say_which_frames_changed(forged: Forged) -> None:
    assert {pair.method for pair in forged.pairs} == set(DEFAULT_METHODS)
    assert all(isinstance(pair, Pair) and pair.end_frame > pair.start_frame for pair in forged.pairs)
