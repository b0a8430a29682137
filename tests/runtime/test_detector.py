"""The detector on real talking faces, and on everything that gets a status instead of a verdict."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import ModelAnswerError
from dfkit.media.audio import decode_sound
from dfkit.media.channels import to_mono
from dfkit.media.picture import Picture
from dfkit.media.stream import FaceFrame, read_clips
from dfkit.media.video import PictureReader, read_frames
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector, ScoredFile
from dfkit.runtime.evidence import FaceMeter
from dfkit.runtime.results import ClipScore, judge_clips
from tests.media.media_files import numbered, tone, write_media
from tests.runtime.fixtures import SpoiltGraphs


@pytest.fixture(scope="module")
def detector(tiny_bundle: Bundle) -> Detector:
    return Detector(tiny_bundle)


def file_clips(detector: Detector, path: Path) -> list[ClipScore]:
    scored = ScoredFile(FaceMeter(detector.bundle.manifest.clip_spec))
    detector._score_file(path, scored, None)
    return scored.clips


def decoded(path: Path) -> tuple[list[tuple[float, Picture]], list[tuple[float, np.ndarray]], int]:
    """Pictures and sound of a file with their times, as another decoder would push them."""
    reader = PictureReader(path, 25.0)
    pictures = [(t_s, picture) for _, t_s, picture in reader]
    with av.open(str(path)) as container:
        frames = list(decode_sound(container, container.streams.audio[0]))
    first_s = reader.first_picture_s or 0.0
    blocks = [(float(f.pts * f.time_base) - first_s, to_mono(f)) for f in frames]
    return pictures, blocks, frames[0].sample_rate


def test_clips_are_scored_as_their_arrays_are(detector: Detector, talk: Path) -> None:
    """Against the clips that training reads: whole arrays through both graphs, no streaming."""
    graphs = open_backend(detector.bundle)
    scored = file_clips(detector, talk)
    clips = list(read_clips(talk, CLIP2S))
    assert [(s.track_id, s.start_index) for s in scored] == [(c.track_id, c.start_index) for c in clips]
    assert len(clips) == 2  # 3 s: from 0 s and from 1 s
    for score, clip in zip(scored, clips, strict=True):
        features = graphs.encode({"face": clip.face, "lip": clip.lip})
        frame_logits, clip_logits = graphs.score(features | {"pcm": clip.waveform})
        assert np.array_equal(score.frame_logits, frame_logits)
        assert np.array_equal(score.clip_logits, clip_logits)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_stream_in_pieces_equals_the_file(detector: Detector, talk: Path, seed: int) -> None:
    pictures, blocks, rate = decoded(talk)
    sound = np.concatenate([mono for _, mono in blocks])
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.choice(len(sound), 40, replace=False))
    pieces = np.split(sound, cuts)
    starts = blocks[0][0] + np.concatenate([[0], cuts]) / rate
    stream = detector.open_stream(sample_rate=rate)
    scores: list[ClipScore] = []
    events = [(t, 0, rgb) for t, rgb in pictures] + [(t, 1, mono) for t, mono in zip(starts, pieces, strict=True)]
    for t_s, is_sound, array in sorted(events, key=lambda event: event[:2]):
        scores += stream.push_sound(array, t_s) if is_sound else stream.push_picture(t_s, array)
    scores += stream.finish()
    expected = file_clips(detector, talk)
    assert [(s.track_id, s.start_index) for s in scores] == [(s.track_id, s.start_index) for s in expected]
    for score, wanted in zip(scores, expected, strict=True):
        assert np.array_equal(score.frame_logits, wanted.frame_logits)
        assert np.array_equal(score.clip_logits, wanted.clip_logits)
    manifest = detector.bundle.manifest
    assert judge_clips(str(talk), scores, manifest) == replace(detector.detect(talk), read=None, evidence=None)


def test_a_stream_takes_rgb_too(detector: Detector, talk: Path) -> None:
    pictures, blocks, rate = decoded(talk)

    def scores_of_all(shown: list[Picture] | list[np.ndarray]) -> list[ClipScore]:
        stream = detector.open_stream(sample_rate=rate)
        for t_s, mono in blocks:
            stream.push_sound(mono, t_s)
        scored = [stream.push_picture(t_s, picture) for (t_s, _), picture in zip(pictures, shown, strict=True)]
        return [*chain(*scored), *stream.finish()]

    answers = [scores_of_all([picture for _, picture in pictures])]
    answers.append(scores_of_all([picture.rgb() for _, picture in pictures]))
    assert len(answers[0]) == len(answers[1]) == 2
    # Converting before sampling rounds in another order: a level or two of a crop.
    for planes, rgb in zip(*answers, strict=True):
        assert np.abs(planes.clip_logits - rgb.clip_logits).max() < 0.1


def test_a_clip_comes_as_soon_as_its_look_ahead_has_passed(detector: Detector, talk: Path) -> None:
    pictures, blocks, rate = decoded(talk)
    stream = detector.open_stream(sample_rate=rate)
    for t_s, mono in blocks:
        stream.push_sound(mono, t_s)
    first = next(n for n, (t_s, rgb) in enumerate(pictures) if stream.push_picture(t_s, rgb))
    # Frame 49 is final once frame 49 + 12 is known, which one more picture settles: nearest by time.
    assert first == 49 + CLIP2S.look_ahead_frames + 1


def test_memory_of_a_stream_does_not_grow(detector: Detector, talk: Path) -> None:
    pictures, blocks, rate = decoded(talk)
    stream = detector.open_stream(sample_rate=rate)
    period_s = 3.0
    held = []
    # The same three seconds over and over, as a camera would go on for hours.
    for turn in range(5):
        for t_s, mono in blocks:
            stream.push_sound(mono, t_s + turn * period_s if turn == 0 else None)
        for t_s, rgb in pictures[: round(period_s * 25)]:
            stream.push_picture(t_s + turn * period_s, rgb)
        cutter = stream._scorer._cutter
        sound = stream._sound
        assert sound is not None
        faces = [face for recent in cutter._recent.values() for face in recent]
        # Of each face only the features are kept, not its pictures.
        assert all(not hasattr(face, "face") for face in faces)
        held.append((len(faces), sound._num_kept <= 6 * 16000, len(stream._grid._faces._waiting)))
    assert all(faces <= 2 * CLIP2S.num_frames and short for faces, short, _ in held)
    assert {waiting for *_, waiting in held} == {CLIP2S.look_ahead_frames}


def test_both_backends_see_the_same_video(tiny_bundle: Bundle, detector: Detector, talk: Path) -> None:
    onnx = Detector(tiny_bundle, backend="onnx").detect(talk)
    tflite = detector.detect(talk)
    assert onnx.status == tflite.status == "ok"
    assert onnx.p_fake is not None and tflite.p_fake is not None
    # Float against INT8 of loud random weights; the tolerance only shows that it is the same model.
    assert abs(onnx.p_fake - tflite.p_fake) < 0.05
    assert onnx.p_fake != tflite.p_fake


def test_verdict_and_curves_of_a_real_face(detector: Detector, talk: Path) -> None:
    seen: list[FaceFrame] = []
    result = detector.detect(talk, watch=seen.append)
    assert result.status == "ok" and result.verdict in {"real", "fake", "review"} and result.reason is None
    (track,) = result.tracks
    assert [c[:2] for c in track.clips] == [(0.0, 2.0), (1.0, 3.0)]
    assert [t for t, _ in track.frames] == pytest.approx(np.arange(75) / 25)
    assert all(0 <= p <= 1 for _, p in track.frames)
    assert [face.index for face in seen] == list(range(75))
    assert result.video == str(talk)


@pytest.fixture(scope="module")
def two_faces(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers side by side, with the sound of the left one."""
    paths = [shared / "clips" / name for name in ("lipnet-bbaf2n.mpg", "lipnet-brbk7n.mpg")]
    left, right = ([rgb for _, _, rgb in read_frames(path, 25.0)] for path in paths)
    _, blocks, rate = decoded(paths[0])
    sound = np.concatenate([mono for _, mono in blocks])
    frames = [np.concatenate(pair, axis=1) for pair in zip(left, right, strict=False)]
    target = tmp_path_factory.mktemp("two") / "두 사람 두 얼굴.mp4"
    return write_media(target, frames, sound=sound[None], sample_rate=rate)


