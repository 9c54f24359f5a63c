"""Training a classifier: its loss, what it learns, its figures, its checkpoints and resuming."""

from __future__ import annotations

import csv
import math
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gpt2_lightning.checkpoints.content import Description, restore, restore_classifier
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.datamodule import LabelDataModule
from gpt2_lightning.data.tables import LabeledText, Splits
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.predictions import predict
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.tokenizers import CharTokenizer
from gpt2_lightning.training.callbacks import Checkpointing, Metrics
from gpt2_lightning.training.callbacks.assemble import assemble
from gpt2_lightning.training.callbacks.measurements import throughput
from gpt2_lightning.training.classification import Classification, ClassWeights, class_weights, thinned
from gpt2_lightning.training.loggers.csv_logger import CSVLogger
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.schedules import Constant
from gpt2_lightning.training.trainer import TrainerSpec
from tests.training.short_run import same_tensors

ALPHABET = "abcdefgh "
TOKENIZER = CharTokenizer(ALPHABET)
CONFIG = GPT2Config(vocab_size=len(ALPHABET), block_size=23, n_layer=2, n_head=3, n_embd=21)
DROPOUT = GPT2Config(vocab_size=len(ALPHABET), block_size=23, n_layer=2, n_head=3, n_embd=21, resid_pdrop=0.1)
CLASSES: dict[str, tuple[str, ...]] = {"single": ("few", "many"), "multi": ("has a", "has b"), "regression": ()}


def table(kind: str, count: int, seed: int) -> list[LabeledText]:
    """Texts whose label follows from their letters: the share of a's above or below one half; which of a and b are
    there; the share of a's."""
    dice, rows = random.Random(seed), []
    for _ in range(count):
        letters = dice.choice(["a", "ab", "bc", "cd", "acd"]) if kind == "multi" else dice.choice(["aaaab", "abbbb"])
        text = "".join(dice.choice(letters) for _ in range(dice.randint(5, 21)))
        share = text.count("a") / len(text)
        labels: dict[str, Any] = {
            "single": "many" if share > 0.5 else "few",
            "multi": tuple(f"has {letter}" for letter in "ab" if letter in text),
            "regression": share,
        }
        rows.append(LabeledText(text, labels[kind]))
    return rows


def data_of(kind: str, micro_batch_size: int = 8, rows: list[LabeledText] | None = None) -> LabelDataModule:
    splits = Splits(rows or table(kind, 300, 0), table(kind, 90, 1), table(kind, 90, 2))
    return LabelDataModule(
        splits, TOKENIZER, CLASSES[kind], KINDS[kind], CONFIG.block_size, 8, micro_batch_size, seed=0
    )


def task_of(kind: str, config: GPT2Config = CONFIG, weights: torch.Tensor | None = None) -> Classification:
    torch.manual_seed(0)
    labels = LabelTask(CLASSES[kind], kind, "last", CONFIG.block_size)
    description = Description(config, TOKENIZER, {}, labels.to_plain())
    model = Classifier(GPT2(config), labels.n_scores)
    return Classification(model, AdamW(lr=3e-3), Constant(warmup_steps=3), description, weights)


def fit(
    task: Classification, data: LabelDataModule, run_dir: Path, max_steps: int, resume: Path | None = None
) -> list[dict[str, str]]:
    """Train, and give the rows of metrics without the columns that depend on the clock."""
    run_dir.mkdir(exist_ok=True)
    spec = TrainerSpec(val_check_interval=6, log_every_n_steps=4, accelerator="cpu")
    trainer = spec.build(
        max_steps,
        accumulate=data.batch_size // data.micro_batch_size,
        callbacks=assemble(Metrics(spec.log_every_n_steps), [Checkpointing(run_dir, every_n_steps=2, keep=99)]),
        loggers=[CSVLogger(run_dir)],
    )
    trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in throughput.METRICS} for row in csv.DictReader(file)]


def checkpoint(run_dir: Path, step: int) -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints" / f"step-{step:06d}.ckpt", weights_only=True)


def test_a_small_classifier_learns_what_can_be_told_apart(tmp_path: Path) -> None:
    task, data = task_of("single"), data_of("single")
    rows = fit(task, data, tmp_path, 150)
    assert float(rows[-1]["val/accuracy"]) > 0.95
    assert float(rows[-1]["val/macro_f1"]) > 0.95
    answers = predict(task.model, data.test.texts, KINDS["single"], 16).argmax(axis=1)
    assert (answers == data.test.labels.numpy()).mean() > 0.95


@pytest.mark.slow
def test_several_classes_are_learned(tmp_path: Path) -> None:
    rows = fit(task_of("multi"), data_of("multi"), tmp_path, 150)
    assert float(rows[-1]["val/exact_match"]) > 0.95
    assert float(rows[-1]["val/macro_f1"]) > 0.95


