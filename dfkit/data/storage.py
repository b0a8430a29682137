"""Reading prepared data, from a folder or from S3, and checking its hashes."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from dfkit.clip import ClipSpec
from dfkit.data import catalog
from dfkit.data.catalog import ChunkRow, DataInfo, VideoRow
from dfkit.data.hashing import sha256_file, sha256_json
from dfkit.data.samples import ClipRecord, decode_sample
from dfkit.data.shards import write_index
from dfkit.errors import DataError, MissingExtraError
from dfkit.files import whole_file

S3_PREFIX = "s3://"


@dataclass(frozen=True)
class ClipKey:
    """Place, label and group of a clip, known without decoding its pictures."""

    index: int
    """Position in `PreparedData`."""
    video_index: int
    """Row in `PreparedData.videos`."""
    clip_index: int
    """Position within the video."""
    track_id: int
    start_s: float
    end_s: float
    num_frames: int
    fake_frames: int
    label: int | None
    """1 when any of its frames is fake; a fake video may hold real clips."""
    group: str
    """Connected component; what a split keeps whole."""
    method: str | None
    split: str | None


class PreparedData:
    """Clips and videos of a prepared data set.

    Safe to pickle: each process opens its own reader.
    """

    def __init__(
        self, path: str | Path, *, endpoint_url: str | None = None, cache_dir: str | Path | None = None
    ) -> None:
        """Opens the catalog; no picture is read.

        Args:
            path: Folder that `dfkit prepare` wrote, or the `s3://bucket/prefix` where its files lie.
            endpoint_url: Of an S3 store other than Amazon's.
            cache_dir: For S3: whole chunks are kept here, their hashes checked; without it only the clips
                asked for are fetched, each time.
        Raises:
            DataError: Nothing prepared is there, it is unfinished, or files are missing or cut off.
        """
        self.path = str(path)
        self.endpoint_url = endpoint_url
        self._cache_dir = None if cache_dir is None else Path(cache_dir)
        self._stream: Any = None
        self._kept: dict[int, ClipRecord] = {}
        self._free_bytes = 0
        if self._cache_dir is not None and not self.remote:
            raise DataError(f"{self.path}: a cache is for data on S3 alone", fix="leave cache_dir out")
        self.info: DataInfo = catalog.parse_info(self._read(catalog.DATA_FILE), self._where(catalog.DATA_FILE))
        if not self.info.finished:
            raise DataError(
                f"{self.path}: preparation was not finished",
                fix="run the same dfkit prepare again: it goes on where it stopped",
            )
        self.videos: list[VideoRow] = catalog.parse_videos(
            self._read(catalog.VIDEOS_FILE), self._where(catalog.VIDEOS_FILE)
        )
        self.groups = catalog.group_names(self.videos)
        self.clips: list[ClipKey] = list(self._keys())
        self._chunks = self.chunks()
        self._chunk_ends = list(accumulate(chunk.num_clips for chunk in self._chunks))
        self._check_index()

    @property
    def spec(self) -> ClipSpec:
        """The clip contract that the data was prepared under."""
        return self.info.spec

    @property
    def groups_known(self) -> bool:
        """False: ids do not name every person, and persons may leak between splits."""
        return self.info.groups_known

    @property
    def remote(self) -> bool:
        """Whether it is read from S3."""
        return self.path.startswith(S3_PREFIX)

    def chunks(self) -> list[ChunkRow]:
        """Chunk files in the order of the index."""
        return [chunk for row in self.videos for chunk in row.chunks]

    def clip_indices(self, video_indices: list[int]) -> list[int]:
        """Positions of all clips of these videos, in rising order."""
        wanted = set(video_indices)
        return [key.index for key in self.clips if key.video_index in wanted]

    def count_videos(self, clips: Iterable[int]) -> int:
        """How many videos some clips are of, by their positions."""
        return len({self.clips[index].video_index for index in clips})

    def require_labels(self) -> None:
        """Raises unless every usable video has a label and both classes are there.

        Raises:
            DataError: Says what is lacking.
        """
        usable = [row for row in self.videos if row.status == "ok"]
        if any(row.label is None for row in usable):
            raise DataError(
                f"{self.path}: prepared without labels",
                fix="dfkit prepare FOLDER with real/ and fake/ in it, or --labels FILE.csv",
            )
        present = {row.label for row in usable}
        if present != {0, 1}:
            lacking = " and ".join(name for label, name in ((0, "real"), (1, "fake")) if label not in present)
            raise DataError(
                f"{self.path}: no usable {lacking} video; training needs both classes",
                fix="dfkit forge makes fakes from real videos; real videos have to be added",
            )

    def keep_decoded(self, gigabytes: float) -> None:
        """Keeps clips that are decoded from now on, with their pictures, until so much memory is taken.

        Each process that reads keeps its own. What `record` returns is then shared: it must not be changed in place.

        Args:
            gigabytes: In all, what is kept already counts; 0 lets go of it.
        """
        if not gigabytes:
            self._kept = {}
        self._free_bytes = int(gigabytes * 1e9) - sum(record.num_bytes for record in self._kept.values())

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> ClipRecord:
        """Decodes one clip with its pictures; IndexError where there is no such clip. See `record`."""
        return self.record(index)

    def record(self, index: int, *, pictures: bool = True) -> ClipRecord:
        """Decodes one clip.

        Args:
            index: Clip.
            pictures: Whether faces and lips are wanted; they are 99 % of the time.
        Raises:
            IndexError: There is no such clip.
            DataError: The stored sample is broken.
        """
        if not 0 <= index < len(self.clips):
            raise IndexError(index)
        if (kept := self._kept.get(index)) is not None:
            return kept
        if self._stream is None:
            self._stream = self._open_stream()
        if self._cache_dir is not None:
            self._fetch_chunk_of(index)
        record = decode_sample(self._stream[int(index)], n_mfcc=self.spec.audio.n_mfcc, pictures=pictures)
        if pictures and record.num_bytes <= self._free_bytes:
            self._kept[index] = record
            self._free_bytes -= record.num_bytes
        return record

    def __getstate__(self) -> dict[str, Any]:
        free = self._free_bytes + sum(record.num_bytes for record in self._kept.values())
        return {**self.__dict__, "_stream": None, "_kept": {}, "_free_bytes": free}

    def _keys(self) -> Iterator[ClipKey]:
        index = 0
        for video_index, (row, group) in enumerate(zip(self.videos, self.groups, strict=True)):
            for clip_index, clip in enumerate(row.clips):
                label = None if row.label is None else int(clip.fake_frames > 0)
                yield ClipKey(
                    index=index,
                    video_index=video_index,
                    clip_index=clip_index,
                    track_id=clip.track_id,
                    start_s=clip.start_s,
                    end_s=clip.end_s,
                    num_frames=clip.num_frames,
                    fake_frames=clip.fake_frames,
                    label=label,
                    group=group,
                    method=row.method,
                    split=row.split,
                )
                index += 1

    def _where(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    def _read(self, name: str) -> str:
        if self.remote:
            return read_s3_text(self._where(name), endpoint_url=self.endpoint_url)
        path = Path(self.path) / name
        if not path.is_file():
            raise DataError(
                f"{self.path}: not prepared data ({name} is missing)",
                fix=f"dfkit prepare VIDEOS --out {self.path}",
            )
        return path.read_text(encoding="utf-8")

    def _check_index(self) -> None:
        """litdata waits for a chunk that is missing or too short, so this is asked before it can."""
        index = json.loads(self._read(catalog.INDEX_FILE)) if self.clips else {"chunks": []}
        listed = [(c["filename"], c["chunk_bytes"], c["chunk_size"]) for c in index["chunks"]]
        expected = [(c.file, c.size_bytes, c.num_clips) for c in self.chunks()]
        faults = [] if listed == expected else [f"{catalog.INDEX_FILE} does not fit {catalog.VIDEOS_FILE}"]
        if not self.remote:
            faults += size_faults(Path(self.path), self.chunks())
        if sum(chunk.num_clips for chunk in self.chunks()) != len(self.clips):
            faults.append("number of clips and of stored samples differ")
        if faults:
            raise DataError(
                f"{self.path}: damaged: {'; '.join(faults[:5])}",
                fix="run the same dfkit prepare again: it makes what is missing",
            )

    def _open_stream(self) -> Any:
        try:
            from litdata import StreamingDataset
        except ImportError as error:
            raise MissingExtraError("litdata", "train") from error
        if self._cache_dir is not None:
            # A local data set, whose chunks `_fetch_chunk_of` puts there as they are asked for.
            write_index(self._cache_dir, self.chunks())
            return StreamingDataset(str(self._cache_dir))
        options = {"endpoint_url": self.endpoint_url} if self.endpoint_url else None
        return StreamingDataset(self.path, storage_options=options)

    def _fetch_chunk_of(self, index: int) -> None:
        """Copies a chunk from S3 into the cache; its hash is checked before it gets its name."""
        assert self._cache_dir is not None
        chunk = self._chunks[bisect_right(self._chunk_ends, index)]
        target = self._cache_dir / chunk.file
        if target.is_file() and target.stat().st_size == chunk.size_bytes:
            return
        bucket, key = split_s3_url(self._where(chunk.file))
        with whole_file(target) as temporary:
            s3_client(self.endpoint_url).download_file(bucket, key, str(temporary))
            if sha256_file(temporary) != chunk.sha256:
                raise DataError(
                    f"{self._where(chunk.file)}: its SHA-256 is not that of videos.jsonl",
                    fix="upload it again",
                )


def videos_hash(data: PreparedData) -> str:
    """SHA-256 over the videos' keys, which stand for content, labels and clip contract, in whatever order they lie."""
    return sha256_json(sorted(row.key for row in data.videos))


