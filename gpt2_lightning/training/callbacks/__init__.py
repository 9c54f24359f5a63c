"""Callbacks of a run: weight averaging, metrics, progress bar, samples, attention, checkpoints."""

from gpt2_lightning.training.callbacks.assemble import assemble
from gpt2_lightning.training.callbacks.averaging import EMAWeightAveraging, UniformWeightAveraging
from gpt2_lightning.training.callbacks.checkpointing import Checkpointing
from gpt2_lightning.training.callbacks.measurements.attention import Attention
from gpt2_lightning.training.callbacks.measurements.benchmarks import Benchmarks
from gpt2_lightning.training.callbacks.measurements.metrics import Metrics
from gpt2_lightning.training.callbacks.measurements.samples import Samples
from gpt2_lightning.training.callbacks.profile import Profile
from gpt2_lightning.training.callbacks.progress import ProgressBar
from gpt2_lightning.training.callbacks.stopping.early_stopping import EarlyStopping
from gpt2_lightning.training.callbacks.stopping.overfit import Overfit
from gpt2_lightning.training.callbacks.stopping.pruning import Pruning
from gpt2_lightning.training.callbacks.stopping.signals import Signals
from gpt2_lightning.training.callbacks.stopping.spike_guard import SpikeGuard

__all__ = [
    "Attention",
    "Benchmarks",
    "Checkpointing",
    "EMAWeightAveraging",
    "EarlyStopping",
    "Metrics",
    "Overfit",
    "Profile",
    "ProgressBar",
    "Pruning",
    "Samples",
    "Signals",
    "SpikeGuard",
    "UniformWeightAveraging",
    "assemble",
]
