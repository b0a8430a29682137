"""The YAML of an experiment: one model per stage; see `experiment.Config`."""

from dfkit.config.experiment import BenchConfig, Config, DemoConfig, ExportConfig, explain, read_config
from dfkit.config.section import Section
from dfkit.config.training import DistillConfig, LossConfig, OptimizerConfig, SplitConfig, TrainConfig, WidthConfig

__all__ = [
    "BenchConfig",
    "Config",
    "DemoConfig",
    "DistillConfig",
    "ExportConfig",
    "LossConfig",
    "OptimizerConfig",
    "Section",
    "SplitConfig",
    "TrainConfig",
    "WidthConfig",
    "explain",
    "read_config",
]
