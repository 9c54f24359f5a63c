from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gpt2_lightning.data.instruction.datamodule import InstructDataModule
from gpt2_lightning.data.instruction.templates import template_of
from gpt2_lightning.data.tables import Splits
from gpt2_lightning.errors import UserError
from gpt2_lightning.model.loss import IGNORED
from gpt2_lightning.tokenizers import CharTokenizer
from tests.data.conversations import BARE, LETTERS, conversations, splits


def module(block_size: int = 23, packing: bool = True, mask_prompt: bool = True) -> InstructDataModule:
    return InstructDataModule(
        splits(), BARE, LETTERS, block_size, 6, 2, seed=5, mask_prompt=mask_prompt, packing=packing
    )


@pytest.mark.parametrize("packing", [True, False])
def test_training_batches_are_the_samples_in_order(packing: bool) -> None:
    data = module(packing=packing)
    for number, batch in enumerate(itertools.islice(data.train_dataloader(), 40)):
        expected = data.samples.read(np.arange(2 * number, 2 * number + 2))
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.targets, expected.targets)


def test_packed_rows_are_as_wide_as_the_context_and_padded_ones_as_their_longest() -> None:
    packed = next(iter(module().train_dataloader()))
    padded = next(iter(module(packing=False).train_dataloader()))
    assert packed.inputs.shape == (2, 23)
    assert padded.inputs.size(1) < 16
    assert padded.documents is None


def test_validation_and_test_have_every_answer_once() -> None:
    data = module()
    answers = {part: getattr(data.splits, part) for part in ("val", "test")}
    counts = {part: sum(len(row.messages[1].content) + 1 for row in rows) for part, rows in answers.items()}
    in_val = sum(int((batch.targets != IGNORED).sum()) for batch in data.val_dataloader())
    in_test = sum(int((batch.targets != IGNORED).sum()) for batch in data.batches("test"))
    assert {"val": in_val, "test": in_test} == counts


def test_the_position_is_one_integer() -> None:
    data = module()
    data.load_state_dict({"samples_seen": 30, "step": 5})
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch.inputs, data.samples.read(np.arange(30, 32)).inputs)
    assert data.state_dict()["samples_seen"] == 30
    assert data.epochs_seen == 30 / data.samples.per_epoch


def test_the_task_is_plain_and_gives_the_template_back() -> None:
    task = module(mask_prompt=False).task
    assert task == {"kind": "instruct", "template": BARE.to_plain(), "mask_prompt": False}
    assert template_of(task) == BARE


def test_mask_prompt_off_learns_more() -> None:
    masked, whole = (module(mask_prompt=mask).parts["train"].n_targets for mask in (True, False))
    assert whole == sum(example.width for example in module().parts["train"].examples) > masked


def test_the_report_says_what_is_cut_and_what_is_padding() -> None:
    data = module(block_size=9)
    lines = data.report()
    rows = data.parts["train"]
    assert lines[0].startswith(f"41 examples to train on ({rows.n_targets} tokens carry loss), ")
    assert f"{len(data.samples.read(np.arange(1)).inputs[0])}, {100 * data.padding['packed']:.1f} % of" in lines[1]
    assert f"than the context of 9 tokens: {rows.truncated} to train on" in lines[2]
    assert rows.without_beginning > 0
    assert f"since the prompt alone fills the context: {rows.without_beginning} to train on" in lines[2]


def test_the_report_is_short_where_all_fits() -> None:
    assert len(module().report()) == 2
    assert module(packing=False).report()[1].startswith("one example a row, ")


def test_packing_saves_padding_over_whole_rows() -> None:
    padding = module().padding
    assert 0 <= padding["packed"] < 0.2 < padding["whole"] < 1
    assert padding["padded"] < padding["whole"]


def test_there_may_be_no_test_part() -> None:
    data = InstructDataModule(Splits(conversations(9), conversations(3), []), BARE, LETTERS, 23, 2, 2, seed=5)
    assert len(data.batches("test")) == 0
    assert "0 examples to test" in data.report()[0]


def test_a_tokenizer_without_end_of_text_is_told() -> None:
    with pytest.raises(UserError, match="has no end-of-text token"):
        InstructDataModule(splits(), BARE, CharTokenizer("abcdefg?\n"), 23, 2, 2, seed=5)
