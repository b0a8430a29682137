"""MPEG transport streams, by their packets (ISO/IEC 13818-1): lost, swapped and repeated, clocks that jump and begin
again."""

from __future__ import annotations

import numpy as np

from tools.fuzz.damage import extreme, shuffle_parts

PACKET_BYTES = 188
CLOCK_HZ = 90_000


def change_packets(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes one to four things of a stream's packets."""
    packets = [content[i : i + PACKET_BYTES] for i in range(0, len(content), PACKET_BYTES)]
    for _ in range(int(rng.integers(1, 5))):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        change(packets, rng)
    return b"".join(packets)


def _shift_clock(packets: list[bytes], rng: np.random.Generator) -> None:
    """From a packet on all times jump, on and back."""
    start = int(rng.integers(len(packets))) if packets else 0
    ticks = int(rng.choice([-1, 1])) * int(rng.choice([1, 3000, 45_000, 11 * CLOCK_HZ, 60 * CLOCK_HZ, 1 << 32]))
    for number in range(start, len(packets)):
        packets[number] = shift_times(packets[number], ticks)


def _each_clock(packets: list[bytes], rng: np.random.Generator) -> None:
    """Every picture's time is off by its own."""
    reach = int(rng.choice([3000, CLOCK_HZ, 20 * CLOCK_HZ, 1 << 32]))
    for number, packet in enumerate(packets):
        packets[number] = shift_times(packet, int(rng.integers(-reach, reach)))


def shift_times(packet: bytes, ticks: int) -> bytes:
    """A packet whose PTS and DTS, where it has some, are later by so many ticks."""
    place = _pes_start(packet)
    if place is None or len(packet) < place + 19:
        return packet
    data = bytearray(packet)
    flags = data[place + 7] >> 6
    for at in ([place + 9] if flags & 2 else []) + ([place + 14] if flags == 3 else []):
        word = int.from_bytes(data[at : at + 5], "big")
        old = (word >> 33 & 7) << 30 | (word >> 17 & 0x7FFF) << 15 | (word >> 1 & 0x7FFF)
        new = (old + ticks) % (1 << 33)
        marked = (word >> 36) << 36 | (new >> 30) << 33 | 1 << 32 | (new >> 15 & 0x7FFF) << 17 | 1 << 16
        data[at : at + 5] = (marked | (new & 0x7FFF) << 1 | 1).to_bytes(5, "big")
    return bytes(data)


def _pes_start(packet: bytes) -> int | None:
    """Where a packet's elementary packet begins; None where it begins none."""
    if len(packet) < PACKET_BYTES or packet[0] != 0x47 or not packet[1] & 0x40:
        return None
    place = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    return place if packet[place : place + 3] == b"\0\0\1" else None


def _drop_times(packets: list[bytes], rng: np.random.Generator) -> None:
    """Some elementary packets state no time."""
    for number, packet in enumerate(packets):
        place = _pes_start(packet)
        if place is not None and rng.random() < 0.5:
            packets[number] = packet[: place + 7] + b"\0" + packet[place + 8 :]


def _patch_header(packets: list[bytes], rng: np.random.Generator) -> None:
    """Sync, flags, number of the stream, adaptation field of single packets."""
    for number in rng.integers(0, max(len(packets), 1), int(rng.integers(1, 30))):
        if number < len(packets) and len(packets[number]) == PACKET_BYTES:
            data = bytearray(packets[number])
            data[int(rng.choice([0, 1, 2, 3, 4, 5, 6, 12]))] = extreme(rng, bits=8)
            packets[number] = bytes(data)


def _patch_tables(packets: list[bytes], rng: np.random.Generator) -> None:
    """Bytes of the tables that say which streams there are; those stand first."""
    for number in range(min(len(packets), 3)):
        data = bytearray(packets[number])
        for _ in range(int(rng.integers(0, 4))):
            data[int(rng.integers(4, min(60, len(data))))] = extreme(rng, bits=8)
        packets[number] = bytes(data)


def _repeat_all(packets: list[bytes], rng: np.random.Generator) -> None:
    """The clock begins again, twice or dozens of times; of a short piece hundreds."""
    if rng.integers(2):
        packets[:] = packets * int(rng.choice([2, 3, 8]))
    else:
        packets[:] = packets[: int(rng.integers(10, 60))] * int(rng.choice([50, 500]))


def _order(packets: list[bytes], rng: np.random.Generator) -> None:
    shuffle_parts(packets, rng)


def _thin_out(packets: list[bytes], rng: np.random.Generator) -> None:
    """Loses a share of all packets, as a bad receiver does."""
    share = float(rng.choice([0.01, 0.1, 0.5]))
    packets[:] = [packet for packet in packets if rng.random() >= share]


CHANGES = (_order, _order, _shift_clock, _shift_clock, _each_clock, _drop_times, _patch_header, _patch_tables,
           _repeat_all, _thin_out)  # fmt: skip