def size_faults(folder: Path, chunks: list[ChunkRow]) -> list[str]:
    """Chunks that are missing or of another size than they were written with."""
    faults = []
    for chunk in chunks:
        path = folder / chunk.file
        if not path.is_file():
            faults.append(f"{chunk.file} is missing")
        elif path.stat().st_size != chunk.size_bytes:
            faults.append(f"{chunk.file} has {path.stat().st_size} bytes instead of {chunk.size_bytes}")
    return faults


@dataclass(frozen=True)
class VerifyResult:
    """Counts of a check that found no fault."""

    path: str
    num_chunks: int
    num_clips: int
    size_bytes: int

    def summary(self) -> list[str]:
        """One line for the terminal: what was checked."""
        mb = self.size_bytes / 1e6
        return [f"{self.path}: {self.num_chunks} chunks, {self.num_clips} clips, {mb:.1f} MB: all hashes right"]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return dict(vars(self))


def verify(prepared_dir: str | Path) -> VerifyResult:
    """Checks the SHA-256 of every chunk of a local data set against `videos.jsonl`.

    Args:
        prepared_dir: Finished data.
    Returns:
        What was checked.
    Raises:
        DataError: Lists every file that is missing or was changed.
    """
    folder = Path(prepared_dir)
    data = PreparedData(folder)
    wrong = [chunk.file for chunk in data.chunks() if sha256_file(folder / chunk.file) != chunk.sha256]
    if wrong:
        listed = "\n".join(f"  - {name}" for name in wrong)
        raise DataError(
            f"{folder}: {len(wrong)} of {len(data.chunks())} chunks were changed:\n{listed}",
            fix="delete these files and run the same dfkit prepare again: it makes what is missing",
        )
    size_bytes = sum(chunk.size_bytes for chunk in data.chunks())
    return VerifyResult(str(folder), len(data.chunks()), len(data), size_bytes)


