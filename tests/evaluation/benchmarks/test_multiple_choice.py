from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks import MultipleChoice
from gpt2_lightning.evaluation.benchmarks.configured import benchmark
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.tokenizers import CharTokenizer
from tests.evaluation.benchmarks.bigram import bigram_subject, log_probability, result_of

TOKENIZER = CharTokenizer(" abc:", end_of_text=True)
IDS = {character: int(TOKENIZER.encode(character)[0]) for character in " abc:"}
END = TOKENIZER.end_of_text or 0
LOGITS = {
    IDS["a"]: {IDS["b"]: 2.0, IDS[" "]: 1.0},
    IDS["b"]: {IDS["b"]: 1.5, IDS["c"]: 0.5},
    IDS[" "]: {IDS["a"]: 0.7, IDS["c"]: 1.2},
    END: {IDS["a"]: 1.1, IDS[" "]: 0.4},
}
ROWS: list[dict[str, Any]] = [
    {"context": "b:a", "choices": ["c", "a", "abb"], "answer": "abb"},
    {"context": "", "choices": ["ab", "ba"], "answer": 0},
]


@pytest.fixture
def subject() -> Subject:
    return bigram_subject(TOKENIZER, LOGITS)


def by_hand(context: str, continuation: str) -> float:
    """Log-likelihood of a continuation under the bigram model."""
    ids = [IDS[character] for character in context + continuation]
    before = ids[len(context) - 1] if context else END
    total = 0.0
    for token in ids[len(context) :]:
        total += log_probability(LOGITS, TOKENIZER.vocab_size, before, token)
        before = token
    return total


def written(folder: Path, rows: list[Any], name: str = "questions.jsonl") -> str:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def records(made: MultipleChoice, subject: Subject) -> list[Any]:
    items = made.items(subject, None).items
    found = {record["id"]: record for record in made.records(subject, items)}
    return [found[item.id] for item in items]


