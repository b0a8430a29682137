"""The measurement of preparation: judged by hand-made figures, and run once on a short video."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dfkit.measures.environment import Environment, read_environment
from dfkit.media.facts import probe
from tools.speed.media_run import STAGES
from tools.speed.media_speed import MediaTime, WorkerTime, judge
from tools.speed.speed_videos import make_speed_videos

IDLE = dataclasses.replace(read_environment(), load=0.1)
BUSY = dataclasses.replace(IDLE, load=3.0)
MEMORY = {10.0: 500.0, 60.0: 600.0, 180.0: 610.0}


def media_time(size: str, cpu_s: float) -> MediaTime:
    return MediaTime(size, 10.0, cpu_s, cpu_s, dict.fromkeys(STAGES, cpu_s / 10), 1.0, 8.0, 1.0)


def worker_time(num_workers: int, video_s: float, share: float = 0.98) -> WorkerTime:
    return WorkerTime(num_workers, 8, 8 * video_s / num_workers + 2, video_s, 2.0, share)


def verdicts(environment: Environment, small_s: float, two_s: float, share: float = 0.98) -> list[str]:
    times = [media_time("360p", small_s), media_time("1080p", 2.0)]
    workers = [worker_time(1, 1.0), worker_time(2, two_s, share)]
    return [result.verdict for result in judge(times, workers, MEMORY, environment)]


def test_limits_are_those_of_the_issue() -> None:
    assert verdicts(IDLE, 10 / 8, 2 / 1.81) == ["pass", "pass", "pass", "pass"]
    assert verdicts(IDLE, 10 / 7.99, 2 / 1.79) == ["fail", "pass", "fail", "pass"]


def test_busy_cores_excuse_a_failure_but_take_no_pass_away() -> None:
    assert verdicts(BUSY, 10 / 7.99, 2 / 1.79) == ["not judged", "pass", "not judged", "pass"]
    assert verdicts(BUSY, 10 / 8, 2 / 1.81) == ["pass", "pass", "pass", "pass"]
    assert verdicts(IDLE, 1.0, 2 / 1.79, share=0.5)[2] == "not judged"


@pytest.mark.parametrize(("longest_mb", "verdict"), [(660.0, "pass"), (700.0, "fail"), (None, "not judged")])
def test_memory_must_not_grow_with_length(longest_mb: float | None, verdict: str) -> None:
    times = [media_time("360p", 1.0), media_time("1080p", 2.0)]
    workers = [worker_time(1, 1.0), worker_time(2, 1.0)]
    assert judge(times, workers, {60.0: 600.0, 180.0: longest_mb}, IDLE)[-1].verdict == verdict


# A clock that goes on by one at every look: what it shows is how often it was looked at.
COUNTED = """
import itertools, time
looks = itertools.count()
time.process_time = lambda: next(looks)
from tools.speed.media_run import main
main()
"""


@pytest.mark.long
def test_stages_add_up_to_the_whole(tmp_path: Path) -> None:
    """A clock that is charged twice, or not at all, would not."""
    pytest.importorskip("skimage")
    pytest.importorskip("librosa")
    from tools.speed.media_speed import _write_wav

    videos = make_speed_videos(tmp_path, seconds=3.0, longer_s=())
    facts = probe(videos.large)
    assert (facts.width, facts.height, facts.num_frames, facts.codec) == (1920, 1080, 75, "h264")
    assert facts.bitrate_kbps > 3000, "pictures that are too easy to decode"
    sound = tmp_path / "head.wav"
    _write_wav(videos.small, sound, 3.0)
    command = [sys.executable, "-c", COUNTED, "speed", str(videos.small)]
    command += ["--sound", str(sound), "--repeats", "1", "--reference-pictures", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    (run,) = json.loads(done.stdout.splitlines()[-1])["runs"][str(videos.small)]
    # The outermost stage begins one look before the whole and ends one after it.
    assert sum(run["stages_s"].values()) == run["cpu_s"] + 2
    assert all(run["stages_s"][stage] > 0 for stage in STAGES)
    assert run["haar_s"] > 0 and run["librosa_s"] > 0 and run["reference_pictures"] == 3
