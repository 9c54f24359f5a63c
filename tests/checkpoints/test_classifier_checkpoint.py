"""A classifier out of a checkpoint, and what a checkpoint that holds none is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY, Description, load_model, restore, restore_classifier
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.tokenizers import CharTokenizer

ALPHABET = "abcdefghij\n"
TINY = GPT2Config(vocab_size=11, block_size=7, n_layer=2, n_head=3, n_embd=15, resid_pdrop=0.5)
TASK = LabelTask(("ham", "spam", "eggs"), "single", "mean", 5)
ANYWHERE = Path("anywhere.ckpt")


def classifier_and_checkpoint(task: dict[str, Any] | None = None) -> tuple[Classifier, dict[str, Any]]:
    torch.manual_seed(0)
    classifier = Classifier(GPT2(TINY), 3, "mean").eval()
    description = Description(TINY, CharTokenizer(ALPHABET), {}, TASK.to_plain() if task is None else task)
    weights = {**classifier.transformer.state_dict(), "score.weight": classifier.score.weight.detach()}
    return classifier, {"state_dict": weights, KEY: description.to_plain()}


def test_a_restored_classifier_gives_the_same_scores(tmp_path: Path) -> None:
    classifier, checkpoint = classifier_and_checkpoint()
    files.write(checkpoint, tmp_path / "a.ckpt")
    found, description = restore_classifier(files.read(tmp_path / "a.ckpt"), tmp_path / "a.ckpt")
    ids, mask = torch.arange(10).reshape(2, 5), torch.tensor([[True] * 5, [True, True, False, False, False]])
    assert torch.equal(found(ids, mask), classifier(ids, mask))
    assert found.pooling == "mean"
    assert not found.training
    assert found.transformer.lm_head.weight is found.transformer.wte.weight
    assert LabelTask.from_plain(description.task) == TASK


def test_a_classifier_is_a_language_model_as_well(tmp_path: Path) -> None:
    classifier, checkpoint = classifier_and_checkpoint()
    files.write(checkpoint, tmp_path / "a.ckpt")
    model, _ = load_model(tmp_path / "a.ckpt", torch.device("cpu"))
    ids = torch.arange(7).unsqueeze(0)
    assert torch.equal(model(ids), classifier.transformer(ids))
    restore(checkpoint, ANYWHERE)


@pytest.mark.parametrize(
    ("task", "found"),
    [({}, "is a language model without"), ({"kind": "instruct"}, "is a model for the task 'instruct'")],
)
def test_another_model_is_called_what_it_is(task: dict[str, Any], found: str) -> None:
    _, checkpoint = classifier_and_checkpoint(task)
    del checkpoint["state_dict"]["score.weight"]
    with pytest.raises(UserError, match=rf"anywhere\.ckpt {found}.* fine-tune it with task=classify"):
        restore_classifier(checkpoint, ANYWHERE)


def test_a_head_that_does_not_fit_its_labels_is_told() -> None:
    _, checkpoint = classifier_and_checkpoint()
    checkpoint["state_dict"]["score.weight"] = torch.zeros(2, 15)
    with pytest.raises(UserError, match=r"\[2, 15\].* 3 scores .*\[3, 15\]"):
        restore_classifier(checkpoint, ANYWHERE)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"reads": "max"}, "'max' is not one of last, first, mean"),
        ({"label_kind": "double"}, "label_kind: 'double' is not one of single, multi, regression"),
        ({"labels": ["a", "b", "a"]}, "2 or more different names"),
        ({"labels": ["a"]}, "2 or more different names"),
        ({"label_kind": "regression"}, "regression has none"),
        ({"truncation": 0}, "truncation: 0 is out of range"),
        ({"truncation": None}, "TypeError"),
        ({"labels": 3}, "TypeError"),
    ],
)
def test_a_task_that_this_version_lacks_is_a_users_mistake(change: dict[str, Any], fault: str) -> None:
    _, checkpoint = classifier_and_checkpoint({**TASK.to_plain(), **change})
    with pytest.raises(UserError, match=r"anywhere\.ckpt .*task") as caught:
        restore_classifier(checkpoint, ANYWHERE)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    "task",
    [TASK, LabelTask(("one",), "multi", "last", 7), LabelTask((), "regression", "first", 1)],
    ids=lambda task: task.label_kind,
)
def test_a_task_survives_as_plain_values(task: LabelTask) -> None:
    assert LabelTask.from_plain(task.to_plain()) == task
    assert task.n_scores == max(1, len(task.labels))
