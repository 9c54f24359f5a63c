"""A text may be encoded in pieces where its tokenizer says so."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, HuggingFaceTokenizer, Tokenizer
from gpt2_lightning.tokenizers.bpe import from_corpus

ANYTHING = st.text()
LIKE_PROSE = st.text(st.sampled_from("  \n\t\r\v\x1c\x85\u00a0\u2028\u3000'slvt1½é日🚀_.\ufeff\u200b\ud83d\ude80"))
TEXT = ANYTHING | LIKE_PROSE
TRAINED = from_corpus(["it's '  s  'll we'll \n\n 's 日本 é 1 ½ \n日 _ ._. 🚀"] * 3, True, 330)

every_kind = pytest.mark.parametrize(
    "tokenizer_of",
    [lambda text: CharTokenizer(text or "a"), lambda _: TRAINED, lambda _: GPT2Tokenizer()],
    ids=["char", "bpe", "gpt2"],
)


@every_kind
@settings(derandomize=True, deadline=None, max_examples=300)
@given(TEXT, st.characters(), st.sampled_from(" \n"), TEXT)
def test_ids_of_a_text_cut_before_a_space_are_those_of_the_whole(
    tokenizer_of: Callable[[str], Tokenizer], start: str, end: str, space: str, rest: str
) -> None:
    first, second = start + (end if not end.isspace() else "."), space + rest
    tokenizer = tokenizer_of(first + second)
    assert tokenizer.cuts_at_spaces
    parts = [tokenizer.encode(part).tolist() for part in (first, second)]
    assert tokenizer.encode(first + second).tolist() == parts[0] + parts[1]


def test_what_python_takes_for_no_space_the_split_does_neither() -> None:
    spaces = regex.compile(r"\s")
    assert [chr(c) for c in range(sys.maxunicode + 1) if spaces.match(chr(c)) and not chr(c).isspace()] == []


@pytest.mark.parametrize("tokenizer", [TRAINED, GPT2Tokenizer()], ids=["bpe", "gpt2"])
@pytest.mark.parametrize(("first", "second"), [("we\n", "\n"), ("we ", "s")], ids=["after white space", "elsewhere"])
def test_another_cut_changes_ids(tokenizer: Tokenizer, first: str, second: str) -> None:
    parts = [tokenizer.encode(part).tolist() for part in (first, second)]
    assert tokenizer.encode(first + second).tolist() != parts[0] + parts[1]


def test_unknown_pipelines_promise_nothing() -> None:
    assert not HuggingFaceTokenizer.cuts_at_spaces
