"""Data modules of the embedded stories, as a corpus and as questions with answers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.instruction.datamodule import InstructDataModule
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.shards.prepared import open_prepared
from gpt2_lightning.data.tables import Conversation, Splits
from gpt2_lightning.data.tables.instructions import Alpaca
from gpt2_lightning.tokenizers import GPT2Tokenizer

Texts = Documents | Literal["instructions"]
"""Stories with a treatment of the boundaries between them, or packed instructions."""
_SHORTEST, _LONGEST = 100, 800
"""Characters of an answer; about 25 to 200 tokens, as most of Alpaca's."""


def stories(
    folder: Path, block_size: int, batch_size: int, micro_batch_size: int, texts: Texts = "joined"
) -> SampleDataModule:
    """Return a data module with GPT-2's tokenizer.

    Args:
        folder: folder for the prepared corpus.
        block_size: context length in tokens.
        batch_size: rows of a step.
        micro_batch_size: rows of a micro-batch.
        texts: how the stories are divided into samples.
    """
    corpus, tokenizer = TextCorpus(path="embedded:scifi"), GPT2Tokenizer()
    if texts == "instructions":
        rows = _conversations("".join(corpus.training_text()))
        splits = Splits(rows[10:], rows[:10], [])
        template = Template(name="question", question="{instruction}\n")
        return InstructDataModule(splits, template, tokenizer, block_size, batch_size, micro_batch_size)
    prepare(corpus, tokenizer, folder / "shards", folder)
    tokens = open_prepared(folder / "shards", tokenizer, folder)
    end_of_text = tokenizer.end_of_text
    return TokenDataModule(
        [tokens],
        block_size,
        batch_size,
        micro_batch_size,
        documents=texts,
        end_of_text=end_of_text,
        tokenizer=tokenizer,
    )


def _conversations(text: str) -> list[Conversation]:
    """Divide a text into questions of 40 characters, and answers of random lengths."""
    found, start, dice = [], 0, random.Random(0)
    while start < len(text) - _LONGEST:
        end = start + 40 + dice.randint(_SHORTEST, _LONGEST)
        found.append(Conversation.from_alpaca(Alpaca(text[start : start + 40], "", text[start + 40 : end])))
        start = end
    return found
