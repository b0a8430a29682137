"""Damage that needs no knowledge of a format, and the numbers that formats trip over."""

from __future__ import annotations

import numpy as np

EXTREMES = (0, 1, 2, 7, 1000, 0x7FFF, 0xFFFF, 0x7530, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
"""Words that are ends of a type, or plausible in another field."""


def extreme(rng: np.random.Generator, *, old: int = 0, bits: int = 32) -> int:
    """A number to stand in place of another: an end of a type, a neighbour, a multiple, or any."""
    kind = int(rng.integers(5))
    if kind < 2:
        value = EXTREMES[int(rng.integers(len(EXTREMES)))]
    elif kind == 2:
        value = old + int(rng.choice([-1, 1, 2, -1000, 1000]))
    elif kind == 3:
        value = old * int(rng.choice([2, 3, 10, 1000]))
    else:
        value = int(rng.integers(1 << min(bits, 62)))
    return value % (1 << bits)


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One of eight kinds of damage: as copies, disks and networks do it.

    Args:
        content: At least one byte.
        rng: Decides.
    """
    data, size = bytearray(content), len(content)
    kind = int(rng.integers(8))
    if kind == 0:
        return bytes(data[: int(rng.integers(1, size))]) if size > 1 else b""
    if kind in (1, 2):
        # Anywhere, or where headers are.
        reach = size if kind == 1 else min(size, 2048)
        for place in rng.integers(0, reach, int(rng.integers(1, 40 if kind == 1 else 12))):
            data[place] = int(rng.integers(256))
    elif kind == 3:
        start = int(rng.integers(size))
        end = min(size, start + int(rng.integers(1, 20_000)))
        data[start:end] = bytes(end - start)
    elif kind == 4:
        length = int(rng.integers(1, max(size // 3, 2)))
        data[:length], data[-length:] = data[-length:], data[:length]
    elif kind == 5:
        start = int(rng.integers(size))
        end = start + int(rng.integers(1, 5000))
        data[start:start] = data[start:end]
    elif kind == 6:
        place = int(rng.integers(max(size - 3, 1)))
        data[place : place + 4] = extreme(rng).to_bytes(4, "big" if rng.integers(2) else "little")
    else:
        start = int(rng.integers(size))
        del data[start : start + int(rng.integers(1, 5000))]
    return bytes(data)


def shuffle_parts(parts: list[bytes], rng: np.random.Generator, *, longest_run: int = 50) -> None:
    """Drops, repeats, swaps or turns round a run of a file's parts (packets, rows, boxes), in place."""
    if not parts:
        return
    start = int(rng.integers(len(parts)))
    end = min(len(parts), start + int(rng.integers(1, longest_run)))
    kind = int(rng.integers(4))
    if kind == 0:
        del parts[start:end]
    elif kind == 1:
        parts[end:end] = parts[start:end] * int(rng.integers(1, 4))
    elif kind == 2:
        other = int(rng.integers(len(parts)))
        parts[start], parts[other] = parts[other], parts[start]
    else:
        parts[start:end] = parts[start:end][::-1]
