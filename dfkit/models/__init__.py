"""Teacher and student networks: plain torch modules, no training code."""

from dfkit.models.mmms_ba import MMMSBA, NetworkOutput, NetworkSpec
from dfkit.models.original import load_teacher

__all__ = ["MMMSBA", "NetworkOutput", "NetworkSpec", "load_teacher"]
