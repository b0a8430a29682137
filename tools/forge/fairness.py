"""Does anything but the manipulation tell a forgery from its twin? A paired sign test per fact of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from dfkit.errors import DataError
from dfkit.media.facts import VideoFacts, probe
from tools.forge.sheet import Pair

FACTS = ("size_bytes", "bitrate_kbps", "duration_s", "loudness_db", "fps", "leading_silence_s")
# AAC gives a sound back up to 0.05 dB from its level. Below this, the sign depends on the processor's rounding.
LOUDNESS_STEP_DB = 0.002


@dataclass(frozen=True)
class SignTest:
    """Outcome for one fact."""

    fact: str
    above: int
    """Pairs in which the forgery has more."""
    below: int
    ties: int
    p_value: float
    """Two-sided; 1 where all pairs tie."""


def sign_p_value(above: int, below: int) -> float:
    """Exact two-sided sign test.

    Args:
        above: Pairs with a positive difference.
        below: Pairs with a negative difference; ties are left out.
    Returns:
        Probability of a split at least as uneven when both signs are equally likely.
    Source: Dixon and Mood 1946; twice the binomial tail, at most 1.
    """
    total, fewer = above + below, min(above, below)
    return min(1.0, 2 * sum(comb(total, k) for k in range(fewer + 1)) / 2**total)


def sign_tests(pairs: Sequence[Pair]) -> list[SignTest]:
    """Compares forgeries with their twins.

    Args:
        pairs: From `read_pairs`.
    Returns:
        One test per entry of `FACTS`.
    Raises:
        DataError: No pairs: nothing would be tested.
    """
    if not pairs:
        raise DataError("there is no forgery to compare with a twin", fix="run: dfkit forge")
    twins = {pair.twin: probe(pair.twin) for pair in pairs}
    differences: dict[str, list[float]] = {fact: [] for fact in FACTS}
    for pair in pairs:
        forged = probe(pair.forged)
        for fact in FACTS:
            differences[fact].append(_value(forged, fact) - _value(twins[pair.twin], fact))
    return [_test(fact, values) for fact, values in differences.items()]


def _value(facts: VideoFacts, fact: str) -> float:
    value = getattr(facts, fact)
    assert value is not None, "the forge writes sound into every file"
    return float(value)


def _test(fact: str, differences: list[float]) -> SignTest:
    least = LOUDNESS_STEP_DB if fact == "loudness_db" else 0.0
    above = sum(d > least for d in differences)
    below = sum(d < -least for d in differences)
    return SignTest(fact, above, below, len(differences) - above - below, sign_p_value(above, below))
