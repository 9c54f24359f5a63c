"""Optimizers and their parameter groups."""

from gpt2_lightning.training.optimizers.adamw import AdamW
from gpt2_lightning.training.optimizers.base import OptimizerSpec
from gpt2_lightning.training.optimizers.muon import Muon, NorMuon

__all__ = ["AdamW", "Muon", "NorMuon", "OptimizerSpec"]
