"""Callbacks of a run: metrics, progress bar, samples, attention, checkpoints."""

from gpt2_lightning.training.callbacks.assemble import assemble
from gpt2_lightning.training.callbacks.attention import Attention
from gpt2_lightning.training.callbacks.checkpointing import Checkpointing
from gpt2_lightning.training.callbacks.early_stopping import EarlyStopping
from gpt2_lightning.training.callbacks.metrics import Metrics
from gpt2_lightning.training.callbacks.overfit import Overfit
from gpt2_lightning.training.callbacks.profile import Profile
from gpt2_lightning.training.callbacks.progress import ProgressBar
from gpt2_lightning.training.callbacks.samples import Samples
from gpt2_lightning.training.callbacks.signals import Signals
from gpt2_lightning.training.callbacks.spike_guard import SpikeGuard

__all__ = [
    "Attention",
    "Checkpointing",
    "EarlyStopping",
    "Metrics",
    "Overfit",
    "Profile",
    "ProgressBar",
    "Samples",
    "Signals",
    "SpikeGuard",
    "assemble",
]
