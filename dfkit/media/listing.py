"""Which files of a folder are videos, and what was left out and why: one scanner for every command.

A file is judged by the end of its name; one that is named itself is always taken. Two ends of names are shared with
source code (`.ts`, `.mts`): there the first bytes decide.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

SUFFIXES_BY_FORMAT = {
    "mov": (".mov", ".qt"),
    "mp4": (".mp4", ".m4v", ".f4v", ".ismv"),
    "3gp": (".3gp", ".3gpp"),
    "3g2": (".3g2", ".3gp2"),
    "mj2": (".mj2",),
    "matroska": (".mkv", ".mk3d"),
    "webm": (".webm",),
    "mpeg": (".mpg", ".mpeg", ".vob", ".mod", ".m2p", ".evo"),
    "mpegts": (".ts", ".mts", ".m2ts", ".m2t", ".tod", ".trp"),
    "mpegvideo": (".m1v", ".m2v", ".mpv"),
    "avi": (".avi", ".divx", ".xvid"),
    "flv": (".flv",),
    "asf": (".wmv", ".asf", ".wm"),
    "ogg": (".ogv", ".ogm", ".ogx"),
    "h264": (".h264", ".264", ".avc"),
    "hevc": (".h265", ".265", ".hevc"),
    "mxf": (".mxf",),
    "nut": (".nut",),
}
"""Names' ends by the demuxer of `dfkit.media.container.FORMATS` that reads them (`m4a` is sound, `m4v` is in mp4)."""
VIDEO_SUFFIXES = tuple(suffix for suffixes in SUFFIXES_BY_FORMAT.values() for suffix in suffixes)
SNIFFED = (".ts", ".mts")
"""Also the ends of TypeScript's and Qt's files: a video begins in packets of a transport stream."""
_KINDS = {
    "sound file": (
        ".wav .mp3 .m4a .m4b .aac .ac3 .eac3 .flac .ogg .oga .opus .spx .wma .aif .aiff .aifc .amr .caf .au .ape .mka"
        " .mp2 .mid .midi .weba .dts .alac"
    ),
    "picture": (
        ".jpg .jpeg .jpe .jfif .png .gif .apng .bmp .tif .tiff .webp .heic .heif .avif .ppm .pgm .svg .raw .dng .cr2"
        " .nef .arw .psd .ico .jp2"
    ),
    "video of a kind that is not read": ".rm .rmvb .dv .swf .wtv .dvr-ms .y4m .ivf .bik .amv .nsv .dav .gxf .yuv .av1",
    "archive to be unpacked": ".zip .rar .7z .tar .gz .tgz .bz2 .xz .zst .alz .egg .001",
    "unfinished download": ".part .crdownload .download .partial .!ut .aria2 .filepart .opdownload",
    "subtitles": ".srt .vtt .ass .ssa .sub .smi .sbv",
}
KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}
UNKNOWN, HIDDEN = "unknown suffix", "hidden"
NOT_TRANSPORT_STREAM = "no MPEG transport stream (TypeScript?)"
BROKEN_LINK, NOT_REGULAR, SEEN_FOLDER = "broken link", "not a regular file", "link to a folder read already"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:[/\\]", re.IGNORECASE)
_PACKET_BYTES = (188, 192, 204)
"""Of a transport stream: plain, with a time stamp before each (cameras, Blu-ray), with error correction."""
_SNIFFED_BYTES = 4096
_SHOWN = 5