@pytest.mark.slow
def test_numbers_are_learned(tmp_path: Path) -> None:
    task, data = task_of("regression"), data_of("regression")
    rows = fit(task, data, tmp_path, 150)
    answers = predict(task.model, data.test.texts, KINDS["regression"], 16)
    assert float(rows[-1]["val/mae"]) < 0.08
    assert np.corrcoef(answers, data.test.labels.numpy())[0, 1] > 0.95


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
@pytest.mark.parametrize("batch_size", [1, 7, 90])
def test_padding_and_bucketing_change_no_answer(kind: str, batch_size: int) -> None:
    task, data = task_of(kind), data_of(kind)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.mul_(5)
    found = predict(task.model, data.val.texts, KINDS[kind], batch_size)
    model = task.model.eval()
    for row, answer in zip(data.val.rows, found, strict=True):
        ids = torch.from_numpy(TOKENIZER.encode(row.text).astype(np.int64)).unsqueeze(0)
        score = model(ids, torch.ones_like(ids, dtype=torch.bool))[0]
        alone = {"single": score.softmax(0), "multi": score.sigmoid(), "regression": score[0]}[kind]
        np.testing.assert_allclose(answer, alone.detach().numpy(), atol=1e-5)
    assert np.ptp(found, axis=0).min() > 0.01


