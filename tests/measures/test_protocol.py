"""Protocol lines: what they say, and which of them are alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dfkit.data.protocols import folds_part, left_out_part, protocol_of
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.measures.decision import Aggregation
from dfkit.measures.protocol import COMPARED, Protocol, differences, stated_protocol, unstated
from dfkit.media.equalise_spec import EqualiseSpec
from tests.data.makers import make_prepared, make_row

WHOLE = Protocol(
    preset="clip2s",
    frames_per_clip=50,
    fps=25.0,
    clip_step_s=1.0,
    aggregation="mean of all clips",
    named_videos=12,
    usable_videos=10,
    unusable={"no_face": 2},
    num_clips=31,
    compression="raw",
    data_hash="0123456789abcdef",
    part="test",
    num_videos=10,
    num_groups=4,
)


def test_the_line() -> None:
    assert WHOLE.text == (
        "protocol: clips of 50 frames at 25/s, one each 1 s; mean of all clips; 10 of 12 videos usable (2 no_face), 31 "
        "clips; raw; 10 videos in 4 groups; test part; data 0123456789ab"
    )
    assert Protocol.model_validate(WHOLE.model_dump()) == WHOLE
    assert WHOLE.to_json()["text"] == WHOLE.text == stated_protocol({"protocol": WHOLE.to_json()})
    bare = Protocol(num_videos=3, num_groups=3, groups_known=False).text
    assert bare.count("not stated") == 6 and "3 groups (not known)" in bare
    assert "older dfkit" in stated_protocol({})


CHANGES: dict[str, dict[str, Any]] = {
    "frames": {"frames_per_clip": 25},
    "aggregation": {"aggregation": "noisy-or of all clips"},
    "compression": {"compression": "equalised: h264"},
    "data": {"data_hash": "fedcba9876543210"},
    "part": {"part": folds_part(5, 0)},
}


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_that_differs_is_named(field: str) -> None:
    other = WHOLE.model_copy(update=CHANGES[field])
    (found,) = differences(WHOLE, other)
    assert found.field == field and found.first != found.second and found.fix
    assert {found.first in WHOLE.text, found.second in other.text} == {True}
    (swapped,) = differences(other, WHOLE)
    assert (swapped.first, swapped.second) == (found.second, found.first)


def test_alike_and_not_stated() -> None:
    assert set(CHANGES) == {name for name, *_ in COMPARED}
    # How many videos were usable and judged is handled row by row.
    fewer = WHOLE.model_copy(update={"num_videos": 8, "num_groups": 3, "usable_videos": 8, "unusable": {}})
    assert differences(WHOLE, fewer) == [] and unstated(WHOLE, fewer) == []
    foreign = WHOLE.model_copy(update={"frames_per_clip": None, "aggregation": None})
    assert differences(WHOLE, foreign) == [] and unstated(WHOLE, foreign) == ["frames", "aggregation"]
    assert len(differences(WHOLE, WHOLE.model_copy(update={"fps": 12.5, "part": "val"}))) == 2


def test_it_is_made_of_prepared_data(tmp_path: Path) -> None:
    rows = [make_row(n, n % 2, (f"p{n // 2}",)) for n in range(4)]
    data = PreparedData(make_prepared(tmp_path / "data", rows, clips=2))
    data.videos += [replace(make_row(9, 1), status="no_face", clips=())]
    data.info = replace(data.info, missing=("gone.mp4",))
    made = protocol_of(data, [0, 1, 2], part="test", aggregation=Aggregation(name="top_k", k=3))
    assert (made.frames_per_clip, made.fps, made.aggregation) == (50, 25.0, "mean of the 3 most suspicious clips")
    assert (made.named_videos, made.usable_videos, made.unusable) == (6, 4, {"missing": 1, "no_face": 1})
    assert (made.num_videos, made.num_groups, made.num_clips, made.compression) == (3, 2, 6, "raw")
    assert made.data_hash == videos_hash(data)
    data.info = replace(data.info, equalised=EqualiseSpec(face_px=64))
    compression = protocol_of(data, [0], part="test", aggregation="").compression
    assert compression == data.info.form and str(compression).startswith("equalised (version 1): faces 64 px")
    without = protocol_of(data, [0, 1], part=left_out_part(4, "method", 7), aggregation="facts", frames=False)
    assert without.text.startswith("protocol: no pictures judged; facts;")
    assert "; 4 folds by method, left out, seed 7; " in without.text
    assert Protocol.from_json(without.to_json()) == without and Protocol.from_json(None) is None