def test_two_faces_are_two_tracks_and_the_worse_one_decides(detector: Detector, two_faces: Path) -> None:
    result = detector.detect(two_faces)
    assert result.status == "ok" and len(result.tracks) == 2
    assert result.p_fake == max(track.p_fake for track in result.tracks)
    assert len({round(track.p_fake, 6) for track in result.tracks}) == 2
    assert result.worst_track is not None and result.worst_track.p_fake == result.p_fake


def grey(count: int) -> list[np.ndarray]:
    return [np.full((96, 128, 3), 90 + n % 3, np.uint8) for n in range(count)]


def make_bad(kind: str, folder: Path) -> Path:
    path = folder / f"{kind} 영상.mp4"
    if kind == "text":
        path.write_text("this is no video", encoding="utf-8")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "silent":
        write_media(path, grey(75))
    elif kind == "short":
        write_media(path, grey(40), sound=tone(1.6))
    elif kind == "sound only":
        write_media(path, sound=tone(3.0))
    elif kind == "nobody":
        write_media(path, numbered(75), sound=tone(3.0))
    return path


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("missing", "unreadable"),
        ("text", "unreadable"),
        ("empty", "unreadable"),
        ("sound only", "unreadable"),
        ("silent", "no_audio"),
        ("short", "too_short"),
        ("nobody", "no_face"),
    ],
)
def test_bad_input_gets_a_status_and_no_score(detector: Detector, tmp_path: Path, kind: str, status: str) -> None:
    path = make_bad(kind, tmp_path)
    result = detector.detect(path)
    assert (result.status, result.verdict, result.p_fake, result.tracks) == (status, None, None, ())
    assert result.reason is not None and path.name in result.reason and "Fix: " in result.reason


def test_a_truncated_file_is_scored_as_far_as_it_goes_or_refused(
    detector: Detector, talk: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cut.mpg"
    content = talk.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    assert detector.detect(path).status == "too_short"
    path.write_bytes(content[: len(content) * 9 // 10])
    result = detector.detect(path)
    assert result.status == "ok" and result.tracks[0].frames[-1][0] < 3.0


def test_a_model_that_answers_nan_is_an_error_of_the_bundle(tiny_bundle: Bundle, talk: Path) -> None:
    with pytest.raises(ModelAnswerError, match="NaN"):
        Detector(tiny_bundle, graphs=SpoiltGraphs(open_backend(tiny_bundle))).detect(talk)


def test_korean_names_and_spaces(detector: Detector, talk: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(talk, tmp_path / "말하는 사람 (1).mpg"))
    assert detector.detect(path).p_fake == detector.detect(talk).p_fake
