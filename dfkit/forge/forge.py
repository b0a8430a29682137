"""`dfkit forge`: from real videos to twins and forgeries with labels."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dfkit.config.forge import ForgeConfig
from dfkit.data.groups import components, content_id, file_ids, split_ids
from dfkit.data.hashing import sha256_file
from dfkit.errors import ConfigError, DataError
from dfkit.files import open_text, whole_file, write_atomically
from dfkit.forge.job import FORGE_VERSION, ForgeRecord, JobResult, SourceFile, run_job
from dfkit.forge.plan import Job, make_plan
from dfkit.forge.tts import packaged_voice
from dfkit.forge.voices import VoiceMatch, match_voices
from dfkit.processes import WorkerDiedError, map_processes

LABEL_COLUMNS = (
    "path",
    "label",
    "group",
    "method",
    "fake_start_s",
    "fake_end_s",
    "groups_known",
    "family",
    "fake_part",
    "split",
)
REAL = 0


@dataclass(frozen=True)
class ForgeSource:
    """A video that prepared data name."""

    path: Path
    group: str | None
    """Persons, source and sound, several divided by ';'. None: the file is its own group."""
    label: int
    """0 real, 1 fake; only real videos are forged."""
    split: str | None = None
    """Part that the labels give it to; what is forged of it is given to the same one."""


@dataclass(frozen=True)
class ForgeSummary:
    """What a run of the forge wrote, kept and left out."""

    out_dir: Path
    labels_csv: Path
    num_sources: int
    num_twins: int
    num_kept: int
    """Files that were already there."""
    num_cells: int
    methods: dict[str, int]
    """Forgeries by method."""
    skipped: tuple[tuple[str, str, str], ...]
    """(source, method or empty for all of them, reason)."""
    footage_s: float
    """Seconds of video written in this run."""
    wall_s: float
    groups_known: bool
    voice_match: dict[str, Any]
    """How voices were matched: `asked`, `used`, `reason` where the two differ, `voices_unknown`."""

    def summary(self) -> list[str]:
        """Lines for the terminal: counts by method, what was skipped and why, the speed, the label file."""
        forgeries = sum(self.methods.values())
        lines = [
            f"{self.num_twins} real twins and {forgeries} forgeries from {self.num_sources} real videos "
            f"in {self.num_cells} cells ({self.num_kept} files were already there)",
            "  " + ", ".join(f"{method} {count}" for method, count in sorted(self.methods.items())),
        ]
        reasons = Counter((method or "all methods", reason) for _, method, reason in self.skipped)
        for (method, reason), count in sorted(reasons.items()):
            lines.append(f"  skipped {count} x {method}: {reason}")
        if self.voice_match["reason"]:
            asked = self.voice_match["asked"]
            lines.append(f"  voice_match: {asked} was asked for, voices were drawn: {self.voice_match['reason']}")
        if self.voice_match["voices_unknown"]:
            lines.append(f"  voice_match: {self.voice_match['voices_unknown']} videos with too little speech to tell")
        if not self.groups_known:
            lines.append("  groups unknown: persons may leak")
        if self.footage_s:
            speed = self.footage_s / max(self.wall_s, 1e-9)
            lines.append(f"  {self.footage_s:.0f} s of video in {self.wall_s:.0f} s ({speed:.1f} x real time)")
        return [*lines, f"  labels: {self.labels_csv}"]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        content = asdict(self)
        content["out_dir"], content["labels_csv"] = str(self.out_dir), str(self.labels_csv)
        return content


def forge(
    sources: Sequence[ForgeSource],
    out_dir: Path,
    config: ForgeConfig | None = None,
    *,
    num_workers: int = 1,
    groups_known: bool = True,
) -> ForgeSummary:
    """Makes a twin and forgeries of every real video.

    Writes `videos/*.mp4`, `labels.csv` (`LABEL_COLUMNS`), `forge.json` (settings, plan, what was skipped) and
    `forged.jsonl` (one line per file: method, parameters, seed, source, donor, persons and sounds). A file that a
    run of the same settings has made is kept; one that this run did not ask for stays, but is not in the labels.

    The group of a file is its cell and the ids of its source and donor, so that data forged twice from the same people,
    or prepared together with them, is known to be related.

    Args:
        sources: Videos; fakes among them are left out.
        out_dir: Folder; made if needed.
        config: Settings; the default makes every method.
        num_workers: Processes; a file does not depend on their number.
        groups_known: Whether the sources' groups name every person; written into labels.csv, which `prepare` reads.
    Returns:
        Counts, and what was skipped and why.
    Raises:
        ConfigError: `num_workers` below 1.
        MissingExtraError: A method needs a package that is not installed.
        DataError: No real video, or not one forgery could be made.
        OSError: A file cannot be written.
    """
    config = config or ForgeConfig()
    if num_workers < 1:
        raise ConfigError(f"num_workers is {num_workers}, at least 1 is needed")
    if "tts_voice" in config.methods:
        packaged_voice()
    started = time.monotonic()
    files, jobs, all_grouped, matched = _plan(sources, config)
    groups_known = groups_known and all_grouped
    (out_dir / "videos").mkdir(parents=True, exist_ok=True)
    results = _run_all(jobs, files, config, out_dir, num_workers)
    records = [record for result in results for record in result.made]
    skipped = [(r.source, method, reason) for r in results for method, reason in r.skipped]
    skipped += [(str(s.path), "", "it is labelled fake") for s in sources if s.label != REAL]
    if not any(record.label == "fake" for record in records):
        raise _nothing_made(skipped)
    splits = {str(source.path): source.split or "" for source in sources}
    _write_index(out_dir, config, records, skipped, splits, matched=matched, groups_known=groups_known)
    return ForgeSummary(
        out_dir=out_dir,
        labels_csv=out_dir / "labels.csv",
        num_sources=len(files),
        num_twins=sum(record.label == "real" for record in records),
        num_kept=sum(len(result.made) for result in results if result.kept),
        num_cells=len({record.group for record in records}),
        methods=dict(Counter(record.method for record in records if record.method)),
        skipped=tuple(skipped),
        footage_s=sum(result.footage_s for result in results if not result.kept),
        wall_s=time.monotonic() - started,
        groups_known=groups_known,
        voice_match=matched.to_json(),
    )


def _plan(
    sources: Sequence[ForgeSource], config: ForgeConfig
) -> tuple[tuple[SourceFile, ...], list[Job], bool, VoiceMatch]:
    real = [source for source in sources if source.label == REAL]
    if not real:
        raise DataError(
            f"none of the {len(sources)} videos is labelled real, and only real ones can be forged",
            fix="prepare real videos first: dfkit prepare videos/ with a folder real/ or --labels CSV",
        )
    if missing := [source.path for source in real if not source.path.is_file()]:
        raise DataError(
            f"{len(missing)} source videos are missing, the first is {missing[0]}",
            fix="put them back where they were, or prepare the videos again where they are now",
        )
    # The order decides who lends to whom; it must not depend on the order of a folder's listing.
    real = sorted(real, key=lambda source: (source.path.name, str(source.path)))
    given = [split_ids(source.group or "") for source in real]
    hashes = [sha256_file(source.path) for source in real]
    names = components([file_ids(ids, sha256) for ids, sha256 in zip(given, hashes, strict=True)])
    files = tuple(
        SourceFile(source.path, name, source.group or source.path.name, sha256, (*ids, content_id(sha256)))
        for source, name, ids, sha256 in zip(real, names, given, hashes, strict=True)
    )
    matched = match_voices([file.path for file in files], config)
    splits = _checked_splits(real, names)
    return files, make_plan(names, config, matched.likeness, splits), all(given), matched


def _checked_splits(sources: Sequence[ForgeSource], groups: Sequence[str]) -> list[str | None]:
    """The part of each source.

    Raises:
        DataError: A group stands in two parts, so that what is forged of it would, too.
    """
    parts: dict[str, set[str]] = {}
    for source, group in zip(sources, groups, strict=True):
        parts.setdefault(group, set()).add(source.split or "none")
    if torn := sorted(group for group, found in parts.items() if len(found) > 1):
        raise DataError(
            f"the given split leaks: {len(torn)} groups stand in several parts, among them {torn[0]} in "
            f"{' and '.join(sorted(parts[torn[0]]))}",
            fix="give all videos of a person the same part in the labels' column split, or leave the column out",
        )
    return [source.split for source in sources]


def _run_all(
    jobs: list[Job], files: tuple[SourceFile, ...], config: ForgeConfig, out_dir: Path, num_workers: int
) -> list[JobResult]:
    # Cell by cell, so that a worker that has read a video soon needs it again as a donor's.
    ordered = sorted(jobs, key=lambda job: (job.cell, job.source))
    function = partial(run_job, files=files, config=config, out_dir=out_dir)
    results = []
    with _Progress(len(jobs)) as progress:
        try:
            for result in _map_jobs(function, ordered, num_workers):
                results.append(result)
                progress.advance()
        except WorkerDiedError as error:
            names = ", ".join(sorted({files[ordered[place].source].path.name for place in error.in_progress}))
            raise DataError(
                f"a worker process was ended from outside (killed for its memory?) while it worked on {names}",
                fix="run the same command again with fewer --workers: files that are finished are kept",
            ) from error
    place_of = {str(file.path): place for place, file in enumerate(files)}
    return sorted(results, key=lambda result: place_of[result.source])


def _map_jobs(function: Callable[[Job], JobResult], jobs: Sequence[Job], num_workers: int) -> Iterator[JobResult]:
    if num_workers == 1:
        return map(function, jobs)
    return (result for _, result in map_processes(function, jobs, min(num_workers, len(jobs))))


class _Progress:
    """A bar on stderr, on a terminal only."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._stop: Callable[[], None] = lambda: None
        self.advance: Callable[[], None] = lambda: None

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            bar = Progress(console=Console(stderr=True))
            task = bar.add_task("forging", total=self._total)
            bar.start()
            self._stop, self.advance = bar.stop, lambda: bar.advance(task)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()


