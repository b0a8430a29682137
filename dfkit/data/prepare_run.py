"""Prepares what is new in a folder, keeps what is there already, and publishes both in a safe order.

Rows of finished videos go to a journal at once; the catalog, the index and `finished` come at the end. So a
run that is killed at any point leaves either the former data set marked unfinished or the new one whole.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfkit.clip import DEFAULT_FACES, ClipSpec, FaceVariant
from dfkit.data import catalog
from dfkit.data.catalog import DataInfo, VideoRow
from dfkit.data.executors import run_jobs
from dfkit.data.jobs import VideoJob, video_key
from dfkit.data.labels import LabelSet, Source, faults_error, interval_faults
from dfkit.data.shards import remove_leftovers, write_index
from dfkit.data.storage import size_faults
from dfkit.errors import DataError
from dfkit.files import open_text, write_atomically
from dfkit.measures.environment import usable_cores
from dfkit.measures.evidence import MIN_READ_SHARE
from dfkit.media.equalise_spec import EqualiseSpec

UNIFORM50_WARNING = (
    "preset uniform50 spreads 50 frames and the whole sound track over each video: frame spacing and number "
    "of sound columns give its length away, and a model can learn that instead of the manipulation"
)


@dataclass(frozen=True)
class PrepareSummary:
    """Counts of a call of `prepare`, and the reason for each video without clips."""

    out_dir: str
    preset: str
    face_models: FaceVariant | None
    """Which found the faces; None where none were looked for."""
    num_videos: int
    num_prepared: int
    """Videos prepared by this call; the rest was there already."""
    num_clips: int
    size_bytes: int
    statuses: dict[str, int]
    labels: dict[str, int]
    groups_known: bool
    failures: tuple[tuple[str, str, str], ...]
    """(path, status, reason) of videos without clips."""
    read_in_part: tuple[tuple[str, float, str], ...]
    """(path, share, reason) of videos with clips of which not all was read."""
    notes: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return self.num_prepared == 0

    def summary(self) -> list[str]:
        """Lines for the terminal: counts, failures, warnings and notes."""
        statuses = ", ".join(f"{count} {status}" for status, count in self.statuses.items())
        done = "nothing to do" if self.unchanged else f"{self.num_prepared} prepared now"
        faces = "" if self.face_models is None else f", {self.face_models} face models"
        lines = [
            f"{self.out_dir}: {self.num_videos} videos ({statuses}), {done}",
            f"{self.num_clips} clips, {self.size_bytes / 1e6:.1f} MB; preset {self.preset}{faces}; "
            + ", ".join(f"{count} {label}" for label, count in self.labels.items()),
        ]
        lines += [f"  {status}: {path}: {reason}" for path, status, reason in self.failures]
        lines += [f"  read to {share:.0%}: {path}: {reason}" for path, share, reason in self.read_in_part]
        if not self.groups_known:
            lines.append("groups unknown: persons may leak")
        return [*lines, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            **vars(self),
            "failures": [list(failure) for failure in self.failures],
            "read_in_part": [list(video) for video in self.read_in_part],
            "notes": list(self.notes),
        }


class PrepareRun:
    """A call of `prepare` on a folder that nobody else writes to."""

    def __init__(
        self,
        folder: Path,
        spec: ClipSpec,
        label_set: LabelSet,
        *,
        source: str,
        strict: bool = False,
        view_of: str | None = None,
        faces: FaceVariant | None = None,
        equalise: EqualiseSpec | None = None,
        keep: bool = False,
    ) -> None:
        """Reads what earlier runs left.

        Args:
            folder: Exists and is locked.
            spec: The clip contract.
            label_set: What to prepare.
            source: What it was made from, for people.
            strict: Whether one unusable file makes the whole data set unusable.
            view_of: Folder beside this one of which it is a view; None for data of its own.
            faces: Face models; where None those of the data in the folder, or the default for a new one.
            equalise: What videos are made alike in before; None prepares them as they are.
            keep: Whether equalised videos stay below the folder.
        Raises:
            DataError: The folder holds raw data where equalised is asked for, or the other way round.
        """
        self.folder = folder
        self.spec = spec
        # Absolute: a row stays the same whatever the current folder, and cluster nodes have another one.
        sources = tuple(replace(source, path=source.path.absolute()) for source in label_set.sources)
        self.label_set = replace(label_set, sources=sources)
        self.source = source
        self.strict = strict
        self.view_of = view_of
        _refuse_repeated(sources)
        self.former_rows, former_info = _read_former(folder)
        self.equalise, self.keep = equalise, keep
        if former_info is not None:
            _refuse_other_form(folder, former_info, equalise)
        kept = None if former_info is None else former_info.face_models
        self.faces = catalog.face_models_of(spec.preset, faces or kept or DEFAULT_FACES)
        self.rows: dict[int, VideoRow] = {}
        """By position in the label set."""

    def execute(
        self,
        *,
        executor: str,
        num_workers: int,
        progress: bool,
        killable: bool = False,
        timeout_s: float | None = None,
    ) -> PrepareSummary:
        """Prepares what is new, then writes the catalog.

        Args:
            executor: One of `EXECUTORS`.
            num_workers: Processes; 1 works in this one.
            progress: Whether to show a bar on stderr, if that is a terminal.
            killable: Whether one worker is a process of its own, too.
            timeout_s: Seconds for a video; None leaves them to its size.
        Raises:
            DataError: Intervals lie outside of their videos, or no video gave a clip.
            OSError: The disk is full.
        """
        num_threads = usable_cores() // num_workers if executor == "local" else 1
        jobs = self._plan(max(num_threads, 1))
        if not jobs and self._is_current():
            return self._summary(num_prepared=0)
        # Only of new videos: opening 100,000 files takes minutes.
        faults = interval_faults(job.source for _, job in jobs)
        if faults:
            raise faults_error(faults, "labels", fix="correct fake_start_s and fake_end_s, in seconds")
        self._remove_leftovers()
        self._write_info(finished=False)
        try:
            results = run_jobs(
                [job for _, job in jobs],
                executor=executor,
                num_workers=num_workers,
                # For a single video a process of its own is a second lost: nothing waits behind it.
                killable=killable and len(jobs) > 1,
                timeout_s=timeout_s,
            )
            reused = self._prepare(jobs, results, progress=progress)
        except BaseException:
            # Ctrl-C, a full disk: the workers are gone, and could not remove what they had in hand.
            self._remove_leftovers()
            raise
        self._publish()
        return self._summary(num_prepared=len(jobs) - reused)

    def _remove_leftovers(self) -> None:
        """Removes what no row names; rows of before and of this run keep their chunks."""
        rows = [*self.former_rows.values(), *self.rows.values()]
        remove_leftovers(self.folder, [chunk for row in rows for chunk in row.chunks])

    def _plan(self, num_threads: int) -> list[tuple[int, VideoJob]]:
        jobs = []
        for position, source in enumerate(self.label_set.sources):
            previous = self.former_rows.get(str(source.path))
            if previous is not None and self._is_same(source, previous):
                # Further columns change no sample: what they say now is taken over without preparing again.
                self.rows[position] = replace(previous, columns=source.columns)
            else:
                jobs.append((position, self._job(source, previous, num_threads)))
        return jobs

    def _job(self, source: Source, previous: VideoRow | None, num_threads: int = 1) -> VideoJob:
        return VideoJob(
            source,
            self.spec,
            self.folder,
            self.faces,
            previous=previous,
            num_threads=num_threads,
            equalise=self.equalise,
            keep=self.keep,
        )

    def _is_same(self, source: Source, previous: VideoRow) -> bool:
        """Judged without reading the file: size and time of change stand for its content."""
        try:
            stat = source.path.stat()
        except OSError:
            return False
        same_file = (stat.st_size, stat.st_mtime_ns) == (previous.size_bytes, previous.mtime_ns)
        if not same_file or previous.key != video_key(source, previous.sha256, self.spec, self.faces, self.equalise):
            return False
        kept = self._job(source, previous).kept_path(previous.sha256)
        # Of a video that cannot be used there may be nothing to keep.
        return kept is None or kept.is_file() or previous.equalised is None

    def _is_current(self) -> bool:
        """Whether the catalog on disk says the same already."""
        try:
            text = (self.folder / catalog.DATA_FILE).read_text(encoding="utf-8")
            info = catalog.parse_info(text, str(self.folder))
            videos_text = (self.folder / catalog.VIDEOS_FILE).read_text(encoding="utf-8")
        except OSError:
            return False
        rows = [self.rows[position] for position in range(len(self.rows))]
        same = videos_text == "".join(map(catalog.dump_line, rows))
        # A view that is asked for as data of its own becomes that; what was prepared as such is not made a view.
        same_kind = self.view_of is not None or info.view_of is None
        kept = (info.groups_known, info.face_models, info.missing, info.notes)
        same_facts = kept == (self.label_set.groups_known, self.faces, self.label_set.missing, self._notes())
        return info.finished and same and same_kind and same_facts

    def _prepare(self, jobs: Sequence[tuple[int, VideoJob]], results: Iterator[VideoRow], *, progress: bool) -> int:
        """Takes rows as they come; returns how many turned out to be unchanged (a file was touched, not altered)."""
        positions = {str(job.source.path): position for position, job in jobs}
        reused = 0
        with (
            open_text(self.folder / catalog.JOURNAL_FILE, "a") as journal,
            closing(results),  # type: ignore[type-var]  # all executors are generators
            _progress_bar(len(jobs), shown=progress) as advance,
        ):
            # A run that was killed may have left half a line: a line end makes it one that is skipped.
            journal.write("\n")
            for row in results:
                journal.write(catalog.dump_line(row))
                journal.flush()
                previous = self.former_rows.get(row.path)
                reused += previous is not None and previous.key == row.key
                self.rows[positions[row.path]] = row
                advance()
        return reused

    def _publish(self) -> None:
        rows = [self.rows[position] for position in range(len(self.label_set.sources))]
        usable = sum(bool(row.clips) for row in rows)
        chunks = [chunk for row in rows for chunk in row.chunks]
        if usable:
            write_index(self.folder, chunks)
        catalog.write_videos(self.folder, rows)
        remove_leftovers(self.folder, chunks)
        (self.folder / catalog.JOURNAL_FILE).unlink(missing_ok=True)
        failed = [row for row in rows if row.status != "ok"]
        if self.strict and failed:
            raise _unusable(failed, "files that cannot be used")
        if not usable:
            raise _unusable(failed, "no video gave a clip")
        self._write_info(finished=True)

    def _write_info(self, *, finished: bool) -> None:
        counts = {"videos": len(self.rows), "clips": sum(len(row.clips) for row in self.rows.values())}
        info = DataInfo(
            spec=self.spec,
            created=catalog.now(),
            finished=finished,
            groups_known=self.label_set.groups_known,
            source=self.source,
            notes=self._notes(),
            counts=counts if finished else {},
            view_of=self.view_of,
            face_models=self.faces,
            missing=self.label_set.missing,
            equalised=self.equalise,
        )
        text = catalog.dump_info(info)
        write_atomically(self.folder / catalog.DATA_FILE, text)

    def _notes(self) -> tuple[str, ...]:
        leaks = (UNIFORM50_WARNING,) if self.spec.preset == "uniform50" else ()
        return (*self.label_set.notes, *leaks, *self._reading_notes(), *self._equalising_notes())

    def _equalising_notes(self) -> tuple[str, ...]:
        """Says of which size faces were, and how many were enlarged."""
        done = [row.equalised for row in self.rows.values() if row.equalised is not None]
        if self.equalise is None or not done:
            return ()
        smallest = min(each["source_face_px"] for each in done)
        enlarged = sum(each["scale"] > 1 for each in done)
        return (
            f"equalised: {self.equalise.words()}",
            f"equalised: faces were {smallest:.0f} to {max(each['source_face_px'] for each in done):.0f} px wide, "
            f"{enlarged} of {len(done)} were enlarged",
        )

    def _reading_notes(self) -> tuple[str, ...]:
        """Counts videos of which not all was read, and those of them whose verdict would be `review` for it."""
        shares = [share for _, share, _ in self._read_in_part()]
        if not shares:
            return ()
        thin = sum(share < MIN_READ_SHARE for share in shares)
        return (
            f"{len(shares)} videos were read in part, {thin} of them to less than {MIN_READ_SHARE:.0%}: see read in "
            f"{catalog.VIDEOS_FILE}",
        )

    def _read_in_part(self) -> tuple[tuple[str, float, str], ...]:
        rows = [self.rows[position] for position in sorted(self.rows)]
        read = [(row, row.read_json()) for row in rows if row.status == "ok"]
        return tuple((row.path, found["read_share"], found["missing"]) for row, found in read if found["missing"])

    def _summary(self, *, num_prepared: int) -> PrepareSummary:
        rows = [self.rows[position] for position in range(len(self.rows))]
        names = {0: "real", 1: "fake", None: "without label"}
        return PrepareSummary(
            out_dir=str(self.folder),
            preset=self.spec.preset,
            face_models=self.faces,
            num_videos=len(rows),
            num_prepared=num_prepared,
            num_clips=sum(len(row.clips) for row in rows),
            size_bytes=sum(chunk.size_bytes for row in rows for chunk in row.chunks),
            statuses=dict(Counter(row.status for row in rows).most_common()),
            labels=dict(Counter(names[row.label] for row in rows).most_common()),
            groups_known=self.label_set.groups_known,
            read_in_part=self._read_in_part(),
            failures=tuple((row.path, row.status, row.reason or "") for row in rows if row.status != "ok"),
            notes=self._notes(),
        )


def _refuse_repeated(sources: Sequence[Source]) -> None:
    counts = Counter(source.path for source in sources)
    repeated = [f"{path} is named {count} times" for path, count in counts.items() if count > 1]
    if repeated:
        raise faults_error(repeated, "sources", fix="name each file once; a CSV may give it several intervals")


def _refuse_other_form(folder: Path, former: DataInfo, equalise: EqualiseSpec | None) -> None:
    if (former.equalised is None) == (equalise is None):
        return
    found, asked = ("raw", "equalised") if former.equalised is None else ("equalised", "raw")
    raise DataError(
        f"{folder}: holds {found} data, and {asked} data is asked for",
        fix="choose another --out, so that there are both",
    )


def require_own_folder(folder: Path) -> None:
    """Refuses a folder for prepared data that holds anything else.

    Raises:
        DataError: It does.
    """
    if not folder.is_dir() or (folder / catalog.DATA_FILE).is_file():
        return
    if any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise DataError(
            f"{folder}: holds other files and no prepared data",
            fix="choose an empty or a new folder for --out",
        )


def _read_former(folder: Path) -> tuple[dict[str, VideoRow], DataInfo | None]:
    """Rows of earlier runs by path, as far as their chunks are whole, and the facts of their data."""
    info = None
    info_path, videos_path = folder / catalog.DATA_FILE, folder / catalog.VIDEOS_FILE
    if info_path.is_file():
        # A newer dfkit's data is refused, not overwritten.
        info = catalog.parse_info(info_path.read_text(encoding="utf-8"), str(info_path))
    else:
        require_own_folder(folder)
    rows: list[VideoRow] = []
    if videos_path.is_file():
        rows += catalog.parse_videos(videos_path.read_text(encoding="utf-8"), str(videos_path))
    rows += catalog.read_journal(folder / catalog.JOURNAL_FILE)
    return {row.path: row for row in rows if not size_faults(folder, list(row.chunks))}, info


def _unusable(rows: Sequence[VideoRow], what: str) -> DataError:
    faults = [f"{row.status}: {row.path}: {row.reason}" for row in rows]
    return faults_error(faults, what, fix="correct or remove these files, then run the same command again")


@contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[Any]:
    if not (shown and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("preparing", total=total)
        yield lambda: bar.advance(task)
