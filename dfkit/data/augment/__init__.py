"""Augmentation of stored clips; `Augmenter` is all that others need."""

from dfkit.data.augment.augmenter import Augmenter

__all__ = ["Augmenter"]
