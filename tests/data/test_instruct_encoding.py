"""Which ids a conversation becomes, and which of them are learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt2_lightning.data.instruction.encoding import encode, encode_rows
from gpt2_lightning.data.instruction.templates import Segment, Template
from gpt2_lightning.data.tables import Alpaca, Conversation, Instructions, Message
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer
from tests.data.shipped_templates import NAMES, shipped

GPT2 = GPT2Tokenizer()
LETTERS = CharTokenizer("abcdef?", end_of_text=True)
END = LETTERS.end_of_text
BARE = Template(name="bare", question="{instruction}?", between="f")
"""A question `ab` with the answer `cd` is six tokens: a b ? c d and the end."""


def row(instruction: str, output: str) -> Conversation:
    return Conversation.from_alpaca(Alpaca(instruction, "", output))


def test_a_hand_worked_example() -> None:
    example = encode(BARE.render(row("ab", "cd").messages), LETTERS)
    assert example.ids.tolist() == [1, 2, 0, 3, 4, END]  # "?" comes first in the alphabet
    assert example.learned.tolist() == [False, False, False, True, True, True]
    assert (example.width, example.n_targets) == (5, 3)


def test_every_turn_of_the_assistant_is_learned_with_its_end() -> None:
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    example = encode(BARE.render(turns), LETTERS)
    assert example.ids.tolist() == [1, 0, 2, END, 6, 3, 0, 4, END]
    assert np.flatnonzero(example.learned).tolist() == [2, 3, 7, 8]


def test_with_mask_prompt_off_all_is_learned_but_the_first_token() -> None:
    example = encode(BARE.render(row("ab", "cd").messages), LETTERS, mask_prompt=False)
    assert example.learned.tolist() == [False, True, True, True, True, True]


def test_a_text_that_begins_with_the_answer_cannot_learn_its_first_token() -> None:
    assert encode([Segment("ab", True, True)], LETTERS).learned.tolist() == [False, True, True]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", ["5", " 5", "\n5", "'s it", "<|im_end|>", "::", "é"])
def test_a_prompt_has_the_same_ids_in_training_and_in_generation(name: str, answer: str) -> None:
    """Whatever the answer begins with, such as what GPT-2 would merge with the end of the prompt."""
    template = shipped(name)
    whole = encode(template.render(row("Add 2 and 3.", answer).messages), GPT2)
    prompt = prompt_ids(template.prompt("Add 2 and 3."), GPT2).tolist()
    assert whole.ids[: len(prompt)].tolist() == prompt
    assert not whole.learned[: len(prompt)].any()
    assert whole.learned[len(prompt) :].all()
    assert whole.ids[len(prompt) :].tolist() == [*GPT2.encode(answer), *GPT2.encode(template.answer_end), 50256]


def test_one_text_would_have_had_other_ids() -> None:
    """The comparison above can fail: GPT-2 merges the colon at the end of this prompt with what follows."""
    prompt, answer = shipped("alpaca").prompt("Add 2 and 3."), "::"
    assert GPT2.encode(prompt + answer).tolist() != [*GPT2.encode(prompt), *GPT2.encode(answer)]


def test_special_strings_are_ordinary_text() -> None:
    example = encode(shipped("chatml").render(row("<|endoftext|>", "b").messages), GPT2)
    assert example.ids.tolist().count(50256) == 1
    assert len(GPT2.encode("<|im_start|>")) > 1


def test_long_rows_are_cut_and_counted() -> None:
    rows = [row("ab", "cd"), row("abc", "defdef"), row("abcdef", "a"), row("abcde", "f")]
    encoded = encode_rows(rows, "training", BARE, LETTERS, block_size=6)
    assert [len(example.ids) for example in encoded.examples] == [6, 7, 7, 7]
    assert (encoded.truncated, encoded.without_beginning) == (3, 1), "the third fills the context before its answer"
    assert [example.n_targets for example in encoded.examples] == [3, 3, 2, 1]
    assert encoded.n_targets == 9
    assert encoded.examples[1].ids[-1] != END, "what is cut does not learn to end there"
    assert LETTERS.decode(encoded.examples[2].ids[:-1].tolist()) == "cdef?a"[-6:], "the end of the prompt is kept"
    assert encoded.examples[3].ids[-1] == LETTERS.encode("f")[0], "one more than the context holds is predicted"


def test_nothing_is_cut_that_fits_exactly() -> None:
    encoded = encode_rows([row("ab", "cd")], "training", BARE, LETTERS, block_size=5)
    assert (encoded.truncated, encoded.without_beginning) == (0, 0)
    assert encode_rows([row("ab", "cd")], "training", BARE, LETTERS, block_size=4).truncated == 1


@pytest.mark.parametrize("block_size", [1, 2, 3, 6])
def test_a_long_prompt_leaves_room_for_its_answer(block_size: int) -> None:
    (example,) = encode_rows([row("abcdef", "fedcba")], "test", BARE, LETTERS, block_size).examples
    assert (len(example.ids), bool(example.learned[0])) == (block_size + 1, False)
    first = int(example.learned.argmax())
    assert first == (block_size + 1) // 2, "half of the context is of the prompt"
    assert LETTERS.decode(example.ids[first : first + 1].tolist()) == "f"


def test_a_part_may_be_empty() -> None:
    assert encode_rows([], "test", BARE, LETTERS, block_size=3).examples == []


def test_a_tokenizer_without_end_of_text_is_told() -> None:
    with pytest.raises(UserError, match=r"tokenizer \(char\) .*end-of-text token"):
        encode_rows([row("a", "b")], "training", BARE, CharTokenizer("abcdef?"), block_size=5)


def test_a_row_that_does_not_fit_is_told_with_its_number() -> None:
    chat = Conversation.from_messages(tuple(Message(r, "a") for r in ("user", "assistant", "user", "assistant")))
    with pytest.raises(UserError, match=r"row 2 of the training part: .*alpaca"):
        encode_rows([row("a", "b"), chat], "training", shipped("alpaca"), GPT2, block_size=5)
    strict = CharTokenizer(LETTERS.alphabet, unknown="error", end_of_text=True)
    with pytest.raises(UserError, match=r"row 2 of the validation part: .* 'x'"):
        encode_rows([row("a", "b"), row("x", "b")], "validation", BARE, strict, block_size=5)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_the_book_fits_every_template(shared_data: Path, name: str) -> None:
    path = shared_data / "instructions" / "instruction-data.json"
    rows = Instructions(path=str(path), val=0.999, test=0).read()
    template = shipped(name)
    conversations = rows.train + rows.val
    encoded = encode_rows(conversations, "training", template, GPT2, block_size=1024)
    assert (len(encoded.examples), encoded.truncated, encoded.without_beginning) == (1100, 0, 0)
    for conversation, example in zip(conversations, encoded.examples, strict=True):
        ids = example.ids.tolist()
        assert ids[-1] == 50256
        assert GPT2.decode([i for i, learned in zip(ids, example.learned, strict=True) if learned]) == (
            conversation.messages[-1].content + template.answer_end + "<|endoftext|>"
        )
