import random

import pytest

from gpt2_lightning.generation.stream import TextStream
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    stream = TextStream(tokenizer)
    return [*(stream.add(int(token)) for token in tokenizer.encode(text)), stream.rest()]


def test_plain_tokens_come_at_once() -> None:
    assert pieces(GPT2Tokenizer(), "The airlock opened") == ["The", " air", "lock", " opened", ""]
    assert pieces(CharTokenizer("abc€"), "a€b") == ["a", "€", "b", ""]


def test_a_character_of_several_tokens_comes_whole() -> None:
    tokenizer = GPT2Tokenizer()
    assert len(tokenizer.encode("𐍈")) == 4, "four tokens of a byte each"
    assert pieces(tokenizer, "𐍈") == ["", "", "", "𐍈", ""]


@pytest.mark.parametrize(
    "text",
    [
        "naïve café, 3 €",
        "Жук ел 🚀🪐 и 🧑‍🚀",
        "カタカナとひらがな",
        "한국어 우주선",
        "مركبة فضائية",
        "𐍈𐍉𐍊",
        "中文太空船",
    ],
)
def test_pieces_join_to_the_text_without_half_characters(text: str) -> None:
    found = pieces(GPT2Tokenizer(), text)
    assert "".join(found) == text
    assert not any("\ufffd" in piece for piece in found)


def test_a_token_may_end_one_character_and_begin_the_next() -> None:
    """In GPT-2's vocabulary one token holds the last byte of 熶 and the first of 殖: five until both are whole."""
    tokenizer = GPT2Tokenizer()
    assert len(tokenizer.encode("熶殖")) == 5
    assert "".join(pieces(tokenizer, "熶殖")) == "熶殖"


@pytest.mark.parametrize(("first", "last"), [(0x80, 0x7FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0x1F300, 0x1F6FF)])
def test_random_characters_survive(first: int, last: int) -> None:
    dice = random.Random(0)
    text = "".join(chr(dice.randrange(first, last)) for _ in range(600))
    assert "".join(pieces(GPT2Tokenizer(), text)) == text


def test_what_is_held_back_comes_in_the_rest() -> None:
    tokenizer = GPT2Tokenizer()
    stream = TextStream(tokenizer)
    first, second, *_ = (int(token) for token in tokenizer.encode("𐍈"))
    assert stream.add(first) == stream.add(second) == ""
    assert set(stream.rest()) == {"\ufffd"}
    assert stream.rest() == ""


def test_the_rest_is_empty_after_whole_characters() -> None:
    stream = TextStream(GPT2Tokenizer())
    stream.add(int(GPT2Tokenizer().encode("a")[0]))
    assert stream.rest() == ""


def test_bytes_that_are_no_character_do_not_hold_the_text_back() -> None:
    """A model may write a byte that begins nothing; what follows is shown soon after."""
    tokenizer = GPT2Tokenizer()
    lone = int(tokenizer.encode("𐍈")[-1])
    stream = TextStream(tokenizer)
    shown = "".join(stream.add(token) for token in [lone, *(int(t) for t in tokenizer.encode(" a b c"))])
    assert shown.endswith(" a b c")
