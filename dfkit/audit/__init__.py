"""`dfkit baseline`: what small models on simple features reach, which a network has to beat."""

from dfkit.audit.baselines import BASELINES
from dfkit.audit.findings import BASELINE_FILE
from dfkit.audit.measured import BaselineResult, baseline

__all__ = ["BASELINES", "BASELINE_FILE", "BaselineResult", "baseline"]
