"""Manipulations of our own, made from real videos, with nothing but the manipulation to tell them by."""

from dfkit.config.forge import METHODS, ForgeConfig
from dfkit.forge.forge import ForgeSource, ForgeSummary, forge

__all__ = ["METHODS", "ForgeConfig", "ForgeSource", "ForgeSummary", "forge"]
