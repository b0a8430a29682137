from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from dfkit.measures.decision import OperatingPoint
from dfkit.media.stream import FaceFrame
from dfkit.runtime import plot
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.results import TrackResult, VideoResult, WorstClip, result_without_score

POINT = OperatingPoint(threshold=0.5, review_low=0.4, review_high=0.6, name="test")


def face(index: int, track_id: int = 0) -> FaceFrame:
    picture = np.full((224, 224, 3), index % 256, np.uint8)
    return FaceFrame(track_id, index, index / 25, picture, picture[:96, :96], np.zeros((468, 2), np.float32), False, 0)


def result(tracks: int = 1, *, seconds: int = 8, name: str = "v.mp4") -> VideoResult:
    made = []
    for track in range(tracks):
        frames = tuple((n / 25, 0.5 + 0.4 * np.sin(n / 20 + track)) for n in range(25 * seconds) if not 60 < n < 90)
        made.append(
            TrackResult(track, 0.5 + track / 20, tuple((float(s), s + 2.0, 0.5) for s in range(seconds - 1)), frames)
        )
    worst = WorstClip(0, *made[0].clips[0])
    return VideoResult(name, "ok", "fake", made[-1].p_fake, 0.5, ("face",), None, tuple(made), worst, made[-1])


def read(path: Path) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


@pytest.mark.parametrize("count", [3, 10, 57, 2500])
def test_sampler_is_bounded_and_spread_over_everything(count: int) -> None:
    sampler = plot.FaceSampler(num_shown=10, num_held=20)
    most = 0
    for index in range(count):
        sampler.add(face(index))
        sampler.add(face(index, track_id=1))
        most = max(most, sum(len(kept) for kept in sampler._by_index.values()))
    assert most <= 2 * 21 + 1
    picked = sampler.pick(1)
    times = [p.t_s for p in picked]
    assert all(p.track_id == 1 and p.rgb.shape == (112, 112, 3) for p in picked)
    assert times == sorted(set(times)) and len(times) == min(count, 10)
    # From the beginning to the last tenth, without a hole of more than a quarter.
    assert times[0] == 0 and times[-1] >= 0.8 * (count - 1) / 25
    assert max(np.diff(times), default=0) <= max(0.25 * count / 25, 0.041)


def test_the_most_suspicious_faces_are_those_of_the_highest_scores_apart_in_time() -> None:
    sampler = plot.FaceSampler()
    for index in range(200):
        sampler.add(face(index))
        sampler.add(face(index, track_id=1))
    # Peaks at 6, 2 and 4 s; the neighbours of a peak come next in score, and are the same face.
    heights = {150: 0.99, 50: 0.9, 100: 0.8}
    frames = tuple((n / 25, max(h - 0.01 * abs(n - peak) for peak, h in heights.items())) for n in range(200))
    track = TrackResult(1, 0.7, ((0.0, 8.0, 0.7),), frames)
    suspects = sampler.pick_suspects(track)
    assert [s.track_id for s in suspects] == [1, 1, 1]
    # From 6 s on down by 0.01 a frame: 0.5 s off is 0.99 - 0.13 = 0.86, below the peak of 0.9 at 2 s.
    assert [round(s.t_s, 2) for s in suspects] == [6.0, 2.0, 5.48]
    assert sampler.pick_suspects(TrackResult(7, 0.7, (), ())) == []


@pytest.mark.parametrize("tracks", [1, 2, 9])
def test_any_number_of_faces_is_drawn_without_a_warning(tmp_path: Path, tracks: int) -> None:
    sampler = plot.FaceSampler()
    for index in range(200):
        sampler.add(face(index))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = plot.plot_video(result(tracks), sampler, tmp_path / "p.png", point=POINT)
    assert read(path).std() > 20


