"""What a folder looks like that is nearly a known data set: which one, and what of it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dfkit.data.layouts import dfdc, faceforensics, fakeavceleb, kodf, periods

SAMPLED_VIDEOS = 50
"""Of a folder without labels; names of one kind throughout are no chance."""


def near_layout(root: Path, videos: Iterable[Path] = ()) -> str | None:
    """A sentence such as "this looks like DFDC, but metadata.json is missing"; None where it looks like nothing.

    Args:
        root: A folder that no layout takes.
        videos: Files found below it.
    """
    if not root.is_dir():
        return None
    found = next(_signs(root, [path.name for path in videos][:SAMPLED_VIDEOS]), None)
    if found is None:
        return None
    name, lacking = found
    return f"this looks like {name}, but {lacking}"


def _signs(root: Path, videos: list[str]) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except OSError:
        return
    for check in _CHECKS:
        yield from check(root, names, videos)


def _near_dfdc(root: Path, names: list[str], videos: list[str]) -> Iterator[tuple[str, str]]:
    del videos
    if root.name.lower().startswith("dfdc_train_part") or any(n.lower().startswith("dfdc_train_part") for n in names):
        yield "DFDC", f"{dfdc.META_FILE} with a label REAL or FAKE per file is missing"


def _near_faceforensics(root: Path, names: list[str], videos: list[str]) -> Iterator[tuple[str, str]]:
    del root, videos
    tops = (faceforensics.ORIGINALS, faceforensics.MANIPULATED)
    there = [top for top in tops if top in names]
    if there:
        (lacking,) = set(tops) - set(there)
        yield "FaceForensics++", f"{lacking}/ is missing"


def _near_celebdf(root: Path, names: list[str], videos: list[str]) -> Iterator[tuple[str, str]]:
    del root, videos
    lacking = [folder for folder in ("Celeb-real", "Celeb-synthesis") if folder not in names]
    if len(lacking) == 1 or "YouTube-real" in names:
        yield "Celeb-DF", f"{' and '.join(f'{folder}/' for folder in lacking)} is missing"


def _near_fakeavceleb(root: Path, names: list[str], videos: list[str]) -> Iterator[tuple[str, str]]:
    del root, videos
    if fakeavceleb.META_FILE in names or "FakeAVCeleb" in names:
        yield "FakeAVCeleb", f"none of the folders {', '.join(fakeavceleb.TYPES)} is there"


def _near_kodf(root: Path, names: list[str], videos: list[str]) -> Iterator[tuple[str, str]]:
    del root, videos
    if any(name.startswith(("원본영상", "변조영상", "원천데이터", "라벨링데이터")) for name in names):
        yield "KoDF", f"the tables {kodf.EXPECTED} are missing"


def _near_deepfake1m(root: Path, names: list[str], videos: list[str]) -> Iterator[tuple[str, str]]:
    del root
    is_named = videos and {Path(name).stem for name in videos} <= _DEEPFAKE1M_STEMS
    if is_named or any(name.startswith(f"{split}_metadata") for split in periods.DEEPFAKE1M_SPLITS for name in names):
        yield "AV-Deepfake1M", "train_metadata.json (or train_metadata/ with one JSON per video) is missing"


def _near_lavdf(root: Path, names: list[str], videos: list[str]) -> Iterator[tuple[str, str]]:
    del root
    has_meta = any(name in names for name in periods.LAVDF_FILES)
    numbered = bool(videos) and all(len(Path(name).stem) == 6 and Path(name).stem.isdecimal() for name in videos)
    if has_meta and not any(split in names for split in ("train", "dev", "test")):
        yield "LAV-DF or DFDC", "metadata.json is of neither kind, or the folders train/, dev/, test/ are missing"
    elif "dev" in names and numbered and not has_meta:
        yield "LAV-DF", "metadata.json is missing"


_DEEPFAKE1M_STEMS = {"real", "real_video_fake_audio", "fake_video_real_audio", "fake_video_fake_audio"}
_CHECKS: tuple[Callable[[Path, list[str], list[str]], Iterator[tuple[str, str]]], ...] = (
    _near_dfdc,
    _near_faceforensics,
    _near_celebdf,
    _near_fakeavceleb,
    _near_kodf,
    _near_deepfake1m,
    _near_lavdf,
)