@dataclass
class Listing:
    """Videos that were found, and counts of what was left out."""

    videos: list[Path] = field(default_factory=list)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (reason, suffix); the suffix is empty where it does not matter."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that could not be opened, with the system's reason."""

    def add(self, other: Listing) -> None:
        """Takes in what another listing found."""
        self.videos += other.videos
        self.left_out.update(other.left_out)
        self.unreadable += other.unreadable

    def notes(self) -> list[str]:
        """What was left out, in at most two lines; none where nothing was."""
        lines = []
        if self.left_out:
            lines.append(f"left out: {', '.join(self._counted())}")
        if self.unreadable:
            more = f" and {len(self.unreadable) - _SHOWN} more" if len(self.unreadable) > _SHOWN else ""
            shown = ", ".join(self.unreadable[:_SHOWN])
            noun = "folder" if len(self.unreadable) == 1 else "folders"
            lines.append(f"{len(self.unreadable)} {noun} that cannot be opened: {shown}{more}")
        return lines

    def _counted(self) -> Iterator[str]:
        ordered = sorted(self.left_out.items(), key=lambda entry: (-entry[1], entry[0]))
        for (reason, suffix), count in ordered:
            yield f"{count} {suffix} ({reason})" if suffix else f"{count} ({reason})"


def list_folder(folder: str | Path) -> Listing:
    """The videos of a folder at any depth, sorted; hidden files and folders are left out.

    Links to folders are followed, each folder is read once, and none above the one given: loops end.

    Args:
        folder: It may be hidden itself; nothing is found in one that is not there.
    Returns:
        What was found; a folder that cannot be opened is named, not raised.
    """
    listing = Listing()
    top = Path(folder)
    if not _mode(top):
        return listing
    seen = {_identity(place) for place in (top.resolve(), *top.resolve().parents)} - {_identity(top)}
    waiting = [top]
    while waiting:
        # Real folders before links to them: a file is listed under its own name.
        linked: list[Path] = []
        while waiting:
            _read_folder(waiting.pop(), listing, seen, waiting, linked)
        waiting = sorted(linked, reverse=True)
    listing.videos.sort()
    return listing


def _read_folder(folder: Path, listing: Listing, seen: set[object], inside: list[Path], linked: list[Path]) -> None:
    identity = _identity(folder)
    if identity in seen:
        listing.left_out[SEEN_FOLDER, ""] += 1
        return
    seen.add(identity)
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        listing.unreadable.append(f"{folder} ({error.strerror or error})")
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            listing.left_out[HIDDEN, ""] += 1
        elif _is_folder(entry):
            (linked if entry.is_symlink() else inside).append(path)
        elif reason := reason_left_out(path):
            listing.left_out[reason, path.suffix.lower()] += 1
        else:
            listing.videos.append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Without asking the disk again, but for links; those that lead in a circle or may not be followed are none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _mode(path: Path) -> int:
    """Type of what a name leads to, as of `os.stat`; of a broken link its own, 0 where the system does not tell."""
    for look in (path.stat, path.lstat):
        try:
            return look().st_mode
        except (OSError, ValueError):
            continue
    return 0


def _identity(folder: Path) -> object:
    """What two names of one folder share; some network drives number no files, their resolved path stands for it."""
    try:
        facts = folder.stat()
    except OSError:
        return folder
    return (facts.st_dev, facts.st_ino) if facts.st_ino else folder.resolve()


def reason_left_out(path: Path) -> str | None:
    """Why a file that lies in a folder is not taken for a video; None where it is."""
    suffix = path.suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        return KIND_OF_SUFFIX.get(suffix, UNKNOWN)
    mode = _mode(path)
    if stat.S_ISLNK(mode):
        return BROKEN_LINK
    if mode and not stat.S_ISREG(mode):
        return NOT_REGULAR
    if suffix in SNIFFED and not may_be_transport_stream(path):
        return NOT_TRANSPORT_STREAM
    return None


def may_be_transport_stream(path: Path) -> bool:
    """Whether a file begins in packets of an MPEG transport stream, or cannot be opened to see.

    Packets begin with the byte 0x47; a recording may begin within one (ISO/IEC 13818-1, 2.4.3.2).
    """
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFFED_BYTES)
    except OSError:
        return True
    for size in _PACKET_BYTES:
        for start in range(min(size, len(head))):
            packets = head[start::size]
            # Nine packets fit in what was read; of a shorter file all that there are.
            if set(packets) == {0x47} and (len(packets) > 2 or len(head) < 3 * size):
                return True
    return False


