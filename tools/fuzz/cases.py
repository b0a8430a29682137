"""Cases: what is made of a kind and a seed, and what dfkit does with it. Equal kind, seed and material: equal bytes."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.fuzz.damage import damage
from tools.fuzz.material import Material

if TYPE_CHECKING:
    from dfkit.runtime.detector import Detector

OTHER_SUFFIXES = (".avi", ".flv", ".wmv", ".mpg", ".webm", ".3gp", ".nut")

NOT_MADE = "not made"
"""Outcome of a case that no encoder or muxer writes; some end their process over it, which is no fault of a reader."""
PLANTED = "planted"
"""Kind whose cases fail on purpose; see `planted`."""
NUM_DRAWS = 6
"""What no encoder or muxer writes is drawn anew; half of the draws are such."""


@dataclass(frozen=True)
class Case:
    """One case, written as `mp4:12345`."""

    kind: str
    seed: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """Reads `KIND:SEED`.

        Raises:
            ValueError: It is none.
        """
        kind, _, seed = text.strip().partition(":")
        if kind not in KINDS and kind != PLANTED:
            raise ValueError(f"no kind '{kind}', known are {', '.join(KINDS)}")
        return cls(kind, int(seed))

    def __str__(self) -> str:
        return f"{self.kind}:{self.seed}"

    @property
    def rng(self) -> np.random.Generator:
        """Decides all of the case."""
        return np.random.default_rng([zlib.crc32(self.kind.encode()), self.seed])


@dataclass
class Workplace:
    """Where a process runs its cases, and what it keeps from one to the next."""

    material: Material
    folder: Path
    faults: list[str] = field(default_factory=list)
    """Of the case that runs."""

    @cached_property
    def detector(self) -> Detector:
        """With the tiny bundle; one thread each."""
        from dfkit.runtime.detector import Detector

        return Detector(self.material.bundle, backend="onnx", decoder_threads=1)

    @cached_property
    def threaded(self) -> Detector:
        """Likewise, with two decoder threads and the faces followed in a thread of their own."""
        from dfkit.runtime.detector import Detector

        return Detector(self.material.bundle, backend="onnx", decoder_threads=2)

    def write(self, name: str, content: bytes) -> Path:
        """A file of the case."""
        path = self.folder / name
        path.write_bytes(content)
        return path


Runner = Callable[[Workplace, np.random.Generator], str]
"""Makes a case and lets dfkit answer; returns the outcome in a word. Faults go into the workplace."""


def _file_runner(suffixes: tuple[str, ...], change: Callable[[bytes, np.random.Generator], bytes]) -> Runner:
    """Videos of some containers, changed by their structure, damaged blindly, or both."""

    def run(place: Workplace, rng: np.random.Generator) -> str:
        bases = place.material.videos(*suffixes)
        base = bases[int(rng.integers(len(bases)))]
        content, how = base.read_bytes(), int(rng.integers(10))
        content = change(content, rng) if how < 7 else content
        content = damage(content, rng) if how >= 6 and content else content
        return _score_file(place, place.write(f"case{base.suffix}", content), rng)

    return run


def _run_mp4(place: Workplace, rng: np.random.Generator) -> str:
    from tools.fuzz.boxes import change_boxes

    return _file_runner((".mp4", ".mov"), change_boxes)(place, rng)


def _run_ts(place: Workplace, rng: np.random.Generator) -> str:
    from tools.fuzz.packets import change_packets

    return _file_runner((".ts",), change_packets)(place, rng)


def _run_mkv(place: Workplace, rng: np.random.Generator) -> str:
    from tools.fuzz.elements import change_elements

    return _file_runner((".mkv", ".webm"), change_elements)(place, rng)


def _run_other(place: Workplace, rng: np.random.Generator) -> str:
    return _file_runner(OTHER_SUFFIXES, damage)(place, rng)


def _run_made(place: Workplace, rng: np.random.Generator) -> str:
    from tools.fuzz.made import NotMadeError, make_video

    for _ in range(NUM_DRAWS):
        suffix = str(rng.choice([".mkv", ".nut", ".avi", ".mp4", ".mov", ".ts"]))
        path = place.folder / f"case{suffix}"
        try:
            make_video(path, place.material.heads, rng)
        except NotMadeError:
            continue
        return _score_file(place, path, rng)
    return NOT_MADE


def _run_shared(place: Workplace, rng: np.random.Generator) -> str:
    """The handed cases, damaged; read in place where DFKIT_SHARED names their folder."""
    folder = Path(os.environ.get("DFKIT_SHARED", "none")) / "cases"
    bases = sorted(p for p in folder.glob("*.*") if p.suffix in (".mp4", ".ts", ".mkv", ".wmv", ".3gp"))
    if not bases:
        return NOT_MADE
    base = bases[int(rng.integers(len(bases)))]
    return _score_file(place, place.write(f"case{base.suffix}", damage(base.read_bytes(), rng)), rng)


def _score_file(place: Workplace, path: Path, rng: np.random.Generator) -> str:
    """Facts, then the score with one or two threads; now and then the clips for training, and the original's view."""
    from dfkit.errors import MediaError
    from dfkit.media.facts import probe
    from dfkit.runtime.answers import answer_of, state_of
    from dfkit.runtime.result_files import CsvForm
    from tools.fuzz.contract import check_error, check_result

    try:
        facts = probe(path, allow_silent=True)
        if not (facts.duration_s > 0 and facts.width > 0 and facts.height > 0 and np.isfinite(facts.fps)):
            place.faults.append(f"facts: {facts}")
    except MediaError as error:
        place.faults += check_error(error)
    how = int(rng.integers(10))
    if how == 0:
        _read_whole(place, path)
    detector = place.threaded if how < 3 else place.detector
    result = detector.detect(path)
    place.faults += check_result(result)
    CsvForm().render(answer_of(result, state_of(path), "fuzz").to_json())
    return result.status if result.verdict is None else f"ok, {result.verdict}"


