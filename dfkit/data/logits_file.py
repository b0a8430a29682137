"""A teacher's logits beside a run, found again by the clip that they belong to, not by its place in the data.

Prepared data can change under a run: a label file in another order moves every clip, and logits by position would be
those of other clips.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import DataError
from dfkit.files import whole_file

AGAIN = "run dfkit distill again, or name the data that the run was made on with --data"
WITHOUT = "run dfkit distill again, or take the file away to go without the teacher's logits"


def write_teacher_logits(
    path: Path, data: PreparedData, logits: np.ndarray, clips: Sequence[int], *, by_video: bool
) -> None:
    """Writes logits with the identity of the clips, or videos, that they belong to.

    Args:
        path: An `.npz`; replaced when the new file is whole.
        data: What the clips are from.
        logits: (N, 2) by clip index, or (V, 2) by video index.
        clips: Indices of the clips that were answered; the others' rows are left out.
        by_video: Whether rows are videos.
    Raises:
        OSError: The disk is full.
    """
    # A clip is its video's content, track and start; a video's answer is the same for all of its clips.
    rows = [data.clips[index].video_index if by_video else index for index in clips]
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            clip_logits=logits[rows],
            by_video=np.array(by_video),
            videos_hash=np.array(videos_hash(data)),
            video_keys=np.array([data.videos[data.clips[index].video_index].key for index in clips]),
            track_ids=np.array([data.clips[index].track_id for index in clips], np.int64),
            starts_s=np.array([data.clips[index].start_s for index in clips], np.float64),
        )


def read_teacher_logits(path: Path, data: PreparedData) -> Callable[[int], np.ndarray]:
    """Reads what `write_teacher_logits` wrote.

    Args:
        path: The file.
        data: The same videos, in whatever order.
    Returns:
        A function from a clip's index in the data to the teacher's logits, (2,); it raises DataError for a clip that
        the teacher did not answer.
    Raises:
        DataError: They are logits of other videos, or do not say of which, or the file is damaged.
    """
    stored = _read_arrays(path)
    if "videos_hash" not in stored:
        raise DataError(f"{path}: does not say which clips its logits belong to: an older dfkit wrote it", fix=WITHOUT)
    if str(stored["videos_hash"]) != videos_hash(data):
        raise DataError(
            f"{path}: logits of other videos than {data.path} holds now: it was prepared anew since", fix=AGAIN
        )
    identities = zip(
        stored["video_keys"].tolist(), stored["track_ids"].tolist(), stored["starts_s"].tolist(), strict=True
    )
    logits_of = dict(zip(identities, stored["clip_logits"], strict=True))

    def of(index: int) -> np.ndarray:
        clip = data.clips[index]
        video = data.videos[clip.video_index]
        found: np.ndarray | None = logits_of.get((video.key, clip.track_id, clip.start_s))
        if found is None:
            raise DataError(f"{path}: no logits of {video.path} at {clip.start_s:.2f} s", fix=AGAIN)
        return found

    return of


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: no logits of a teacher can be read from it ({error})", fix=WITHOUT) from error
