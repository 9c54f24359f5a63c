import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "expected"),
    [
        (CharTokenizer("abc\n"), "cab", [3, 1, 2]),
        (CharTokenizer("abc\n"), "", [0]),
        (CharTokenizer("xyz"), "", [0]),
        (GPT2Tokenizer(), "Hello world", [15496, 995]),
        (GPT2Tokenizer(), "", [198]),
    ],
    ids=["characters", "empty: a new line", "empty: the first character", "tokens", "empty: GPT-2's new line"],
)
def test_a_prompt_becomes_ids(tokenizer: Tokenizer, prompt: str, expected: list[int]) -> None:
    ids = prompt_ids(prompt, tokenizer)
    assert ids.tolist() == expected
    assert ids.dtype == torch.int64


def test_unknown_characters_of_a_prompt_are_named() -> None:
    with pytest.raises(UserError) as caught:
        prompt_ids("ab€", CharTokenizer("abc"))
    assert str(caught.value).startswith("in the prompt: ")
    assert "'€' (U+20AC) at character 2" in str(caught.value)
