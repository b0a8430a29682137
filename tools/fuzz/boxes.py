"""MP4, by its boxes (ISO/IEC 14496-12): sizes, tables, edit lists, matrices and clocks are changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tools.fuzz.damage import extreme, shuffle_parts

HOLDERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"moof", b"traf", b"mvex"})
TABLES = (b"stsz", b"stco", b"co64", b"stts", b"stsc", b"ctts", b"stss", b"elst", b"trun", b"tfhd", b"tfdt", b"sidx")
HEADERS = (b"mdhd", b"mvhd", b"tkhd", b"stsd", b"hdlr", b"trex", b"mehd", b"mfhd", b"dref", b"ftyp")
MATRIX_AT = 40
"""Of a `tkhd` of version 0: nine words."""
CLOCK_AT = 12
"""Timescale of `mdhd` and `mvhd` of version 0; the duration follows."""


@dataclass
class Box:
    """One box; a holder has children, others bytes."""

    kind: bytes
    payload: bytes = b""
    children: list[Box] = field(default_factory=list)
    stated_size: int | None = None
    """In place of its own, where the header is to lie."""

    def to_bytes(self) -> bytes:
        body = b"".join(child.to_bytes() for child in self.children) if self.kind in HOLDERS else self.payload
        size = len(body) + 8 if self.stated_size is None else self.stated_size
        return (size % (1 << 32)).to_bytes(4, "big") + self.kind + body


def parse(content: bytes) -> list[Box]:
    """Boxes of an undamaged file."""
    boxes, place = [], 0
    while place + 8 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        end = place + size if size >= 8 else len(content)
        body = content[place + 8 : end]
        boxes.append(Box(kind, children=parse(body)) if kind in HOLDERS else Box(kind, body))
        place = end
    return boxes


def walk(boxes: list[Box]) -> Iterator[tuple[list[Box], Box]]:
    """Every box with the list that holds it."""
    for box in boxes:
        yield boxes, box
        yield from walk(box.children)


def change_boxes(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes one to four things of a file's boxes."""
    boxes = parse(content)
    for _ in range(int(rng.integers(1, 5))):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        change(boxes, rng)
    return b"".join(box.to_bytes() for box in boxes)


def _pick(boxes: list[Box], rng: np.random.Generator, kinds: tuple[bytes, ...] = ()) -> tuple[list[Box], Box] | None:
    found = [entry for entry in walk(boxes) if not kinds or entry[1].kind in kinds]
    return found[int(rng.integers(len(found)))] if found else None


def _patch(box: Box, place: int, value: int, *, length: int = 4) -> None:
    data = bytearray(box.payload)
    data[place : place + length] = (value % (1 << 8 * length)).to_bytes(length, "big")
    box.payload = bytes(data)


