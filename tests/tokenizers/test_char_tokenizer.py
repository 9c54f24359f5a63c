"""One token for each character."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer
from gpt2_lightning.tokenizers.char import from_corpus


def message_of(tokenizer: CharTokenizer, text: str) -> str:
    with pytest.raises(UserError) as caught:
        tokenizer.encode(text)
    return str(caught.value)


def test_ids_follow_code_points() -> None:
    tokenizer = from_corpus("beach é\n🚀b")
    assert tokenizer.vocab_size == 9
    assert [tokenizer.decode([i]) for i in range(9)] == ["\n", " ", "a", "b", "c", "e", "h", "é", "🚀"]
    assert tokenizer.encode("bé🚀\n").tolist() == [3, 7, 8, 0]


def test_the_corpus_decides_only_which_characters_there_are() -> None:
    assert from_corpus("abcabc").to_text() == from_corpus("cba").to_text()
    assert from_corpus("abcabc").hash() == from_corpus("cba").hash()
    assert from_corpus("abc").hash() != from_corpus("abd").hash()


@settings(derandomize=True, deadline=None)
@given(st.text(min_size=1))
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = from_corpus(text)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.decode(ids) == text


def test_empty_text_has_no_tokens() -> None:
    tokenizer = from_corpus("abc")
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.decode([]) == ""


def test_ids_are_uint16() -> None:
    assert from_corpus("abc").encode("cab").dtype == np.uint16


def test_ids_beyond_uint16_are_uint32() -> None:
    most = "".join(map(chr, range(0x10000, 0x10000 + 2**16)))
    assert CharTokenizer(most).encode(most[-1]).dtype == np.uint16
    assert CharTokenizer(most).encode(most[-1]).tolist() == [2**16 - 1]
    assert CharTokenizer(most + "a").encode(most[-1]).dtype == np.uint32
    assert CharTokenizer(most + "a").encode(most[-1]).tolist() == [2**16]


@pytest.mark.parametrize(
    ("unknown", "described"),
    [
        ("a", "'a' (U+0061) at character 3"),
        ("z", "'z' (U+007A) at character 3"),
        ("n", "'n' (U+006E) at character 3"),
        ("\t", "'\\t' (U+0009) at character 3"),
        ("🚀", "'🚀' (U+1F680) at character 3"),
    ],
    ids=["before the first", "after the last", "between two", "control", "astral"],
)
def test_an_unknown_character_is_named_with_its_place(unknown: str, described: str) -> None:
    message = message_of(CharTokenizer("mop"), f"mop{unknown}m{unknown}")
    assert message.startswith(f"the tokenizer's alphabet, made from the training text, lacks {described}; ")
    assert "tokenizer=gpt2" in message


def test_unknown_characters_are_listed_once_each_in_order_of_appearance() -> None:
    message = message_of(CharTokenizer("abc"), "azbzyac!")
    assert "lacks 'z' (U+007A) at character 1, 'y' (U+0079) at character 4, '!' (U+0021) at character 7; " in message
    assert "more" not in message


def test_ten_unknown_characters_are_all_listed() -> None:
    message = message_of(CharTokenizer("a"), "a0123456789")
    assert message.count("(U+") == 10
    assert "more" not in message


def test_of_more_than_ten_unknown_characters_the_rest_is_counted() -> None:
    message = message_of(CharTokenizer("a"), "a0123456789xyz0")
    assert message.count("(U+") == 10
    assert "'9' (U+0039) at character 10 and 3 more; " in message
    assert "'x'" not in message


def test_a_character_after_a_long_text_is_found() -> None:
    assert "'!' (U+0021) at character 300000;" in message_of(CharTokenizer("abc"), "abc" * 100_000 + "!")


def test_there_is_no_end_of_text() -> None:
    assert CharTokenizer("abc").end_of_text is None


def test_tinyshakespeare_has_65_characters(shared_data: Path) -> None:
    text = (shared_data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    tokenizer = from_corpus(text)
    ids = tokenizer.encode(text)
    assert (tokenizer.vocab_size, len(ids)) == (65, 1_115_394)
    assert tokenizer.decode(ids[:1000].tolist()) == text[:1000]
