"""The LightningDataModule of language modeling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch.utils.data import DataLoader

from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.data.sampling.batches import ValidationBatches
from gpt2_lightning.data.sampling.samples import JoinedSamples, MixedSamples, Samples, SeparateSamples
from gpt2_lightning.data.sampling.windows import Batch, DocumentWindows, JoinedWindows, Windows
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.data.shards.sequence import InMemorySequence
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer, char


class TokenDataModule(SampleDataModule):
    """Data module of windows of token sequences.

    Args:
        corpora: one corpus, or several to mix.
        block_size: context length in tokens.
        batch_size: sequences in an optimizer step, over all devices.
        micro_batch_size: see `SampleDataModule`.
        seed: seed of the sample order.
        weights: relative share of each corpus; None for equal shares.
        documents: treatment of document boundaries, see `corpus.Corpus`.
        end_of_text: id of the end-of-text token; required unless documents are joined.
        tokenizer: see `SampleDataModule`.

    Raises:
        UserError: if a part of a corpus is too short, or documents cannot be separated without an end-of-text token.
    """

    def __init__(
        self,
        corpora: Sequence[Tokens],
        block_size: int,
        batch_size: int,
        micro_batch_size: int | None = None,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        documents: Documents = "joined",
        end_of_text: int | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        super().__init__(batch_size, micro_batch_size, tokenizer)
        if documents != "joined" and end_of_text is None:
            raise UserError(
                f"data.documents={documents}: this tokenizer has no end-of-text token, so that documents cannot be "
                "told apart; use data.documents=joined, or a tokenizer that has one"
            )
        self.corpora = list(corpora)
        self.block_size = block_size
        self.documents, self.end_of_text, self.seed = documents, end_of_text, seed
        for tokens in corpora:
            _require_length(
                "training", len(tokens.train), block_size + 1, f"a block of {block_size} and the token after it"
            )
            _require_length("validation", len(tokens.val), 2, "a token and the one after it")
        parts = [self._samples(tokens) for tokens in corpora]
        shares = list(weights or [1.0] * len(parts))
        self.samples = parts[0] if len(parts) == 1 else MixedSamples(parts, shares, seed)

    @classmethod
    def from_text(
        cls,
        text: str,
        tokenizer: Tokenizer | Literal["char"] = "char",
        block_size: int = 64,
        batch_size: int = 16,
        val_fraction: float = 0.1,
        seed: int = 0,
    ) -> TokenDataModule:
        """Create the data module of a text in memory.

        Args:
            text: the text.
            tokenizer: a tokenizer, or `char` for a character tokenizer of the text.
            block_size: context length in tokens.
            batch_size: sequences in an optimizer step, over all devices.
            val_fraction: share of the text, from its end, that is held out for validation.
            seed: seed of the sample order.

        Raises:
            UserError: if a part of the text is too short, or a character is not in the tokenizer's vocabulary.
        """
        if tokenizer == "char":
            tokenizer = char.from_corpus([text], several_documents=False)
        split = round(len(text) * (1 - val_fraction))
        ids, bytes_per_token = {}, {}
        for part, content in (("train", text[:split]), ("val", text[split:])):
            ids[part] = tokenizer.encode(content)
            bytes_per_token[part] = len(content.encode()) / max(1, len(ids[part]))
        tokens = Tokens(InMemorySequence(ids["train"]), InMemorySequence(ids["val"]), bytes_per_token)
        return cls([tokens], block_size, batch_size, seed=seed, tokenizer=tokenizer)

    @property
    def vocab_size(self) -> int:
        """Vocabulary size of the tokenizer.

        Raises:
            UserError: if the data module has no tokenizer.
        """
        if self.tokenizer is None:
            raise UserError("tokenizer: the vocabulary is unknown; give TokenDataModule tokenizer=…")
        return self.tokenizer.vocab_size

    @property
    def train_tokens(self) -> int:
        """Number of training tokens."""
        return sum(len(tokens.train) for tokens in self.corpora)

    @property
    def val_tokens(self) -> int:
        """Number of validation tokens."""
        return sum(len(tokens.val) for tokens in self.corpora)

    def bytes_per_token(self, part: Literal["train", "val"]) -> float:
        """Return the mean bytes of text per token of the training or the validation part."""
        tokens = [len(corpus.train if part == "train" else corpus.val) for corpus in self.corpora]
        text = sum(n * corpus.bytes_per_token[part] for n, corpus in zip(tokens, self.corpora, strict=True))
        return text / sum(tokens)

    def val_dataloader(self) -> DataLoader[Batch]:
        rank, world_size = self.place()
        windows = [self._windows(tokens) for tokens in self.corpora]
        batch_size = self.val_batch_size(sum(map(len, windows)))
        return self.loader(ValidationBatches(windows, batch_size, rank, world_size, self._masked_by))

    @property
    def _masked_by(self) -> int | None:
        return self.end_of_text if self.documents == "masked" else None

    def _samples(self, tokens: Tokens) -> Samples[Batch]:
        if self.documents == "separate" and self.end_of_text is not None:
            return SeparateSamples(tokens.train, self.block_size, self.seed, self.end_of_text)
        return JoinedSamples(tokens.train, self.block_size, self.seed, self._masked_by)

    def _windows(self, tokens: Tokens) -> Windows:
        if self.documents == "separate" and self.end_of_text is not None:
            return DocumentWindows(tokens.val, self.block_size, self.end_of_text)
        return JoinedWindows(tokens.val, self.block_size)


def _require_length(part: str, has: int, needs: int, why: str) -> None:
    if has < needs:
        raise UserError(
            f"the {part} part of the text is too short: it has {has} tokens and needs {needs} ({why}); "
            "use a longer text, a smaller model.block_size or another data.val_fraction"
        )
