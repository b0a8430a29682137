"""Joins screens that the app's tests drew into one small picture for the README.

    python -m tools.android.screens       # behind make android; writes docs/android.png

The only face on them is the golden head, which is made by this project.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SCREENS = ROOT / "android_demo" / "build" / "screens"
OUT = ROOT / "docs" / "android.png"
CHOSEN = ("verdict", "live_watching", "verdict_ko_night", "checked")
WIDTH_PX = 240
MAX_BYTES = 150_000
GAP_PX = 12


def join(folder: Path) -> np.ndarray:
    """The chosen screens beside each other.

    Args:
        folder: With a PNG of each.
    Returns:
        H x W x 3 of uint8, BGR.
    Raises:
        SystemExit: A screen is not there.
    """
    parts: list[np.ndarray] = []
    for name in CHOSEN:
        drawn = cv2.imread(str(folder / f"{name}.png"))
        if drawn is None:
            raise SystemExit(f"{folder / name}.png is not there. Fix: make android")
        height = round(drawn.shape[0] * WIDTH_PX / drawn.shape[1])
        small = cv2.resize(drawn, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
        parts += [small, np.full((height, GAP_PX, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


if __name__ == "__main__":
    cv2.imwrite(str(OUT), join(SCREENS), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    size = OUT.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{OUT} has {size} bytes, {MAX_BYTES} at most. Fix: a smaller WIDTH_PX")
    print(f"{OUT}: {size} bytes")
