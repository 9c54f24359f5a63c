import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from gpt2_lightning.data.sampling.permutation import SampleOrder
from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.model import GPT2
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.schedules import Linear, WarmupStableDecay
from tests.training.short_run import BLOCK, CONFIG, Plan, Run, same_tensors

Train = Callable[..., Run]


@pytest.fixture(scope="module")
def run(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in batches of a prime size, so that those of validation are uneven."""
    return train(Plan(tmp_path_factory.mktemp("run"), max_steps=10, batch_size=5, micro_batch_size=5))


def model_of(run: Run, checkpoint: str) -> GPT2:
    model = GPT2(CONFIG).eval()
    model.load_state_dict(run.checkpoint(checkpoint)["state_dict"])
    return model


def first_batches(run: Run, count: int) -> Iterator[torch.Tensor]:
    sequence = run.data.corpora[0].train
    ids = sequence.slice(0, len(sequence))
    size = run.data.batch_size
    starts = SampleOrder(len(ids), BLOCK, seed=0).starts(np.arange(count * size))
    windows = torch.from_numpy(np.stack([ids[start : start + BLOCK + 1] for start in starts]))
    return iter(windows.split(size))


def gradient_norm(model: GPT2) -> float:
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None))


class GradientNorm(L.Callback):
    """Notes the norm of the gradients with which the last step was made."""

    found = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.found = gradient_norm(module.model)


def test_validation_loss_is_the_mean_over_all_tokens(run: Run, tokens: Tokens) -> None:
    ids = tokens.val.slice(0, len(tokens.val))
    losses = run.column("val/loss")
    assert list(losses) == [4, 8, 10], "every fourth step and the last"
    for step, loss in losses.items():
        model = model_of(run, f"step-{step:06d}.ckpt").double()
        total = 0.0
        for start in range(0, len(ids) - 1, BLOCK):
            window = torch.from_numpy(ids[start : start + BLOCK + 1])
            log_probabilities = model(window[None, :-1])[0].log_softmax(-1).detach()
            total -= sum(float(log_probabilities[i, target]) for i, target in enumerate(window[1:]))
        assert loss == pytest.approx(total / (len(ids) - 1), rel=2e-6)


def test_perplexity_and_bits_follow_from_the_loss(run: Run, texts: dict[str, str]) -> None:
    for stage, text in texts.items():
        bytes_per_token = len(text.encode()) / len(text)
        assert bytes_per_token > 1.2, "a text of one-byte characters would hide an error"
        for step, loss in run.column(f"{stage}/loss").items():
            assert run.column(f"{stage}/perplexity")[step] == pytest.approx(math.exp(loss))
            bits = loss / math.log(2) / bytes_per_token
            assert run.column(f"{stage}/bits_per_byte")[step] == pytest.approx(bits)


def test_tokens_and_epochs_count_what_was_trained_on(run: Run) -> None:
    """360 tokens hold 51 blocks of 7 with their targets; one of them is room for the phase."""
    assert run.column("tokens") == {step: step * 5 * 7 for step in (2, 4, 6, 8, 10)}
    assert run.column("epoch") == pytest.approx({step: step * 5 / 50 for step in (2, 4, 6, 8, 10)})


def test_the_first_training_loss_is_that_of_the_initial_weights(train: Train, tmp_path: Path) -> None:
    run = train(Plan(tmp_path, max_steps=1, trainer={"log_every_n_steps": 1}))
    torch.manual_seed(0)
    batch = next(first_batches(run, 1))
    probabilities = GPT2(CONFIG)(batch[:, :-1]).softmax(-1)
    expected = -probabilities.gather(2, batch[:, 1:, None]).log().mean().detach()
    assert run.column("train/loss")[1] == pytest.approx(float(expected), rel=1e-5)


def test_a_row_holds_the_mean_loss_since_the_last_one(train: Train, tmp_path: Path) -> None:
    each = train(Plan(tmp_path / "each", trainer={"log_every_n_steps": 1})).column("train/loss")
    third = train(Plan(tmp_path / "third", trainer={"log_every_n_steps": 3})).column("train/loss")
    assert list(third) == [3, 6, 9, 12]
    for step, loss in third.items():
        assert loss == pytest.approx(sum(each[s] for s in (step - 2, step - 1, step)) / 3, rel=1e-6)


def test_training_learns(run: Run) -> None:
    losses = list(run.column("val/loss").values())
    assert losses[-1] < losses[0] < math.log(CONFIG.vocab_size)


def test_equal_seeds_train_alike_and_others_do_not(train: Train, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, embd_pdrop=0.2)
    one, same, other = (
        train(Plan(tmp_path / name, max_steps=4, model=config, seed=seed)).model.state_dict()
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert same_tensors(one, same)
    assert not same_tensors(one, other)


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_accumulated_gradients_train_like_the_whole_batch(train: Train, tmp_path: Path, micro_batch_size: int) -> None:
    """A large eps keeps Adam from blowing up gradients that are zero but for rounding."""
    plan = Plan(tmp_path / "whole", optimizer=AdamW(lr=0.1, eps=0.01))
    whole = train(plan)
    parts = train(dataclasses.replace(plan, run_dir=tmp_path / "parts", micro_batch_size=micro_batch_size))
    torch.manual_seed(0)
    initial = GPT2(CONFIG).state_dict()
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], weight, atol=2e-5, rtol=0, msg=name)
    moved = max(float((w - initial[name]).abs().max()) for name, w in whole.model.state_dict().items())
    assert moved > 0.1, "the tolerance is small beside what was learned"
    assert parts.column("train/loss") == pytest.approx(whole.column("train/loss"), abs=1e-5)
    assert parts.column("val/loss") == pytest.approx(whole.column("val/loss"), abs=1e-5)
    assert parts.column("grad_norm") == pytest.approx(whole.column("grad_norm"), abs=1e-5)
    assert parts.column("tokens") == whole.column("tokens")


def test_bfloat16_runs_with_clipping_and_the_fused_optimizer(train: Train, tmp_path: Path) -> None:
    settings = {"precision": "bf16", "gradient_clip_val": 0.1}
    clipped = GradientNorm()
    run = train(Plan(tmp_path / "bf16", trainer=settings, micro_batch_size=3, callbacks=[clipped]))
    exact = train(Plan(tmp_path / "fp32", trainer={"gradient_clip_val": 0.1}, micro_batch_size=3))
    assert run.trainer.optimizers[0].defaults["fused"]
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    assert clipped.found == pytest.approx(0.1, rel=1e-4)
    assert run.column("val/loss") == pytest.approx(exact.column("val/loss"), abs=0.02)
    assert run.column("val/loss") != exact.column("val/loss"), "bfloat16 was in use"
    assert run.column("val/loss")[12] < run.column("val/loss")[4]


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Linear(warmup_steps=2, final_fraction=0.2), [1 / 3, 2 / 3, 1, 0.84, 0.68, 0.52, 0.36]),
        (WarmupStableDecay(warmup_steps=2, final_fraction=0, decay_fraction=0.4), [1 / 3, 2 / 3, 1, 1, 1, 1, 0.5]),
    ],
)
@pytest.mark.parametrize("micro_batch_size", [6, 2])
def test_learning_rates_follow_the_schedule(
    train: Train, tmp_path: Path, schedule: Linear, factors: list[float], micro_batch_size: int
) -> None:
    """The n-th factor by hand is that of the n-th of seven steps."""
    settings = {"log_every_n_steps": 1}
    plan = Plan(tmp_path, max_steps=7, schedule=schedule, trainer=settings, micro_batch_size=micro_batch_size)
    expected = {step: 1e-2 * factor for step, factor in enumerate(factors, start=1)}
    assert train(plan).column("lr") == pytest.approx(expected)


def test_weights_move_at_the_scheduled_rate(train: Train, tmp_path: Path) -> None:
    """Adam's first step is the learning rate wherever the gradient is not tiny."""
    plan = Plan(tmp_path, max_steps=1, optimizer=AdamW(lr=0.01, weight_decay=0, eps=1e-12))
    moved = train(plan).model.h[0].mlp.c_fc.weight.detach()
    torch.manual_seed(0)
    assert (moved - GPT2(CONFIG).h[0].mlp.c_fc.weight).abs().median().item() == pytest.approx(0.01 / 4, rel=1e-3)


@pytest.mark.parametrize("micro_batch_size", [6, 2])
@pytest.mark.parametrize("limit", [0.01, 1000.0, None])
def test_the_gradient_norm_is_that_before_clipping(
    train: Train, tmp_path: Path, micro_batch_size: int, limit: float | None
) -> None:
    settings = {"log_every_n_steps": 1, "gradient_clip_val": limit}
    used = GradientNorm()
    run = train(Plan(tmp_path, 1, micro_batch_size=micro_batch_size, trainer=settings, callbacks=[used]))
    torch.manual_seed(0)
    model = GPT2(CONFIG)
    batch = next(first_batches(run, 1))
    torch.nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()).backward()
    norm = gradient_norm(model)
    assert 0.01 < norm < 1000
    assert run.column("grad_norm")[1] == pytest.approx(norm, rel=1e-5)
    assert used.found == pytest.approx(min(norm, limit or norm), rel=1e-4)


