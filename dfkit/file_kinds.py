"""Says what a file is that is not what it was given for: a Git LFS pointer, a web page, a picture, an archive, …

`foreign_kind(path, "video")` reads the first bytes (of an MP4 the list of its boxes, too) and gives None where nothing
speaks against the file, else a `ForeignKind`: `found` goes behind the path in a message, `fix` behind `Fix:`, and
`name` is a key for code and tests. Only what is certain is said: encrypted files without a mark of their own, for
example, are not told from noise. Nothing is decoded, and pipes and folders are never opened.

    kind = foreign_kind(path, "video")
    if kind is not None:
        raise MediaError(f"{path}: {kind.found}", status="unreadable", fix=kind.fix)
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

Wanted = Literal["video", "checkpoint", "configuration"]
WANTED: dict[Wanted, str] = {
    "video": "a video file with sound, such as .mp4",
    "checkpoint": "a checkpoint: .pth, .pt, .ckpt or .safetensors",
    "configuration": "a configuration in YAML, such as configs/default.yaml",
}
"""What a caller takes, for the fix."""
PROPER: dict[Wanted, frozenset[str]] = {
    "video": frozenset({"video"}),
    "checkpoint": frozenset({"checkpoint", "safetensors", "pickle"}),
    "configuration": frozenset({"text", "json", "playlist"}),  # `[playlist]` is YAML, too
}
"""Kinds that speak for a file, by what is wanted; a pickle may hold weights, which its reader finds out."""
HEAD_BYTES = 4096
BLOCK_BYTES = 1 << 20
MAX_BOXES = 10_000
MAX_MOOV_BYTES = 64 << 20
"""Of an index that is searched for marks of encryption."""


@dataclass(frozen=True)
class ForeignKind:
    """What a file is instead of what was wanted."""

    name: str
    """`empty`, `zeros`, `lfs_pointer`, `web_page`, `server_error`, `json`, `picture`, `document`, `archive`, `npz`,
    `bundle`, `encrypted`, `model`, `checkpoint`, `safetensors`, `pickle`, `sound`, `video`, `playlist`, `subtitle`,
    `text`, `incomplete`."""
    found: str
    """Such as `a Git LFS pointer, not the file itself`; goes behind `PATH: `."""
    fix: str
    """What to do about it."""


FIX_LFS = "git lfs install && git lfs pull, in the repository that it comes from"
FIX_PAGE = "download the file itself: open the address in a browser (a login or a confirmation may be asked for there)"
FIX_COPY = "download or copy it again, and wait for the end"
FIX_DECRYPT = "decrypt it first, with the program and the key that it was encrypted with"
FIX_UNPACK = "unpack it, and give what is inside"

MARKS: tuple[tuple[bytes, int, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "picture", "a picture (PNG)"),
    (b"\xff\xd8\xff", 0, "picture", "a picture (JPEG)"),
    (b"GIF8", 0, "picture", "a picture (GIF)"),
    (b"II*\x00", 0, "picture", "a picture (TIFF)"),
    (b"MM\x00*", 0, "picture", "a picture (TIFF)"),
    (b"8BPS", 0, "picture", "a picture (Photoshop)"),
    (b"\xff\x0a", 0, "picture", "a picture (JPEG XL)"),
    (b"\x00\x00\x00\x0cJXL ", 0, "picture", "a picture (JPEG XL)"),
    (b"%PDF-", 0, "document", "a PDF document"),
    (b"{\\rtf", 0, "document", "a text document (RTF)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0, "document", "an Office document"),
    (b"\x1f\x8b", 0, "archive", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", 0, "archive", "a 7z archive"),
    (b"Rar!\x1a\x07", 0, "archive", "a RAR archive"),
    (b"\xfd7zXZ\x00", 0, "archive", "an xz archive"),
    (b"BZh", 0, "archive", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", 0, "archive", "a Zstandard archive"),
    (b"ustar", 257, "archive", "a tar archive"),
    (b"Salted__", 0, "encrypted", "encrypted by OpenSSL"),
    (b"-----BEGIN PGP MESSAGE-----", 0, "encrypted", "encrypted by PGP"),
    (b"age-encryption.org/v1", 0, "encrypted", "encrypted by age"),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", 0, "encrypted", "encrypted by age"),
    (b"$ANSIBLE_VAULT;", 0, "encrypted", "encrypted by Ansible Vault"),
    (b"LUKS\xba\xbe", 0, "encrypted", "an encrypted disk image (LUKS)"),
    (b"TFL3", 4, "model", "a model for TensorFlow Lite (.tflite)"),
    (b"ET12", 4, "model", "a model for ExecuTorch (.pte)"),
    (b"GGUF", 0, "model", "a language model (GGUF)"),
    (b"\x89HDF\r\n\x1a\n", 0, "model", "an HDF5 file, as Keras stores weights"),
    (b"\x93NUMPY", 0, "npz", "a NumPy array (.npy)"),
    (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 0, "checkpoint", "a checkpoint of PyTorch"),
    (b"ID3", 0, "sound", "a sound file (MP3)"),
    (b"fLaC", 0, "sound", "a sound file (FLAC)"),
    (b"#!AMR", 0, "sound", "a sound file (AMR)"),
    (b"MThd", 0, "sound", "a sound file (MIDI)"),
    (b"caff", 0, "sound", "a sound file (CAF)"),
    (b"\x1a\x45\xdf\xa3", 0, "video", "a video (Matroska or WebM)"),
    (b"FLV\x01", 0, "video", "a video (FLV)"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, "video", "a video (WMV)"),
    (b"\x00\x00\x01\xba", 0, "video", "a video (MPEG)"),
    (b"\x00\x00\x01\xb3", 0, "video", "a video (MPEG)"),
    (b"OggS", 0, "video", "a recording (Ogg)"),
)
"""Bytes, where they stand, kind, and what is said; the first that fits counts."""
RIFF = {b"WEBP": ("picture", "a picture (WebP)"), b"WAVE": ("sound", "a sound file (WAV)"),
        b"AVI ": ("video", "a video (AVI)"), b"RMID": ("sound", "a sound file (MIDI)")}  # fmt: skip
"""By the four bytes behind the size."""
PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")
SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ")
UNFINISHED_SUFFIXES = (".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".aria2", ".!ut")
ENCRYPTED_ENTRY = re.compile(rb"stsd\x00{4}.{4}.{4}(enc[va])|\x00.{3}(pssh)[\x00\x01]\x00{3}", re.S)
"""In an MP4's index: a sample entry of encrypted pictures or sound, or the box of a DRM system (ISO/IEC 23001-7)."""
PROLOGUE = r"(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*"
SUBTITLE = re.compile(rf"(?:WEBVTT|\[Script Info\]|\d+\r?\n\d+:\d\d:\d\d[,.]\d+ --> |{PROLOGUE}<(?:tt|smil)\b)", re.S)
PLAYLIST = re.compile(rf"(?:#EXTM3U|\[playlist\]|\[InternetShortcut\]|{PROLOGUE}<MPD\b)", re.S)
TEXTS: tuple[tuple[re.Pattern[str], str, str, str | None], ...] = (
    (
        re.compile(r"version https://(?:git-lfs|hawser)\.github\.com/spec/"),
        "lfs_pointer",
        "a Git LFS pointer, not the file itself",
        FIX_LFS,
    ),
    (
        re.compile(r"(?:\.\./)*(?:\.git)?/annex/objects/"),
        "lfs_pointer",
        "a git-annex pointer, not the file itself",
        "git annex get FILE, in the repository that it comes from",
    ),
    (
        PLAYLIST,
        "playlist",
        "a playlist or a link, not a recording",
        "save what it names as a file, and give that file",
    ),
    (
        re.compile(rf"{PROLOGUE}<(?:!doctype\s+html|html|head|body|script|title|meta)\b", re.I | re.S),
        "web_page",
        "a web page (HTML) saved in place of the file",
        FIX_PAGE,
    ),
    (
        re.compile(rf"{PROLOGUE}<(?:Error|Code|AccessDenied)>", re.S),
        "server_error",
        "a server's error message (XML), {start}",
        FIX_PAGE,
    ),
    (re.compile(rf"{PROLOGUE}(?:<!DOCTYPE svg[^>]*>\s*)?<svg\b", re.S), "picture", "a picture (SVG)", None),
    (SUBTITLE, "subtitle", "subtitles, not a recording", None),
)
"""How text starts, kind, what is said, and the fix; None where it is to give another file."""
ONNX = re.compile(rb"\x08[\x03-\x14][\x12\x1a\x22\x2a\x32\x3a\x42]", re.S)


