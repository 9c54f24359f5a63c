"""Tokens to text, and the strings that end it."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Piece, Sampling, generate, write
from gpt2_lightning.generation.text import StoppableText
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer
from tests.generation.random_model import make_model

ALPHABET = CharTokenizer("abcdefghijklmnopqrstuvwxyz .!")


@pytest.fixture(scope="module")
def model() -> GPT2:
    return make_model(GPT2Config(29, block_size=11, n_layer=2, n_head=3, n_embd=21, tied_head=False))


def pieces_of(text: str, stop: list[str], tokenizer: GPT2Tokenizer | CharTokenizer = ALPHABET) -> list[str]:
    stoppable = StoppableText(tokenizer, stop)
    return [*(stoppable.add(int(token)) for token in tokenizer.encode(text)), stoppable.rest()]


def until_stop(text: str, stop: list[str]) -> str:
    """Letter by letter: the first stop string to be complete ends the text, of two the longer."""
    for end in range(len(text) + 1):
        complete = [string for string in stop if text[:end].endswith(string)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one. two. three", [". t"], "one"),
        ("one two", ["xyz"], "one two"),
        ("aaab", ["aab"], "a"),
        ("abab.abc", ["abc"], "abab."),
        ("abcd", ["bcd", "c"], "ab"),
        ("abcd", ["d", "bcd"], "a"),
        ("stop", ["stop"], ""),
        ("almost sto", ["stop"], "almost sto"),
    ],
)
def test_the_first_complete_stop_string_ends_the_text(text: str, stop: list[str], expected: str) -> None:
    assert "".join(pieces_of(text, stop)) == expected == until_stop(text, stop)


def test_what_could_become_a_stop_string_is_held_back_and_no_more() -> None:
    assert pieces_of("ab.x.. !", ["..!"]) == ["a", "b", "", ".x", "", "", ".. ", "!", ""]
    assert pieces_of("a..!b", ["..!"]) == ["a", "", "", "", "", ""]
    assert pieces_of("a..", ["..!"]) == ["a", "", "", ".."]


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_strings_overlap_in_any_way(text: str, stop: list[str]) -> None:
    pieces = pieces_of(text, stop)
    expected = until_stop(text, stop)
    assert "".join(pieces) == expected
    for count in range(len(text) + 1):
        shown = "".join(pieces[:count])
        assert expected.startswith(shown), "never printed in part"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("The airlock opened.\n\n### Response: no", ["### Response"], "The airlock opened.\n\n"),
        ("a naïve café 🚀 and more", ["é 🚀"], "a naïve caf"),
        ("🚀🪐🚀🛰 end", ["🛰"], "🚀🪐🚀"),
        ("𐍈𐍉𐍊", ["𐍉𐍊"], "𐍈"),
    ],
)
def test_stop_strings_are_split_over_tokens_and_bytes(text: str, stop: list[str], expected: str) -> None:
    pieces = pieces_of(text, stop, GPT2Tokenizer())
    assert "".join(pieces) == expected
    assert not any("\ufffd" in piece for piece in pieces)


def test_the_answer_does_not_depend_on_the_tokens_that_spell_it() -> None:
    """The same text as whole tokens and as single bytes."""
    tokenizer = GPT2Tokenizer()
    text, stop = "over the airlock. Über alles! bcd", ["rlock. Ü", "cd", "bcd"]
    single = StoppableText(tokenizer, stop)
    bytes_of = {tokenizer.token_bytes(token): token for token in range(256)}
    spelt = [single.add(bytes_of[bytes([byte])]) for byte in text.encode()]
    assert "".join(spelt) + single.rest() == "".join(pieces_of(text, stop, tokenizer)) == "over the ai"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UserError, match="a stop string is empty"):
        StoppableText(ALPHABET, ["a", ""])


def joined(pieces: list[Piece]) -> dict[int, str]:
    rows = sorted({piece.row for piece in pieces})
    return {row: "".join(piece.text for piece in pieces if piece.row == row) for row in rows}


def test_texts_of_a_batch_are_written_side_by_side(model: GPT2) -> None:
    prompts = [torch.tensor([1, 2]), torch.tensor([3, 4, 5, 6])]
    sampling = Sampling(max_new_tokens=30, temperature=1.5)
    plain = joined(list(write(model, ALPHABET, prompts, sampling, samples=2)))
    assert plain[0] == ALPHABET.decode(list(generate(model, prompts[0], sampling)))
    assert {row: len(text) for row, text in plain.items()} == dict.fromkeys(range(4), 30)
    stop = [plain[0][7:9], plain[3][20:23]]
    pieces = list(write(model, ALPHABET, prompts, sampling, samples=2, stop=stop))
    assert joined(pieces) == {row: until_stop(text, stop) for row, text in plain.items()}
    for row, text in plain.items():
        own = [piece for piece in pieces if piece.row == row]
        assert [piece.finished for piece in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finished == ("length" if until_stop(text, stop) == text else "stop_string")
        assert ALPHABET.decode([piece.token.id for piece in own]) == text[: len(own)]


def test_a_text_ends_with_the_tokenizers_end_of_text(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = Sampling(max_new_tokens=30, temperature=1.5)
    (whole,) = joined(list(write(model, ALPHABET, [torch.tensor([1, 2])], sampling))).values()
    monkeypatch.setattr(ALPHABET, "end_of_text", int(ALPHABET.encode(whole[12])[0]))
    held = [whole[whole.index(whole[12]) - 1] + "never"]
    pieces = list(write(model, ALPHABET, [torch.tensor([1, 2])], sampling, stop=held))
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(whole[12])]
    assert pieces[-1].finished == "end_of_text"
    assert pieces[-1].token.id == ALPHABET.end_of_text
    assert pieces[-1].text == held[0][0], "what was held back comes with the end"


def test_text_streams(model: GPT2) -> None:
    sampling = Sampling(max_new_tokens=10**9, temperature=1.5)
    pieces = write(model, ALPHABET, [torch.tensor([1, 2])], sampling)
    first = "".join(piece.text for piece in itertools.islice(pieces, 20))
    short = dataclasses.replace(sampling, max_new_tokens=20)
    assert first == joined(list(write(model, ALPHABET, [torch.tensor([1, 2])], short)))[0]
    pieces.close()
