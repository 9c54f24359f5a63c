"""Base of the LightningDataModules: training batches from an endless sequence of numbered samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from gpt2_lightning.data.sampling.batches import BatchNumbers, TrainingBatches
from gpt2_lightning.data.sampling.read_ahead import ReadAheadLoader
from gpt2_lightning.data.sampling.samples import Samples
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer


class SampleDataModule(L.LightningDataModule):
    """Base data module with training batches from `samples`; subclasses set `samples` and define validation batches.

    With `Trainer(max_steps=…)` the run is one epoch. With `Trainer(max_epochs=…)` an epoch is a pass over the training
    samples, rounded up to whole steps.

    Args:
        batch_size: samples in an optimizer step, over all devices and accumulated micro-batches.
        micro_batch_size: samples in one forward pass of one device; None to divide `batch_size` by the Trainer's
            devices and `accumulate_grad_batches`.
        tokenizer: saved in checkpoints; None if unknown.
    """

    samples: Samples[Any]
    """Training samples."""

    def __init__(
        self, batch_size: int, micro_batch_size: int | None = None, tokenizer: Tokenizer | None = None
    ) -> None:
        super().__init__()
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size or batch_size
        self._divides_batch = micro_batch_size is None
        self.tokenizer = tokenizer
        self.repeat_first_step = False
        """Whether every optimizer step uses the samples of the first, to test whether a model can overfit them."""
        self._first_sample, self._first_step = 0, 0
        self.skipped: list[tuple[int, int]] = []
        """Samples that are left out of the training batches, see `TrainingBatches`."""

    @property
    def task(self) -> dict[str, Any]:
        """`Description.task` of a model trained on this data; empty for a language model."""
        return {}

    def setup(self, stage: str) -> None:
        """Derive the micro-batch size from the Trainer, if it is None.

        Raises:
            UserError: if the batch size is not divisible by the number of micro-batches.
        """
        if self.trainer is None or not self._divides_batch:
            return
        world_size, accumulate = self.trainer.world_size, self.trainer.accumulate_grad_batches
        self.micro_batch_size, rest = divmod(self.batch_size, world_size * accumulate)
        if rest:
            raise UserError(
                f"batch_size: {self.batch_size} does not divide by {world_size} devices × accumulate_grad_batches="
                f"{accumulate}; use a multiple of {world_size * accumulate}"
            )

    @property
    def samples_seen(self) -> int:
        """Number of training samples consumed, which with the skipped ones is the position in the data."""
        return self.samples_before(self.trainer.global_step + 1 if self.trainer else self._first_step + 1)

    def samples_before(self, step: int) -> int:
        """Return the number of training samples consumed before an optimizer step; the first step is 1."""
        return self._first_sample + (step - 1 - self._first_step) * self.batch_size

    @property
    def tokens_seen(self) -> int:
        """Number of tokens trained on."""
        return round(self.samples_seen * self.samples.targets_per_sample)

    @property
    def epochs_seen(self) -> float:
        """Number of passes over the training data, including the fraction of the current one."""
        return self.samples_seen / self.samples.per_epoch

    def train_dataloader(self) -> DataLoader[Any]:
        rank, world_size = self.place()
        period = self.batch_size // (self.micro_batch_size * world_size) if self.repeat_first_step else None
        batches = TrainingBatches(
            self.samples, self.micro_batch_size, rank, world_size, self._first_sample, period, self.skipped
        )
        return self.loader(batches, BatchNumbers(self._batches_per_epoch(), continues=True))

    def first_batches(self, count: int) -> Iterator[Any]:
        """Yield the first `count` training micro-batches of this rank; the position in the data is unchanged."""
        batches = TrainingBatches(self.samples, self.micro_batch_size, *self.place())
        return (batches[number] for number in range(count))

    def _batches_per_epoch(self) -> int | None:
        """Number of batches of this rank in an epoch of the Trainer; None if the epoch is endless."""
        trainer = self.trainer
        if trainer is None or trainer.check_val_every_n_epoch is None:
            return None
        one_epoch = trainer.max_epochs in (None, -1)
        steps = trainer.max_steps if one_epoch else math.ceil(self.samples.per_epoch / self.batch_size)
        return steps * trainer.accumulate_grad_batches if steps >= 0 else None

    def state_dict(self) -> dict[str, Any]:
        step = self.trainer.global_step if self.trainer else 0
        return {"samples_seen": self.samples_seen, "step": step, "skipped": [list(part) for part in self.skipped]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._first_sample, self._first_step = state_dict["samples_seen"], state_dict["step"]
        self.skipped = [(first, count) for first, count in state_dict.get("skipped", [])]

    def place(self) -> tuple[int, int]:
        """Return rank and world size."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def val_batch_size(self, rows: int) -> int:
        """Return the validation batch size: the micro-batch size, or less so that every process has a batch.

        Raises:
            UserError: if there are fewer rows than processes.
        """
        _, count = self.place()
        if rows < count:
            raise UserError(
                f"the validation part has {rows} rows, fewer than the {count} processes; use more text, a larger "
                "data.val_fraction, or fewer devices"
            )
        return min(self.micro_batch_size, rows // count)

    def loader(self, batches: Dataset[Any], numbers: BatchNumbers | None = None) -> DataLoader[Any]:
        """Return a DataLoader of a dataset whose items are batches: all of them, or those of `numbers`.

        For a GPU, batches are read ahead; on a CPU, the thread would take time from the training step.
        """
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        # Without a generator, a DataLoader draws a seed from the global one, which would change the dropout masks.
        generator = torch.Generator()
        sampler = BatchNumbers(len(batches)) if numbers is None else numbers  # type: ignore[arg-type]  # it has a length
        kind = ReadAheadLoader if on_cuda else DataLoader
        return kind(batches, batch_size=None, sampler=sampler, pin_memory=on_cuda, generator=generator)
