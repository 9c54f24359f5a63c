from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks import Lambada
from gpt2_lightning.evaluation.benchmarks.configured import benchmark
from gpt2_lightning.evaluation.benchmarks.lambada import Passage
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer
from tests.evaluation.benchmarks.bigram import bigram_subject, log_probability, result_of

TOKENIZER = GPT2Tokenizer()
SEE, THE, DOG, CAT, LEG = (int(TOKENIZER.encode(text)[0]) for text in (" see", " the", " dog", " cat", "leg"))
LOGITS = {SEE: {THE: 20.0, DOG: 19.0, CAT: 18.0}, DOG: {LEG: 20.0}}
TEXTS = ["We see dogleg", "We see dog", "We see cat", "We see the"]


def measured(folder: Path, texts: list[str], stop_word_filter: bool = False) -> BenchmarkResult:
    file = folder / "lambada.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made = Lambada(path=str(file), stop_word_filter=stop_word_filter)
    return result_of(made, bigram_subject(TOKENIZER, LOGITS))


def test_greedy_decoding_and_perplexity_are_those_worked_by_hand(tmp_path: Path) -> None:
    result = measured(tmp_path, TEXTS)
    after_see = [log_probability(LOGITS, TOKENIZER.vocab_size, SEE, token) for token in (DOG, DOG, CAT, THE)]
    leg = log_probability(LOGITS, TOKENIZER.vocab_size, DOG, LEG)
    assert [metric.name for metric in result.metrics] == ["acc", "perplexity"]
    assert result["acc"].value == 1 / 4  # " the" alone
    assert result["perplexity"].value == pytest.approx(math.exp(-(sum(after_see) + leg) / 4), rel=1e-5)
    assert not result["perplexity"].higher_is_better


def test_the_filter_predicts_the_most_likely_word_that_is_no_stop_word(tmp_path: Path) -> None:
    plain, filtered = measured(tmp_path, TEXTS), measured(tmp_path, TEXTS, stop_word_filter=True)
    assert filtered["acc"].value == 2 / 4  # " dogleg" and " dog", and no longer " the"
    assert filtered["perplexity"].value == plain["perplexity"].value


def test_the_filter_applies_to_the_first_token_alone(tmp_path: Path) -> None:
    """A last word may go on with what is a stop word elsewhere."""
    again = {**LOGITS, DOG: {THE: 20.0}}
    file = tmp_path / "lambada.jsonl"
    file.write_text(json.dumps({"context": "We see", "continuation": "dog the"}))
    made = Lambada(path=str(file), stop_word_filter=True)
    assert result_of(made, bigram_subject(TOKENIZER, again))["acc"].value == 1


def test_a_tokenizer_without_whole_words_cannot_filter(tmp_path: Path) -> None:
    file = tmp_path / "lambada.jsonl"
    file.write_text(json.dumps({"text": "a b"}))
    made = Lambada(path=str(file), stop_word_filter=True)
    with pytest.raises(UserError, match="no token of a whole stop word"):
        result_of(made, bigram_subject(CharTokenizer(" ab"), {}))


@pytest.mark.parametrize("planted", ["We see  dogleg", "We see dogleg.", "We see Dogleg"])
def test_another_target_is_another_log_likelihood(tmp_path: Path, planted: str) -> None:
    right, wrong = measured(tmp_path, ["We see dogleg"]), measured(tmp_path, [planted])
    assert wrong["perplexity"].value > 1.5 * right["perplexity"].value


def test_the_last_word_is_the_text_after_the_last_space() -> None:
    made = Lambada(path="x.jsonl")
    assert made.parse({"text": "a b\n\nc. “d"}) == Passage("a b\n\nc.", "“d")
    assert made.parse({"context": "a b", "continuation": "of\n\nc"}) == Passage("a b", "of\n\nc")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "word"}, "there is no last word after a space"),
        ({"text": "a word "}, "there is no last word after a space"),
        ({"context": "a"}, "continuation is missing"),
        ({"text": 1}, "text is 1"),
    ],
)
def test_rows_without_a_last_word_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    file = tmp_path / "lambada.jsonl"
    file.write_text(json.dumps({"text": "a b"}) + "\n" + json.dumps(row))
    with pytest.raises(UserError, match=rf"lambada\.jsonl, line 2: {message}"):
        Lambada(path=str(file)).items(bigram_subject(TOKENIZER, {}), None)


def test_shared_lambada_has_all_published_rows(shared_data: Path) -> None:
    items = benchmark("lambada").items(bigram_subject(TOKENIZER, {}), shared_data)
    assert len(items.items) == 5153
    stop_words = benchmark("lambada_paper").items(bigram_subject(TOKENIZER, {}), shared_data)
    assert stop_words.digest == items.digest
