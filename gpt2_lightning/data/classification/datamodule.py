"""The LightningDataModule of classification."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import DataLoader

from gpt2_lightning.data.classification.batches import (
    LabelBatch,
    LabeledBatches,
    LabeledSamples,
    LabeledSet,
)
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.data.tables import Splits
from gpt2_lightning.errors import UserError
from gpt2_lightning.label_kinds import KINDS, LabeledText, LabelKind
from gpt2_lightning.tokenizers import Tokenizer

_log = logging.getLogger(__name__)


class LabelDataModule(SampleDataModule):
    """Data module of labeled texts, encoded once and padded per batch.

    The parts are the attributes `train`, `val` and `test`; `train.texts.n_cut` is the number of truncated texts.

    Args:
        splits: the rows.
        tokenizer: the model's tokenizer.
        classes: class names in the order of their indices; empty for a kind without classes.
        kind: a label kind, or its name in `label_kinds.KINDS`.
        block_size: maximum length of a text in tokens; longer texts are truncated.
        batch_size: texts in an optimizer step, over all devices.
        micro_batch_size: see `SampleDataModule`.
        seed: seed of the sample order.
        add_prefix_space: see `EncodedTexts`.

    Raises:
        UserError: if a text cannot be encoded, a label is none of the classes, or the training part lacks a class.
    """

    samples: LabeledSamples

    def __init__(
        self,
        splits: Splits[LabeledText],
        tokenizer: Tokenizer,
        classes: Sequence[str],
        kind: LabelKind | str,
        block_size: int,
        batch_size: int,
        micro_batch_size: int | None = None,
        seed: int = 0,
        add_prefix_space: bool = False,
    ) -> None:
        super().__init__(batch_size, micro_batch_size, tokenizer)
        self.kind = kind = KINDS[kind] if isinstance(kind, str) else kind
        self.classes, self.block_size = tuple(classes), block_size
        self.add_prefix_space = add_prefix_space

        def prepared(rows: list[LabeledText]) -> LabeledSet:
            texts = EncodedTexts([row.text for row in rows], tokenizer, block_size, add_prefix_space)
            return LabeledSet(rows, texts, kind.targets(rows, classes))

        self.train, self.val, self.test = prepared(splits.train), prepared(splits.val), prepared(splits.test)
        self._check_labels()
        self.samples = LabeledSamples(self.train, batch_size, seed)

    def class_counts(self) -> Tensor:
        """Number of training rows of each class, (L,)."""
        return self.kind.counts(self.train.labels, len(self.classes))

    def val_dataloader(self) -> DataLoader[LabelBatch]:
        return self.loader(LabeledBatches(self.val, self.val_batch_size(len(self.val)), *self.place()))

    def _check_labels(self) -> None:
        self.kind.check_targets(self.train.labels)
        missing = self._lacking(self.train)
        if missing:
            raise UserError(
                f"data.labels: no row of the training part has the label {', '.join(missing)}; leave it out of "
                "data.labels, use more rows, or cut each class by itself with data.stratify=true"
            )
        for part, rows in (("validation", self.val), ("test", self.test)):
            missing = self._lacking(rows)
            if len(rows) and missing:
                _log.warning("the %s part has no row of %s: it says nothing about that", part, ", ".join(missing))

    def _lacking(self, part: LabeledSet) -> list[str]:
        counts = self.kind.counts(part.labels, len(self.classes)).tolist()
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]
