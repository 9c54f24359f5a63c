"""Overhead of the attention callback at its default intervals, as a fraction of the training time.

    python -m benchmarks.attention_callback

A run measures and plots attention at shorter intervals than the defaults, and times each step, measurement and plot
separately; the fraction is computed from the medians. Importing matplotlib, which every run does at its end, is
excluded.
"""

from __future__ import annotations

import inspect
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from benchmarks.results import report
from benchmarks.trainer_overhead import SIZES, stories
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.training.callbacks import Attention, Metrics
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.loggers.csv_logger import CSVLogger
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.schedules import Cosine
from gpt2_lightning.training.trainer import TrainerSpec

MEASURED, DRAWN = 4, 8
"""Steps between two measurements, and between two sets of plots."""
STEPS = {"char": 200, "char_10m": 24}
WARM_UP = DRAWN


class Timed(Attention):
    """Attention callback that records the seconds of every step, measurement and set of plots."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, MEASURED, DRAWN)
        self.steps, self.measurements, self.drawings = [list[float]() for _ in range(3)]
        self._ended = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *more: Any) -> None:
        started = time.perf_counter()
        super().on_train_batch_end(trainer, pl_module, *more)
        ended, step = time.perf_counter(), trainer.global_step
        if step > WARM_UP:
            self.steps.append(started - self._ended)
            if step % DRAWN == 0:
                self.drawings.append(ended - started)
            elif step % MEASURED == 0:
                self.measurements.append(ended - started)
        self._ended = ended


def main() -> None:
    log_to_terminal()
    defaults = {name: parameter.default for name, parameter in inspect.signature(Attention).parameters.items()}
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (block_size, n_layer, n_head, n_embd, batch_size, _) in SIZES.items():
            tokenizer, tokens = stories(Path(folder))
            config = GPT2Config(tokenizer.vocab_size, block_size, n_layer, n_head, n_embd)
            data = TokenDataModule([tokens], block_size, batch_size, batch_size, seed=0)
            torch.manual_seed(0)
            module = LanguageModeling(GPT2(config), AdamW(lr=1e-3), Cosine(), Description(config, tokenizer, {}))
            run_dir = Path(tempfile.mkdtemp(dir=folder))
            timed = Timed(run_dir)
            steps = WARM_UP + STEPS[name]
            spec = TrainerSpec(max_steps=steps + 1, val_check_interval=10**9, accelerator="cpu")
            trainer = spec.build(steps, 1, [Metrics(10), timed], [CSVLogger(run_dir)])
            trainer.fit(module, datamodule=data)
            step, measurement, drawing = map(statistics.median, (timed.steps, timed.measurements, timed.drawings))
            share = measurement / defaults["every_n_steps"]
            share += (drawing - measurement) / defaults["pictures_every_n_steps"]
            figures[f"{name}: milliseconds of a step"] = round(1e3 * step, 1)
            figures[f"{name}: milliseconds of a measurement"] = round(1e3 * measurement, 1)
            figures[f"{name}: milliseconds of a drawing"] = round(1e3 * (drawing - measurement), 1)
            figures[f"{name}: percent of the time"] = round(100 * share / step, 2)
    report("attention_callback", figures)


if __name__ == "__main__":
    main()
