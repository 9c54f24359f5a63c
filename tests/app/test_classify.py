"""Fine-tuning with task=classify: a classifier that is trained further, and mistakes that are told."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import SCORE
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.tokenizers import CharTokenizer
from tests.app.made_checkpoints import ONE_OF_THREE, save_base, save_classifier
from tests.huggingface.networks import CONFIG, lively
from tests.outcomes import refused

Run = Callable[..., Any]
SHORT = ["trainer=cpu", "trainer.max_epochs=null", "trainer.max_steps=1", "trainer.val_check_interval=1"]
NAMES = "data.labels=[ham,spam,other mail]"


@pytest.fixture
def classify(run_verb: Run, workplace: Path) -> Run:
    """Fine-tune on thirty rows with the labels of `ONE_OF_THREE`; those of ham are longer than the context."""
    rows = [f"{ONE_OF_THREE.labels[i % 3]},{'abc' * (9 if i % 3 == 0 else i % 3)}" for i in range(30)]
    (workplace / "rows.csv").write_text("\n".join(["label,text", *rows]))
    start = ["task=classify", "data=table", "data.path=rows.csv", "data.stratify=true", "batch_size=4", "run_dir=here"]
    return lambda *settings: run_verb("finetune", *start, *SHORT, *settings)


@pytest.mark.parametrize("named", ["classifier", "language model"])
def test_a_classifier_is_trained_further_with_its_head(classify: Run, workplace: Path, named: str) -> None:
    head = save_classifier(workplace / "classifier").score.weight.detach()
    save_base(workplace / "language model")
    outcome = classify(f"init_from={named}", NAMES, "optimizer.lr=1e-6")
    assert outcome.code == 0, outcome.err
    after = files.read(workplace / "here" / "checkpoints" / "best.ckpt")["state_dict"][SCORE]
    assert torch.allclose(after, head, atol=1e-5) == (named == "classifier")


def test_labels_judge_a_classifier_in_training_by_what_evaluate_finds(
    classify: Run, run_verb: Run, workplace: Path
) -> None:
    save_base(workplace / "base")
    labels = ["benchmarks=labels", "benchmarks.labels.baseline=false"]
    outcome = classify("init_from=base", "callbacks=benchmarks", *labels, "monitor=benchmarks/labels/accuracy")
    assert outcome.code == 0, outcome.err
    rows = csv.DictReader((workplace / "here" / "metrics.csv").read_text().splitlines())
    (row,) = (row for row in rows if row["benchmarks/labels/accuracy"])
    assert run_verb("evaluate", "checkpoint=here", *labels).code == 0
    results = json.loads((workplace / "here" / "evaluation" / "best" / "results.json").read_text())
    found = {name: metric["value"] for name, metric in results["benchmarks"]["labels"]["metrics"].items()}
    assert {"accuracy", "macro_f1", "auroc"} < found.keys()
    assert {name: float(row[f"benchmarks/labels/{name}"]) for name in found} == pytest.approx(found)


def test_a_head_for_other_labels_is_refused_with_both(classify: Run, workplace: Path) -> None:
    save_classifier(workplace / "two", LabelTask(("ham", "spam"), "single", "last", 11))
    outcome = classify("init_from=two", NAMES)
    assert outcome.code == 2
    assert "the head of two answers with one of 2 labels (ham, spam)" in outcome.err
    assert "the data have one of 3 labels (ham, spam, other mail); give them its labels" in outcome.err
    assert not (workplace / "here").exists()


def test_a_head_that_reads_otherwise_is_refused(classify: Run, workplace: Path) -> None:
    save_classifier(workplace / "mean", LabelTask(ONE_OF_THREE.labels, "single", "mean", 11))
    outcome = classify("init_from=mean", NAMES)
    assert outcome.code == 2
    assert "task.reads: last, but the head of mean learned to read mean; set task.reads=mean" in outcome.err


def test_a_head_that_learned_from_texts_with_a_space_goes_on_with_it(
    classify: Run, run_verb: Run, workplace: Path
) -> None:
    tokenizer = CharTokenizer(" " + "abcdefghijklmnopqrstuv", end_of_text=True)
    spaced = dataclasses.replace(ONE_OF_THREE, add_prefix_space=True)
    config = dataclasses.replace(CONFIG, vocab_size=tokenizer.vocab_size)
    classifier = save_classifier(workplace / "spaced", spaced, tokenizer, lively(config))
    outcome = classify("init_from=spaced", NAMES)
    assert outcome.code == 2
    assert "task.add_prefix_space: False, and the head of spaced was trained on texts with True" in outcome.err
    assert classify("init_from=spaced", NAMES, "task.add_prefix_space=true").code == 0
    answer = run_verb("predict", "checkpoint=spaced", "text=abc").out
    assert answer == run_verb("predict", "checkpoint=spaced", "text= abc").out
    ids = torch.from_numpy(tokenizer.encode(" abc").astype("int64"))[None]
    with torch.no_grad():
        chances = classifier(ids, torch.ones_like(ids, dtype=torch.bool))[0].softmax(0).tolist()
    told = {name.strip(): float(chance) for name, chance in (row.rsplit(" ", 1) for row in answer.splitlines()[1:])}
    assert told == pytest.approx(dict(zip(ONE_OF_THREE.labels, chances, strict=True)), abs=1e-4)
    refused(run_verb("convert", "source=spaced", "target=theirs"), "task.add_prefix_space", "to=gpt2_lightning")


def test_rows_longer_than_the_context_are_counted(classify: Run, workplace: Path) -> None:
    save_base(workplace / "base")
    outcome = classify("init_from=base")
    assert outcome.code == 0, outcome.err
    assert "7 texts to train on are cut at 13 tokens (33.3 %)" in outcome.out


def test_nothing_of_an_existing_run_is_overwritten(classify: Run, workplace: Path) -> None:
    save_base(workplace / "base")
    assert classify("init_from=base").code == 0
    before = {file: file.read_bytes() for file in (workplace / "here").rglob("*") if file.is_file()}
    assert classify("init_from=base", "seed=2").code == 0
    assert {file: file.read_bytes() for file in before} == before
    assert (workplace / "here-1" / "report.md").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["task.token_dropout=1"], "token_dropout: 1 is out of range, 0 up to (not including) 1 is allowed"),
        (["task.label_smoothing=-0.1"], "label_smoothing: -0.1 is out of range"),
        (["task.label_smoothing=0.1", "data.kind=multi", "data.stratify=false"], "no meaning with data.kind=multi"),
        (["data.labels=[ham,spam]"], "label is 'other mail', and must be one of 'ham', 'spam'"),
        (["data.labels=[ham,spam,other mail,scam]"], "no row of the training part has the label scam"),
    ],
)
def test_mistakes_are_told_without_a_trace(classify: Run, workplace: Path, settings: list[str], message: str) -> None:
    save_base(workplace / "base")
    outcome = classify("init_from=base", *settings)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not (workplace / "here").exists()


def test_evaluate_gives_the_report_of_training_again_and_beside_it_the_same_baseline(
    classify: Run, run_verb: Run, workplace: Path
) -> None:
    save_base(workplace / "base")
    assert classify("init_from=base", NAMES).code == 0
    outcome = run_verb("evaluate", "checkpoint=here", "benchmarks=[labels]", "output=results")
    assert outcome.code == 0, outcome.err
    before, after = (
        [line for line in (workplace / file).read_text().splitlines() if line.startswith("|")]
        for file in ("here/report.md", "results/labels/report.md")
    )
    assert before == after
    assert len(before) > 10
    results = json.loads((workplace / "results/results.json").read_text())
    assert {"accuracy", "macro_f1", "linear_accuracy"} <= results["benchmarks"]["labels"]["metrics"].keys()
