"""What the LightningDataModules share: training on numbered samples, without an end."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from gpt2_lightning.data.sampling.batches import Endless, TrainingBatches
from gpt2_lightning.data.sampling.samples import Samples
from gpt2_lightning.errors import UserError


class SampleDataModule(L.LightningDataModule):
    """Training batches from `samples`, which a subclass sets; validation batches are the subclass's own.

    Args:
        batch_size: samples in an optimizer step, over all devices.
        micro_batch_size: samples in one forward pass of one device; the rest of a step's is accumulated.
    """

    samples: Samples[Any]
    """What is trained on."""

    def __init__(self, batch_size: int, micro_batch_size: int) -> None:
        super().__init__()
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self._first_sample, self._first_step = 0, 0

    @property
    def samples_seen(self) -> int:
        """Where training stands in the endless sequence of samples: all there is to its position."""
        steps = self.trainer.global_step - self._first_step if self.trainer else 0
        return self._first_sample + steps * self.batch_size

    @property
    def tokens_seen(self) -> int:
        """Tokens trained on."""
        return round(self.samples_seen * self.samples.targets_per_sample)

    @property
    def epochs_seen(self) -> float:
        """Passes over the training text, with the fraction of the present one."""
        return self.samples_seen / self.samples.per_epoch

    def train_dataloader(self) -> DataLoader[Any]:
        rank, world_size = self.place()
        batches = TrainingBatches(self.samples, self.micro_batch_size, rank, world_size, self._first_sample)
        return self.loader(batches, Endless())

    def state_dict(self) -> dict[str, Any]:
        return {"samples_seen": self.samples_seen, "step": self.trainer.global_step if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._first_sample, self._first_step = state_dict["samples_seen"], state_dict["step"]

    def place(self) -> tuple[int, int]:
        """Rank of this process, and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def val_batch_size(self, rows: int) -> int:
        """Rows in a validation batch: the micro-batch, or fewer so that every process has a batch.

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

    def loader(self, batches: Dataset[Any], sampler: Endless | None = None) -> DataLoader[Any]:
        """A loader of batches that are whole already."""
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        # A loader takes a seed for its workers from the global generator unless it has its own: dropout would notice.
        generator = torch.Generator()
        return DataLoader(batches, batch_size=None, sampler=sampler, pin_memory=on_cuda, generator=generator)
