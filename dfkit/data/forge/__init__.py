"""Manipulations of our own, made from real videos, with nothing but the manipulation to tell them by."""

from dfkit.data.forge.config import METHODS, ForgeConfig
from dfkit.data.forge.forge import ForgeSource, ForgeSummary, forge

__all__ = ["METHODS", "ForgeConfig", "ForgeSource", "ForgeSummary", "forge"]
