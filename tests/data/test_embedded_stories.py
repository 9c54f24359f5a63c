import re
from collections import Counter
from importlib import resources
from typing import Any

import pytest

from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpus import Segment, Split

_SENTENCE_END = re.compile(r"""(?<=[.!?])["')]*\s+|\n+""")
_LONGEST_REPEAT = 8


def repeated_sentences(text: str) -> list[str]:
    """Sentences of more than eight words that occur twice, whatever their case and punctuation."""
    sentences = (re.findall(r"[a-z0-9']+", sentence.lower()) for sentence in _SENTENCE_END.split(text))
    counts = Counter(" ".join(words) for words in sentences if len(words) > _LONGEST_REPEAT)
    return [sentence for sentence, count in counts.items() if count > 1]


@pytest.fixture(scope="module")
def stories() -> dict[str, str]:
    folder = resources.files("gpt2_lightning.data") / "scifi"
    return {
        file.name.removesuffix(".txt"): file.read_bytes().decode("ascii")
        for file in folder.iterdir()
        if file.name.endswith(".txt")
    }


def test_there_is_enough_to_read(stories: dict[str, str]) -> None:
    assert len(stories) >= 30
    assert sum(map(len, stories.values())) >= 200_000
    assert min(map(len, stories.values())) >= 3_000, "a short story, not a scrap"


def test_every_story_has_its_title_in_the_first_line(stories: dict[str, str]) -> None:
    for slug, story in stories.items():
        title, blank, *_ = story.split("\n")
        words = re.sub(r"[^a-z ]", "", title.lower().replace("-", " ")).split()
        assert "-".join(words) == slug
        assert title[0].isupper()
        assert not blank


def test_every_story_ends_with_a_finished_sentence(stories: dict[str, str]) -> None:
    """A letter may have its writer's name after it."""
    end = re.compile(r"""[.!?]["')]*\n(\n[A-Z][a-z]+\n)?\Z""")
    unfinished = [slug for slug, story in stories.items() if not end.search(story)]
    assert not unfinished


def test_paragraphs_are_single_lines_between_blank_ones(stories: dict[str, str]) -> None:
    broken = [slug for slug, story in stories.items() if re.search(r"\n{3}|[^\n]\n[^\n]|[ \t]\n", story)]
    assert not broken


def test_no_long_sentence_occurs_twice(stories: dict[str, str]) -> None:
    assert repeated_sentences("\n\n".join(stories.values())) == []


def test_a_planted_repetition_is_found() -> None:
    sentence = "Nobody on the night shift had ever seen the captain eat."
    planted = f'{sentence} It was late. It was late. "{sentence.upper()}" she said.\n\nThe end.'
    assert repeated_sentences(planted) == ["nobody on the night shift had ever seen the captain eat"]


def test_the_alphabet_is_small_and_printable(stories: dict[str, str]) -> None:
    alphabet = set("".join(stories.values()))
    assert alphabet <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n.,;:!?'\"()-")


def parts() -> dict[Split, list[str]]:
    """The stories of both parts, in order."""
    corpus = TextCorpus(path="embedded:scifi")
    pieces: list[Any] = corpus.pieces(whole_documents=True)
    found: dict[Split, list[str]] = {"train": [], "val": []}
    for segment in (segment for piece in pieces for segment in corpus.read(piece)):
        assert isinstance(segment, Segment)
        assert segment.ends_document
        found[segment.split].append(segment.text)
    return found


def test_training_has_every_character_of_validation() -> None:
    assert set("".join(parts()["val"])) <= set("".join(parts()["train"]))


def test_the_corpus_is_all_stories_by_name_and_every_tenth_validates(stories: dict[str, str]) -> None:
    by_name = [stories[slug] for slug in sorted(stories)]
    assert parts()["val"] == by_name[9::10]
    assert parts()["train"] == [story for place, story in enumerate(by_name) if place % 10 != 9]