def foreign_kind(path: str | Path, wanted: Wanted = "video") -> ForeignKind | None:
    """What a file is, where that is certainly not what was wanted.

    Args:
        path: An existing file; of anything else nothing is said.
        wanted: What the caller reads.
    Returns:
        None where nothing speaks against the file: it is of the wanted kind, or of no kind that is known here.
    Raises:
        OSError: The file cannot be read.
    """
    kind = kind_of(path, wanted)
    return None if kind is None or kind.name in PROPER[wanted] else kind


def kind_of(path: str | Path, wanted: Wanted) -> ForeignKind | None:
    """As `foreign_kind`, the wanted kinds named, too."""
    path = Path(path)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if not head:
            return ForeignKind("empty", "an empty file (0 bytes)", FIX_COPY)
        if not any(head):
            return _zeros(file, path.stat().st_size)
        give = f"give {WANTED[wanted]}"
        kind = _text_kind(head, give) or _marked_kind(path, head, give) or _boxes_kind(file, head, give)
    unfinished = next((s for s in UNFINISHED_SUFFIXES if path.name.lower().endswith(s)), None)
    if unfinished is not None and (kind is None or kind.name == "video"):
        return ForeignKind("incomplete", f"an unfinished download, by its name ({unfinished})", FIX_COPY)
    return kind


