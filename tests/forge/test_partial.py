"""Forgeries of a part of a video, from the labels of the forge to the clips of prepared data."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.config.forge import DEFAULT_METHODS
from dfkit.data.label_words import FAKE
from dfkit.data.labels import read_csv
from dfkit.data.prepare import prepare
from dfkit.data.storage import PreparedData
from dfkit.forge import ForgeConfig, ForgeSource, forge
from dfkit.forge.plan import make_plan
from dfkit.synthetic.heads import make_heads

SECONDS = 6.0


def test_half_of_the_forgeries_are_partial_unless_told_otherwise() -> None:
    jobs = make_plan([f"person-{n}" for n in range(200)], ForgeConfig())
    partial = [task.partial for job in jobs for task in job.tasks]
    assert len(partial) == 200 * len(DEFAULT_METHODS)
    # Four standard deviations of 1,800 fair draws.
    assert abs(sum(partial) / len(partial) - 0.5) < 0.05


@pytest.fixture(scope="module")
def partial_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of a forged set in which every forgery is partial."""
    folder = tmp_path_factory.mktemp("partial")
    (head,) = make_heads(folder / "heads", num_speakers=1, seconds=SECONDS, seed=3)
    config = ForgeConfig(methods=("audio_shift", "mouth_freeze"), part_share=1.0)
    return forge([ForgeSource(head, "person", 0)], folder / "forged", config).labels_csv


def test_partial_fakes_are_partly_fake_in_prepared_data(partial_set: Path, tmp_path: Path) -> None:
    """What the aggregation over clips is chosen on: videos in which some clips are fake and some are real."""
    labels = read_csv(partial_set)
    fakes = [source for source in labels.sources if source.label == FAKE]
    assert len(fakes) == 2
    for source in fakes:
        ((start_s, end_s),) = source.intervals
        # Longest part: 2 s, and a picture at either end.
        assert 0 <= start_s < end_s <= SECONDS + 0.1 and end_s - start_s <= 2.1
    prepare(labels, tmp_path / "data", progress=False)
    data = PreparedData(tmp_path / "data")
    for video_index, row in enumerate(data.videos):
        clips = [clip for clip in data.clips if clip.video_index == video_index]
        assert len(clips) == 5, row.name
        expected = {
            any(clip.start_s < end_s and start_s < clip.end_s for start_s, end_s in row.intervals): clip.label
            for clip in clips
        }
        assert expected == ({False: 0, True: 1} if row.label == FAKE else {False: 0}), row.name
        for clip in clips:
            assert 0 <= clip.fake_frames <= clip.num_frames
    fractions = {clip.fake_frames / clip.num_frames for clip in data.clips}
    assert any(0 < fraction < 1 for fraction in fractions), "and clips that are fake in some of their frames"