def s3_client(endpoint_url: str | None) -> Any:
    """A boto3 client; credentials and region come from the environment as for every S3 tool."""
    try:
        import boto3
    except ImportError as error:
        raise MissingExtraError("boto3", "train") from error
    return boto3.client("s3", endpoint_url=endpoint_url)


def split_s3_url(url: str) -> tuple[str, str]:
    """Bucket and key of an `s3://bucket/key`."""
    bucket, _, key = url.removeprefix(S3_PREFIX).partition("/")
    return bucket, key


def read_s3_text(url: str, *, endpoint_url: str | None) -> str:
    """Content of a small text object.

    Raises:
        DataError: It is not there or may not be read.
    """
    client = s3_client(endpoint_url)
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = split_s3_url(url)
    try:
        content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except (BotoCoreError, ClientError) as error:
        raise DataError(
            f"{url}: cannot be read ({error})",
            fix="check the URL, the endpoint and the AWS credentials in the environment",
        ) from error
    return content.decode("utf-8")


def upload(prepared_dir: str | Path, url: str, *, endpoint_url: str | None = None) -> None:
    """Copies a local data set to S3; `data.json` goes last, so that a half copy is no data set.

    Args:
        prepared_dir: Finished data.
        url: `s3://bucket/prefix`.
        endpoint_url: Of an S3 store other than Amazon's.
    """
    folder = Path(prepared_dir)
    data = PreparedData(folder)
    names = [chunk.file for chunk in data.chunks()]
    names += [catalog.INDEX_FILE] if names else []
    client = s3_client(endpoint_url)
    bucket, prefix = split_s3_url(url.rstrip("/"))
    for name in [*names, catalog.VIDEOS_FILE, catalog.DATA_FILE]:
        client.upload_file(str(folder / name), bucket, f"{prefix}/{name}" if prefix else name)
