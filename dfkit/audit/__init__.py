"""`dfkit baseline`: hand-made features and a random forest, what a network has to beat."""

from dfkit.audit.forest import BASELINE_FILE, BaselineResult, baseline

__all__ = ["BASELINE_FILE", "BaselineResult", "baseline"]