def _read_whole(place: Workplace, path: Path) -> None:
    from dfkit.errors import MediaError
    from dfkit.media.stream import read_clips
    from dfkit.media.uniform50 import view_uniform50
    from tools.fuzz.contract import check_error

    for read in (view_uniform50, lambda each: sum(1 for _ in read_clips(each, num_threads=1))):
        try:
            read(path)
        except MediaError as error:
            place.faults += check_error(error)


def _run_manifest(place: Workplace, rng: np.random.Generator) -> str:
    from tools.fuzz.archives import copy_bundle, spoil_manifest

    folder = copy_bundle(place.material.bundle, place.folder / "bundle")
    spoil_manifest(folder, rng)
    return _open_bundle(place, folder)


def _run_bundle(place: Workplace, rng: np.random.Generator) -> str:
    from tools.fuzz.archives import copy_bundle, spoil_bundle

    return _open_bundle(place, spoil_bundle(copy_bundle(place.material.bundle, place.folder / "bundle"), rng))


def _open_bundle(place: Workplace, path: Path) -> str:
    """Opens a bundle, and scores a file with each of its backends."""
    from dfkit.runtime.bundle import open_bundle
    from dfkit.runtime.detector import Detector
    from tools.fuzz.contract import check_result

    bundle, outcome = open_bundle(path), "opened"
    video = place.material.folder / "videos" / "fast.mp4"
    for backend in bundle.manifest.backends:
        result = Detector(bundle, backend=backend, decoder_threads=1).detect(video)
        place.faults += check_result(result)
        outcome = result.status if result.verdict is None else f"ok, {result.verdict}"
    return outcome


def _run_checkpoint(place: Workplace, rng: np.random.Generator) -> str:
    from dfkit.models.checkpoint import load_checkpoint
    from tools.fuzz.archives import spoil_checkpoint

    bases = place.material.weights()
    base = bases[int(rng.integers(len(bases)))]
    path = place.write(f"case{base.suffix}", spoil_checkpoint(base.read_bytes(), rng))
    load_checkpoint(path, ("raw", "ema", None, None)[int(rng.integers(4))])  # type: ignore[arg-type]
    return "loaded"


def _run_yaml(place: Workplace, rng: np.random.Generator) -> str:
    from dfkit.experiment import read_config
    from tools.fuzz.documents import make_yaml

    read_config(place.write("case.yaml" if rng.random() < 0.9 else "case.json", make_yaml(rng)))
    return "read"


def _run_csv(place: Workplace, rng: np.random.Generator) -> str:
    from dfkit.data.labels import is_label_table, read_csv
    from tools.fuzz.documents import make_csv

    for name in ("a.mp4", "b.mp4"):
        place.write(name, name.encode())
    path = place.write("case.csv", make_csv(rng))
    is_label_table(path)
    labels = read_csv(path, unlabelled=bool(rng.integers(2)))
    for source in labels.sources:
        if source.label not in (0, 1, None) or not 0 <= labels.coverage <= 1:
            place.faults.append(f"label {source.label} of {source.path}")
    return "read"


def _run_stream(place: Workplace, rng: np.random.Generator) -> str:
    from tools.fuzz.pushed import PushedCase

    case = PushedCase(place.detector, place.material.heads, rng)
    outcome = case.run()
    place.faults += case.faults
    return outcome


KINDS: dict[str, Runner] = {
    "mp4": _run_mp4,
    "ts": _run_ts,
    "mkv": _run_mkv,
    "other": _run_other,
    "made": _run_made,
    "shared": _run_shared,
    "bundle": _run_bundle,
    "manifest": _run_manifest,
    "checkpoint": _run_checkpoint,
    "yaml": _run_yaml,
    "csv": _run_csv,
    "stream": _run_stream,
}
ROUND = ("mp4", "ts", "mkv", "made", "yaml", "mp4", "stream", "checkpoint", "ts", "made", "csv", "manifest", "mkv",
         "mp4", "other", "bundle", "made", "yaml", "csv", "checkpoint", "manifest")  # fmt: skip
"""Order of the kinds in a run, again and again: what takes long and is new comes most often."""
