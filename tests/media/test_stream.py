"""Clips of a file: what is in them, when there are none, and how little memory it takes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dfkit.clip import CLIP2S, UNIFORM50, ClipSpec
from dfkit.errors import ConfigError, MediaError
from dfkit.media.faces import FaceModels
from dfkit.media.stream import Clip, FaceFrame, FaceStream, read_clips
from dfkit.media.video import PictureReader, read_frames

from .face_cases import hide_face, synthetic_head
from .media_files import tone, write_media
from .test_audio import beep_train, onset_s
from .tracked_faces import face_frames


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


def head_video(
    path: Path,
    num_frames: int,
    *,
    edit: Callable[[int, np.ndarray], np.ndarray] | None = None,
    sound: np.ndarray | None = None,
) -> Path:
    pictures = (edit(index, rgb) if edit else rgb for index, rgb in enumerate(synthetic_head(num_frames)))
    sound = tone(num_frames / 25, sample_rate=44100) if sound is None else sound
    return write_media(path, pictures, sound=sound, sample_rate=44100)


def statuses(path: Path, models: FaceModels) -> str:
    with pytest.raises(MediaError, match=path.name) as caught:
        list(read_clips(path, models=models))
    assert "Fix:" in str(caught.value)
    return caught.value.status


def test_clips_of_a_video(tmp_path: Path, models: FaceModels) -> None:
    path = head_video(tmp_path / "a.mp4", 110)
    clips = list(read_clips(path, CLIP2S, models=models))
    assert [clip.start_index for clip in clips] == [0, 25, 50, 60]
    for clip in clips:
        assert (clip.face.shape, clip.face.dtype) == ((50, 112, 112, 3), np.uint8)
        assert (clip.lip.shape, clip.lip.dtype) == ((50, 48, 48, 3), np.uint8)
        assert (clip.landmarks.shape, clip.landmarks.dtype) == ((50, 468, 2), np.float32)
        assert (clip.waveform.shape, clip.waveform.dtype) == ((33408,), np.float32)
        np.testing.assert_allclose(clip.times_s, clip.start_s + np.arange(50) / 25, atol=1e-3)
        assert clip.end_s == pytest.approx(clip.start_s + 2)
        assert not clip.interpolated.any()
    # Overlapping clips hold the same pictures.
    np.testing.assert_array_equal(clips[0].face[25:], clips[1].face[:25])
    np.testing.assert_array_equal(clips[2].lip[10:], clips[3].lip[:40])
    np.testing.assert_array_equal(clips[0].waveform[16000:], clips[1].waveform[:-16000])


def test_pushing_pictures_equals_reading_the_file(tmp_path: Path, models: FaceModels) -> None:
    path = head_video(tmp_path / "a.mp4", 60)
    stream = FaceStream(CLIP2S, models)
    pushed: list[FaceFrame] = []
    for index, t_s, picture in PictureReader(path, 25.0):
        pushed += stream.push(index, t_s, picture)
        # A picture is final half a second after it was seen.
        assert len(pushed) == max(0, index + 1 - 12)
    pushed += stream.flush()
    read = list(face_frames(path, CLIP2S, models=models))
    assert len(pushed) == len(read) == 60
    for a, b in zip(pushed, read, strict=True):
        np.testing.assert_array_equal(a.face, b.face)
        np.testing.assert_array_equal(a.landmarks, b.landmarks)


def test_pushing_rgb_is_near_reading_the_file(tmp_path: Path, models: FaceModels) -> None:
    path = head_video(tmp_path / "a.mp4", 30)
    stream = FaceStream(CLIP2S, models)
    pushed = [face for index, t_s, rgb in read_frames(path, 25.0) for face in stream.push(index, t_s, rgb)]
    pushed += stream.flush()
    read = list(face_frames(path, CLIP2S, models=models))
    assert len(pushed) == len(read) == 30
    for a, b in zip(pushed, read, strict=True):
        # RGB was rounded and clipped before it was scaled; chroma was spread first. A pixel of 256 is 0.4 %.
        assert np.abs(a.landmarks - b.landmarks).mean() < 0.5
        assert np.abs(a.face.astype(int) - b.face).mean() < 2.0


def test_the_future_beyond_the_look_ahead_changes_nothing(tmp_path: Path, models: FaceModels) -> None:
    heads = list(synthetic_head(60))
    for other in ([hide_face(rgb) for rgb in heads[40:]], [rgb[::-1].copy() for rgb in heads[40:]]):
        made = []
        for pictures in (heads, heads[:40] + other):
            stream = FaceStream(CLIP2S, models)
            made.append([face for index, rgb in enumerate(pictures) for face in stream.push(index, index / 25, rgb)])
        for a, b in zip(*(frames[: 40 - 12] for frames in made), strict=True):
            np.testing.assert_array_equal(a.face, b.face)


def test_sound_and_picture_of_a_clip_belong_together(tmp_path: Path, models: FaceModels) -> None:
    # The head is lit up in picture 60, too little for a cut, and the beep sounds at 2.4 s = 60 / 25.
    still = next(iter(synthetic_head(1)))

    def flash(index: int, _: np.ndarray) -> np.ndarray:
        return np.minimum(still.astype(int) + 15 * (index == 60), 255).astype(np.uint8)

    sound = beep_train(4.0, [2.4], sample_rate=44100)
    path = head_video(tmp_path / "a.mp4", 100, edit=flash, sound=sound)
    clips = [clip for clip in read_clips(path, models=models) if clip.start_index <= 60 < clip.start_index + 50]
    assert [clip.start_index for clip in clips] == [25, 50]
    for clip in clips:
        steps = np.diff(clip.face.mean(axis=(1, 2, 3)))
        assert clip.start_index + int(np.argmax(steps)) + 1 == 60
        centre_s = clip.start_s + onset_s(clip.waveform) - 1024 / 16000
        assert centre_s == pytest.approx(2.4, abs=0.003)


def test_a_short_gap_is_interpolated(tmp_path: Path, models: FaceModels) -> None:
    path = head_video(tmp_path / "a.mp4", 75, edit=lambda i, rgb: hide_face(rgb) if 30 <= i < 40 else rgb)
    clips = list(read_clips(path, models=models))
    assert [clip.start_index for clip in clips] == [0, 25]
    whole = {face.index: face for face in face_frames(path, models=models)}
    assert [i for i, face in whole.items() if face.interpolated] == list(range(30, 40))
    before, after = whole[29].landmarks, whole[40].landmarks
    np.testing.assert_allclose(whole[32].landmarks, before + (after - before) * 3 / 11, atol=1e-2)
    assert clips[0].interpolated.sum() == 10


def test_a_long_gap_has_no_clip(tmp_path: Path, models: FaceModels) -> None:
    path = head_video(tmp_path / "a.mp4", 150, edit=lambda i, rgb: hide_face(rgb) if 60 <= i < 75 else rgb)
    # Clips from 0 (0 to 49) and from 75 and 100 on; those from 25 and 50 hold 15 pictures without a face.
    assert [clip.start_index for clip in read_clips(path, models=models)] == [0, 75, 100]
    held = [face.index for face in face_frames(path, models=models) if face.interpolated]
    assert held == sorted([*range(60, 72), *range(63, 75)])


def test_held_before_the_first_and_after_the_last_sighting(tmp_path: Path, models: FaceModels) -> None:
    path = head_video(tmp_path / "a.mp4", 60, edit=lambda i, rgb: hide_face(rgb) if i < 8 or i >= 57 else rgb)
    clip, last = list(read_clips(path, models=models))
    assert clip.interpolated.tolist() == [True] * 8 + [False] * 42
    np.testing.assert_array_equal(clip.landmarks[0], clip.landmarks[8])
    assert last.interpolated.tolist() == [False] * 47 + [True] * 3


def test_a_cut_is_not_crossed(tmp_path: Path, models: FaceModels) -> None:
    path = head_video(tmp_path / "a.mp4", 110, edit=lambda i, rgb: (rgb // 3)[:, ::-1] if i >= 55 else rgb)
    clips = list(read_clips(path, models=models))
    assert [(clip.start_index, clip.track_id) for clip in clips] == [(0, 0), (60, 1)]
    frames = list(face_frames(path, models=models))
    assert [face.index for face in frames] == list(range(110))
    assert {(face.scene, face.track_id, face.index >= 55) for face in frames} == {(0, 0, False), (1, 1, True)}


def test_two_people_have_two_clips(tmp_path: Path, models: FaceModels) -> None:
    heads = list(synthetic_head(80))
    pairs = [np.concatenate([heads[i], heads[i + 20]], axis=1) for i in range(60)]
    path = write_media(tmp_path / "a.mp4", pairs, sound=tone(2.4))
    found = [(clip.start_index, clip.track_id) for clip in read_clips(path, models=models)]
    assert found == [(0, 0), (0, 1), (10, 0), (10, 1)]


def test_statuses(tmp_path: Path, models: FaceModels) -> None:
    assert statuses(head_video(tmp_path / "short.mp4", 49), models) == "too_short"
    assert statuses(write_media(tmp_path / "silent.mp4", synthetic_head(60)), models) == "no_audio"
    assert statuses(write_media(tmp_path / "sound.mp4", sound=tone(3.0)), models) == "unreadable"
    blank = [np.full((64, 64, 3), 90, np.uint8)] * 60
    assert statuses(write_media(tmp_path / "blank.mp4", blank, sound=tone(2.4)), models) == "no_face"
    assert len(list(read_clips(head_video(tmp_path / "long enough.mp4", 50), models=models))) == 1


def test_whole_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="uniform50"):
        next(read_clips(tmp_path / "a.mp4", UNIFORM50))


def test_pictures_above_4k_are_tracked_smaller(tmp_path: Path, models: FaceModels) -> None:
    small = list(synthetic_head(3))
    large = [cv2.resize(rgb, (3200, 3200), interpolation=cv2.INTER_CUBIC) for rgb in small]
    path = write_media(tmp_path / "a.mp4", large, codec="mpeg4", options={"qscale": "3"})
    (first, *_), reference = face_frames(path, models=models), FaceStream(CLIP2S, models)
    reference.push(0, 0.0, small[0])
    expected = next(iter(reference.flush())).landmarks
    # In pixels of the source; 5 of 3,200 are 0.4 of 256.
    assert np.abs(first.landmarks / 12.5 - expected).mean() < 0.8


def test_sizes_follow_the_spec(tmp_path: Path, models: FaceModels) -> None:
    picture = CLIP2S.picture.model_copy(update={"face_px": 64, "lip_px": 48})
    spec: ClipSpec = CLIP2S.model_copy(update={"num_frames": 25, "hop_s": 0.4, "picture": picture})
    clips: list[Clip] = list(read_clips(head_video(tmp_path / "a.mp4", 50), spec, models=models))
    assert [clip.start_index for clip in clips] == [0, 10, 20, 25]
    assert clips[0].face.shape == (25, 64, 64, 3)
    assert clips[0].lip.shape == (25, 48, 48, 3)
    assert len(clips[0].waveform) == spec.num_samples
    assert {field.name for field in dataclasses.fields(Clip)} >= {"track_id", "start_s", "end_s", "times_s"}


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from dfkit.benchmarks.cold_start import resident_mb
            from dfkit.media.stream import read_clips
            for path in sys.argv[1:]:
                count = sum(1 for _ in read_clips(path, num_threads=1))
                print(count, round(resident_mb("VmHWM")))
            """
        ),
        encoding="utf-8",
    )
    short, long = (str(head_video(tmp_path / f"{n}.mp4", n)) for n in (100, 500))
    lines = subprocess.run(
        [sys.executable, str(script), short, long], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    (few, before_mb), (many, after_mb) = (tuple(int(v) for v in line.split()) for line in lines[:2])
    assert many > 4 * few
    # 400 pictures of 256 x 256 alone would be 79 MB.
    assert after_mb - before_mb < 40


def test_no_torch_is_loaded() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['lightning'] = None\n"
        "import dfkit.clip, dfkit.media.stream, dfkit.media.mfcc, dfkit.media.facts\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
