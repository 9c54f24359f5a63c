"""The LightningDataModule of language modelling."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gpt2_lightning.data.order import SampleOrder
from gpt2_lightning.data.tokens import TokenFiles
from gpt2_lightning.data.windows import Endless, TrainingBatches, ValidationBatches
from gpt2_lightning.errors import UserError


class TokenDataModule(L.LightningDataModule):
    """Windows of memory-mapped token ids.

    Args:
        files: the encoded corpus.
        block_size: tokens that a sample predicts.
        batch_size: sequences in an optimizer step, over all devices.
        micro_batch_size: sequences in one forward pass of one device; the rest of a step's is accumulated.
        seed: fixes the order of the samples.

    Raises:
        UserError: if a part of the corpus is too short.
    """

    def __init__(self, files: TokenFiles, block_size: int, batch_size: int, micro_batch_size: int, seed: int) -> None:
        super().__init__()
        self.files = files
        self.block_size = block_size
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.train_ids = np.load(files.train, mmap_mode="r")
        self.val_ids = np.load(files.val, mmap_mode="r")
        _require_length(
            "training", self.train_ids.size, block_size + 1, f"a block of {block_size} and the token after it"
        )
        _require_length("validation", self.val_ids.size, 2, "a token and the one after it")
        self.order = SampleOrder(self.train_ids.size, block_size, seed)
        self._first_sample, self._first_step = 0, 0

    @property
    def samples_seen(self) -> int:
        """Where training stands in the endless sequence of samples: all there is to its position."""
        steps = self.trainer.global_step - self._first_step if self.trainer else 0
        return self._first_sample + steps * self.batch_size

    @property
    def tokens_seen(self) -> int:
        """Tokens trained on."""
        return self.samples_seen * self.block_size

    @property
    def epochs_seen(self) -> float:
        """Passes over the training text, with the fraction of the present one."""
        return self.samples_seen / self.order.per_epoch

    def train_dataloader(self) -> DataLoader[Tensor]:
        rank, world_size = self._place()
        batches = TrainingBatches(
            self.train_ids, self.order, self.micro_batch_size, rank, world_size, self._first_sample
        )
        return self._loader(batches, Endless())

    def val_dataloader(self) -> DataLoader[Tensor]:
        rank, world_size = self._place()
        return self._loader(ValidationBatches(self.val_ids, self.block_size, self.micro_batch_size, rank, world_size))

    def state_dict(self) -> dict[str, Any]:
        return {"samples_seen": self.samples_seen, "step": self.trainer.global_step if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._first_sample, self._first_step = state_dict["samples_seen"], state_dict["step"]

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, batches: Dataset[Tensor], sampler: Endless | None = None) -> DataLoader[Tensor]:
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        # A loader takes a seed for its workers from the global generator unless it has its own: dropout would notice.
        generator = torch.Generator()
        return DataLoader(batches, batch_size=None, sampler=sampler, pin_memory=on_cuda, generator=generator)


def _require_length(part: str, has: int, needs: int, why: str) -> None:
    if has < needs:
        raise UserError(
            f"the {part} part of the text is too short: it has {has} tokens and needs {needs} ({why}); "
            "use a longer text, a smaller model.block_size or another data.val_fraction"
        )
