"""Numbers for JSON, which knows neither NaN nor infinity."""

from __future__ import annotations

import math
from typing import Any


def finite_or_none(value: Any) -> Any:
    """None in place of a float that is NaN or infinite; any other value as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
