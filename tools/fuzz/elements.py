"""Matroska and WebM, by their EBML elements: sizes, clocks, tracks and blocks are changed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tools.fuzz.damage import extreme, shuffle_parts

SEGMENT, CLUSTER, TRACKS, TRACK, INFO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0x1549A966
HOLDERS = frozenset({SEGMENT, CLUSTER, TRACKS, TRACK, INFO, 0xE0, 0xE1, 0xA0, 0x114D9B74, 0x1C53BB6B, 0xBB, 0xB7})
"""Besides: Video, Audio, BlockGroup, SeekHead, Cues, CuePoint, CueTrackPositions."""
NUMBERS = (0x2AD7B1, 0x4489, 0xE7, 0xD7, 0x83, 0x88, 0xB9, 0x23E383, 0xB0, 0xBA, 0x54B0, 0x54BA, 0x54B2, 0x56AA,
           0x56BB, 0x9F, 0xB5, 0x9B, 0x9C)  # fmt: skip
"""TimestampScale, Duration, Timestamp, TrackNumber, TrackType, FlagDefault, FlagEnabled, DefaultDuration, PixelWidth,
PixelHeight, DisplayWidth, DisplayHeight, DisplayUnit, CodecDelay, SeekPreRoll, Channels, SamplingFrequency,
BlockDuration, FlagLacing."""
BLOCKS = (0xA3, 0xA1)


@dataclass
class Element:
    """One element; a holder has children, others bytes."""

    kind: int
    payload: bytes = b""
    children: list[Element] = field(default_factory=list)
    stated_size: int | None = None

    def to_bytes(self) -> bytes:
        body = b"".join(child.to_bytes() for child in self.children) if self.kind in HOLDERS else self.payload
        size = len(body) if self.stated_size is None else self.stated_size
        head = self.kind.to_bytes((self.kind.bit_length() + 7) // 8, "big")
        return head + (1 << 56 | size % (1 << 56)).to_bytes(8, "big") + body


def parse(content: bytes) -> list[Element]:
    """Elements of an undamaged file."""
    found, place = [], 0
    while place < len(content):
        kind, place = _number(content, place, keep_mark=True)
        size, place = _number(content, place, keep_mark=False)
        body = content[place : place + size]
        place += len(body)
        found.append(Element(kind, children=parse(body)) if kind in HOLDERS else Element(kind, body))
    return found


def _number(content: bytes, place: int, *, keep_mark: bool) -> tuple[int, int]:
    length = max(9 - content[place].bit_length(), 1)
    value = int.from_bytes(content[place : place + length], "big")
    if not keep_mark:
        value &= (1 << 7 * length) - 1
        value = 1 << 56 if value == (1 << 7 * length) - 1 else value  # to the end
    return value, place + length


def change_elements(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes one to four things of a file's elements."""
    elements = parse(content)
    for _ in range(int(rng.integers(1, 5))):
        places = list(_walk(elements))
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        change(places, rng)
    return b"".join(element.to_bytes() for element in elements)


Place = tuple[list[Element], Element]


def _walk(elements: list[Element]) -> list[Place]:
    found: list[Place] = []
    for element in elements:
        found.append((elements, element))
        found += _walk(element.children)
    return found


def _pick(places: list[Place], rng: np.random.Generator, kinds: tuple[int, ...] = ()) -> Place | None:
    found = [place for place in places if not kinds or place[1].kind in kinds]
    return found[int(rng.integers(len(found)))] if found else None


def _value(places: list[Place], rng: np.random.Generator) -> None:
    if (picked := _pick(places, rng, NUMBERS)) is not None:
        element = picked[1]
        length = int(rng.choice([1, 2, 4, 8, max(len(element.payload), 1)]))
        old = int.from_bytes(element.payload, "big")
        element.payload = extreme(rng, old=old, bits=8 * length).to_bytes(length, "big")


def _added(places: list[Place], rng: np.random.Generator) -> None:
    """A number where there was none: in a track, its picture, its sound, the file's facts."""
    if (picked := _pick(places, rng, (INFO, TRACK, 0xE0, 0xE1))) is not None:
        kind = NUMBERS[int(rng.integers(len(NUMBERS)))]
        picked[1].children.append(Element(kind, extreme(rng).to_bytes(4, "big")))


def _block_times(places: list[Place], rng: np.random.Generator) -> None:
    """Times of blocks within their cluster: one, or each."""
    blocks = [element for _, element in places if element.kind in BLOCKS and len(element.payload) > 4]
    share = float(rng.choice([0.02, 0.3, 1.0]))
    for block in blocks:
        if rng.random() < share:
            block.payload = block.payload[:1] + extreme(rng, bits=16).to_bytes(2, "big") + block.payload[3:]


def _size(places: list[Place], rng: np.random.Generator) -> None:
    if (picked := _pick(places, rng)) is not None:
        old = len(picked[1].payload)
        picked[1].stated_size = (1 << 56) - 1 if rng.integers(3) == 0 else extreme(rng, old=old)


def _order(places: list[Place], rng: np.random.Generator) -> None:
    if (picked := _pick(places, rng)) is not None:
        shuffle_parts(picked[0], rng, longest_run=10)  # type: ignore[arg-type]


def _clusters_again(places: list[Place], rng: np.random.Generator) -> None:
    if (picked := _pick(places, rng, (CLUSTER,))) is not None:
        picked[0].extend([picked[1]] * int(rng.choice([1, 10, 100])))


def _many_tracks(places: list[Place], rng: np.random.Generator) -> None:
    """Copies of a track under numbers of their own, which no block has."""
    if (picked := _pick(places, rng, (TRACK,))) is not None:
        for number in range(int(rng.choice([1, 20, 500]))):
            children = [child for child in picked[1].children if child.kind not in (0xD7, 0x73C5)]
            numbered = [Element(kind, (1000 + number).to_bytes(4, "big")) for kind in (0xD7, 0x73C5)]
            picked[0].append(Element(TRACK, children=[*numbered, *children]))


CHANGES = (_value, _value, _value, _added, _added, _block_times, _size, _order, _order, _clusters_again, _many_tracks)