def _set_words(boxes: list[Box], rng: np.random.Generator, kinds: tuple[bytes, ...]) -> None:
    picked = _pick(boxes, rng, kinds)
    if picked is None or len(picked[1].payload) < 8:
        return
    box = picked[1]
    for _ in range(int(rng.integers(1, 4))):
        place = 4 * int(rng.integers(1, min(len(box.payload) // 4, 24) + 1)) - 4
        _patch(box, place, extreme(rng, old=int.from_bytes(box.payload[place : place + 4], "big")))


def _table(boxes: list[Box], rng: np.random.Generator) -> None:
    _set_words(boxes, rng, TABLES)


def _header(boxes: list[Box], rng: np.random.Generator) -> None:
    _set_words(boxes, rng, HEADERS)


def _whole_table(boxes: list[Box], rng: np.random.Generator) -> None:
    """Every entry of a table becomes one number, or the entries change places."""
    picked = _pick(boxes, rng, TABLES)
    if picked is None or len(picked[1].payload) < 16:
        return
    box = picked[1]
    words = np.frombuffer(box.payload[8 : len(box.payload) // 4 * 4], ">u4").copy()
    if rng.integers(2):
        words[:] = extreme(rng)
    else:
        rng.shuffle(words)
    box.payload = box.payload[:8] + words.tobytes()


def _clock(boxes: list[Box], rng: np.random.Generator) -> None:
    picked = _pick(boxes, rng, (b"mdhd", b"mvhd"))
    if picked is not None:
        place = CLOCK_AT + 4 * int(rng.integers(2))
        _patch(picked[1], place, extreme(rng, old=int.from_bytes(picked[1].payload[place : place + 4], "big")))


def _matrix(boxes: list[Box], rng: np.random.Generator) -> None:
    picked = _pick(boxes, rng, (b"tkhd",))
    if picked is not None:
        for n in range(9):
            value = int(rng.choice([0, 1 << 16, -(1 << 16), 1 << 30, 1, int(rng.integers(1 << 32))]))
            _patch(picked[1], MATRIX_AT + 4 * n, value)


def _aspect(boxes: list[Box], rng: np.random.Generator) -> None:
    """A `pasp` at the end of the first sample entry, with any numbers."""
    picked = _pick(boxes, rng, (b"stsd",))
    if picked is None or len(picked[1].payload) < 16:
        return
    pasp = Box(b"pasp", extreme(rng).to_bytes(4, "big") + extreme(rng).to_bytes(4, "big")).to_bytes()
    box = picked[1]
    size = int.from_bytes(box.payload[8:12], "big")
    box.payload = box.payload[: 8 + size] + pasp + box.payload[8 + size :]
    _patch(box, 8, size + len(pasp))


def _edits(boxes: list[Box], rng: np.random.Generator) -> None:
    """An edit list of any entries in place of a track's own."""
    picked = _pick(boxes, rng, (b"trak",))
    if picked is None:
        return
    count = int(rng.choice([0, 1, 2, 3, 50, 2000]))
    entries = b"".join(
        extreme(rng, old=1000).to_bytes(4, "big") + extreme(rng).to_bytes(4, "big") + b"\0\1\0\0" for _ in range(count)
    )
    trak = picked[1]
    trak.children = [child for child in trak.children if child.kind != b"edts"]
    elst = Box(b"elst", bytes(4) + count.to_bytes(4, "big") + entries)
    trak.children.insert(min(1, len(trak.children)), Box(b"edts", children=[elst]))


def _size(boxes: list[Box], rng: np.random.Generator) -> None:
    picked = _pick(boxes, rng)
    if picked is not None:
        picked[1].stated_size = extreme(rng, old=len(picked[1].to_bytes()))


def _name(boxes: list[Box], rng: np.random.Generator) -> None:
    picked, other = _pick(boxes, rng), _pick(boxes, rng)
    if picked is not None and other is not None and (picked[1].kind in HOLDERS) == (other[1].kind in HOLDERS):
        picked[1].kind = other[1].kind


def _order(boxes: list[Box], rng: np.random.Generator) -> None:
    """Drops, repeats or swaps boxes of one holder."""
    picked = _pick(boxes, rng)
    if picked is not None:
        shuffle_parts(picked[0], rng, longest_run=3)  # type: ignore[arg-type]


def _many_tracks(boxes: list[Box], rng: np.random.Generator) -> None:
    picked = _pick(boxes, rng, (b"trak",))
    if picked is not None:
        picked[0].extend([picked[1]] * int(rng.choice([1, 5, 100, 1000])))


def _length(boxes: list[Box], rng: np.random.Generator) -> None:
    """A box's bytes end early, or go on."""
    picked = _pick(boxes, rng)
    if picked is not None and picked[1].payload:
        box = picked[1]
        box.payload = box.payload[: int(rng.integers(len(box.payload)))] if rng.integers(2) else box.payload + bytes(64)


CHANGES = (
    *(_table, _table, _header, _whole_table, _clock, _clock, _matrix, _aspect, _edits, _edits),
    *(_size, _name, _order, _order, _many_tracks, _length),
)
