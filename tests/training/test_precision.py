"""Number formats: what is held in which, what trains, what is skipped, and what a device cannot do."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.generation import Sampling
from gpt2_lightning.generation.decoder import generate
from gpt2_lightning.model import GPT2, cross_entropy
from gpt2_lightning.training import precision
from gpt2_lightning.training.precision import Float16, Precision, TensorFloat32
from gpt2_lightning.training.trainer import TrainerSpec
from tests.training.short_run import CONFIG, Plan, Run, same_tensors

Train = Callable[..., Run]
MIXED: list[Precision] = ["fp32", "bf16", "fp16"]


class GradientNorm(L.Callback):
    """Notes the norm of the gradients with which the last step was made."""

    found = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        gradients = [p.grad.double() for p in module.model.parameters() if p.grad is not None]
        self.found = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))


class Overflow(L.Callback):
    """Lets a gradient be infinite in the steps that are named, from 1."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.before: dict[str, torch.Tensor] = {}
        self.unchanged: list[int] = []

    def on_after_backward(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step + 1 in self.steps:
            module.model.h[1].mlp.c_fc.weight.grad[0, 0] = math.inf

    def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.before = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}

    def on_before_zero_grad(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        if self.before and same_tensors(self.before, dict(module.model.state_dict())):
            self.unchanged.append(trainer.global_step)


def run_in(train: Train, folder: Path, name: Precision, *callbacks: L.Callback, **settings: Any) -> Run:
    trainer = {"precision": name, "log_every_n_steps": 1, **settings}
    return train(Plan(folder, trainer=trainer, micro_batch_size=3, callbacks=callbacks))


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "bf16_true"])
def test_every_precision_learns_with_clipping_and_the_fused_optimizer(
    train: Train, tmp_path: Path, name: Precision
) -> None:
    clipped = GradientNorm()
    run = run_in(train, tmp_path / name, name, clipped, gradient_clip_val=0.1)
    exact = run_in(train, tmp_path / "exact", "fp32", gradient_clip_val=0.1)
    assert run.trainer.optimizers[0].defaults["fused"]
    coarse = name == "bf16_true"
    assert clipped.found == pytest.approx(0.1, rel=1e-2 if coarse else 1e-4)
    assert run.column("grad_norm")[1] == pytest.approx(exact.column("grad_norm")[1], rel=2e-2)
    assert run.column("val/loss") == pytest.approx(exact.column("val/loss"), abs=0.03)
    assert (run.column("val/loss") == exact.column("val/loss")) == (name == "fp32"), "it was in use"
    assert run.column("val/loss")[12] < run.column("val/loss")[4]
    dtype = torch.bfloat16 if coarse else torch.float32
    assert {parameter.dtype for parameter in run.model.parameters()} == {dtype}
    moments = [state["exp_avg"] for state in run.trainer.optimizers[0].state.values()]
    assert {moment.dtype for moment in moments} == {dtype}


def test_steps_with_gradients_that_are_not_finite_are_skipped_counted_and_told(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overflow = Overflow(3, 4, 9)
    with caplog.at_level(logging.INFO, logger="gpt2_lightning"):
        run = run_in(train, tmp_path, "fp16", overflow)
    assert overflow.unchanged == [3, 4, 9]
    counts = run.column("skipped_steps")
    assert [counts[step] for step in range(1, 13)] == [0, 0, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3]
    assert "3 of 12 steps were skipped, since their gradients were not finite in float16" in caplog.text
    plugin = run.trainer.precision_plugin
    assert isinstance(plugin, Float16)
    assert plugin.scaler.get_scale() == 2**16 / 2**3
    steps = {float(state["step"]) for state in run.trainer.optimizers[0].state.values()}
    assert steps == {9.0}, "Adam counts the steps that it took"


def test_only_float16_speaks_of_skipped_steps(train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="gpt2_lightning"):
        run = run_in(train, tmp_path / "bf16", "bf16")
        run_in(train, tmp_path / "fp16", "fp16")
    assert "skipped_steps" not in run.rows()[0]
    assert "were skipped" not in caplog.text


@pytest.mark.parametrize("name", ["fp16", "bf16_true"])
def test_a_resumed_run_equals_an_uninterrupted_one(train: Train, tmp_path: Path, name: Precision) -> None:
    callbacks = (Overflow(3, 9),) if name == "fp16" else ()
    whole = run_in(train, tmp_path / "whole", name, *callbacks)
    plan = Plan(tmp_path / "again", trainer={"precision": name, "log_every_n_steps": 1}, micro_batch_size=3)
    resumed = train(
        Plan(**{**vars(plan), "callbacks": callbacks}), resume=tmp_path / "whole" / "checkpoints" / "step-000006.ckpt"
    )
    parts = ["state_dict", "optimizer_states", *(["Float16"] if name == "fp16" else [])]
    for part in parts:
        last = "step-000012.ckpt"
        assert same_tensors(resumed.checkpoint(last)[part], whole.checkpoint(last)[part]), part
    if name == "fp16":
        assert resumed.column("skipped_steps")[12] == 2


@pytest.mark.parametrize(("before", "after"), [("fp32", "bf16_true"), ("bf16_true", "fp32"), ("fp16", "bf16")])
def test_a_run_goes_on_in_another_precision(train: Train, tmp_path: Path, before: Precision, after: Precision) -> None:
    first = run_in(train, tmp_path / "first", before)
    checkpoint = tmp_path / "first" / "checkpoints" / "step-000008.ckpt"
    second = train(Plan(tmp_path / "second", trainer={"precision": after}), resume=checkpoint)
    assert second.column("val/loss")[12] < first.column("val/loss")[8]
    dtype = torch.bfloat16 if after == "bf16_true" else torch.float32
    assert {parameter.dtype for parameter in second.model.parameters()} == {dtype}


def test_checkpoints_of_bf16_true_hold_bfloat16_and_generate(train: Train, tmp_path: Path) -> None:
    run = run_in(train, tmp_path, "bf16_true")
    model, _ = load_model(tmp_path / "checkpoints" / "step-000012.ckpt", torch.device("cpu"))
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}
    assert len(list(generate(model, torch.tensor([1, 2]), Sampling(max_new_tokens=9)))) == 9
    ids = torch.from_numpy(run.data.corpora[0].val.slice(0, 57)).long()
    losses = cross_entropy(model(ids[:-1].view(-1, 7)), ids[1:].view(-1, 7)).item()
    tail = len(run.data.corpora[0].val) - 57
    assert tail < 7, "nearly all of the validation text"
    assert run.column("val/loss")[12] == pytest.approx(losses, rel=0.02)


