"""The callbacks of a run, in the order in which Lightning calls them."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.callbacks import Callback

from gpt2_lightning.training.callbacks.averaging import WeightAveraging
from gpt2_lightning.training.callbacks.checkpointing import Checkpointing
from gpt2_lightning.training.callbacks.measurements.benchmarks import Benchmarks
from gpt2_lightning.training.callbacks.measurements.metrics import Metrics
from gpt2_lightning.training.callbacks.progress import ProgressBar
from gpt2_lightning.training.callbacks.stopping.signals import Signals
from gpt2_lightning.training.callbacks.stopping.spike_guard import SpikeWatch


def assemble(metrics: Metrics, chosen: Sequence[Callback]) -> list[Callback]:
    """Return all callbacks: spikes before the metrics of a step that a guard undoes, the average of the weights before
    benchmarks measure it, metrics and benchmarks before the callbacks that use them, checkpointing after those that
    stop the run.

    Args:
        metrics: the metrics, which the progress bar displays.
        chosen: callbacks of the configuration.
    """
    saving = [callback for callback in chosen if isinstance(callback, Checkpointing)]
    watching = [callback for callback in chosen if isinstance(callback, SpikeWatch)] or [SpikeWatch()]
    averaging = [callback for callback in chosen if isinstance(callback, WeightAveraging)]
    measuring = [callback for callback in chosen if isinstance(callback, Benchmarks)]
    others = [callback for callback in chosen if callback not in (*saving, *watching, *averaging, *measuring)]
    progress, signals = ProgressBar(metrics), Signals(next(iter(saving), None))
    return [*watching, *averaging, metrics, progress, *measuring, *others, *saving, signals]
