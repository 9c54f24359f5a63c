"""Resuming from a checkpoint whose training state is missing, malformed or of other shapes is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.optimizers import AdamW, Muon
from tests.training.short_run import Plan, Run

Train = Callable[..., Run]
Change = Callable[[dict[str, Any]], object]
OPTIMIZERS = {"adamw": AdamW(lr=1e-2), "muon": Muon(lr=1e-2)}


@pytest.fixture(scope="module", params=OPTIMIZERS)
def saved(request: pytest.FixtureRequest, train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, train(Plan(folder, max_steps=4, optimizer=OPTIMIZERS[request.param]))


def resume(train: Train, saved: tuple[str, Run], folder: Path, change: Change) -> None:
    name, run = saved
    checkpoint = copy.deepcopy(run.checkpoint("step-000004.ckpt"))
    change(checkpoint)
    torch.save(checkpoint, folder / "crafted.ckpt")
    train(Plan(folder, max_steps=8, optimizer=OPTIMIZERS[name]), resume=folder / "crafted.ckpt")


def state_of(checkpoint: dict[str, Any], rank: int = 2) -> dict[str, torch.Tensor]:
    """The optimizer's state of the first parameter with as many dimensions."""
    states = checkpoint["optimizer_states"][0]["state"].values()
    return next(state for state in states if max(tensor.dim() for tensor in state.values()) == rank)


def reshaped(index: int, make: Callable[[torch.Tensor], Any]) -> Change:
    def change(checkpoint: dict[str, Any]) -> None:
        for rank in (1, 2):
            state = state_of(checkpoint, rank)
            name = sorted(state)[min(index, len(state) - 1)]  # exp_avg, exp_avg_sq, step; or momentum_buffer
            state[name] = make(state[name])

    return change


def test_an_unchanged_checkpoint_is_resumed(train: Train, saved: tuple[str, Run], tmp_path: Path) -> None:
    resume(train, saved, tmp_path, lambda checkpoint: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reshaped(0, lambda t: t.flatten()[:1].clone()), r"has shape \[1\], needs"),
        (reshaped(0, lambda t: torch.tensor(0.0)), r"has shape \[\], needs"),
        (reshaped(1, lambda t: torch.zeros(2, *t.shape)), r"has shape \[2, .*\], needs"),
        (reshaped(1, lambda t: t.to(torch.int64)), "has dtype int64, needs floating-point"),
        (reshaped(0, lambda t: t.to(torch.complex64)), "has dtype complex64, needs floating-point"),
        (reshaped(2, lambda t: [1.0]), r"\[1.0\] is no tensor"),
        (reshaped(2, lambda t: torch.zeros(9)), r"has shape \[9\], needs"),
    ],
    ids=["short", "scalar", "long", "integers", "complex", "list", "steps"],
)
def test_optimizer_state_that_does_not_fit_its_parameter_is_refused(
    train: Train, saved: tuple[str, Run], tmp_path: Path, change: Change, message: str
) -> None:
    with pytest.raises(UserError, match=r"optimizer_states\.state\.\d+\.\w+: " + message):
        resume(train, saved, tmp_path, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["optimizer_states"].clear(), "optimizer_states: there are 0"),
        (lambda c: c["optimizer_states"][0].pop("state"), "optimizer_states: it has no dict 'state'"),
        (lambda c: c["optimizer_states"][0]["param_groups"].pop(), "param_groups: they do not hold"),
        (lambda c: c["optimizer_states"][0]["param_groups"][0]["params"].pop(), "param_groups: they do not hold"),
        (lambda c: c["optimizer_states"][0]["state"].update({999: {}}), "999 is the number of no parameter"),
        (lambda c: state_of(c).update(other=torch.zeros(1)), "is needed"),
        (lambda c: c.pop("optimizer_states"), "optimizer_states: missing"),
        (lambda c: c.pop("random_states"), "random_states: missing"),
        (lambda c: c["random_states"][0].update(cpu=torch.zeros(3)), "random_states: "),
        (lambda c: c.update(random_states=[7]), "random_states: "),
        (lambda c: c.pop("loops"), "loops: missing"),
        (lambda c: c.update(loops={}), "loops.fit_loop: missing"),
        (lambda c: c["loops"]["fit_loop"]["epoch_loop.batch_progress"].pop("total"), "batch_progress.total: missing"),
        (lambda c: c["loops"]["fit_loop"]["epoch_progress"]["current"].update(ready="x"), "ready: 'x' is no count"),
        (lambda c: c.update(accumulate=0), "accumulate: 0 is out of range"),
        (lambda c: c.update(global_step=-1), "global_step: -1 is no count"),
        (lambda c: c.update(callbacks=3), "callbacks: 3 is no dict"),
        (lambda c: c["callbacks"].update(Metrics={"best_val_loss": "low"}), "best_val_loss: 'low' is no number"),
        (lambda c: c["callbacks"].update(Metrics=[]), r"callbacks.Metrics: \[\] is no dict"),
        (lambda c: c.update(TokenDataModule={"samples_seen": 2.5, "step": 4}), "samples_seen: 2.5 is no count"),
        (lambda c: c.pop("TokenDataModule"), "TokenDataModule: None is no dict"),
        (lambda c: c.update(train_losses=[torch.zeros(2)]), r"train_losses: has shape \[2\]"),
        (lambda c: c["state_dict"].pop("wte.weight"), "model.wte.weight is missing"),
        (lambda c: c["state_dict"].update({7: torch.zeros(2)}), "model.7 is no tensor of this model"),
        (lambda c: c["state_dict"].update({"ln_f.bias": torch.zeros(2)}), r"model.ln_f.bias: has shape \[2\]"),
    ],
)
def test_malformed_training_state_is_refused(
    train: Train, saved: tuple[str, Run], tmp_path: Path, change: Change, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        resume(train, saved, tmp_path, change)