def test_tf32_is_allowed_for_as_long_as_the_trainer_is_at_work(train: Train, tmp_path: Path) -> None:
    run = train(Plan(tmp_path / "once", max_steps=1))
    before, seen = torch.get_float32_matmul_precision(), []

    class Watch(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(torch.get_float32_matmul_precision())

        def on_validation_start(self, *_: Any) -> None:
            raise ValueError("a fault in the middle")

    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=2,
        plugins=[TensorFloat32()],
        callbacks=[Watch()],
        val_check_interval=1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(ValueError, match="in the middle"):
        trainer.fit(run.module, datamodule=run.data)
    assert seen == ["high"]
    assert torch.get_float32_matmul_precision() == before == "highest"


def test_tf32_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r"precision: tf32 is for NVIDIA GPUs .* not for this CPU; use fp32 or bf16"):
        TrainerSpec(precision="tf32", accelerator="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bf16", "precision: this GPU has no bfloat16; use fp16 or fp32"),
        ("bf16_true", "precision: this GPU has no bfloat16; use fp16 or fp32"),
        ("tf32", "precision: tf32 is for NVIDIA GPUs from Ampere on, and not for this GPU; use fp32 or bf16"),
    ],
)
def test_an_old_gpu_says_what_to_use_instead(name: Precision, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(ValueError, match=message):
        TrainerSpec(precision=name)
    assert TrainerSpec(precision="fp16").computes_in is torch.float16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert TrainerSpec(precision=name).precision == name


def test_apples_gpus_take_no_scaled_loss() -> None:
    assert precision.fault("fp16", "mps") == (
        "precision: fp16 with a scaled loss is for NVIDIA GPUs and CPUs; use bf16 or fp32"
    )


def test_fsdp_takes_no_scaled_loss() -> None:
    with pytest.raises(ValueError, match=r"precision: fp16 .*fsdp"):
        TrainerSpec(precision="fp16", strategy="fsdp", accelerator="cpu", devices=2)


@pytest.mark.parametrize(
    ("capability", "strategy", "chosen", "remark"),
    [
        ((9, 0), "single", "bf16", "bf16, which this GPU supports"),
        ((8, 0), "fsdp", "bf16", "bf16, which this GPU supports"),
        ((7, 5), "single", "fp16", "fp16, since this GPU has no bfloat16"),
        ((7, 0), "ddp", "fp16", "fp16, since this GPU has no bfloat16"),
        ((7, 5), "fsdp", "fp32", "fp32, since this GPU has no bfloat16; fsdp does not support fp16"),
    ],
)
def test_the_default_on_a_gpu_is_the_fastest_that_it_and_the_strategy_support(
    capability: tuple[int, int], strategy: Any, chosen: Precision, remark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    spec = TrainerSpec(accelerator="cuda", strategy=strategy)
    assert spec.resolved_precision == chosen
    assert spec.computes_in is {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[chosen]
    assert spec.precision_remark() == remark


def test_the_default_on_an_apple_gpu_is_bfloat16_where_the_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, chosen in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_, has=has: has)
        assert precision.choose("auto", "mps") == chosen


@pytest.mark.parametrize("has", [True, False])
def test_the_default_on_a_cpu_is_float32_whatever_its_instructions(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    spec = TrainerSpec(accelerator="cpu")
    assert spec.computes_in is None
    assert spec.precision_remark() is None
    assert spec.build(1, 1, [], []).precision == "32-true"
    remark = TrainerSpec(precision="bf16", accelerator="cpu").precision_remark()
    assert remark == (None if has else "bf16, for which this CPU lacks instructions: fp32 may be faster")


def test_a_network_that_was_made_before_keeps_its_weights(train: Train, tmp_path: Path) -> None:
    """bf16_true rounds the initial weights of the other precisions."""
    run = train(Plan(tmp_path, max_steps=1, trainer={"precision": "bf16_true", "gradient_clip_val": 1e-9}))
    torch.manual_seed(0)
    for name, tensor in GPT2(CONFIG).state_dict().items():
        assert (run.model.state_dict()[name].float() - tensor).abs().max() < 0.02, name
