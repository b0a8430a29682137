"""What equalising makes of every video: the numbers that all share afterwards."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

EQUALISE_VERSION = 1
"""Raised when the same file and numbers give another equalised file than before."""


class EqualiseSpec(BaseModel, frozen=True, extra="forbid"):
    """Targets of equalising; each is the same for every video, whatever its label."""

    version: Annotated[int, Field(ge=1, le=EQUALISE_VERSION)] = EQUALISE_VERSION
    """Of the way in which it is done."""
    face_px: Annotated[int, Field(ge=32, le=512, multiple_of=2)] = 96
    """Width of the face in pixels, its median over the video. The narrowest of the public videos that dfkit is measured
    on has 103: nothing there is enlarged. Narrower ones are, and that is counted."""
    context: Annotated[float, Field(ge=1.7, le=4)] = 2.0
    """Side of the square picture as a multiple of the face's width; a face crop needs about 1.7."""
    fps: Annotated[float, Field(gt=0, le=60)] = 25.0
    """Pictures a second, chosen by time, nearest first."""
    video_kbps: Annotated[int, Field(ge=16, le=20_000)] = 128
    """Constant bit rate of the pictures: H.264, 4:2:0, 8 bits, a key picture every 2 s."""
    sample_rate: Annotated[int, Field(ge=16_000, le=48_000)] = 16_000
    """Hz, one channel."""
    audio_kbps: Annotated[int, Field(ge=8, le=320)] = 32
    """Bit rate of the sound: AAC."""
    band_hz: Annotated[int, Field(ge=1000, le=24_000, multiple_of=100)] = 7000
    """Sound above is taken away, so that a track that was at 16 kHz before has no edge of its own."""
    loudness_db: Annotated[float, Field(ge=-60, le=-10)] = -26.0
    """RMS of the whole sound, dBFS; what then exceeds full scale is clipped."""

    @property
    def side_px(self) -> int:
        """Side of the square picture; even, as 4:2:0 needs."""
        return round(self.face_px * self.context / 2) * 2

    def words(self) -> str:
        """One line for people."""
        return (
            f"faces {self.face_px} px wide in {self.side_px} x {self.side_px}, {self.fps:g} fps, H.264 at "
            f"{self.video_kbps} kbit/s, AAC at {self.sample_rate} Hz, {self.audio_kbps} kbit/s and "
            f"{self.loudness_db:g} dBFS, leading silence cut"
        )