def sub_folders(folder: Path) -> list[Path]:
    """Folders in a folder, sorted, without hidden ones; none where it is none or cannot be opened."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if _is_folder(entry) and not entry.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def list_videos(folder: str | Path) -> list[Path]:
    """Video files at any depth, sorted; what is left out is not told, see `list_folder`."""
    return list_folder(folder).videos


class Named(NamedTuple):
    """What a list of arguments names."""

    listing: Listing
    """Each file once, in the order given; files named by themselves are not looked at."""
    empty: list[str]
    """Messages for folders without a video and patterns without a match."""


def find_named(paths: Iterable[str | Path]) -> Named:
    """Videos that arguments name: files, folders, and patterns such as `videos/*.mp4` that no shell expanded.

    Args:
        paths: In the order to be read. A name that exists is never a pattern.
    Returns:
        The videos, and what held none.
    """
    listing, empty = Listing(), []
    for path in map(Path, paths):
        found = _expand(path)
        listing.add(found)
        if not found.videos:
            empty.append(_nothing_found(path, found))
    listing.videos = list(dict.fromkeys(listing.videos))
    return Named(listing, empty)


def _expand(path: Path) -> Listing:
    if stat.S_ISDIR(_mode(path)):
        return list_folder(path)
    return expand_pattern(path) if is_pattern(path) else Listing([path])


def _nothing_found(path: Path, found: Listing) -> str:
    if is_pattern(path):
        return f"no file matches the pattern {path}"
    return "; ".join([f"folder {path} holds no video ({' '.join(VIDEO_SUFFIXES)})", *found.notes()])


def is_pattern(path: Path) -> bool:
    """Whether a name that does not exist has the wild cards `*` or `?`; an address may have them, too."""
    # Path makes one slash of an address's two; a drive of Windows is one letter.
    return _has_wild_card(str(path)) and _ADDRESS.match(str(path)) is None and not _mode(path)


def expand_pattern(path: Path) -> Listing:
    """Files that match a pattern, `**` for folders at any depth; folders that match are read.

    A pattern that ends in a suffix (`*.dat`) names files by themselves; of others (`videos/*`) the videos are taken.
    Brackets are plain: they are part of names ("clip [1].mp4") more often than of patterns.
    """
    first = next(place for place, part in enumerate(path.parts) if _has_wild_card(part))
    top = Path(*path.parts[:first])
    if "**" in path.parts:
        return _expand_deep(top, path.parts[first:])
    listing = Listing()
    for match in _expand_parts(top, path.parts[first:]):
        if stat.S_ISDIR(_mode(match)):
            listing.add(list_folder(match))
        elif path.suffix and not _has_wild_card(path.suffix):
            listing.videos.append(match)
        elif reason := reason_left_out(match):
            listing.left_out[reason, match.suffix.lower()] += 1
        else:
            listing.videos.append(match)
    return listing


def _expand_parts(top: Path, pattern: Sequence[str]) -> list[Path]:
    """Names that match a pattern, part by part; hidden ones only where the pattern's part is hidden, too."""
    found = [top]
    for part in pattern:
        if _has_wild_card(part):
            found = [folder / name for folder in found for name in _names_in(folder) if _fits(name, part)]
        else:
            found = [folder / part for folder in found if _mode(folder / part)]
    return found


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def _expand_deep(top: Path, pattern: Sequence[str]) -> Listing:
    """`**` by the scanner, in which loops of links end."""
    listing = list_folder(top) if stat.S_ISDIR(_mode(top)) else Listing()
    listing.videos = [video for video in listing.videos if _matches(video.relative_to(top).parts, pattern)]
    return listing


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        rest = pattern[1:] or ("*",)
        return any(_matches(parts[start:], rest) for start in range(len(parts)))
    return bool(parts) and _fits(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _fits(name: str, pattern: str) -> bool:
    shown = not name.startswith(".") or pattern.startswith(".")
    return shown and fnmatch(name, pattern.replace("[", "[[]"))


def _has_wild_card(text: str) -> bool:
    return any(sign in text for sign in "*?")
