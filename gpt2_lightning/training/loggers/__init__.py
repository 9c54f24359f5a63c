"""Loggers beside `metrics.csv`. All get the same keys, and an exception in one does not fail the run."""

from gpt2_lightning.training.loggers.aim_logger import AimLogger
from gpt2_lightning.training.loggers.guarded import Guarded, guard, recording
from gpt2_lightning.training.loggers.mlflow_logger import MLflowLogger
from gpt2_lightning.training.loggers.run_logger import RunLogger
from gpt2_lightning.training.loggers.tensorboard_logger import TensorBoardLogger
from gpt2_lightning.training.loggers.wandb_logger import WandbLogger

__all__ = [
    "AimLogger",
    "Guarded",
    "MLflowLogger",
    "RunLogger",
    "TensorBoardLogger",
    "WandbLogger",
    "guard",
    "recording",
]
