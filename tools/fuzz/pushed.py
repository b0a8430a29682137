"""Streams of pictures and sound in any order, of any size, type and time, as an app's mistakes make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from dfkit.errors import DfkitError
from dfkit.media.picture import picture_of_planes
from dfkit.runtime.detector import Detector
from dfkit.runtime.results import ClipScore
from tools.fuzz.contract import check_clip_scores, check_error

RATES = (16000, 16000, 8000, 44100, 48000, 1, 192000, 0, -1, 10**9)
ODD_TIMES = (float("nan"), float("inf"), -1.0, 0.0, 1e9, 1e300, -1e-9)


class PushedCase:
    """One stream: what is pushed is mostly right, so that scores come, and sometimes anything."""

    def __init__(self, detector: Detector, heads: np.ndarray, rng: np.random.Generator) -> None:
        self._detector, self._heads, self._rng = detector, heads, rng
        self.faults: list[str] = []
        self.errors: set[str] = set()
        self.scores: list[ClipScore] = []
        self._wrong_share = float(rng.choice([0.0, 0.02, 0.3]))

    def run(self) -> str:
        """Opens, pushes, finishes; returns an outcome."""
        rng = self._rng
        rate = int(rng.choice(RATES))
        stream = self._try(lambda: self._detector.open_stream(sample_rate=rate))
        if stream is None:
            return "refused"
        sound = (0.3 * np.sin(np.arange(max(rate, 1) * 3 % 400_000) / max(rate, 1) * 1200)).astype(np.float32)
        size = int(rng.choice([192, 192, 64, 33, 1]))
        num_heard, block = 0, max(int(rate * rng.choice([0.02, 0.1, 0.5])), 1)
        for number in range(int(rng.choice([0, 1, 30, 70, 70, 110]))):
            self._take(lambda n=number: stream.push_picture(self._time(n / 25), self._picture(n, size)))  # type: ignore[misc]
            while num_heard / max(rate, 1) < number / 25 and num_heard < len(sound):
                part = sound[num_heard : num_heard + block]
                start_s = self._time(num_heard / rate) if num_heard == 0 or rng.random() < 0.1 else None
                self._take(lambda p=part, t=start_s: stream.push_sound(self._sound(p), t))  # type: ignore[misc]
                num_heard += block
        for _ in range(int(rng.choice([1, 1, 2]))):
            self._take(lambda: stream.finish(float(rng.choice(ODD_TIMES)) if rng.random() < 0.2 else None))
        self.faults += check_clip_scores(self.scores)
        return "scored" if self.scores else "no score" if not self.errors else "refused"

    def _try(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except DfkitError as error:
            self.errors.add(type(error).__name__)
            self.faults += check_error(error)
            return None

    def _take(self, action: Callable[[], list[ClipScore]]) -> None:
        self.scores += self._try(action) or []

    def _wrong(self) -> bool:
        return bool(self._rng.random() < self._wrong_share)

    def _time(self, t_s: float) -> float:
        if not self._wrong():
            return t_s
        return float(self._rng.choice([*ODD_TIMES, t_s - 0.5, t_s + 0.5, t_s + 11, t_s + 40]))

    def _picture(self, number: int, size: int) -> Any:
        rng, head = self._rng, self._heads[number % len(self._heads)]
        rgb = cv2.resize(head, (size, size), interpolation=cv2.INTER_AREA) if size != len(head) else head
        if not self._wrong():
            return rgb
        height, width = (int(side) for side in rng.choice([0, 1, 2, 17, 64, 192, 400], 2))
        kinds: tuple[Callable[[], Any], ...] = (
            lambda: np.zeros((height, width, int(rng.choice([3, 3, 1, 4]))), np.uint8),
            lambda: rgb.astype(rng.choice(["float32", "uint16", "int8", "bool", "complex64"])),
            lambda: rgb[..., 0] if rng.integers(2) else rgb[None],
            lambda: rgb[::-1, ::2].transpose(1, 0, 2),
            lambda: np.zeros((1, int(rng.choice([1, 9000, 70_000])), 3), np.uint8),
            lambda: rng.integers(0, 256, (max(height, 1), max(width, 1), 3), dtype=np.uint8),
            lambda: self._planes(height, width),
        )
        return kinds[int(rng.integers(len(kinds)))]()

    def _planes(self, height: int, width: int) -> Any:
        """Planes of Y, U and V, whose sizes may not fit each other."""
        rng = self._rng
        bits = int(rng.choice([8, 8, 10, 12]))
        kind = np.uint8 if bits == 8 else np.uint16
        halves = [(-(-height // 2), -(-width // 2)), (height, width), (height, -(-width // 4)), (0, 0), (7, 3)]
        small = halves[int(rng.integers(len(halves)))]
        planes = tuple(rng.integers(0, 1 << bits, shape).astype(kind) for shape in ((height, width), small, small))
        made = self._try(lambda: picture_of_planes(planes, shares=(0.299, 0.114), full=False, bits=bits))
        return np.zeros((16, 16, 3), np.uint8) if made is None else made

    def _sound(self, part: np.ndarray) -> Any:
        rng = self._rng
        if not self._wrong():
            return part
        odd = rng.choice([np.nan, np.inf, -np.inf, 3e38])
        kinds: tuple[Callable[[], Any], ...] = (
            lambda: part.astype(rng.choice(["float64", "int16", "float16", "bool"])),
            lambda: np.where(rng.random(len(part)) < 0.5, odd, part).astype(np.float32),
            lambda: np.zeros((len(part), int(rng.choice([0, 1, 2, 6, 300]))), np.float32),
            lambda: part[:0],
            lambda: part.reshape(1, 1, -1),
            lambda: np.zeros(int(rng.choice([1, 500_000, 3_000_000])), np.float32),
            lambda: part[::-2],
        )
        return kinds[int(rng.integers(len(kinds)))]()
