"""Sequences of phonemes that sound like English and mean nothing.

Words would need a dictionary or a grapheme-to-phoneme program; what a forgery is to carry is the trace of the
synthesis, and any plausible syllables carry it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

ONSETS = (
    *("", "b", "d", "f", "ɡ", "h", "j", "k", "l", "m", "n", "p", "ɹ", "s", "t", "v", "w", "z", "ð", "θ", "ʃ"),
    *("st", "sp", "sk", "pl", "kl", "bl", "fl", "tɹ", "kɹ", "ɡɹ", "pɹ", "fɹ", "sw", "tw", "kw", "dʒ", "tʃ"),
)
NUCLEI = ("æ", "ɛ", "ɪ", "ʌ", "ɑː", "ɔː", "iː", "uː", "ɜː", "eɪ", "aɪ", "oʊ", "aʊ", "ʊ")
WEAK_NUCLEI = ("ə", "ɪ", "ɚ")
CODAS = ("", "", "", "t", "d", "n", "s", "z", "k", "l", "m", "p", "ŋ", "ɹ", "v", "nd", "st", "nt", "ks", "ts")
WORD_SYLLABLES = (1, 1, 1, 2, 2, 3)
STRESS, SPACE = "ˈ", " "


def draw_syllables(count: int, known: Collection[str], rng: np.random.Generator) -> list[str]:
    """Draws words of one to three syllables, each with one stress.

    Args:
        count: Syllables, at least 1.
        known: Symbols that a voice has; a sound that needs another is never drawn.
        rng: Draws them.
    Returns:
        Symbols, words divided by a space. Without a single usable nucleus, an empty list.
    """
    onsets, nuclei, weak, codas = (
        [sound for sound in sounds if set(sound) <= set(known)] for sounds in (ONSETS, NUCLEI, WEAK_NUCLEI, CODAS)
    )
    if not nuclei:
        return []
    symbols: list[str] = []
    left = count
    while left > 0:
        length = min(left, int(rng.choice(WORD_SYLLABLES)))
        stressed = int(rng.integers(length))
        if symbols and SPACE in known:
            symbols.append(SPACE)
        for place in range(length):
            strong = place == stressed or not weak
            if place == stressed and length > 1 and STRESS in known:
                symbols.append(STRESS)
            nucleus = rng.choice(nuclei if strong else weak)
            # Inside a word one consonant divides two vowels.
            coda = rng.choice(codas) if place == length - 1 else ""
            symbols += [*rng.choice(onsets), *nucleus, *coda]
        left -= length
    return symbols