def _nothing_made(skipped: list[tuple[str, str, str]]) -> DataError:
    reasons = Counter((method, reason) for _, method, reason in skipped)
    lines = [f"  - {count} x {method or 'all methods'}: {reason}" for (method, reason), count in reasons.most_common(8)]
    return DataError(
        "\n".join(["not one forgery could be made:", *lines]),
        fix="give real videos of at least 2 s with sound and a face of 64 pixels or more, of two persons or more",
    )


def _write_index(
    out_dir: Path,
    config: ForgeConfig,
    records: list[ForgeRecord],
    skipped: list[tuple[str, str, str]],
    splits: Mapping[str, str],
    *,
    matched: VoiceMatch,
    groups_known: bool,
) -> None:
    known = "yes" if groups_known else "no"
    rows = []
    for record in records:
        interval = _seconds_text(record.fake_start_s), _seconds_text(record.fake_end_s)
        rows.append(
            (
                record.path,
                record.label,
                ";".join(record.groups),
                record.method,
                *interval,
                known,
                record.family,
                record.fake_part,
                splits[record.source],
            )
        )
    head = {
        "schema_version": 1,
        "forge_version": FORGE_VERSION,
        "config": config.model_dump(mode="json"),
        "groups_known": groups_known,
        "voice_match": matched.to_json(),
        "num_files": len(records),
        "skipped": [{"source": s, "method": m or None, "reason": r} for s, m, r in skipped],
    }
    lines = "".join(json.dumps(asdict(record)) + "\n" for record in records)
    write_atomically(out_dir / "forged.jsonl", lines)
    write_atomically(out_dir / "forge.json", json.dumps(head, indent=1))
    # Last: who finds the labels finds all they name.
    with (
        whole_file(out_dir / "labels.csv") as temporary,
        open_text(temporary) as file,
    ):
        csv.writer(file, lineterminator="\n").writerows([LABEL_COLUMNS, *rows])


def _seconds_text(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:g}"
