"""The YAML of an experiment: one model per stage; see `experiment.Config`."""

from dfkit.config.augment import AugmentConfig
from dfkit.config.experiment import BenchConfig, Config, DemoConfig, ExportConfig, upgrade
from dfkit.config.explain import explain
from dfkit.config.forge import ForgeConfig
from dfkit.config.section import Section
from dfkit.config.training import (
    LOGGED_METRICS,
    DistillConfig,
    FitConfig,
    LossConfig,
    OptimizerConfig,
    SamplingConfig,
    SaveConfig,
    ScheduleConfig,
    SearchConfig,
    SplitConfig,
    TrainConfig,
    UnlabelledConfig,
    WidthConfig,
)

__all__ = [
    "LOGGED_METRICS",
    "AugmentConfig",
    "BenchConfig",
    "Config",
    "DemoConfig",
    "DistillConfig",
    "ExportConfig",
    "FitConfig",
    "ForgeConfig",
    "LossConfig",
    "OptimizerConfig",
    "SamplingConfig",
    "SaveConfig",
    "ScheduleConfig",
    "SearchConfig",
    "Section",
    "SplitConfig",
    "TrainConfig",
    "UnlabelledConfig",
    "WidthConfig",
    "explain",
    "upgrade",
]
