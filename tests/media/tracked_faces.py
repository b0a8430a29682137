"""Tracked faces of a whole file, as the detector and `read_clips` see them on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dfkit.clip import CLIP2S, ClipSpec
from dfkit.media.faces import FaceModels
from dfkit.media.stream import MAX_TRACKED_PX, FaceFrame, FaceStream
from dfkit.media.video import PictureReader


def face_frames(
    path: str | Path, spec: ClipSpec = CLIP2S, *, models: FaceModels | None = None, num_threads: int = 0
) -> Iterator[FaceFrame]:
    """Tracks the faces of a file.

    Args:
        path: Media file.
        spec: The clip contract.
        models: The face networks; loaded when left out.
        num_threads: Decoder threads; 0 leaves the number to the decoder.
    Yields:
        Faces in order of grid frame, then of track id. None where no face is.
    Raises:
        MediaError: `unreadable`.
    """
    stream = FaceStream(spec, models)
    reader = PictureReader(path, spec.fps, num_threads=num_threads, max_area_px=MAX_TRACKED_PX)
    for index, t_s, rgb in reader:
        yield from stream.push(index, t_s, rgb, shrink=reader.shrink)
    yield from stream.flush()
