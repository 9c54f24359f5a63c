"""The LightningModules and data modules under a plain `lightning.Trainer`, with Lightning's callbacks and loggers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

import gpt2_lightning as g
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import load_model, restore_classifier
from gpt2_lightning.data.tables import LabeledText, Splits
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer
from gpt2_lightning.training.schedules import Constant
from tests.data.conversations import BARE, LETTERS, splits

TEXT = "abcdefgh\n" * 60


def book(**settings: Any) -> g.TokenDataModule:
    return g.TokenDataModule.from_text(TEXT, **{"block_size": 7, "batch_size": 6, **settings})


def network(vocab_size: int) -> g.GPT2:
    torch.manual_seed(0)
    return g.GPT2(g.GPT2Config(vocab_size=vocab_size, block_size=7, n_layer=2, n_head=2, n_embd=10))


def trainer(folder: Path, **settings: Any) -> lightning.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "default_root_dir": folder}
    return lightning.Trainer(**{**quiet, **settings})


def rows(folder: Path, column: str) -> dict[int, float]:
    (file,) = folder.rglob("metrics.csv")
    with file.open(newline="") as opened:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(opened) if row.get(column)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with callbacks and loggers of Lightning leaves."""
    folder = tmp_path_factory.mktemp("plain")
    data = book()
    module = g.LanguageModeling(network(data.vocab_size), g.AdamW(lr=1e-2), Constant(warmup_steps=3))
    callbacks = [
        ModelCheckpoint(folder / "checkpoints", "best", monitor="val_loss"),
        LearningRateMonitor(),
        EarlyStopping("val_loss"),
        RichProgressBar(),
    ]
    loggers = [CSVLogger(folder), TensorBoardLogger(folder)]
    settings = {"val_check_interval": 10, "log_every_n_steps": 5, "callbacks": callbacks, "logger": loggers}
    trainer(folder, max_steps=25, enable_checkpointing=True, enable_progress_bar=True, **settings).fit(module, data)
    return folder


def test_losses_metrics_and_rates_reach_lightnings_loggers(folder: Path) -> None:
    losses = rows(folder, "train_loss")
    assert list(losses) == [4, 9, 14, 19, 24]
    assert losses[24] < losses[4]
    assert list(rows(folder, "val_loss")) == [9, 19, 24]
    assert rows(folder, "val_perplexity")[24] == pytest.approx(np.exp(rows(folder, "val_loss")[24]), rel=1e-4)
    assert max(rows(folder, "lr-AdamW/pg1").values()) == pytest.approx(1e-2)
    assert list(folder.rglob("events.out.tfevents*"))


@torch.no_grad()
def test_a_checkpoint_of_lightnings_callback_is_self_contained(folder: Path) -> None:
    model, description = load_model(folder / "checkpoints" / "best.ckpt", torch.device("cpu"))
    assert description.tokenizer.decode(description.tokenizer.encode("bad").tolist()) == "bad"
    total, count = 0.0, 0
    for batch in book().val_dataloader():
        logits = model(batch.inputs).flatten(0, 1)
        total += float(F.cross_entropy(logits, batch.targets.flatten(), reduction="sum"))
        count += int((batch.targets >= 0).sum())
    assert total / count == pytest.approx(min(rows(folder, "val_loss").values()), rel=1e-4)


def test_defaults_are_enough(tmp_path: Path) -> None:
    data = book()
    module = g.LanguageModeling(network(data.vocab_size))
    plain = trainer(tmp_path, max_steps=20)
    plain.fit(module, data)
    assert plain.global_step == 20
    assert float(plain.callback_metrics["val_loss"]) < np.log(data.vocab_size)
    assert module.optimizer_spec.lr == 0.05


