"""The benchmark of answers to instructions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt2_lightning.data.instruction.datamodule import InstructDataModule
from gpt2_lightning.data.tables import Conversation
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.answers import answer, score
from gpt2_lightning.evaluation.benchmarks import InstructionAnswers
from gpt2_lightning.evaluation.benchmarks.benchmark import Subject
from gpt2_lightning.evaluation.evaluate import evaluate
from gpt2_lightning.evaluation.responses import response_loss
from gpt2_lightning.generation import Sampling
from gpt2_lightning.model import GPT2Config
from tests.data.conversations import BARE, LETTERS, conversations, splits
from tests.huggingface.networks import lively

TASK = {"kind": "instruct", "template": BARE.to_plain()}


def subject_of(block_size: int = 31, **changes: Any) -> Subject:
    model = lively(GPT2Config(vocab_size=LETTERS.vocab_size, block_size=block_size, n_layer=2, n_head=3, n_embd=15))
    return Subject(model, LETTERS, "RUN/best.ckpt", **{"task": TASK, **changes})


def write(file: Path, rows: list[Conversation]) -> str:
    plain = [{"instruction": row.messages[0].content, "output": row.messages[1].content, "input": ""} for row in rows]
    file.write_text(json.dumps(plain))
    return str(file)


@pytest.mark.parametrize("block_size", [31, 7])
def test_metrics_are_those_after_training(tmp_path: Path, block_size: int) -> None:
    subject, data = subject_of(block_size), splits()
    benchmark = InstructionAnswers(path=write(tmp_path / "rows.json", data.test), max_new_tokens=5)
    result = next(evaluate({"instructions": benchmark}, subject))
    module = InstructDataModule(data, BARE, LETTERS, block_size, 3)
    loss = response_loss(subject.model, module.batches("test"))
    answers = answer(subject.model, LETTERS, BARE, data.test, Sampling(max_new_tokens=5, temperature=0))
    scores = score(answers, [row.messages[-1].content for row in data.test])
    assert result["response_loss"].value == pytest.approx(loss.loss, abs=1e-5)
    assert result["response_perplexity"].value == pytest.approx(loss.perplexity, rel=1e-5)
    for name in ("exact_match", "rouge_l", "ended"):
        assert result[name].value == pytest.approx(getattr(scores, name))
    assert result.n_cut == module.parts["test"].truncated
    assert bool(result.n_cut) == (block_size == 7)


def test_records_survive_json(tmp_path: Path) -> None:
    subject, rows = subject_of(), conversations(20)
    benchmark = InstructionAnswers(path=write(tmp_path / "rows.json", rows), max_new_tokens=4, limit=18)
    records = list(benchmark.records(subject, benchmark.items(subject, None).items))
    assert len(records) == 18
    assert benchmark.metrics(json.loads(json.dumps(records))) == benchmark.metrics(records)
    assert records[0]["question"] == rows[0].messages[0].content
    assert records[0]["reference"] == rows[0].messages[1].content


def test_metrics_of_two_records_by_hand() -> None:
    records = [
        {"exact_match": 1.0, "rouge_l": 1.0, "ended": 1.0, "log_likelihood": -2.0, "tokens": 1},
        {"exact_match": 0.0, "rouge_l": 0.5, "ended": 1.0, "log_likelihood": -4.0, "tokens": 5},
    ]
    found = {metric.name: metric for metric in InstructionAnswers().metrics(records)}
    assert {name: metric.value for name, metric in found.items()} == pytest.approx(
        {"exact_match": 0.5, "rouge_l": 0.75, "ended": 1, "response_loss": 1, "response_perplexity": np.e}
    )
    assert not found["response_loss"].higher_is_better
    assert found["exact_match"].is_share


def test_without_a_path_the_test_part_of_the_run_is_measured(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", conversations(40))
    data = {"_target_": "gpt2_lightning.data.tables.instructions.Instructions", "path": path, "test": 0.25}
    items = InstructionAnswers().items(subject_of(run_config={"data": data}), None)
    assert (len(items.items), items.source) == (10, f"the test part of {path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"instruction": "a"}]', r"benchmarks.instructions.output_column: .* has no column 'output'"),
        ('[{"instruction": "a", "output": " ", "input": ""}]', r"row 1: output is empty"),
        ("[]", r"holds no rows"),
    ],
)
def test_rows_without_an_answer_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(UserError, match=message):
        InstructionAnswers(path=str(tmp_path / "rows.json")).items(subject_of(), None)


@pytest.mark.parametrize("task", [{}, {"kind": "classify"}])
def test_model_of_another_task_is_refused(tmp_path: Path, task: dict[str, Any]) -> None:
    path = write(tmp_path / "rows.json", conversations(3))
    with pytest.raises(UserError, match=r"RUN/best\.ckpt: this model was trained for another task"):
        InstructionAnswers(path=path).items(subject_of(task=task), None)


def test_loss_that_is_nan_is_refused(tmp_path: Path) -> None:
    subject = subject_of()
    benchmark = InstructionAnswers(path=write(tmp_path / "rows.json", conversations(3)), max_new_tokens=1)
    items = benchmark.items(subject, None).items
    torch.nn.init.constant_(subject.model.ln_f.weight, float("nan"))
    with pytest.raises(UserError, match="logits are not numbers"):
        list(benchmark.records(subject, items))
