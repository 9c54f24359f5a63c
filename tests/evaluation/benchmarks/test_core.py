from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks import Core
from gpt2_lightning.evaluation.benchmarks.core import TASKS, Prompt, Task, centered_mean
from gpt2_lightning.evaluation.evaluate import evaluate
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer
from tests.evaluation.benchmarks.bigram import bigram_subject

TOKENIZER = CharTokenizer(" abc\n", end_of_text=True)
A, B, C, SPACE = (int(TOKENIZER.encode(character)[0]) for character in "abc ")
PUBLISHED = {
    "hellaswag_zeroshot": 0.304023,
    "jeopardy": 0.009920,
    "bigbench_qa_wikidata": 0.320407,
    "arc_easy": 0.510522,
    "arc_challenge": 0.258532,
    "copa": 0.600000,
    "commonsense_qa": 0.285012,
    "piqa": 0.620239,
    "openbook_qa": 0.296000,
    "lambada_openai": 0.252086,
    "hellaswag": 0.304621,
    "winograd": 0.553114,
    "winogrande": 0.516180,
    "bigbench_dyck_languages": 0.143000,
    "agi_eval_lsat_ar": 0.269565,
    "bigbench_cs_algorithms": 0.368939,
    "bigbench_operators": 0.109524,
    "bigbench_repeat_copy_logic": 0.000000,
    "squad": 0.035478,
    "coqa": 0.078542,
    "boolq": 0.542813,
    "bigbench_language_identification": 0.252300,
}
"""Accuracies in the log of a run of nanochat (base_model, step 5075), whose CORE is 0.119520."""


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    file = folder / "eval_bundle" / "eval_data" / "subject" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_mean_is_that_of_nanochat() -> None:
    metric = centered_mean([Metric(name, value) for name, value in PUBLISHED.items()])
    assert metric.name == "core"
    assert metric.value == pytest.approx(0.119520, abs=1e-6)


def test_a_mean_of_fewer_tasks_has_another_name() -> None:
    metric = centered_mean([Metric("copa", 0.6, 0.05), Metric("squad", 0.1, 0.01)])
    assert (metric.name, metric.value) == ("core_partial", pytest.approx((0.2 + 0.1) / 2))
    assert metric.stderr == pytest.approx((0.1**2 + 0.01**2) ** 0.5 / 2)


def test_tasks_are_measured_and_missing_ones_are_named(tmp_path: Path) -> None:
    subject = bigram_subject(TOKENIZER, {A: {B: 9.0, SPACE: 10.0}, B: {C: 9.0}, SPACE: {B: 9.0}})
    write(tmp_path, "copa.jsonl", [{"query": "c", "choices": ["ab", "ac"], "gold": 0}] * 3)
    write(tmp_path, "winograd_wsc.jsonl", [{"context_options": ["ca", "cb"], "continuation": "c", "gold": 1}])
    write(tmp_path, "lambada_openai.jsonl", [{"context": "c ", "continuation": "a"}])
    write(tmp_path, "coqa.jsonl", [{"context": "a", "continuation": "bc"}])
    (result,) = evaluate({"core": Core()}, subject, tmp_path)
    found = {metric.name: metric.value for metric in result.metrics}
    assert found["copa"] == 1  # "ab" rather than "ac"
    assert found["winograd"] == 0  # "ca c" rather than "cb c"
    assert (found["lambada_openai"], found["coqa"]) == (0, 1)  # " bc" after "a", and nothing of it after "c"
    assert found["core_partial"] == pytest.approx((1 - 1 + 0 + 1) / 4)
    (note,) = result.notes
    assert "4 of 22" in note
    assert "squad" in note
    assert "copa" not in note


def test_examples_are_drawn_and_joined_as_in_nanochat(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "choices": [f"r{n}", f"w{n}"], "gold": 0} for n in range(12)]
    write(tmp_path, "piqa.jsonl", rows)
    subject = bigram_subject(GPT2Tokenizer(), {})
    items = Core().items(subject, tmp_path).items
    order = list(rows)
    random.Random(1337).shuffle(order)
    others = [index for index in range(12) if index != 3]
    expected = [order[index] for index in random.Random(1234 + 3).sample(others, 10)]
    prompt = items[3].content.value
    assert (items[3].id, prompt.row, prompt.shots) == ("piqa/3", order[3], expected)
    (request,) = Core().requests(subject.tokenizer, prompt)
    text = subject.tokenizer.decode([*request.context[1:], *request.continuations[0]])
    shown = [f"{shot['query']}\nAnswer: {shot['choices'][0]}\n\n" for shot in expected]
    assert text == "".join(shown) + f"{order[3]['query']}\nAnswer: {order[3]['choices'][0]}"
    assert request.context[0] == subject.tokenizer.end_of_text


def test_only_what_differs_is_scored() -> None:
    tokenizer = GPT2Tokenizer()
    choices = Prompt("copa", TASKS["copa"], {"query": "The dog", "choices": ["was big", "was red"], "gold": 0}, [])
    (request,) = Core().requests(tokenizer, choices)
    assert tokenizer.decode(request.context[1:]) == "The dog was"
    assert [tokenizer.decode(ids) for ids in request.continuations] == [" big", " red"]
    row = {"context_options": ["The dog", "The cat"], "continuation": "ran", "gold": 0}
    of_contexts = Core().requests(tokenizer, Prompt("winograd", TASKS["winograd"], row, []))
    assert [tokenizer.decode(one.continuations[0]) for one in of_contexts] == [" ran", " ran"]


def test_the_bundle_states_shots_and_delimiters(tmp_path: Path) -> None:
    write(tmp_path, "copa.jsonl", [{"query": "c", "choices": ["ab", "ac"], "gold": 0}] * 3)
    tasks = [{"label": name, "num_fewshot": [2], "continuation_delimiter": "#"} for name in TASKS]
    (tmp_path / "eval_bundle" / "core.yaml").write_text(json.dumps({"icl_tasks": tasks}))
    subject = bigram_subject(TOKENIZER, {})
    prompt = Core().items(subject, tmp_path).items[0].content.value
    assert prompt.definition == Task("multiple_choice", 2, 0.5, "copa.jsonl", "#")
    (tmp_path / "eval_bundle" / "core.yaml").write_text("icl_tasks: 1")
    with pytest.raises(UserError, match=r"core\.yaml is not the file of"):
        Core().items(subject, tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "c", "choices": ["a", "b"]}, "gold is None"),
        ({"query": "c", "choices": [], "gold": 0}, r"choices is \[\]"),
        ({"query": "c", "choices": ["a", "b"], "gold": 2}, "gold is 2, and must be an index"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    write(tmp_path, "copa.jsonl", [row])
    with pytest.raises(UserError, match=rf"copa\.jsonl, line 1: {message}"):
        Core().items(bigram_subject(TOKENIZER, {}), tmp_path)


def test_without_data_the_bundle_is_named(tmp_path: Path) -> None:
    for data_dir in (None, tmp_path):
        with pytest.raises(UserError, match=r"extract https://\S+eval_bundle\.zip into"):
            Core().items(bigram_subject(TOKENIZER, {}), data_dir)


def test_shared_hellaswag_and_lambada_serve_three_tasks(shared_data: Path) -> None:
    items = Core(limit=2).items(bigram_subject(TOKENIZER, {}), shared_data)
    assert {item.content.value.task for item in items.items} == {"hellaswag_zeroshot", "hellaswag", "lambada_openai"}
