"""`dfkit prepare`: labelled videos to clips in shards, resumable and repeatable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dfkit.clip import CLIP2S, UNIFORM50, ClipSpec, FaceVariant
from dfkit.data.executors import EXECUTORS
from dfkit.data.labels import LabelSet
from dfkit.data.layouts import MIN_COVERAGE, read_sources
from dfkit.data.npz import is_npz_folder, npz_spec, read_npz_sources
from dfkit.data.prepare_run import PrepareRun, PrepareSummary
from dfkit.errors import DISK_FULL_ERRNOS, DataError
from dfkit.media.equalise_spec import EqualiseSpec

LOCK_FILE = ".prepare.lock"


def prepare(
    sources: str | Path | Sequence[str | Path] | LabelSet,
    out_dir: str | Path,
    *,
    spec: ClipSpec = CLIP2S,
    labels: str | Path | None = None,
    layout: str = "auto",
    num_workers: int = 1,
    executor: str = "local",
    progress: bool = True,
    view_of: str | None = None,
    faces: FaceVariant | None = None,
    unlabelled: bool = False,
    min_coverage: float = MIN_COVERAGE,
    killable: bool = False,
    timeout_s: float | None = None,
    equalise: EqualiseSpec | None = None,
    keep: bool = False,
) -> PrepareSummary:
    """Prepares videos; does again only what changed since the last call with this `out_dir`.

    Args:
        sources: A folder, files, or sources whose labels were read already.
        out_dir: Folder of the prepared data, made if missing.
        spec: The clip contract.
        labels: CSV `path,label[,group,method,fake_start_s,fake_end_s,split,groups_known]`.
        layout: Name of a known data set's layout, or `auto`.
        num_workers: Processes; 1 works in this one, unless `killable`.
        executor: `local` or `ray`.
        progress: Whether to show a bar on stderr, if that is a terminal.
        view_of: Name of the folder beside `out_dir` whose videos these are under another preset.
        faces: Face models, `int8` or `float16`; where None those of the data in `out_dir`, `int8` for new data.
        unlabelled: Whether videos without a label are prepared, too; of a `LabelSet` they always are.
        min_coverage: Share of the files named by labels that has to be there, in [0, 1]; the rest is counted.
        killable: Whether several videos are prepared in a process of its own even by one worker: only there one that
            hangs can be given up. A script that asks for it needs `if __name__ == "__main__":`, as for several workers.
        timeout_s: Seconds after which a video is given up; None leaves them to its size (`dfkit.time_limits`), 0 is no
            limit.
        equalise: What all videos are made alike in before, for evaluation; None prepares them as they are.
        keep: Whether the equalised videos stay, in `equalised` below `out_dir`.
    Returns:
        What was done, with the reason for each video that gave no clip.
    Raises:
        DataError: Labels cannot be used, no video gave a clip, another run writes to `out_dir`, or the disk
            is full.
    """
    if executor not in EXECUTORS:
        raise DataError(f"executor '{executor}' is none of {', '.join(EXECUTORS)}")
    if num_workers < 1:
        raise DataError(f"num_workers is {num_workers}; needs at least 1")
    if _is_npz_source(sources, labels, layout):
        if equalise is not None:
            raise DataError(f"{sources}: an NPZ folder holds no videos to equalise", fix="leave --equalise out")
        return convert_npz(Path(str(sources)), out_dir, num_workers=num_workers, progress=progress)
    if isinstance(sources, LabelSet):
        label_set = sources
    else:
        label_set = read_sources(
            sources, labels=labels, layout=layout, unlabelled=unlabelled, min_coverage=min_coverage
        )
    with _open_folder(Path(out_dir)) as folder:
        run = PrepareRun(
            folder,
            spec,
            label_set,
            source=describe(sources),
            view_of=view_of,
            faces=faces,
            equalise=equalise,
            keep=keep,
        )
        return run.execute(
            executor=executor, num_workers=num_workers, progress=progress, killable=killable, timeout_s=timeout_s
        )


def convert_npz(
    index_dir: str | Path, out_dir: str | Path, *, num_workers: int = 1, progress: bool = True
) -> PrepareSummary:
    """Converts an NPZ folder of the original teacher into `uniform50` storage; once, like `prepare`.

    Args:
        index_dir: Folder with `{split}_index.json` or `{split}_preprocessed_index.json`.
        out_dir: Folder of the prepared data.
        num_workers: Processes.
        progress: Whether to show a bar on stderr, if that is a terminal.
    Returns:
        What was done.
    Raises:
        DataError: Lists every missing file, contradiction and unusable array; nothing is marked finished.
    """
    label_set = read_npz_sources(index_dir, n_mfcc=UNIFORM50.audio.n_mfcc)
    with _open_folder(Path(out_dir)) as folder:
        run = PrepareRun(folder, npz_spec(label_set.sources), label_set, source=str(index_dir), strict=True)
        return run.execute(executor="local", num_workers=num_workers, progress=progress)


def _is_npz_source(
    sources: str | Path | Sequence[str | Path] | LabelSet, labels: str | Path | None, layout: str
) -> bool:
    if not isinstance(sources, (str, Path)) or labels is not None:
        return False
    return layout == "npz" or (layout == "auto" and is_npz_folder(Path(sources)))


def describe(sources: str | Path | Sequence[str | Path] | LabelSet) -> str:
    """What data was made from, in words, for `data.json`."""
    if isinstance(sources, LabelSet):
        return f"{len(sources.sources)} files"
    if isinstance(sources, (str, Path)):
        return str(sources)
    return ", ".join(map(str, sources))


@contextmanager
def _open_folder(folder: Path) -> Iterator[Path]:
    """Makes the folder and keeps others out of it; a full disk becomes a message."""
    with _space_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            yield folder


@contextmanager
def _space_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise DataError(
            f"{folder}: no space left ({error.strerror}); finished videos are kept, nothing is half-written",
            fix="free space or choose another --out, then run the same dfkit prepare again: it goes on",
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder; the system frees the lock with the process, however that ends."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            yield
    except Timeout as error:
        raise DataError(
            f"{folder}: another dfkit prepare writes to it", fix="wait for it to end, or choose another --out"
        ) from error