def _zeros(file: BinaryIO, size: int) -> ForeignKind:
    """A download or copy whose place is kept and whose content is not there yet."""
    file.seek(0)
    zeros = 0
    while block := file.read(BLOCK_BYTES):
        rest = block.lstrip(b"\0")
        zeros += len(block) - len(rest)
        if rest:
            found = f"an incomplete download: its first {zeros} of {size} bytes are zeros"
            return ForeignKind("zeros", found, FIX_COPY)
    return ForeignKind("zeros", f"an incomplete download: all its {size} bytes are zeros", FIX_COPY)


def _text_kind(head: bytes, give: str) -> ForeignKind | None:
    """Kinds of text; None for what is none."""
    text = _text_of(head)
    if text is None:
        return None
    start = text.lstrip()
    if start[:1] in ("{", "[") and not PLAYLIST.match(start) and not SUBTITLE.match(start):
        return _json_kind(start, give)
    for pattern, name, found, fix in TEXTS:
        if pattern.match(start):
            return ForeignKind(name, found.format(start=_quoted(start)), fix or give)
    if any(head.startswith(mark) for mark, _, name, _ in MARKS if name in ("document", "encrypted")):
        return None  # PDF, and what was encrypted for a mail
    return ForeignKind("text", f"a text file, which begins with {_quoted(start)}", give)


def _text_of(head: bytes) -> str | None:
    """The first bytes as text; None where they are none."""
    encoding = "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and not head.startswith(b"\xff\xfe\x00\x00"):
        encoding = "utf-16"
    for cut in range(4):  # a character may be cut in two
        try:
            text = head[: len(head) - cut].decode(encoding)
        except UnicodeDecodeError:
            if len(head) < HEAD_BYTES:
                return None
            continue
        return None if re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text) else text
    return None


def _json_kind(start: str, give: str) -> ForeignKind:
    try:
        content = json.loads(start)
    except (ValueError, RecursionError):
        content = None
    told = {"error", "errors", "message", "detail", "status_code"}
    if isinstance(content, dict) and told & {str(key).lower() for key in content}:
        return ForeignKind("server_error", f"a server's error message (JSON), {_quoted(start)}", FIX_PAGE)
    return ForeignKind("json", f"a text file (JSON), which begins with {_quoted(start)}", give)


def _quoted(text: str) -> str:
    line = " ".join(text[:200].split())
    return repr(line if len(line) <= 60 else f"{line[:60]}...")


