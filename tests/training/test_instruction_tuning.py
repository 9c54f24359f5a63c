"""Training on instructions: what is learned, the loss that is told, and a resume that is bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from gpt2_lightning.checkpoints.content import Description, load_model
from gpt2_lightning.data.instruction.datamodule import InstructDataModule
from gpt2_lightning.data.instruction.templates import template_of
from gpt2_lightning.data.tables import Alpaca, Conversation, Splits
from gpt2_lightning.evaluation.answers import answer, score
from gpt2_lightning.evaluation.responses import response_loss
from gpt2_lightning.generation import Sampling
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.training.callbacks import Checkpointing, Metrics
from gpt2_lightning.training.callbacks.assemble import assemble
from gpt2_lightning.training.instruction_tuning import InstructionTuning
from gpt2_lightning.training.loggers.csv_logger import CSVLogger
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.schedules import Constant
from gpt2_lightning.training.trainer import TrainerSpec
from tests.data.conversations import BARE, LETTERS, splits
from tests.training.short_run import same_tensors

BLOCK = 23
CONFIG = GPT2Config(vocab_size=LETTERS.vocab_size, block_size=BLOCK, n_layer=2, n_head=2, n_embd=10, embd_pdrop=0.1)


def echoes() -> Splits[Conversation]:
    """Each answer is its question's letter, three times."""
    rows = [Conversation.from_alpaca(Alpaca(letter, "", 3 * letter)) for letter in "abcdefg"]
    return Splits(rows * 3, rows, rows)


def fit(
    run_dir: Path,
    max_steps: int,
    packing: bool = True,
    resume: Path | None = None,
    rows: Splits[Conversation] | None = None,
    micro_batch_size: int = 4,
    lr: float = 1e-2,
    config: GPT2Config = CONFIG,
) -> InstructionTuning:
    run_dir.mkdir(exist_ok=True)
    data = InstructDataModule(rows or splits(), BARE, LETTERS, BLOCK, 4, micro_batch_size, seed=3, packing=packing)
    torch.manual_seed(3)
    description = Description(config, LETTERS, {}, data.task)
    module = InstructionTuning(GPT2(config), AdamW(lr=lr), Constant(warmup_steps=2), description)
    trainer = TrainerSpec(accelerator="cpu", val_check_interval=4, log_every_n_steps=2).build(
        max_steps,
        accumulate=4 // micro_batch_size,
        callbacks=assemble(Metrics(2), [Checkpointing(run_dir, every_n_steps=2, keep=99)]),
        loggers=[CSVLogger(run_dir)],
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return module


@pytest.mark.parametrize("packing", [True, False])
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path: Path, packing: bool) -> None:
    """With dropout, over the end of an epoch."""
    fit(tmp_path / "whole", 16, packing)
    fit(tmp_path / "first", 6, packing)
    fit(tmp_path / "second", 16, packing, resume=tmp_path / "first" / "checkpoints" / "step-000006.ckpt")
    whole, second = (
        torch.load(tmp_path / name / "checkpoints" / "step-000016.ckpt", weights_only=True)
        for name in ("whole", "second")
    )
    assert whole["InstructDataModule"] == {"samples_seen": 64, "step": 16, "skipped": []}
    for key in ("state_dict", "optimizer_states", "random_states"):
        assert same_tensors(whole[key], second[key])


@pytest.mark.parametrize("packing", [True, False])
def test_micro_batches_learn_the_same(tmp_path: Path, packing: bool) -> None:
    """All tokens of a step weigh alike, however many a micro-batch has."""
    config = dataclasses.replace(CONFIG, embd_pdrop=0.0)
    runs = [fit(tmp_path / str(size), 6, packing, micro_batch_size=size, config=config, lr=1e-9) for size in (4, 2, 1)]
    norms = [float(run.gradient_norm) for run in runs if run.gradient_norm is not None]
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-5)


def test_validation_loss_is_the_mean_over_the_tokens_of_answers(tmp_path: Path) -> None:
    module = fit(tmp_path, 4)
    checkpoint = tmp_path / "checkpoints" / "step-000004.ckpt"
    model, description = load_model(checkpoint, torch.device("cpu"))
    total, count = 0.0, 0
    for row in splits().val:
        prompt = LETTERS.encode(row.messages[0].content + "?").tolist()
        reply = [*LETTERS.encode(row.messages[1].content).tolist(), LETTERS.end_of_text]
        logits = model(torch.tensor([[*prompt, *reply][:-1]])).detach()[0, len(prompt) - 1 :]
        total += float(F.cross_entropy(logits, torch.tensor(reply), reduction="sum"))
        count += len(reply)
    assert float(module.trainer.callback_metrics["val_loss"]) == pytest.approx(total / count, rel=1e-5)
    data = module.data
    assert isinstance(data, InstructDataModule)
    own = response_loss(model, data.batches("val"))
    assert (own.loss, own.tokens) == (pytest.approx(total / count, rel=1e-5), count)
    assert own.perplexity == pytest.approx(2.718281828**own.loss, rel=1e-6)
    assert template_of(description.task) == BARE


def test_figures_are_of_answers(tmp_path: Path) -> None:
    fit(tmp_path, 4)
    header = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
    assert "val/perplexity" in header
    assert "bits_per_byte" not in header


@pytest.mark.parametrize("packing", [True, False])
def test_what_is_trained_answers_in_its_template_and_stops(tmp_path: Path, packing: bool) -> None:
    before = GPT2(CONFIG).eval()
    module = fit(tmp_path, 150, packing, rows=echoes(), lr=2e-2)
    rows = echoes().test
    sampling = Sampling(max_new_tokens=9, temperature=0)
    references = [row.messages[-1].content for row in rows]
    scores = score(answer(module.model.eval(), LETTERS, BARE, rows, sampling), references)
    assert (scores.exact_match, scores.rouge_l, scores.ended) == (1, 1, 1)
    assert score(answer(before, LETTERS, BARE, rows, sampling), references).exact_match < 0.5
