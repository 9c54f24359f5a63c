"""The LightningDataModule of instruction tuning."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from torch.utils.data import DataLoader

from gpt2_lightning.data.instruction.encoding import EncodedRows, Example, encode_rows
from gpt2_lightning.data.instruction.samples import ExampleBatches, PackedSamples, PaddedSamples
from gpt2_lightning.data.instruction.templates import KIND, Template
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.data.tables import Conversation, Splits
from gpt2_lightning.tokenizers import Tokenizer

Part = Literal["train", "val", "test"]
_NAMES: dict[Part, str] = {"train": "training", "val": "validation", "test": "test"}


class InstructDataModule(SampleDataModule):
    """Data module of conversations rendered with a template, with loss on the answers.

    Args:
        splits: conversations.
        template: template that renders the conversations.
        tokenizer: tokenizer with an end-of-text token.
        block_size: context length in tokens; longer conversations are truncated.
        batch_size: rows in an optimizer step, over all devices.
        micro_batch_size: see `SampleDataModule`.
        seed: seed of the sample order.
        mask_prompt: whether only the answers and their end-of-text tokens are targets, instead of all tokens.
        packing: whether a row contains as many examples as fit, instead of one.

    Raises:
        UserError: if the template or the tokenizer cannot express a conversation, or a part has no targets.
    """

    def __init__(
        self,
        splits: Splits[Conversation],
        template: Template,
        tokenizer: Tokenizer,
        block_size: int,
        batch_size: int,
        micro_batch_size: int | None = None,
        seed: int = 0,
        mask_prompt: bool = True,
        packing: bool = True,
    ) -> None:
        super().__init__(batch_size, micro_batch_size, tokenizer)
        self.splits, self.template = splits, template
        self.block_size, self.mask_prompt, self.packing = block_size, mask_prompt, packing
        self.parts: dict[Part, EncodedRows] = {
            part: encode_rows(getattr(splits, part), name, template, tokenizer, block_size, mask_prompt)
            for part, name in _NAMES.items()
        }
        train = self.parts["train"].examples
        packed, padded = PackedSamples(train, block_size, seed), PaddedSamples(train, batch_size, seed)
        self.samples: PackedSamples | PaddedSamples = packed if packing else padded
        self.padding = {
            "packed": packed.padding,
            "padded": padded.padding(self.micro_batch_size),
            "whole": 1 - sum(example.width for example in train) / (len(train) * block_size),
        }
        """Share of padding: with packing, with batches padded to their longest example, and with rows of one example
        padded to the context."""

    @property
    def task(self) -> dict[str, Any]:
        """Plain values of the template, for `Description.task`."""
        return {"kind": KIND, "template": self.template.to_plain(), "mask_prompt": self.mask_prompt}

    def first_rows(self, count: int) -> list[list[Example]]:
        """Return the examples of the first `count` training rows, for a preview."""
        return self.samples.rows_of(np.arange(count))

    def report(self) -> list[str]:
        """Summarize the numbers of examples, padding and truncated rows in sentences."""
        uses = dict(zip(self.parts, ("to train on", "to validate", "to test"), strict=True))
        found = [
            f"{len(rows.examples):,} examples {uses[part]} ({rows.n_targets:,} tokens carry loss)"
            for part, rows in self.parts.items()
        ]
        cut = [f"{rows.truncated:,} {uses[part]}" for part, rows in self.parts.items() if rows.truncated]
        late = {part: rows.without_beginning for part, rows in self.parts.items() if rows.without_beginning}
        lines = [", ".join(found), self._shape()]
        if cut:
            line = f"cut, since longer than the context of {self.block_size} tokens: {', '.join(cut)}"
            if late:
                counts = ", ".join(f"{count:,} {uses[part]}" for part, count in late.items())
                line += f"; at the beginning, since the prompt alone fills the context: {counts}"
            lines.append(line)
        return lines

    def val_dataloader(self) -> DataLoader[Batch]:
        examples = self.parts["val"].examples
        return self.loader(ExampleBatches(examples, self.val_batch_size(len(examples)), *self.place()))

    def batches(self, part: Part) -> ExampleBatches:
        """Return the batches of a part, with every example once."""
        return ExampleBatches(self.parts[part].examples, self.micro_batch_size)

    def _shape(self) -> str:
        share = {kind: f"{100 * value:.1f} %" for kind, value in self.padding.items()}
        alone = f"{share['whole']} in rows of {self.block_size}"
        if self.packing:
            return (
                f"{self.samples.per_epoch:,} rows of {self.block_size}, {share['packed']} of them padding; with one "
                f"example a row it would be {share['padded']} where batches are as wide as their longest, {alone}"
            )
        return (
            f"one example a row, batches as wide as their longest, {share['padded']} of them padding; it would be "
            f"{alone}, and {share['packed']} with packing"
        )
