"""Quantization recipes by name, as rules for ai-edge-quantizer.

A rule names a part of the graph (by its scope), operators, and a mode. Later rules override earlier ones.
The front ends (MFCC, motion) and what a clip's statistics say compute in float32 in every recipe: an int8 DFT is off by
up to 22 units of a coefficient, and logits add up hundreds of ramps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dfkit.errors import ConfigError

Mode = Literal["float32", "float16", "dynamic", "static"]
PICTURES, ALL = ".*EncodeGraph.*", ".*"
FRONT_ENDS = "(.*front_end.*|.*MotionFrontEnd.*|.*ClipStatistics.*)"
LOGITS = "score(_logits)?_output_.*"
RECURRENCE = "(.*ScoreStep.*|score_step_.*|recurrence_.*)"
PRODUCTS = ("FULLY_CONNECTED", "BATCH_MATMUL")
DENSE = ("FULLY_CONNECTED",)
"""What dynamic INT8 may touch: several BATCH_MATMULs of one INT8 weight tensor answer at random in TensorFlow 2.21."""


CNN = ("RESHAPE", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "PAD", "PADV2", "MAX_POOL_2D")
"""All of `encode` but what is taken over space of the last maps."""


@dataclass(frozen=True)
class Rule:
    """One line of a recipe."""

    scope: str
    """Regular expression over the output tensor's name, which holds the module path."""
    operators: tuple[str, ...]
    """TFLite operator names, or `*`."""
    mode: Mode


@dataclass(frozen=True)
class Recipe:
    """A quantization plan for the two graphs."""

    name: str
    rules: tuple[Rule, ...]
    int8_pictures: bool
    """Whether the picture inputs become int8 (uint8 XOR 0x80): no cast in the graph."""

    @property
    def needs_calibration(self) -> bool:
        """Whether activation ranges have to be measured."""
        return any(rule.mode == "static" for rule in self.rules)

    @property
    def calibrates_score(self) -> bool:
        """Whether ranges are measured outside the CNNs, too: on features of whole clips."""
        return any(rule.mode == "static" and rule.scope == ALL for rule in self.rules)

    def without_pictures(self) -> Recipe:
        """The same plan for a `lite` network, which has no CNN to measure ranges for."""
        return replace(self, rules=tuple(rule for rule in self.rules if rule.scope != PICTURES), int8_pictures=False)


_KEEP_FRONT_ENDS = Rule(
    FRONT_ENDS, (*PRODUCTS, "ADD", "SUB", "MUL", "PAD", "CONCATENATION", "RESHAPE", "SLICE"), "float32"
)
# Their matrices stored as float16: 67 kB less at the same speed; the MFCC is off by 3e-4 of its largest coefficient.
_HALVE_FRONT_ENDS = Rule(FRONT_ENDS, DENSE, "float16")
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", (), int8_pictures=False),
        Recipe("fp16", (Rule(ALL, ("CONV_2D", "FULLY_CONNECTED"), "float16"),), int8_pictures=False),
        Recipe(
            "dynamic_int8",
            (Rule(ALL, ("CONV_2D", *DENSE), "dynamic"), _KEEP_FRONT_ENDS, _HALVE_FRONT_ENDS),
            int8_pictures=False,
        ),
        Recipe(
            "static_int8",
            (
                Rule(ALL, ("*",), "static"),
                # Frame logits are an output and what the clip's are the mean of. Quantized, the mean takes float32 and
                # gives int8, which no kernel does: clip logits were wrong.
                Rule(LOGITS, ("FULLY_CONNECTED", "MEAN"), "float32"),
                Rule(FRONT_ENDS, ("*",), "float32"),
                # Calibration does not look into a graph that another one calls.
                Rule(RECURRENCE, ("*",), "float32"),
                Rule(RECURRENCE, DENSE, "dynamic"),
                Rule(ALL, ("INPUT", "OUTPUT"), "float32"),
            ),
            int8_pictures=True,
        ),
        Recipe(
            "mixed_int8",
            (
                Rule(ALL, DENSE, "dynamic"),
                Rule(PICTURES, CNN, "static"),
                _KEEP_FRONT_ENDS,
                _HALVE_FRONT_ENDS,
            ),
            int8_pictures=True,
        ),
    )
}
INT8_DEFAULT = "mixed_int8"


def recipe_named(name: str) -> Recipe:
    """Looks a recipe up.

    Raises:
        ConfigError: No recipe of that name; the message lists them.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe '{name}'", fix=f"choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
