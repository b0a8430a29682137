"""Prepared data of the same clips at another size of pictures.

A student's crops are what runtime and phone will make: cut from the video at the student's own size. So they are
prepared from the videos once more, and never made smaller from the crops of a larger network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dfkit.clip import ClipSpec
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError

MakeView = Callable[[PreparedData, ClipSpec], Path]
"""Prepares the data's videos under another clip contract and returns the folder."""


def open_view(data: PreparedData, spec: ClipSpec, make_view: MakeView) -> PreparedData:
    """The data's clips with pictures of other sides; clip by clip the same ones.

    Args:
        data: Prepared data.
        spec: Its contract but for the sides of the pictures; the data's own gives the data.
        make_view: Prepares its videos under that.
    Raises:
        ConfigError: The data is of `uniform50`.
        DataError: The view has other clips.
    """
    if spec == data.spec:
        return data
    if data.spec.preset == "uniform50":
        raise ConfigError(
            f"{data.path}: uniform50 has faces of {data.spec.picture.face_px} px and lips of "
            f"{data.spec.picture.lip_px} px, and other sizes were asked for",
            fix="leave face_px and lip_px out, or prepare the videos with --preset clip2s",
        )
    view = PreparedData(make_view(data, spec))
    if clip_names(view) != clip_names(data):
        raise DataError(
            f"{view.path}: holds other clips than {data.path}, of which it should be a view with faces of "
            f"{spec.picture.face_px} px",
            fix=f"remove {view.path}: it is prepared anew",
        )
    return view


def clip_names(data: PreparedData) -> list[tuple[str, int, int, float]]:
    """What tells clips apart whatever their size: the video's content, clip, track and start."""
    return [(data.videos[c.video_index].sha256, c.clip_index, c.track_id, c.start_s) for c in data.clips]
