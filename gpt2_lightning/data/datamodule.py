"""The LightningDataModule of language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from gpt2_lightning.data.batches import Endless, TrainingBatches, ValidationBatches
from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.samples import JoinedSamples, MixedSamples, Samples, SeparateSamples
from gpt2_lightning.data.tokens import Tokens
from gpt2_lightning.data.windows import Batch, DocumentWindows, JoinedWindows, Windows
from gpt2_lightning.errors import UserError


class TokenDataModule(L.LightningDataModule):
    """Windows of token files.

    Args:
        corpora: one, or several to be mixed.
        block_size: tokens that a sample predicts.
        batch_size: sequences in an optimizer step, over all devices.
        micro_batch_size: sequences in one forward pass of one device; the rest of a step's is accumulated.
        seed: fixes the order of the samples.
        weights: share of each corpus; None for equal ones.
        documents: how windows treat documents, see `corpus.Corpus`.
        end_of_text: the id that closes a document; needed unless documents are joined.

    Raises:
        UserError: if a part of a corpus is too short, or documents cannot be told apart.
    """

    def __init__(
        self,
        corpora: Sequence[Tokens],
        block_size: int,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        weights: Sequence[float] | None = None,
        documents: Documents = "joined",
        end_of_text: int | None = None,
    ) -> None:
        super().__init__()
        if documents != "joined" and end_of_text is None:
            raise UserError(
                f"data.documents={documents}: this tokenizer has no end-of-text token, so that documents cannot be "
                "told apart; use data.documents=joined, or a tokenizer that has one"
            )
        self.corpora = list(corpora)
        self.block_size = block_size
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.documents, self.end_of_text, self.seed = documents, end_of_text, seed
        for tokens in corpora:
            _require_length(
                "training", len(tokens.train), block_size + 1, f"a block of {block_size} and the token after it"
            )
            _require_length("validation", len(tokens.val), 2, "a token and the one after it")
        parts = [self._samples(tokens) for tokens in corpora]
        shares = list(weights or [1.0] * len(parts))
        self.samples = parts[0] if len(parts) == 1 else MixedSamples(parts, shares, seed)
        self._first_sample, self._first_step = 0, 0

    @property
    def train_tokens(self) -> int:
        """Tokens to train on."""
        return sum(len(tokens.train) for tokens in self.corpora)

    @property
    def val_tokens(self) -> int:
        """Tokens to validate on."""
        return sum(len(tokens.val) for tokens in self.corpora)

    def bytes_per_token(self, part: Literal["train", "val"]) -> float:
        """Bytes of text that a token stands for on average, in the training or the validation text."""
        tokens = [len(corpus.train if part == "train" else corpus.val) for corpus in self.corpora]
        text = sum(n * corpus.bytes_per_token[part] for n, corpus in zip(tokens, self.corpora, strict=True))
        return text / sum(tokens)

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

    def train_dataloader(self) -> DataLoader[Batch]:
        rank, world_size = self._place()
        batches = TrainingBatches(self.samples, self.micro_batch_size, rank, world_size, self._first_sample)
        return self._loader(batches, Endless())

    def val_dataloader(self) -> DataLoader[Batch]:
        rank, world_size = self._place()
        windows = [self._windows(tokens) for tokens in self.corpora]
        return self._loader(ValidationBatches(windows, self.micro_batch_size, rank, world_size, self._masked_by))

    def state_dict(self) -> dict[str, Any]:
        return {"samples_seen": self.samples_seen, "step": self.trainer.global_step if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._first_sample, self._first_step = state_dict["samples_seen"], state_dict["step"]

    @property
    def _masked_by(self) -> int | None:
        return self.end_of_text if self.documents == "masked" else None

    def _samples(self, tokens: Tokens) -> Samples:
        if self.documents == "separate" and self.end_of_text is not None:
            return SeparateSamples(tokens.train, self.block_size, self.seed, self.end_of_text)
        return JoinedSamples(tokens.train, self.block_size, self.seed, self._masked_by)

    def _windows(self, tokens: Tokens) -> Windows:
        if self.documents == "separate" and self.end_of_text is not None:
            return DocumentWindows(tokens.val, self.block_size, self.end_of_text)
        return JoinedWindows(tokens.val, self.block_size)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, batches: Dataset[Batch], sampler: Endless | None = None) -> DataLoader[Batch]:
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