def test_sinusoidal_positions_and_explicit_kernels_train(train: Train, tmp_path: Path) -> None:
    for i, (positions, tied_head) in enumerate(itertools.product(["learned", "sinusoidal"], [True, False])):
        config = dataclasses.replace(CONFIG, positions=positions, tied_head=tied_head, kernels="explicit")
        losses = train(Plan(tmp_path / str(i), model=config)).column("val/loss")
        assert losses[12] < losses[4]


def test_values_that_a_module_logs_are_in_the_row_of_their_step(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, validate = LanguageModeling.training_step, LanguageModeling.validation_step

    def training_step(self: LanguageModeling, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.log("train/x", self.trainer.global_step + 1.0)
        return train(self, batch, batch_idx)

    def validation_step(self: LanguageModeling, batch: Batch, batch_idx: int) -> None:
        self.log_dict({"val/y": self.trainer.global_step * 10.0}, batch_size=len(batch.inputs))
        validate(self, batch, batch_idx)

    monkeypatch.setattr(LanguageModeling, "training_step", training_step)
    monkeypatch.setattr(LanguageModeling, "validation_step", validation_step)
    run = Run(Plan(tmp_path), tokens).fit()
    assert run.column("train/x") == {step: step for step in (2, 4, 6, 8, 10, 12)}
    assert run.column("val/y") == {4: 40, 8: 80, 12: 120}
    assert all(row["train/loss"] if row["train/x"] else row["val/y"] for row in run.rows())
    assert all(float(row["epoch"]) > 0 for row in run.rows())