def test_epochs_are_passes_over_the_samples(tmp_path: Path) -> None:
    data = book()
    module = g.LanguageModeling(network(data.vocab_size), g.AdamW(lr=1e-2))
    plain = trainer(tmp_path, max_epochs=2)
    plain.fit(module, data)
    per_epoch = -(-data.samples.per_epoch // 6)
    assert plain.global_step == module.total_steps == 2 * per_epoch
    assert data.samples_seen == 12 * per_epoch


def test_accumulated_micro_batches_learn_the_same(tmp_path: Path) -> None:
    """As whole batches, over the end of an epoch."""
    weights = []
    for accumulate in (1, 3):
        data = book()
        module = g.LanguageModeling(network(data.vocab_size), g.AdamW(lr=1e-2, eps=1e-3), Constant(warmup_steps=3))
        trainer(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate).fit(module, data)
        assert data.micro_batch_size == 6 // accumulate
        weights.append(module.model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=0, msg=name)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def run(resume: Path | None = None) -> dict[str, Any]:
        data = book()
        each = ModelCheckpoint(tmp_path / "saved", "{step}", every_n_train_steps=5, save_top_k=-1)
        module = g.LanguageModeling(network(data.vocab_size), g.AdamW(lr=1e-2), Constant(warmup_steps=3))
        trainer(tmp_path, max_steps=12, callbacks=[each], enable_checkpointing=True).fit(module, data, ckpt_path=resume)
        return module.model.state_dict()

    whole = run()
    resumed = run(tmp_path / "saved" / "step=5.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    data = book()
    with pytest.raises(UserError, match=r"batch_size: 6 .*accumulate_grad_batches=4"):
        trainer(tmp_path, max_steps=2, accumulate_grad_batches=4).fit(
            g.LanguageModeling(network(data.vocab_size)), data
        )


def test_an_endless_run_is_refused(tmp_path: Path) -> None:
    data = book()
    with pytest.raises(UserError, match="max_steps"):
        trainer(tmp_path, max_epochs=-1).fit(g.LanguageModeling(network(data.vocab_size)), data)


def test_a_metric_sees_the_logits_of_all_predicted_tokens(tmp_path: Path) -> None:
    data = book()
    metrics = {"top2": MulticlassAccuracy(data.vocab_size, top_k=2, average="micro")}
    module = g.LanguageModeling(network(data.vocab_size), g.AdamW(lr=1e-2), metrics=metrics)
    plain = trainer(tmp_path, max_steps=9)
    plain.fit(module, data)
    hits, losses = [], []
    for batch in data.val_dataloader():
        with torch.no_grad():
            logits = module.model.eval()(batch.inputs)
        kept = batch.targets >= 0
        hits.append((logits.topk(2).indices == batch.targets.unsqueeze(-1)).any(-1)[kept])
        losses.append(F.cross_entropy(logits[kept], batch.targets[kept], reduction="none"))
    assert float(plain.callback_metrics["val_top2"]) == pytest.approx(float(torch.cat(hits).float().mean()))
    assert float(plain.callback_metrics["val_loss"]) == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def test_instructions_are_learned(tmp_path: Path) -> None:
    data = g.InstructDataModule(splits(), BARE, LETTERS, block_size=23, batch_size=4)
    torch.manual_seed(0)
    config = g.GPT2Config(vocab_size=LETTERS.vocab_size, block_size=23, n_layer=2, n_head=2, n_embd=10)
    module = g.InstructionTuning(g.GPT2(config), g.AdamW(lr=1e-2))
    plain = trainer(tmp_path, max_steps=20)
    plain.fit(module, data)
    assert float(plain.callback_metrics["val_loss"]) < np.log(LETTERS.vocab_size) - 0.1
    plain.save_checkpoint(tmp_path / "last.ckpt")
    _, description = load_model(tmp_path / "last.ckpt", torch.device("cpu"))
    assert description.task == data.task


def test_classes_are_learned(tmp_path: Path) -> None:
    rows = [LabeledText("ab" * n, "short" if n < 5 else "long") for n in range(1, 10)] * 3
    data = g.LabelDataModule(
        Splits(rows, rows, []), CharTokenizer("ab"), ["short", "long"], "single", block_size=20, batch_size=9
    )
    torch.manual_seed(0)
    config = g.GPT2Config(vocab_size=2, block_size=20, n_layer=1, n_head=2, n_embd=10)
    module = g.Classification(g.Classifier(g.GPT2(config), labels=2), g.AdamW(lr=1e-2))
    plain = trainer(tmp_path, max_steps=60, accumulate_grad_batches=3)
    plain.fit(module, data)
    assert float(plain.callback_metrics["val_accuracy"]) > 0.8
    assert 0 <= float(plain.callback_metrics["train_accuracy"]) <= 1
    plain.save_checkpoint(tmp_path / "last.ckpt")
    classifier, description = restore_classifier(files.read(tmp_path / "last.ckpt"), tmp_path / "last.ckpt")
    assert description.task["labels"] == ["short", "long"]
    assert torch.equal(classifier.score.weight, module.model.score.weight)
