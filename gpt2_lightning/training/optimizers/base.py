"""The interface of an optimizer's settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from gpt2_lightning.settings import Settings


class OptimizerSpec(Settings, ABC):
    """Settings of an optimizer, and the method that builds it.

    To add an optimizer, define a frozen dataclass that inherits from this class in a file here, and a YAML in
    `conf/optimizer`.
    """

    supports_sharding: ClassVar[bool] = True
    """Whether the optimizer supports parameters sharded by FSDP."""

    lr: float
    """Peak learning rate; the schedule scales it."""

    @abstractmethod
    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer of all trainable parameters of a model.

        A parameter group may have `lr_scale`, a factor of its learning rate, and `rate`, the key under which its
        learning rate is logged.
        """