def test_predicting_leaves_the_mode_alone() -> None:
    task, data = task_of("single", DROPOUT), data_of("single")
    task.model.train()
    one, other = (predict(task.model, data.val.texts, KINDS["single"], 16) for _ in range(2))
    assert np.array_equal(one, other)
    assert task.model.training
    assert task.model.transformer.h[0].training


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_the_loss_is_what_torch_computes_from_all_rows(kind: str) -> None:
    task, data = task_of(kind), data_of(kind)
    batch = data.samples.read(np.arange(8))
    logits = task.model(batch.ids, batch.mask)
    expected = {
        "single": lambda: F.cross_entropy(logits, batch.labels),
        "multi": lambda: F.binary_cross_entropy_with_logits(logits, batch.labels.float()),
        "regression": lambda: F.mse_loss(logits.squeeze(1), batch.labels),
    }[kind]()
    assert task.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_weighted_losses_are_those_worked_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])  # the second class has probability 3/4
    task = task_of("single", weights=torch.tensor([2.0, 0.5]))
    losses = task._losses(logits, torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([2 * math.log(4), 0.5 * math.log(4 / 3)])
    several = task_of("multi", weights=torch.tensor([3.0, 1.0]))._losses(logits, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    ln2, ln4 = math.log(2), math.log(4)
    assert several.tolist() == pytest.approx([(3 * ln2 + ln4) / 2, (ln2 + ln4 - math.log(3)) / 2])


def unbalanced(kind: str) -> LabelDataModule:
    """Six rows of the first class and two of the second."""
    labels: list[Any] = ["few"] * 6 + ["many"] * 2
    if kind == "multi":
        labels = [("has a",)] * 5 + [("has a", "has b"), ("has b",), ()]
    return data_of(kind, rows=[LabeledText("ab", label) for label in labels])


@pytest.mark.parametrize(
    ("kind", "wanted", "expected"),
    [
        ("single", "none", None),
        ("single", "balanced", [8 / (2 * 6), 8 / (2 * 2)]),
        ("single", [1.0, 3.0], [8 / 12, 24 / 12]),
        ("multi", "balanced", [2 / 6, 6 / 2]),
        ("multi", [1.0, 3.0], [1.0, 3.0]),
    ],
)
def test_class_weights_worked_by_hand(kind: str, wanted: ClassWeights, expected: list[float] | None) -> None:
    data = unbalanced(kind)
    found = class_weights(wanted, data)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found.tolist() == pytest.approx(expected)
    if kind == "single":
        assert float(found[data.train.labels].mean()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "wanted", "fault"),
    [
        ("single", [1.0], "must be none, balanced or 2 finite numbers above 0, for few, many"),
        ("single", [1.0, 0.0], "finite numbers above 0"),
        ("multi", [1.0, math.inf], "finite numbers above 0"),
        ("regression", "balanced", "numbers have no classes to weigh"),
    ],
)
def test_class_weights_that_do_not_fit_are_told(kind: str, wanted: ClassWeights, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        class_weights(wanted, data_of(kind))


def test_thinning_leaves_tokens_out_by_chance_and_never_all() -> None:
    torch.manual_seed(0)
    mask = torch.arange(211) < torch.tensor([[211], [1], [0], [100]])  # (4, 211)
    kept = thinned(mask, 0.3)
    assert not (kept & ~mask).any()
    assert kept.sum(dim=1)[[1, 2]].tolist() == [1, 0]
    assert abs(float(kept[mask].float().mean()) - 0.7) < 0.08
    assert not torch.equal(thinned(mask, 0.3), kept), "anew each time"
    assert torch.equal(thinned(mask, 0.999999), mask), "a text that would lose all keeps all"


def test_tokens_are_left_out_and_answers_smoothed_in_training_alone(tmp_path: Path) -> None:
    data, plain = data_of("single"), task_of("single")
    parts = (plain.model, plain.optimizer_spec, plain.schedule, plain.description)
    task = Classification(*parts, token_dropout=0.4, label_smoothing=0.2)
    batch = data.train.batch(np.arange(8))
    torch.manual_seed(5)
    loss = task.training_step(batch, 0)
    torch.manual_seed(5)
    logits = task.model(batch.ids, thinned(batch.mask, 0.4))
    expected = torch.full_like(logits, 0.1).scatter(1, batch.labels.unsqueeze(1), 0.9)
    torch.testing.assert_close(loss, -(expected * logits.log_softmax(1)).sum(1).mean())
    row = fit(task, data, tmp_path, 6)[-1]
    outputs = predict(task.model, data.val.texts, KINDS["single"], 16)
    assert float(row["val/loss"]) == pytest.approx(
        -np.log(outputs[np.arange(90), data.val.labels.numpy()]).mean(), rel=1e-5
    )


def test_validation_figures_are_means_over_all_rows(tmp_path: Path) -> None:
    """The last batch is smaller than the others: a mean of means would differ."""
    task, data = task_of("single"), data_of("single", micro_batch_size=4)
    row = fit(task, data, tmp_path, 12)[-1]
    outputs = predict(task.model, data.val.texts, KINDS["single"], 16)
    labels = data.val.labels.numpy()
    answers = outputs.argmax(axis=1)
    assert len(data.val) % 4 == 2
    assert float(row["val/accuracy"]) == pytest.approx((answers == labels).mean(), abs=1e-6)
    assert float(row["val/loss"]) == pytest.approx(-np.log(outputs[np.arange(90), labels]).mean(), rel=1e-5)
    scores = [2 * ((answers == c) & (labels == c)).sum() / ((answers == c).sum() + (labels == c).sum()) for c in (0, 1)]
    assert float(row["val/macro_f1"]) == pytest.approx(np.mean(scores), abs=1e-6)


@pytest.mark.slow
def test_one_class_that_applies_or_not_can_be_learned(tmp_path: Path) -> None:
    rows = [LabeledText(row.text, tuple(set(row.label) & {"has a"})) for row in table("multi", 120, 3)]  # type: ignore[arg-type]
    data = LabelDataModule(Splits(rows, rows, []), TOKENIZER, ("has a",), KINDS["multi"], 23, 8, 8, seed=0)
    torch.manual_seed(0)
    description = Description(CONFIG, TOKENIZER, {}, LabelTask(("has a",), "multi", "last", 23).to_plain())
    task = Classification(Classifier(GPT2(CONFIG), 1), AdamW(lr=3e-3), Constant(warmup_steps=3), description)
    assert float(fit(task, data, tmp_path, 80)[-1]["val/exact_match"]) > 0.95


def test_a_checkpoint_has_the_names_of_a_language_model_and_the_head(tmp_path: Path) -> None:
    task, data = task_of("single"), data_of("single")
    fit(task, data, tmp_path, 2)
    content = checkpoint(tmp_path, 2)
    assert set(content["state_dict"]) == {*GPT2(CONFIG).state_dict(), "score.weight"}
    model, _ = restore(content, tmp_path)
    assert same_tensors(model.state_dict(), task.model.transformer.state_dict())
    classifier, description = restore_classifier(checkpoint(tmp_path, 2), tmp_path)
    assert same_tensors(classifier.state_dict(), task.model.state_dict())
    assert LabelTask.from_plain(description.task) == LabelTask(("few", "many"), "single", "last", 23)
    answers = [predict(network, data.val.texts, KINDS["single"], 16) for network in (classifier, task.model)]
    assert np.array_equal(answers[0], answers[1])


@pytest.mark.parametrize("step", [6, 10])
@pytest.mark.parametrize("micro_batch_size", [8, 4])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, step: int, micro_batch_size: int
) -> None:
    """With dropout, weights of classes, and samples that go beyond the first epoch of 61."""

    def do(run_dir: Path, resume: Path | None = None) -> list[dict[str, str]]:
        data = data_of("single", micro_batch_size, rows=table("single", 61, 4))
        task = task_of("single", DROPOUT, class_weights("balanced", data))
        return fit(task, data, run_dir, 14, resume)

    whole_rows = do(tmp_path / "whole")
    part = tmp_path / "part"
    (part / "checkpoints").mkdir(parents=True)
    saved = part / "checkpoints" / f"step-{step:06d}.ckpt"
    shutil.copy(tmp_path / "whole" / "checkpoints" / saved.name, saved)
    header, *lines = (tmp_path / "whole" / "metrics.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if int(line.split(",")[0]) <= step]
    (part / "metrics.csv").write_text("".join([header, *kept]), encoding="utf-8")
    assert do(part, saved) == whole_rows
    ours, theirs = checkpoint(part, 14), checkpoint(tmp_path / "whole", 14)
    for entry in ("state_dict", "optimizer_states", "random_states", "LabelDataModule", "train_scores", "global_step"):
        assert same_tensors(ours[entry], theirs[entry]), entry
