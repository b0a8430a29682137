"""Augmentation of stored clips; `Augmenter` is all that others need."""

from dfkit.training.augment.augmenter import Augmenter

__all__ = ["Augmenter"]
