"""Detectors whose decoder fails in one way or another on files of a name; made in worker processes, too."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from dfkit.media.video import PictureReader
from dfkit.runtime.detector import Detector, DetectorParts
from dfkit.runtime.stream import GridPicture


class OddDecoderError(Exception):
    """A type that nobody foresees."""


def read(reader: PictureReader) -> Iterable[GridPicture]:
    """A real reader's pictures, unless the file's name asks for trouble."""
    name = Path(reader.path).name
    if name.startswith("hang"):
        threading.Event().wait()
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    if name.startswith("odd"):
        raise OddDecoderError("line one\nline two")
    if name.startswith("memory"):
        raise MemoryError
    return iter(reader)


def open_detector(bundle: Path) -> Detector:
    return Detector(bundle, parts=DetectorParts(read_pictures=read))