def _marked_kind(path: Path, head: bytes, give: str) -> ForeignKind | None:
    """Kinds that their first bytes tell."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(path, head, give)
    if head.startswith((b"RIFF", b"RF64")) and (riff := RIFF.get(head[8:12])):
        return ForeignKind(*riff, give)
    fixes = {"archive": FIX_UNPACK, "encrypted": FIX_DECRYPT, "model": _model_fix(give)}
    marked = next(((n, found) for mark, at, n, found in MARKS if head[at : at + len(mark)] == mark), None)
    marked = marked or _weakly_marked(path, head)
    return None if marked is None else ForeignKind(*marked, fixes.get(marked[0], give))


def _weakly_marked(path: Path, head: bytes) -> tuple[str, str] | None:
    """Kind and words where few bytes are the mark, and size or suffix have to agree."""
    size, suffix = path.stat().st_size, path.suffix.lower()
    told = (
        (
            head[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9"),
            ("sound", "a sound file (MP3 or AAC)"),
        ),
        (head[:2] == b"BM" and int.from_bytes(head[2:6], "little") == size, ("picture", "a picture (BMP)")),
        (head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), ("pickle", "a pickle of Python")),
        (
            head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size,
            ("safetensors", "a safetensors file"),
        ),
        (suffix == ".onnx" and ONNX.match(head) is not None, ("model", "a model for ONNX Runtime (.onnx)")),
        # An OpenPGP packet of a session key; its first byte alone proves little.
        (suffix in (".gpg", ".pgp") and head[0] in (0x84, 0x85, 0x8C, 0xC1, 0xC3), ("encrypted", "encrypted by PGP")),
    )
    return next((kind for fits, kind in told if fits), None)


def _model_fix(give: str) -> str:
    return f"{give}; what is inside of a model shows dfkit inspect FILE"


def _zip_kind(path: Path, head: bytes, give: str) -> ForeignKind:
    if head.startswith(b"PK\x03\x04") and len(head) > 6 and head[6] & 1:
        return ForeignKind("encrypted", "an encrypted zip archive", "unpack it with its password")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        # Its list of contents stands at the end. The first name tells a checkpoint of PyTorch.
        what = "checkpoint of PyTorch" if b"/data.pkl" in head or b"/.format_version" in head else "zip archive"
        return ForeignKind("incomplete", f"a {what} of which the end is missing", FIX_COPY)
    told = (
        (any(name.endswith("data.pkl") for name in names), "checkpoint", "a checkpoint of PyTorch", give),
        (
            any(re.fullmatch(r"([^/]+/)?manifest\.json", name) for name in names),
            "bundle",
            "a bundle, or another archive with a manifest",
            "give a bundle with --bundle",
        ),
        ("[Content_Types].xml" in names, "document", "an Office document", give),
        (bool(names) and all(name.endswith(".npy") for name in names), "npz", "NumPy arrays (.npz)", give),
        (True, "archive", f"a zip archive of {len(names)} files", FIX_UNPACK),
    )
    return next(ForeignKind(*kind) for fits, *kind in told if fits)


def _boxes_kind(file: BinaryIO, head: bytes, give: str) -> ForeignKind | None:
    """Kinds that an MP4's list of boxes tells; None for a file of other boxes."""
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in PICTURE_BRANDS:
        return ForeignKind("picture", f"a picture ({'AVIF' if brand == b'avif' else 'HEIC'})", give)
    if brand in SOUND_BRANDS:
        return ForeignKind("sound", "a sound file (M4A)", give)
    if head[4:8] not in (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip"):
        return None
    boxes = list(_top_boxes(file))
    names = {name for name, _, _ in boxes}
    if "moov" in names:
        return _encryption(file, boxes) or ForeignKind("video", "a video (MP4)", give)
    if not names & {"ftyp", "mdat"}:
        return None
    found = "an incomplete upload or recording: an MP4 without its index (the `moov` box, which a camera writes last)"
    return ForeignKind("incomplete", found, f"{FIX_COPY}; untrunc mends what a camera did not finish")


def _encryption(file: BinaryIO, boxes: list[tuple[str, int, int]]) -> ForeignKind | None:
    for name, start, size in boxes:
        if name == "moov" and size <= MAX_MOOV_BYTES:
            file.seek(start)
            if mark := ENCRYPTED_ENTRY.search(file.read(size)):
                box = (mark[1] or mark[2]).decode()
                found = f"an encrypted video (box `{box}`), as shops and streaming services send it"
                return ForeignKind("encrypted", found, "use a copy without copy protection")
    return None


def _top_boxes(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """(name, start, bytes) of each box at the top of a file, up to what is no box."""
    end = file.seek(0, 2)
    start = 0
    for _ in range(MAX_BOXES):
        file.seek(start)
        header = file.read(16)
        if len(header) < 8 or not re.fullmatch(rb"[A-Za-z0-9 \xa9_-]{4}", header[4:8]):
            return
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        elif size == 0:
            size = end - start
        if size < 8:
            return
        yield header[4:8].decode("latin-1"), start, min(size, end - start)
        start += size