def test_log_likelihoods_and_predictions_are_those_worked_by_hand(tmp_path: Path, subject: Subject) -> None:
    first, second = records(MultipleChoice(path=written(tmp_path, ROWS)), subject)
    expected = [by_hand("b:a", f" {choice}") for choice in ("c", "a", "abb")]
    assert first["log_likelihoods"] == pytest.approx(expected, abs=1e-5)
    assert first["predictions"] == {
        "acc": expected.index(max(expected)),
        "acc_norm": max(range(3), key=lambda i: expected[i] / [1, 1, 3][i]),
        "acc_bytes": max(range(3), key=lambda i: expected[i] / [1, 1, 3][i]),
        "acc_tokens": max(range(3), key=lambda i: expected[i] / [2, 2, 4][i]),
    }
    assert first["correct"] == {"acc": 0, "acc_norm": 1, "acc_bytes": 1, "acc_tokens": 1}
    expected = [by_hand("", f" {choice}") for choice in ("ab", "ba")]
    assert second["log_likelihoods"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("planted", [{"delimiter": ""}, {"delimiter": "  "}])
def test_another_delimiter_changes_the_log_likelihoods(
    tmp_path: Path, subject: Subject, planted: dict[str, str]
) -> None:
    first, _ = records(MultipleChoice(path=written(tmp_path, ROWS), **planted), subject)  # type: ignore[arg-type]
    expected = [by_hand("b:a", f" {choice}") for choice in ("c", "a", "abb")]
    assert first["log_likelihoods"] != pytest.approx(expected, abs=1e-2)


def test_a_shifted_target_fails_the_comparison_by_hand(tmp_path: Path, subject: Subject) -> None:
    """Scores of the tokens before the targets differ from those of the targets."""
    first, _ = records(MultipleChoice(path=written(tmp_path, ROWS)), subject)
    shifted = [by_hand("b:", f"a {choice}"[:-1]) for choice in ("c", "a", "abb")]
    assert first["log_likelihoods"] != pytest.approx(shifted, abs=1e-2)


def test_metrics_are_shares_with_the_main_one_first(tmp_path: Path, subject: Subject) -> None:
    made = MultipleChoice(path=written(tmp_path, ROWS * 2), accuracies=["acc_norm", "acc"])
    result = result_of(made, subject)
    assert [(metric.name, metric.value, metric.is_share) for metric in result.metrics] == [
        ("acc_norm", 1.0, True),
        ("acc", 0.5, True),
    ]
    assert result["acc"].stderr == pytest.approx((1 / 3) ** 0.5 / 2)  # of 0, 1, 0, 1 with n - 1


def test_characters_and_bytes_differ_beyond_ascii(tmp_path: Path) -> None:
    tokenizer = CharTokenizer(" aé", end_of_text=True)
    made = MultipleChoice(path=written(tmp_path, [{"context": "a", "choices": ["aaa", "éé"], "answer": 1}]))
    (found,) = records(made, bigram_subject(tokenizer, {}))
    assert found["predictions"] == {"acc": 1, "acc_norm": 0, "acc_bytes": 1, "acc_tokens": 0}


def test_options_in_the_context_share_one_target(tmp_path: Path, subject: Subject) -> None:
    row = {"sentence": "a _: ab", "option1": "c", "option2": "b", "answer": "2"}
    made = MultipleChoice(path=written(tmp_path, [row]), row_format="winogrande", accuracies=["acc"])
    (found,) = records(made, subject)
    expected = [by_hand("a c", " : ab"), by_hand("a b", " : ab")]
    assert found["log_likelihoods"] == pytest.approx(expected, abs=1e-5)
    assert found["correct"] == {"acc": int(expected[1] > expected[0])}


def test_minimal_pairs_are_whole_sentences_after_the_end_of_text_token(tmp_path: Path, subject: Subject) -> None:
    row = {"sentence_good": "ab", "sentence_bad": "cb"}
    made = MultipleChoice(path=written(tmp_path, [row]), row_format="minimal_pair", accuracies=["acc"])
    (found,) = records(made, subject)
    assert found["log_likelihoods"] == pytest.approx([by_hand("", " ab"), by_hand("", " cb")], abs=1e-5)


def test_a_tokenizer_without_end_of_text_is_refused_for_empty_contexts(tmp_path: Path) -> None:
    made = MultipleChoice(path=written(tmp_path, ROWS))
    with pytest.raises(UserError, match=r"questions\.jsonl, line 2: the tokenizer has no end-of-text token"):
        records(made, bigram_subject(CharTokenizer(" abc:"), {}))


def test_contexts_that_do_not_fit_are_cut_and_counted(tmp_path: Path) -> None:
    row = {"context": "c" * 20 + "b:a", "choices": ["c", "a", "abb"], "answer": 2}
    made = MultipleChoice(path=written(tmp_path, [row, ROWS[0]]))
    cut, whole = records(made, bigram_subject(TOKENIZER, LOGITS, block_size=8))
    assert cut["cut"] == 23 + 4 - 9
    assert "cut" not in whole
    assert cut["log_likelihoods"] == pytest.approx(whole["log_likelihoods"], abs=1e-5)


def test_a_limit_takes_evenly_spaced_rows_with_their_numbers(tmp_path: Path, subject: Subject) -> None:
    made = MultipleChoice(path=written(tmp_path, ROWS * 4), limit=4)
    assert [item.id for item in made.items(subject, None).items] == ["0", "2", "4", "6"]


def test_nan_logits_name_the_line(tmp_path: Path, subject: Subject) -> None:
    with torch.no_grad():
        subject.model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(UserError, match=r"questions\.jsonl, line \d: .*NaN"):
        records(MultipleChoice(path=written(tmp_path, ROWS)), subject)


def test_classifiers_are_refused(tmp_path: Path, subject: Subject) -> None:
    classifier: Any = object()
    with pytest.raises(UserError, match="bigram is a classifier"):
        MultipleChoice(path=written(tmp_path, ROWS)).items(dataclasses.replace(subject, classifier=classifier), None)


def test_a_file_of_ones_own_is_needed_where_no_source_is_stated() -> None:
    with pytest.raises(ValueError, match="path: missing"):
        MultipleChoice()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"context": "a", "choices": ["b", "c"]}, "answer is missing"),
        (
            {"context": "a", "choices": ["b", "c"], "answer": 2},
            "answer is 2, and must be an index of the choices, 0 to 1",
        ),
        ({"context": "a", "choices": ["b", "c"], "answer": "d"}, "answer is 'd', and must be one of the choices"),
        ({"context": "a", "choices": ["b", "c"], "answer": True}, "answer is True"),
        ({"context": "a", "choices": ["b", ""], "answer": 0}, r"choices\[1\] is empty"),
        ({"context": "a", "choices": [], "answer": 0}, r"choices is \[\], and must be a list of two or more"),
        ({"context": "a", "choices": "bc", "answer": 0}, "choices is 'bc'"),
        ({"choices": ["b", "c"], "answer": 0}, "context is None"),
    ],
)
def test_bad_rows_are_refused_with_their_lines(
    tmp_path: Path, subject: Subject, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=rf"questions\.jsonl, line 3: {message}"):
        MultipleChoice(path=written(tmp_path, [*ROWS, row])).items(subject, None)


@pytest.mark.parametrize(
    ("row_format", "row", "message"),
    [
        (
            "hellaswag",
            {"activity_label": "a", "ctx_a": "a", "ctx_b": "", "endings": ["a", "b"], "label": ""},
            "label is missing",
        ),
        (
            "arc",
            {"question": "a", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"},
            "must be one of 2 labels: A, B",
        ),
        ("piqa", {"goal": "a", "sol1": "a", "sol2": "b", "label": -1}, "label is -1"),
        ("winogrande", {"sentence": "a b", "option1": "a", "option2": "b", "answer": "1"}, "sentence has no blank"),
        ("winogrande", {"sentence": "a _ b", "option1": "a", "option2": "b", "answer": ""}, "answer is ''"),
        ("minimal_pair", {"sentence_good": "a"}, "sentence_bad is missing"),
    ],
)
def test_bad_rows_of_published_formats_are_refused(
    tmp_path: Path, subject: Subject, row_format: str, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"line 1: .*{message}"):
        MultipleChoice(path=written(tmp_path, [row]), row_format=row_format).items(subject, None)


def test_shared_hellaswag_is_noted_as_a_part_of_the_published_file(shared_data: Path, subject: Subject) -> None:
    items = benchmark("hellaswag", limit=3).items(subject, shared_data)
    assert len(items.items) == 3
    assert "has 1,000 rows" in items.notes[0]
    assert "10,042 rows" in items.notes[0]
