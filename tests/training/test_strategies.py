"""What ddp and fsdp communicate, and in which mode, by one process as rank zero of several that do not exist."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.gpt2 import Block
from gpt2_lightning.training import distributed
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.performance.compilation import compile_blocks
from gpt2_lightning.training.strategies import placement
from gpt2_lightning.training.trainer import TrainerSpec
from tests.training.fake_ranks import FakeRanks, fake_ranks
from tests.training.process_environment import TORCHRUN, set_environment
from tests.training.short_run import CONFIG, Plan, Run, same_tensors
from tests.training.two_processes import on_processes

__all__ = ["fake_ranks"]
Train = Callable[..., Run]
UNITS = CONFIG.n_layer + 1
"""Units that fsdp shards: the blocks, and all else."""
needs_results = pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 13),
    reason="the fake process group of this torch leaves results uninitialized, so that the validation loss is NaN",
)
SYNCHRONIZING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")
"""Operations that wait for the values of a tensor."""


class Calls(TorchDispatchMode):
    """Counts operations and collectives."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **kwargs or {})


class ByStep(L.Callback):
    """Keeps what was called until the beginning of each step, and of the last."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.until: dict[int, Counter[str]] = {}

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.until.setdefault(trainer.global_step, self.calls.counts.copy())

    def during(self, step: int) -> Counter[str]:
        return self.until[step + 1] - self.until[step]


def calls_of_a_step(
    train: Train, folder: Path, accumulate: int = 2, world_size: int = 4, **trainer: Any
) -> Counter[str]:
    """What is called from the beginning of a step, in which nothing is logged or saved, to that of the next."""
    rarely = {"val_check_interval": 99, "log_every_n_steps": 99, **trainer}
    calls = Calls()
    by_step = ByStep(calls)
    plan = Plan(
        folder,
        max_steps=4,
        batch_size=world_size * accumulate,
        micro_batch_size=1,
        trainer=rarely,
        checkpointing={"every_n_steps": 99},
        callbacks=[by_step],
    )
    with calls:
        train(plan)
    return by_step.during(1)


def synchronizations(calls: Counter[str]) -> int:
    return sum(calls[name] for name in SYNCHRONIZING)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_that_logs_nothing_waits_for_no_value(precision: str, train: Train, tmp_path: Path) -> None:
    calls = calls_of_a_step(train, tmp_path, world_size=1, accumulate=3, precision=precision)
    assert calls["_fused_adamw_"] == 2, "of matrices, and of vectors"
    assert synchronizations(calls) == 0


@needs_results
def test_ranks_wait_for_one_value_in_a_step_and_it_is_on_the_cpu(
    train: Train, fake_ranks: FakeRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Signals` agrees on whether to stop; Lightning's own broadcast before each micro-batch would wait for the GPU."""
    with monkeypatch.context() as before:
        before.setattr(_TrainingEpochLoop, "__setattr__", refuse("_broadcast_sigterm_tensor"))
        fake_ranks.start(machines=1, per_machine=4)
        broadcasts = calls_of_a_step(train, tmp_path / "before", strategy="fsdp")
    ours = calls_of_a_step(train, tmp_path / "ours", strategy="fsdp")
    assert (broadcasts["broadcast_"], synchronizations(broadcasts)) == (2, 3)
    assert (ours["broadcast_"], synchronizations(ours)) == (0, 1)


def refuse(name: str) -> Callable[[Any, str, Any], None]:
    """`__setattr__` that does not set one attribute."""

    def set_others(self: Any, attribute: str, value: Any) -> None:
        if attribute != name:
            object.__setattr__(self, attribute, value)

    return set_others


@needs_results
@pytest.mark.parametrize(
    ("trainer", "gathers"),
    [
        # In each of two micro-batches all units are gathered, and the blocks once more for the backward pass.
        ({"strategy": "fsdp"}, 2 * (UNITS + CONFIG.n_layer)),
        ({"strategy": "fsdp", "reshard_after_forward": False}, UNITS),
        ({"strategy": "hsdp"}, 2 * (UNITS + CONFIG.n_layer)),
    ],
    ids=["fsdp", "not-resharded", "hsdp"],
)
def test_a_sharded_step_reduces_each_unit_once(
    trainer: dict[str, Any], gathers: int, train: Train, fake_ranks: FakeRanks, tmp_path: Path
) -> None:
    fake_ranks.start(machines=2, per_machine=2)
    calls = calls_of_a_step(train, tmp_path, **trainer)
    assert calls["_reduce_scatter_base_"] == UNITS
    assert calls["_allgather_base_"] == gathers
    over_machines = UNITS if trainer["strategy"] == "hsdp" else 0
    assert calls["allreduce_"] == over_machines + 1  # and the agreement of `Signals`


def test_hsdp_shards_within_a_machine(train: Train, fake_ranks: FakeRanks, tmp_path: Path) -> None:
    fake_ranks.start(machines=4, per_machine=2)
    plan = Plan(tmp_path, max_steps=1, batch_size=8, micro_batch_size=1, trainer={"strategy": "hsdp"})
    weight = dict(train(plan).model.named_parameters())["h.0.mlp.c_fc.weight"]
    assert isinstance(weight, DTensor)
    assert weight.device_mesh.mesh.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert weight.to_local().shape == (2 * CONFIG.n_embd, CONFIG.n_embd)
    assert weight.full_tensor().shape == (4 * CONFIG.n_embd, CONFIG.n_embd)


class Modes(L.Callback):
    """In which mode a validation runs."""

    def __init__(self) -> None:
        self.inference: list[bool] = []

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert not torch.is_grad_enabled()
        self.inference.append(torch.is_inference_mode_enabled())


