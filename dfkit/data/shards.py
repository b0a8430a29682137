"""Chunk files of litdata: written under a temporary name, renamed when whole, listed in one index.

A chunk belongs to one video, so a changed label or file costs that video alone, and a killed run loses the
videos in hand alone. Long videos get several chunks, so that memory does not depend on their length.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from dfkit.data.catalog import INDEX_FILE, ChunkRow
from dfkit.data.hashing import sha256_file
from dfkit.data.samples import FIELDS
from dfkit.files import TEMPORARY_PREFIX, flush_to_disk, write_atomically

CLIPS_PER_CHUNK = 32
NAME_LENGTH = 20


class ChunkWriter:
    """Writes the samples of one video; leaving it by an exception leaves nothing behind."""

    def __init__(self, folder: Path, key: str) -> None:
        """Prepares a temporary folder.

        Args:
            folder: Where the finished chunks go.
            key: Of the video; chunk files are named after it.
        """
        self._folder = folder
        self._name = key[:NAME_LENGTH]
        self._temporary = folder / f"{TEMPORARY_PREFIX}{self._name}-{os.getpid()}"
        self._writer: Any = None
        self._num_samples = 0
        self.chunks: tuple[ChunkRow, ...] = ()

    def __enter__(self) -> ChunkWriter:
        return self

    def add(self, sample: dict[str, bytes]) -> None:
        """Appends one sample; the chunk goes to disk when it is full."""
        if self._writer is None:
            from litdata.streaming.writer import BinaryWriter

            self._writer = BinaryWriter(str(self._temporary), chunk_size=CLIPS_PER_CHUNK)
        self._writer.add_item(self._num_samples, {name: sample[name] for name in FIELDS})
        self._num_samples += 1

    def finish(self) -> tuple[ChunkRow, ...]:
        """Writes what is left, waits for the disk, and renames the chunks into place.

        Returns:
            One row per chunk; none where no sample was added.
        """
        if self._writer is None:
            return ()
        self._writer.done()
        (index_path,) = self._temporary.glob(f"*{INDEX_FILE}")
        index = json.loads(index_path.read_text(encoding="utf-8"))
        rows = [self._publish(number, chunk) for number, chunk in enumerate(index["chunks"])]
        self.chunks = tuple(rows)
        return self.chunks

    def _publish(self, number: int, chunk: dict[str, Any]) -> ChunkRow:
        written = self._temporary / chunk["filename"]
        final = self._folder / f"chunk-{self._name}-{number}.bin"
        flush_to_disk(written)
        sha256 = sha256_file(written)
        written.replace(final)
        return ChunkRow(final.name, sha256, int(chunk["chunk_bytes"]), int(chunk["chunk_size"]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)


def index_config() -> dict[str, Any]:
    """The `config` part of litdata's index for samples of `FIELDS`, made by its own writer."""
    import tempfile

    from litdata.streaming.writer import BinaryWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = BinaryWriter(folder, chunk_size=CLIPS_PER_CHUNK)
        writer.add_item(0, dict.fromkeys(FIELDS, b"-"))
        writer.done()
        (index_path,) = Path(folder).glob(f"*{INDEX_FILE}")
        config: dict[str, Any] = json.loads(index_path.read_text(encoding="utf-8"))["config"]
    return config


def write_index(folder: Path, chunks: Sequence[ChunkRow]) -> None:
    """Writes litdata's `index.json` over all chunks, in the order given."""
    entries = [
        {"chunk_bytes": c.size_bytes, "chunk_size": c.num_clips, "dim": None, "filename": c.file} for c in chunks
    ]
    folder.mkdir(parents=True, exist_ok=True)
    index = {"chunks": entries, "config": index_config(), "updated_at": "0"}
    write_atomically(folder / INDEX_FILE, json.dumps(index, indent=1))


def remove_leftovers(folder: Path, keep: Sequence[ChunkRow]) -> None:
    """Removes temporary folders and files, and chunks that are not in `keep`."""
    names = {chunk.file for chunk in keep}
    for entry in folder.iterdir():
        if entry.name.startswith(TEMPORARY_PREFIX):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        elif entry.name.startswith("chunk-") and entry.suffix == ".bin" and entry.name not in names:
            entry.unlink(missing_ok=True)
