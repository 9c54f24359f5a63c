"""The preview shows what a batch of training really holds."""

from __future__ import annotations

import numpy as np

from gpt2_lightning.data.instruction.encoding import encode
from gpt2_lightning.data.instruction.samples import PackedSamples
from gpt2_lightning.data.tables import Message
from gpt2_lightning.inspection.preview import PreviewToken, preview
from gpt2_lightning.model.loss import IGNORED
from tests.data.conversations import BARE, LETTERS, examples


def test_a_hand_worked_row() -> None:
    one = encode(BARE.render([Message("user", "a"), Message("assistant", "b")]), LETTERS)
    other = encode(BARE.render([Message("user", "\n"), Message("assistant", "c")]), LETTERS)
    (row,) = preview([[one, other]], LETTERS, width=8)
    assert row.tokens == (
        PreviewToken("a", "prompt", True),
        PreviewToken("?", "prompt", False),
        PreviewToken("b", "learned", False),
        PreviewToken("<|endoftext|>", "end", False),
        PreviewToken("↵", "prompt", True),
        PreviewToken("?", "prompt", False),
        PreviewToken("c", "learned", False),
        PreviewToken("<|endoftext|>", "end", False),
    )
    assert (row.n_examples, row.n_targets, row.padding) == (2, 4, 2)


def test_it_agrees_with_the_batch() -> None:
    samples = PackedSamples(examples(41), 23, seed=7)
    numbers = np.arange(samples.per_epoch)
    batch = samples.read(numbers)
    rows = preview(samples.rows_of(numbers), LETTERS, 23)
    for row, targets, documents in zip(rows, batch.targets, batch.documents, strict=True):
        kinds = [token.kind for token in row.tokens if not token.begins]  # a target each, IGNORED or not
        assert [kind != "prompt" for kind in kinds] == (targets[: len(kinds)] != IGNORED).tolist()
        assert 23 - row.padding == len(kinds)
        assert int(documents[len(kinds) - 1]) + 1 == row.n_examples


def test_rows_of_one_example_are_padded_to_the_widest() -> None:
    rows = preview([[example] for example in examples(5)], LETTERS)
    assert min(row.padding for row in rows) == 0
    assert len({len(row.tokens) + row.padding for row in rows}) == 1