def sharded_run(folder: Path, tokens: Tokens, *callbacks: L.Callback) -> Run:
    """A run that saves a checkpoint of gathered weights after each validation."""
    plan = Plan(folder, max_steps=2, batch_size=8, micro_batch_size=2, trainer={"strategy": "fsdp"})
    return Run(dataclasses.replace(plan, callbacks=callbacks), tokens)


def test_sharded_weights_are_gathered_in_a_validation(tokens: Tokens, fake_ranks: FakeRanks, tmp_path: Path) -> None:
    """Lightning chooses no_grad where the backend is gloo, else by the argument of the Trainer."""
    fake_ranks.start(machines=1, per_machine=2)
    modes = Modes()
    run = sharded_run(tmp_path, tokens, modes).fit()
    run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert modes.inference == [False, False]
    assert {tensor.numel() for tensor in run.checkpoint("step-000002.ckpt")["state_dict"].values()}


def test_sharded_weights_could_not_be_gathered_in_inference_mode(
    tokens: Tokens, fake_ranks: FakeRanks, tmp_path: Path
) -> None:
    fake_ranks.start(machines=1, per_machine=2)
    run = sharded_run(tmp_path, tokens)
    run.trainer.fit_loop.epoch_loop.val_loop.inference_mode = True
    with pytest.raises(RuntimeError, match="version_counter for inference tensor"):
        run.fit()


class EarlierDDP:
    """The arguments of torch 2.10 that matter here."""

    def __init__(
        self, module: nn.Module, broadcast_buffers: bool = True, gradient_as_bucket_view: bool = False
    ) -> None:
        raise NotImplementedError


class LaterDDP(EarlierDDP):
    """Those of torch 2.13."""

    def __init__(
        self, module: nn.Module, forward_sync_buffers: bool = True, gradient_as_bucket_view: bool = False
    ) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("of_torch", "expected"),
    [(EarlierDDP, {"broadcast_buffers": False}), (LaterDDP, {"forward_sync_buffers": False})],
    ids=["2.10", "2.13"],
)
def test_ddp_broadcasts_no_buffers_in_any_version_of_torch(
    of_torch: type, expected: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, TORCHRUN)
    monkeypatch.setattr(placement, "DistributedDataParallel", of_torch)
    strategy = TrainerSpec(accelerator="cpu", strategy="ddp").lightning_strategy(None)
    assert isinstance(strategy, DDPStrategy)
    assert strategy._ddp_kwargs == {"gradient_as_bucket_view": True, **expected}


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own code
@pytest.mark.parametrize("split", [True, False], ids=["torch's default", "ours"])
def test_a_compiled_block_is_one_graph_under_ddp(
    split: bool, fake_ranks: FakeRanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch would compile a block that is larger than a bucket in parts."""
    fake_ranks.start(machines=1, per_machine=2)
    graphs = CompileCounter()
    monkeypatch.setattr(Block, "compile", lambda block, mode: nn.Module.compile(block, backend=graphs))
    torch._dynamo.reset()
    model = GPT2(dataclasses.replace(CONFIG, n_embd=192))
    with torch._dynamo.config.patch(optimize_ddp=True):
        compile_blocks(model, True)
        if split:
            torch._dynamo.config.optimize_ddp = True
        network = DistributedDataParallel(model, bucket_cap_mb=1)
        network(torch.zeros(1, 4, dtype=torch.long))
    torch._dynamo.reset()
    assert graphs.frame_count > 1 if split else graphs.frame_count == 1


def plan_of_eight(folder: Path, micro_batch_size: int, **trainer: Any) -> Plan:
    """Eight rows a step. A large eps keeps Adam from making steps of the rounding of gradients that are zero."""
    optimizer = AdamW(lr=0.1, eps=0.01)
    return Plan(folder, batch_size=8, micro_batch_size=micro_batch_size, optimizer=optimizer, trainer=trainer)


def hybrid(folder: Path, **trainer: Any) -> Plan:
    return plan_of_eight(folder, 1, strategy="hsdp", **trainer)


def on_two_machines(tokens: Tokens, folder: Path) -> None:
    """What four ranks do as if they were two on each of two machines."""
    rank = distributed.rank()
    os.environ.update({"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": str(rank % 2), "GROUP_RANK": str(rank // 2)})
    distributed.join(on_cuda=False, timeout=timedelta(seconds=60))
    Run(hybrid(folder / "sharded"), tokens).fit()
    Run(hybrid(folder / "not-resharded", reshard_after_forward=False), tokens).fit()
    Run(hybrid(folder / "resumed"), tokens).fit(folder / "sharded" / "checkpoints" / "step-000006.ckpt")
    distributed.leave_together()


@pytest.mark.slow
def test_two_machines_with_replicas_learn_the_same_as_one_process(tokens: Tokens, train: Train, tmp_path: Path) -> None:
    """In two micro-batches per rank and step."""
    on_processes(4, on_two_machines, tmp_path / "log", tokens, tmp_path)
    alone = train(plan_of_eight(tmp_path / "alone", 8))
    checkpoints = {
        name: torch.load(tmp_path / name / "checkpoints" / "step-000012.ckpt", weights_only=True)
        for name in ("sharded", "not-resharded", "resumed")
    }
    for found in checkpoints.values():
        torch.testing.assert_close(found["state_dict"], dict(alone.model.state_dict()), atol=2e-5, rtol=0)
    for part in ("state_dict", "optimizer_states", "TokenDataModule", "global_step"):
        assert same_tensors(checkpoints["resumed"][part], checkpoints["sharded"][part]), part
