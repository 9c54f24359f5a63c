import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.start import empty_start, prompt_ids
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "expected"),
    [
        (CharTokenizer("abc\n"), "cab", [3, 1, 2]),
        (CharTokenizer("abc\n"), "", [0]),
        (CharTokenizer("abc\n", end_of_text=True), "", [4]),
        (CharTokenizer("xyz"), "", [0]),
        (CharTokenizer("xyz", unknown="skip"), "", [0]),
        (CharTokenizer("xyz", unknown="skip"), "a z", [2]),
        (GPT2Tokenizer(), "Hello world", [15496, 995]),
        (GPT2Tokenizer(), "", [50256]),
    ],
    ids=[
        "characters",
        "empty: a new line",
        "empty: the end of text",
        "empty: the first character",
        "empty: the first character, where others are skipped",
        "what is known",
        "tokens",
        "empty: GPT-2's end of text",
    ],
)
def test_a_prompt_becomes_ids(tokenizer: Tokenizer, prompt: str, expected: list[int]) -> None:
    ids = prompt_ids(prompt, tokenizer)
    assert ids.tolist() == expected
    assert ids.dtype == torch.int64


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        (CharTokenizer("a\n", end_of_text=True), "the end-of-text token"),
        (CharTokenizer("a\n"), "a new line"),
        (CharTokenizer("a"), "the tokenizer's first token"),
    ],
)
def test_what_stands_for_an_empty_prompt_has_a_name(tokenizer: Tokenizer, name: str) -> None:
    assert empty_start(tokenizer) == (prompt_ids("", tokenizer).item(), name)


def test_unknown_characters_of_a_prompt_are_named() -> None:
    with pytest.raises(UserError) as caught:
        prompt_ids("ab€", CharTokenizer("abc", "error"))
    assert str(caught.value).startswith("in the prompt: ")
    assert "'€' (U+20AC) at character 2" in str(caught.value)


def test_a_prompt_of_skipped_characters_alone_is_refused() -> None:
    with pytest.raises(UserError, match="in the prompt: none of its characters has a token"):
        prompt_ids("€€", CharTokenizer("abc", unknown="skip"))
