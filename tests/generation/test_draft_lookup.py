"""Drafts by lookup, and how many tokens are drafted."""

from __future__ import annotations

import random

import pytest

from gpt2_lightning.generation.speculation.draft_length import AcceptanceRate, best_length
from gpt2_lightning.generation.speculation.lookup import Lookup, TextIndex


def index(text: list[int]) -> TextIndex:
    found = TextIndex()
    found.read(text)
    return found


def test_a_draft_is_what_followed_the_end_of_the_text_before() -> None:
    assert index([5, 6, 7, 8, 9, 1, 5, 6]).draft(3) == [7, 8, 9]
    assert index([1, 2, 3]).draft(3) == []


def test_the_longest_of_the_n_grams_wins_and_then_the_latest() -> None:
    assert index([1, 2, 3, 40, 9, 3, 50, 9, 2, 3, 60, 9, 1, 2, 3]).draft(1) == [60]
    assert index([7, 1, 2, 3, 40, 9, 5, 2, 3, 60, 9, 7, 1, 2, 3]).draft(1) == [40], "four tokens match"


def test_a_draft_that_reaches_the_end_goes_on_periodically() -> None:
    assert index([1, 2, 3, 1, 2, 3, 1]).draft(7) == [2, 3, 1, 2, 3, 1, 2]
    assert index([4, 4, 4]).draft(3) == [4, 4, 4]


def test_the_place_is_an_earlier_occurrence_of_the_end_at_every_length() -> None:
    """Against a search of the whole text."""
    dice = random.Random(0)
    for symbols in (2, 3, 8):
        text, tokens = TextIndex(), [dice.randrange(symbols) for _ in range(300)]
        for end in range(1, len(tokens)):
            text.read(tokens[:end])
            seen = tokens[: end - 1]
            assert (text._place is None) == (tokens[end - 1] not in seen)
            if text._place is not None:
                matched = text._matched
                assert tokens[text._place - matched : text._place] == tokens[end - matched : end]
                assert matched >= 1
                is_longest = matched == 16 or text._place == matched
                assert is_longest or tokens[text._place - matched - 1] != tokens[end - matched - 1]


def test_reading_in_parts_is_reading_at_once() -> None:
    dice = random.Random(1)
    tokens = [dice.randrange(5) for _ in range(200)]
    parts = TextIndex()
    for end in range(0, 201, 7):
        parts.read(tokens[:end])
    parts.read(tokens)
    assert list(parts.chances(9)) == list(index(tokens).chances(9))
    assert parts.draft(9) == index(tokens).draft(9)


def test_nothing_is_drafted_where_a_text_does_not_repeat_and_much_where_it_does() -> None:
    dice = random.Random(2)
    noise = [dice.randrange(60) for _ in range(500)]
    assert Lookup(1).propose([noise], [99]) == [[]]
    copied = [*noise, *noise[:30]]
    (draft,) = Lookup(1).propose([copied], [99])
    assert draft == noise[30:54]
    assert Lookup(1).propose([copied], [5]) == [noise[30:35]]
    assert Lookup(1).propose([copied], [0]) == [[]]


def test_rejections_end_drafts_until_the_text_repeats_again() -> None:
    dice = random.Random(3)
    text = [dice.randrange(40) for _ in range(200)]
    lookup = Lookup(1)
    drafted = []
    for _ in range(400):  # two tokens that occurred before are followed by another
        (draft,) = lookup.propose([text], [99])
        drafted.append(len(draft))
        at = dice.randrange(150)
        text += [*text[at : at + 2], dice.randrange(40)]
    assert sum(drafted[-100:]) == 0
    text += text[20:60]
    assert len(lookup.propose([text], [99])[0]) > 10


def test_texts_that_leave_take_their_index_along() -> None:
    lookup, texts = Lookup(3), [[1, 2] * 30, [3, 4, 5] * 20, [6] * 60]
    lookup.propose(texts, [9] * 3)
    lookup.keep([1, 2])
    assert lookup.propose(texts[1:], [4, 4]) == [[3, 4, 5, 3], [6] * 4]


@pytest.mark.parametrize(
    ("accepted", "rows", "drafting", "length"),
    [
        ([0.6, 0.2], 1, 0.0, 0),  # 1.6 / 1.85, 1.8 / 1.9
        ([0.9], 1, 0.0, 1),  # 1.9 / 1.85
        ([0.9, 0.8, 0.01], 1, 0.0, 2),  # 1.9 / 1.85, 2.7 / 1.9, 2.71 / 1.95
        ([0.9, 0.8], 1, 0.5, 0),  # 1.9 / 2.35, 2.7 / 2.9
        ([1.0] * 99, 1, 0.0, 24),
        ([], 4, 0.0, 0),
        ([1.0], 8, 0.0, 0),  # 9 / 1.6 of eight texts
        ([8.0], 8, 0.0, 1),
    ],
)
def test_the_length_is_that_of_most_tokens_in_a_given_time(
    accepted: list[float], rows: int, drafting: float, length: int
) -> None:
    assert best_length(accepted, rows, drafting) == length


def test_a_rate_starts_at_its_assumption_and_follows_the_latest_outcomes() -> None:
    rate = AcceptanceRate(0.5)
    rate.add(True)
    assert rate.rate == pytest.approx(0.6)  # four tokens of the assumption, and one
    for _ in range(300):
        rate.add(False)
    assert rate.rate < 0.01
