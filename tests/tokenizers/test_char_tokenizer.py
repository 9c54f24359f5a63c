"""One token for each character."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer, tokenizer_from_text
from gpt2_lightning.tokenizers.char import Unknown, from_corpus


def message_of(tokenizer: CharTokenizer, text: str) -> str:
    with pytest.raises(UserError) as caught:
        tokenizer.encode(text)
    return str(caught.value)


def test_ids_follow_code_points() -> None:
    tokenizer = from_corpus(["beach é\n🚀b"], False)
    assert tokenizer.vocab_size == 9
    assert [tokenizer.decode([i]) for i in range(9)] == ["\n", " ", "a", "b", "c", "e", "h", "é", "🚀"]
    assert tokenizer.encode("bé🚀\n").tolist() == [3, 7, 8, 0]


def test_the_corpus_decides_only_which_characters_there_are() -> None:
    assert from_corpus(["abcabc"], False).to_text() == from_corpus(["cba"], False).to_text()
    assert from_corpus(["abcabc"], False).hash() == from_corpus(["cba"], False).hash()
    assert from_corpus(["abc"], False).hash() != from_corpus(["abd"], False).hash()


@settings(derandomize=True, deadline=None)
@given(st.text(min_size=1))
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = from_corpus([text], False)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.decode(ids) == text


def test_empty_text_has_no_tokens() -> None:
    tokenizer = from_corpus(["abc"], False)
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.decode([]) == ""


def test_ids_are_uint16() -> None:
    assert from_corpus(["abc"], False).encode("cab").dtype == np.uint16


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
    message = message_of(CharTokenizer("mop", "error"), f"mop{unknown}m{unknown}")
    assert message.startswith(f"the tokenizer's alphabet, made from its corpus, lacks {described}; ")
    choices = (".unknown=substitute", ".unknown=skip", ".unknown=replace", "=gpt2")
    assert all(f"tokenizer{choice}" in message for choice in choices)


def test_unknown_characters_are_listed_once_each_in_order_of_appearance() -> None:
    message = message_of(CharTokenizer("abc", "error"), "azbzyac!")
    assert "lacks 'z' (U+007A) at character 1, 'y' (U+0079) at character 4, '!' (U+0021) at character 7; " in message
    assert "more" not in message


def test_ten_unknown_characters_are_all_listed() -> None:
    message = message_of(CharTokenizer("a", "error"), "a0123456789")
    assert message.count("(U+") == 10
    assert "more" not in message


def test_of_more_than_ten_unknown_characters_the_rest_is_counted() -> None:
    message = message_of(CharTokenizer("a", "error"), "a0123456789xyz0")
    assert message.count("(U+") == 10
    assert "'9' (U+0039) at character 10 and 3 more; " in message
    assert "'x'" not in message


def test_a_character_after_a_long_text_is_found() -> None:
    assert "'!' (U+0021) at character 300000;" in message_of(CharTokenizer("abc", "error"), "abc" * 100_000 + "!")


def test_unknown_characters_can_be_left_out() -> None:
    tokenizer = from_corpus(["abc"], False, "skip")
    assert tokenizer.vocab_size == 3
    assert tokenizer.encode("xa🚀b\ud800c!").tolist() == [0, 1, 2]
    assert tokenizer.encode("xyz").tolist() == []


def test_unknown_characters_can_be_replaced() -> None:
    tokenizer = from_corpus(["ab🚀"], False, "replace")
    assert tokenizer.alphabet == "ab\ufffd🚀"
    assert tokenizer.encode("a!b\ufffd🚀\U0010ffff").tolist() == [0, 2, 1, 2, 3, 2]
    assert tokenizer.decode([0, 2]) == "a\ufffd"


@pytest.mark.parametrize(
    ("alphabet", "substitute"), [("ab ?", "?"), ("ab ?\ufffd", "\ufffd"), ("ab ", " "), ("äß", "ß")], ids=repr
)
def test_by_default_unknown_characters_become_one_of_the_alphabet(alphabet: str, substitute: str) -> None:
    tokenizer = CharTokenizer(alphabet)
    assert tokenizer.vocab_size == len(alphabet), "no id is added"
    known = tokenizer.alphabet[1]
    assert tokenizer.decode(tokenizer.encode(f"{known}—{known}é").tolist()) == f"{known}{substitute}{known}{substitute}"


@pytest.mark.parametrize(
    ("unknown", "handled"),
    [("substitute", "replaced by '?'"), ("replace", "replaced by '\ufffd'"), ("skip", "left out")],
)
def test_unknown_characters_are_counted_until_their_note_is_taken(unknown: Unknown, handled: str) -> None:
    tokenizer = CharTokenizer("ab?", unknown)
    assert tokenizer.take_note() is None
    tokenizer.encode_batch(["a—b", "—é"])
    assert tokenizer.take_note() == (
        f"3 characters (2 distinct: '—', 'é') are not in the tokenizer's alphabet and were {handled}"
    )
    assert tokenizer.take_note() is None


def test_whether_a_text_can_be_encoded_is_answered_without_counting_it() -> None:
    tokenizer = CharTokenizer("ab?")
    assert tokenizer.encodes("ab")
    assert not tokenizer.encodes("abc")
    assert tokenizer.take_note() is None


def test_of_many_distinct_unknown_characters_the_most_frequent_are_named() -> None:
    tokenizer = CharTokenizer("a?")
    tokenizer.encode("0123456789zz")
    note = str(tokenizer.take_note())
    assert note.startswith("12 characters (11 distinct: 'z', '0', ")
    assert "'8', …) are not in" in note


def test_a_tokenizer_of_an_earlier_version_substitutes_and_keeps_its_hash() -> None:
    saved = '{"alphabet": "?ab", "end_of_text": false, "kind": "char", "unknown": "error"}'
    tokenizer = tokenizer_from_text(saved)
    assert tokenizer.encode("xa").tolist() == [0, 1]
    assert tokenizer.to_text() == saved == CharTokenizer("ab?").to_text()


def test_a_tokenizer_that_rejects_texts_is_restored_as_one() -> None:
    restored = tokenizer_from_text(CharTokenizer("ab", "error").to_text())
    with pytest.raises(UserError, match="lacks 'x'"):
        restored.encode("x")


def test_halves_of_characters_survive_saving() -> None:
    tokenizer = from_corpus(["a\ud83d", "\ude00b"], False)
    restored = tokenizer_from_text(tokenizer.to_text())
    assert restored.vocab_size == tokenizer.vocab_size == 3
    assert restored.decode(restored.encode("\ude00b\ud83d").tolist()) == "\ufffdb\ufffd"


def test_another_policy_is_refused() -> None:
    with pytest.raises(
        ValueError, match="unknown: 'ignore' is out of range, substitute, skip, replace, error is allowed"
    ):
        CharTokenizer("abc", "ignore")  # type: ignore[arg-type]


def test_one_document_needs_no_end() -> None:
    assert from_corpus(["abc"], False).end_of_text is None


@pytest.mark.parametrize("unknown", ["substitute", "skip", "replace", "error"])
def test_the_end_of_a_document_has_the_last_id(unknown: Unknown) -> None:
    tokenizer = from_corpus(["<|endoftx>"], True, unknown)
    assert tokenizer.end_of_text == tokenizer.vocab_size - 1 == len(tokenizer.alphabet)
    assert tokenizer.decode([tokenizer.end_of_text]) == "<|endoftext|>"
    assert tokenizer.token_bytes(tokenizer.end_of_text) == b"<|endoftext|>"
    assert len(tokenizer.encode("<|endoftext|>")) == 13, "no text makes it"


def test_the_end_counts_for_the_type_of_ids() -> None:
    most = "".join(map(chr, range(0x10000, 0x10000 + 2**16)))
    assert CharTokenizer(most, end_of_text=True).encode(most[:1]).dtype == np.uint32


def test_the_text_is_read_piece_by_piece() -> None:
    assert from_corpus(iter(["ab", "", "c\ud800", "🚀a"]), False).alphabet == "abc\ufffd🚀"


def test_a_text_without_characters_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="needs a text with at least one character"):
        from_corpus(iter([""]), True, "replace")


def test_tinyshakespeare_has_65_characters(shared_data: Path) -> None:
    text = (shared_data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    tokenizer = from_corpus([text], False)
    ids = tokenizer.encode(text)
    assert (tokenizer.vocab_size, len(ids)) == (65, 1_115_394)
    assert tokenizer.decode(ids[:1000].tolist()) == text[:1000]
