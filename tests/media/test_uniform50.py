"""The original teacher's sampling, against OpenCV's capture and librosa."""

from __future__ import annotations

from pathlib import Path

import cv2
import librosa
import numpy as np
import pytest

from dfkit.clip import UNIFORM50
from dfkit.errors import MediaError
from dfkit.media.uniform50 import choose_frames, haar_lip, read_sound, view_uniform50
from tests.data.makers import make_video

# Real clips of 25 and 29.97 frames per second, MPEG and H.264, a square and a wide one.
CLIPS = ("lipnet-bbaf2n.mpg", "sadtalker-art-0-japanese.mp4", "video-retalking-5.mp4")


def test_frames_are_chosen_as_the_original_did() -> None:
    assert choose_frames(3, 50) == [0, 1, 2]
    assert choose_frames(50, 50) == list(range(50))
    for total in (51, 75, 101, 499, 3000, 4500):
        assert choose_frames(total, 50) == [int(i * total / 50) for i in range(50)]


def capture(path: Path) -> list[np.ndarray]:
    """All frames by OpenCV, RGB: what the original's preparation read."""
    reader = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, bgr = reader.read()
        if not there:
            return frames
        frames.append(np.ascontiguousarray(bgr[..., ::-1]))


@pytest.mark.parametrize("name", CLIPS)
def test_pictures_are_those_of_opencv(shared: Path, name: str) -> None:
    path = shared / "clips" / name
    frames = capture(path)
    view = view_uniform50(path)
    assert view.num_frames == len(frames)
    assert len(view.face) == min(50, len(frames))
    for index, square in zip(choose_frames(len(frames), 50), view.face, strict=True):
        near = range(max(0, index - 2), min(len(frames), index + 3))
        errors = {i: np.abs(square.astype(int) - reference_square(frames[i])).mean() for i in near}
        # Two YUV conversions (OpenCV's BT.601, ours by tag and range) are up to 3 grey levels apart; which
        # frame it is shows in no neighbour being nearer (equal where frames repeat).
        assert errors[index] < 4
        assert errors[index] <= min(errors.values()) + 1e-9


def reference_square(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return cv2.resize(frame[top : top + short, left : left + short], (224, 224))


@pytest.mark.parametrize("name", CLIPS)
def test_mfcc_equals_librosa(shared: Path, name: str) -> None:
    path = shared / "clips" / name
    view = view_uniform50(path)
    sound = read_sound(path, 16000)
    expected = librosa.feature.mfcc(y=sound, sr=16000, n_mfcc=40, hop_length=512, n_fft=2048).T
    assert view.mfcc.shape == expected.shape == (1 + len(sound) // 512, 40)
    # librosa computes in float32, we in float64: 1e-3 of the largest coefficient is the project's limit.
    assert np.abs(view.mfcc - expected).max() <= 1e-3 * np.abs(expected).max()


def test_sound_is_the_whole_track(tmp_path: Path) -> None:
    time_s = np.arange(3 * 44100) / 44100
    path = make_video(
        tmp_path / "a.mp4", sound=0.5 * np.sin(2 * np.pi * 440 * time_s), sample_rate=44100, num_frames=75
    )
    sound = read_sound(path, 16000)
    # AAC adds priming and a last block of 1,024 samples each.
    assert len(sound) == pytest.approx(3 * 16000, abs=2 * 1024)
    spectrum = np.abs(np.fft.rfft(sound[8000:24000]))
    assert np.argmax(spectrum) == 440


@pytest.mark.parametrize("name", CLIPS)
def test_lips_are_the_lower_middle_of_the_face(shared: Path, name: str) -> None:
    view = view_uniform50(shared / "clips" / name)
    found = [index for index, lip in enumerate(view.lip) if lip.any()]
    assert len(found) >= 0.8 * len(view.lip)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    square = view.face[found[0]]
    faces = cascade.detectMultiScale(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), 1.1, 5, minSize=(30, 30))
    x, y, w, h = sorted(faces, key=lambda box: -box[2] * box[3])[0]
    expected = cv2.resize(square[y + int(0.6 * h) : y + h, x + int(0.2 * w) : x + int(0.8 * w)], (96, 96))
    assert np.array_equal(view.lip[found[0]], expected)


def test_no_face_gives_black_lips() -> None:
    grey = np.full((224, 224, 3), 90, np.uint8)
    lip = haar_lip(grey, 96)
    assert lip.shape == (96, 96, 3)
    assert not lip.any()


def test_short_video_keeps_all_frames(tmp_path: Path) -> None:
    view = view_uniform50(make_video(tmp_path / "a.mp4", num_frames=30))
    assert view.face.shape == (30, 224, 224, 3)
    assert view.times_s.tolist() == pytest.approx([i / 25 for i in range(30)])


def test_files_that_cannot_be_seen_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        view_uniform50(make_video(tmp_path / "a.mp4", sound=np.zeros(0)))
    assert caught.value.status == "no_audio"
    (tmp_path / "b.mp4").write_text("text")
    with pytest.raises(MediaError) as caught:
        view_uniform50(tmp_path / "b.mp4")
    assert caught.value.status == "unreadable"


def test_spec_says_what_it_does() -> None:
    assert (UNIFORM50.audio.hop_length, UNIFORM50.audio.centered) == (512, True)
