"""Crafted checkpoints are refused with a message and exit code 2."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.errors import UserError
from tests.app.tiny_runs import TINY
from tests.outcomes import refused

Run = Callable[..., object]
Content = dict[str, Any]


def weight(content: Content, change: Callable[[torch.Tensor], Any], name: str = "ln_f.bias") -> None:
    content["state_dict"][name] = change(content["state_dict"][name])


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def shared(depth: int) -> list[Any]:
    """A list that contains the next twice, and so on: a few bytes for 2^depth values."""
    value: list[Any] = [1]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.fixture
def crafted(tiny_run: Path, workplace: Path) -> Callable[..., Path]:
    """Write a changed copy of a run's checkpoint."""

    def craft(change: Callable[[Content], object], name: str = "best.ckpt") -> Path:
        content = torch.load(tiny_run / "checkpoints" / name, weights_only=True)
        change(content)
        torch.save(content, workplace / "crafted.ckpt")
        return workplace / "crafted.ckpt"

    return craft


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: weight(c, torch.Tensor.to_sparse), "sparse_coo tensor on cpu"),
        (lambda c: weight(c, lambda t: t.to("meta")), "tensor on meta"),
        (lambda c: weight(c, lambda t: torch.zeros(1).expand(t.shape)), "repeats the elements"),
        (lambda c: weight(c, lambda t: t.to(torch.complex64)), "the tensors are torch.complex64"),
        (lambda c: weight(c, lambda t: t.half()), "the tensors are torch.float16, torch.float32"),
        (lambda c: c["state_dict"].update({7: torch.zeros(1)}), "7 is of type Tensor"),
        (lambda c: c["state_dict"].update({"ln_f.bias": 1.0}), "'ln_f.bias' is of type float"),
        (lambda c: c["gpt2_lightning"]["model"].update(n_embd=32.0), "n_embd: 32.0 is not an integer"),
        (lambda c: c["gpt2_lightning"]["model"].update(n_layer=10_000_000), "10,000,000 blocks do not fit"),
        (lambda c: c["gpt2_lightning"]["model"].update(n_embd=10**30, n_head=7), "is not divisible by n_head=7"),
        (lambda c: c["gpt2_lightning"]["model"].update(block_size=10**15, n_embd=10**15), "too large"),
        (lambda c: c["gpt2_lightning"].update(tokenizer_hash="f" * 64), "its tokenizer has the hash"),
        (lambda c: c["gpt2_lightning"].update(tokenizer=nested(100_000)), "nested too deeply"),
        (lambda c: c.update(more=deep(200)), "nested more than 100 deep"),
        (lambda c: c.update(more=shared(40)), "more than 1,000,000 values"),
    ],
    ids=[
        *("sparse", "meta", "expanded", "complex", "two dtypes", "integer key", "number for tensor", "float width"),
        *("blocks", "width", "context", "tokenizer hash", "nested tokenizer", "nested lists", "shared lists"),
    ],
)
def test_generating_from_a_crafted_checkpoint_is_refused(
    run_verb: Run, crafted: Callable[..., Path], change: Callable[[Content], object], message: str
) -> None:
    start = time.monotonic()
    refused(run_verb("generate", f"checkpoint={crafted(change)}"), message)
    assert time.monotonic() - start < 20


def test_every_flipped_bit_of_a_checkpoint_is_refused(tiny_run: Path, workplace: Path) -> None:
    """Except in the few bytes that no reader interprets, where the content is unchanged."""
    original = (tiny_run / "checkpoints" / "best.ckpt").read_bytes()
    intact = files.read(tiny_run / "checkpoints" / "best.ckpt")
    dice, path, unchanged = random.Random(0), workplace / "flipped.ckpt", 0
    for _ in range(300):
        flipped = bytearray(original)
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        try:
            found = files.read(path)
        except UserError:
            continue
        unchanged += 1
        for name, tensor in intact["state_dict"].items():
            assert torch.equal(found["state_dict"][name], tensor)
        assert found["gpt2_lightning"] == intact["gpt2_lightning"]
    assert unchanged < 30


def shrink_adam(content: Content) -> None:
    for state in content["optimizer_states"][0]["state"].values():
        state["exp_avg"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shrink_adam, "exp_avg: has shape [1], needs"),
        (lambda c: c["optimizer_states"][0].update(param_groups=[]), "param_groups: they do not hold"),
        (lambda c: c["loops"]["fit_loop"].update(epoch_progress=7), "loops.fit_loop.epoch_progress"),
        (lambda c: c["callbacks"].update(dict.fromkeys(c["callbacks"], 3)), "callbacks."),
        (lambda c: weight(c, lambda t: t.unsqueeze(0)), "ln_f.bias"),
        (lambda c: c["random_states"][0].update(cpu=torch.zeros(1)), "random_states"),
        (
            lambda c: [c.pop(name) for name in ("loops", "optimizer_states")],
            "optimizer_states: missing",
        ),
        (lambda c: c["gpt2_lightning"].update(run_config={}), "does not state the optimizer"),
        (lambda c: c.update({"pytorch-lightning_version": "abc"}), "pytorch-lightning_version: 'abc' is not 2.x"),
    ],
    ids=["adam", "groups", "loops", "callbacks", "weights", "random states", "entries", "run_config", "version"],
)
def test_a_crafted_training_state_is_refused_on_resume_and_leaves_no_run(
    run_verb: Run,
    workplace: Path,
    crafted: Callable[..., Path],
    small_text: Path,
    change: Callable[[Content], object],
    message: str,
) -> None:
    path = crafted(change, "step-000012.ckpt")
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "trainer.max_steps=20", f"resume={path}")
    refused(outcome, message)
    assert not (workplace / "runs").exists()