@pytest.mark.parametrize(("tracks", "worst"), [(1, 0), (1, 6), (2, 3), (9, 6)])
def test_the_most_suspicious_clip_is_named_and_covers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracks: int, worst: int
) -> None:
    """Its time stood beside its mark: on the curve, and past the end of the axes for a clip near the end."""
    drawn: list[Figure] = []
    plain = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (drawn.append(self), plain(self, *args, **kw))[1])
    shown = result(tracks)
    last = shown.tracks[-1]
    clips = tuple((start, end, 0.93 if n == worst else p) for n, (start, end, p) in enumerate(last.clips))
    last = dataclasses.replace(last, clips=clips)
    worst_clip = WorstClip(last.track_id, *clips[worst])
    shown = dataclasses.replace(shown, tracks=(*shown.tracks[:-1], last), worst_clip=worst_clip, worst_track=last)
    sampler = plot.FaceSampler()
    for index in range(200):
        sampler.add(face(index, track_id=tracks - 1))
    plot.plot_video(shown, sampler, tmp_path / "p.png", point=POINT)
    (figure,) = drawn
    (curve,) = [axes for axes in figure.axes if axes.get_legend() is not None]
    legend = curve.get_legend()
    assert legend is not None and not list(curve.texts)
    texts = [text.get_text() for text in legend.get_texts()]
    assert f"most suspicious clip: {worst}.0 to {worst + 2}.0 s, P 0.93" in texts
    box, area = legend.get_window_extent(), curve.get_window_extent()
    assert box.y0 >= area.y1 - 1 and box.x1 <= figure.bbox.x1
    faces = [axes for axes in figure.axes if axes.images]
    assert len(faces) == 11 and not any(axes.xaxis.label.get_window_extent().overlaps(box) for axes in faces)


def test_an_hour_and_three_seconds_take_the_same_way(tmp_path: Path) -> None:
    sizes = []
    for seconds in (3, 3600):
        path = plot.plot_video(result(seconds=seconds), plot.FaceSampler(), tmp_path / "p.png", point=POINT)
        sizes.append(read(path).shape)
    assert sizes[0] == sizes[1]


def test_a_video_without_a_score_shows_its_reason(tiny_bundle: Bundle, tmp_path: Path) -> None:
    blank = result_without_score("v.mp4", "no_face", "nobody is there", tiny_bundle.manifest)
    small = read(plot.plot_video(blank, plot.FaceSampler(), tmp_path / "p.png", point=POINT))
    sampler = plot.FaceSampler()
    sampler.add(face(0))
    taller = read(plot.plot_video(blank, sampler, tmp_path / "q.png", point=POINT))
    assert small.min() < 100 and taller.shape[0] > small.shape[0]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_thresholds_at_the_ends_are_drawn(tmp_path: Path, threshold: float) -> None:
    point = OperatingPoint(threshold=threshold, review_low=threshold, review_high=threshold, name="test")
    assert plot.plot_video(result(), plot.FaceSampler(), tmp_path / "p.svg", point=point).stat().st_size > 5000


def test_names_without_glyphs_are_escaped_where_no_font_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = plot.font_for("a.mp4")
    monkeypatch.setattr(plot, "font_for", lambda text: own if text.isascii() else None)
    assert plot.printable("a.mp4") == ("a.mp4", None)
    assert plot.printable("가.mp4") == ("\\uac00.mp4", None)
    assert plot.printable("$a$.mp4")[0] == r"\$a\$.mp4"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot.plot_video(result(name="한국어 $1$ 이름.mp4"), plot.FaceSampler(), tmp_path / "p.png", point=POINT)


def test_a_font_with_korean_is_used_where_one_is_installed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shown, font = plot.printable("한국어.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot.plot_video(result(name="한국어.mp4"), plot.FaceSampler(), tmp_path / "p.png", point=POINT)
    assert not [r for r in caplog.records if "findfont" in r.message]
    assert (shown, font is not None) in {("한국어.mp4", True), ("\\ud55c\\uad6d\\uc5b4.mp4", False)}


def test_line_breaks_in_names_stay_visible() -> None:
    assert plot.printable("a\tb")[0] == "a\\tb"
