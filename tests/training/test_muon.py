from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.training.optimizers import Muon, NorMuon, muon, orthogonalization
from gpt2_lightning.training.optimizers.muon import MuonAdamW
from gpt2_lightning.training.optimizers.orthogonalization import orthogonalize
from gpt2_lightning.training.optimizers.parameter_groups import matrices_in_blocks
from gpt2_lightning.training.schedules import Linear
from gpt2_lightning.training.strategies.fsdp import require_sharding_support
from tests.training.kernel_launches import launches
from tests.training.short_run import Plan, Run, same_tensors

Train = Callable[..., Run]
WIDTH = 21
SHAPE = {"vocab_size": 13, "block_size": 5, "n_layer": 2, "n_head": 3, "n_embd": WIDTH}
LAST = "step-000012.ckpt"
SETTINGS = [
    {},
    {"momentum": 0.7, "nesterov": False, "ns_steps": 3, "muon_weight_decay": 0.0},
    {"adjust_lr_fn": "match_rms_adamw", "muon_lr": 1e-3, "betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.3},
]


def network(**settings: Any) -> GPT2:
    torch.manual_seed(0)
    return GPT2(GPT2Config(**{**SHAPE, **settings}))


def give_gradients(parameters: Iterator[Tensor] | list[Tensor], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def algorithms(model: nn.Module) -> dict[str, str]:
    """What steps each trained parameter, by name."""
    of = {id(p): g["algorithm"] for g in Muon(lr=1e-3).build(model).param_groups for p in g["params"]}
    return {name: of[id(p)] for name, p in model.named_parameters() if p.requires_grad}


def in_a_block(name: str) -> bool:
    return name.removeprefix("transformer.").startswith("h.")


@pytest.mark.parametrize("tied_head", [True, False])
def test_matrices_of_the_blocks_are_muons_and_all_else_is_adamws(tied_head: bool) -> None:
    model = network(tied_head=tied_head)
    counts = Counter(id(p) for group in Muon(lr=1e-3).build(model).param_groups for p in group["params"])
    assert counts == {id(p): 1 for p in model.parameters()}
    for name, algorithm in algorithms(model).items():
        is_muons = in_a_block(name) and name.endswith(".weight") and "ln_" not in name
        assert algorithm == ("muon" if is_muons else "adamw"), name


def test_a_classifiers_head_is_adamws() -> None:
    found = algorithms(Classifier(network(), labels=2))
    assert found["score.weight"] == "adamw"
    assert found["transformer.h.1.mlp.c_fc.weight"] == "muon"


def test_what_is_frozen_is_left_alone_and_adapters_train() -> None:
    model = network()
    add_lora(model, LoRASpec(rank=2, targets=("qkv", "mlp_up", "head")))
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert {name: a for name, a in algorithms(model).items() if not in_a_block(name)} == {
        f"lm_head.adapters.default.lora_{which}.head": "adamw" for which in "AB"
    }
    optimizer = Muon(lr=1e-3).build(model)
    give_gradients(model.parameters(), seed=1)
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_" in name), name


@pytest.mark.parametrize("settings", SETTINGS)
def test_steps_equal_those_of_torchs_muon_and_adamw(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    """Each alone, and queries, keys and values as parameters of their own, in torch's dtype on every processor."""
    monkeypatch.setattr(orthogonalization, "_compute_dtype", lambda device: torch.bfloat16)
    spec = Muon(lr=3e-3, **settings)
    ours, theirs = network(tied_head=False), network(tied_head=False)
    optimizer = spec.build(ours)
    parts: list[Tensor] = []
    matrices, others = {}, {}
    for name, parameter in theirs.named_parameters():
        if name.endswith("attn.c_attn.weight"):
            matrices[name] = [part.clone() for part in parameter.detach().split(WIDTH)]
        elif in_a_block(name) and parameter.dim() == 2:
            matrices[name] = [parameter.detach()]
        else:
            others[name] = parameter
    parts = [part for several in matrices.values() for part in several]
    muon = torch.optim.Muon(
        parts,
        lr=spec.muon_lr,
        weight_decay=spec.muon_weight_decay,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        ns_steps=spec.ns_steps,
        adjust_lr_fn=spec.adjust_lr_fn,
    )
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in others.values() if p.dim() == 2], "weight_decay": spec.weight_decay},
            {"params": [p for p in others.values() if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=spec.lr,
        betas=spec.betas,
        eps=spec.eps,
        fused=True,
    )
    for step in range(3):
        give_gradients(ours.parameters(), seed=step)
        for name, parameter in ours.named_parameters():
            assert parameter.grad is not None
            if name in others:
                others[name].grad = parameter.grad.clone()
            else:
                for part, gradient in zip(matrices[name], parameter.grad.chunk(len(matrices[name])), strict=True):
                    part.grad = gradient.clone()
        optimizer.step()
        muon.step()
        adamw.step()
    for name, parameter in ours.named_parameters():
        expected = others[name] if name in others else torch.cat(matrices[name])
        assert torch.equal(parameter, expected), name


def test_queries_keys_and_values_each_move_in_all_directions() -> None:
    """Their gradients differ a thousandfold in size, and each third of the step is orthogonal nevertheless."""
    model = network()
    weight = model.h[0].attn.c_attn.weight
    before = weight.detach().clone()
    optimizer = Muon(lr=1e-3, muon_lr=1.0, muon_weight_decay=0.0).build(model)
    weight.grad = torch.randn(3 * WIDTH, WIDTH) * torch.tensor([1.0, 1e-3, 1e-6]).repeat_interleave(WIDTH).unsqueeze(1)
    optimizer.step()
    for third in (before - weight.detach()).split(WIDTH):
        values = torch.linalg.svdvals(third)
        assert values.median() > 0.6, "a share of the directions may stay small: gradients are ill-conditioned"
        assert values.max() < 1.3


def test_normuon_divides_each_row_by_the_root_of_its_mean_square() -> None:
    """Written out for each matrix, in comparison with steps whose gradients differ in size between rows."""
    spec = NorMuon(lr=1e-3, muon_lr=0.1, muon_weight_decay=0.0, momentum=0.0, nesterov=False, row_beta2=0.8)
    model = network()
    optimizer = spec.build(model)
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if in_a_block(name) and p.dim() == 2}
    means = dict.fromkeys(weights, torch.tensor(0.0))
    rows_are_equal = {}
    for step in range(3):
        give_gradients(model.parameters(), seed=step)
        for name, parameter in model.named_parameters():
            if name in weights:
                assert parameter.grad is not None
                parameter.grad *= torch.logspace(0, -2, len(parameter))[:, None]
                parts = parameter.grad.chunk(3 if "c_attn" in name else 1)
                update = torch.cat([orthogonalize(part[None], 5)[0].float() for part in parts])
                height, width = parts[0].shape
                if step == 0:
                    means[name] = torch.full((len(parameter),), 1 / max(height, width))
                means[name] = 0.8 * means[name] + 0.2 * update.square().mean(1)
                update = update / means[name].sqrt()[:, None] / max(height, width) ** 0.5
                weights[name] -= 0.1 * max(1, height / width) ** 0.5 * update
                rows_are_equal[name] = float(update.norm(dim=1).std() / update.norm(dim=1).mean())
        optimizer.step()
    for name, expected in weights.items():
        torch.testing.assert_close(model.get_parameter(name).detach(), expected, atol=2e-5, rtol=1e-4, msg=name)
    assert rows_are_equal["h.0.mlp.c_fc.weight"] > 0.01, "the means are of several steps"
    plain = network()
    without = Muon(lr=1e-3, muon_lr=0.1, muon_weight_decay=0.0, momentum=0.0, nesterov=False).build(plain)
    give_gradients(plain.parameters(), seed=0)
    without.step()
    assert (plain.h[0].mlp.c_fc.weight - weights["h.0.mlp.c_fc.weight"]).abs().max() > 0.01


@pytest.mark.parametrize("spec", [Muon(lr=1e-3), NorMuon(lr=1e-3)])
def test_a_state_that_is_loaded_goes_on_bit_for_bit(tmp_path: Path, spec: Muon) -> None:
    one, other = network(), network()
    first, second = (spec.build(model) for model in (one, other))
    for step in range(3):
        give_gradients(one.parameters(), seed=step)
        first.step()
    torch.save({"model": one.state_dict(), "optimizer": first.state_dict()}, tmp_path / "saved")
    saved = torch.load(tmp_path / "saved", weights_only=True)
    other.load_state_dict(saved["model"])
    second.load_state_dict(saved["optimizer"])
    for model, optimizer in ((one, first), (other, second)):
        give_gradients(model.parameters(), seed=9)
        optimizer.step()
    assert same_tensors(first.state_dict(), second.state_dict())
    assert same_tensors(one.state_dict(), other.state_dict())


def plan_of(folder: Path, **trainer: Any) -> Plan:
    return Plan(folder, optimizer=Muon(lr=1e-2, muon_lr=0.05), schedule=Linear(warmup_steps=3), trainer=trainer)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_equals_an_uninterrupted_one(train: Train, tmp_path: Path, precision: str) -> None:
    whole = train(plan_of(tmp_path / "whole", precision=precision))
    checkpoint = tmp_path / "whole" / "checkpoints" / "step-000006.ckpt"
    resumed = train(plan_of(tmp_path / "resumed", precision=precision), resume=checkpoint)
    ours, theirs = resumed.checkpoint(LAST), whole.checkpoint(LAST)
    for part in ("state_dict", "optimizer_states"):
        assert same_tensors(ours[part], theirs[part]), part
    losses = list(whole.column("val/loss").values())
    assert losses[-1] < losses[0]


def test_the_schedule_scales_both_rates_and_both_are_logged(train: Train, tmp_path: Path) -> None:
    run = train(plan_of(tmp_path))
    schedule = Linear(warmup_steps=3)
    factors = {step: schedule.factor(step - 1, 12) for step in (2, 4, 6, 8, 10, 12)}
    assert run.column("lr") == pytest.approx({step: 1e-2 * factor for step, factor in factors.items()})
    assert run.column("muon_lr") == pytest.approx({step: 0.05 * factor for step, factor in factors.items()})


def test_a_resumed_run_takes_its_settings_from_the_configuration(train: Train, tmp_path: Path) -> None:
    train(plan_of(tmp_path))
    plan = dataclasses.replace(plan_of(tmp_path), optimizer=Muon(lr=1e-2, muon_lr=0.5, momentum=0.5, ns_steps=2))
    run = train(plan, resume=tmp_path / "checkpoints" / "step-000006.ckpt")
    assert run.column("muon_lr")[8] == pytest.approx(0.5 * Linear(warmup_steps=3).factor(7, 12))
    (state,) = run.checkpoint(LAST)["optimizer_states"]
    assert {(g["momentum"], g["ns_steps"]) for g in state["param_groups"] if g["algorithm"] == "muon"} == {(0.5, 2)}


def test_an_optimizer_of_unsharded_matrices_is_refused_under_fsdp() -> None:
    class Unsharded(Muon):
        supports_sharding = False

    require_sharding_support(Muon(lr=1e-3))
    with pytest.raises(UserError, match=r"optimizer: Unsharded .* fsdp and hsdp shard them"):
        require_sharding_support(Unsharded(lr=1e-3))


def test_a_state_of_an_earlier_version_keeps_its_coefficients() -> None:
    model = network()
    saved = Muon(lr=1e-3).build(model).state_dict()
    for group in saved["param_groups"]:
        group.pop("ns_coefficients", None)
    optimizer = Muon(lr=1e-3, ns_coefficients="polar_express").build(model)
    optimizer.load_state_dict(saved)
    found = {group["algorithm"]: group.get("ns_coefficients") for group in optimizer.param_groups}
    assert found == {"muon": "jordan", "adamw": None}
    give_gradients(model.parameters(), seed=1)
    optimizer.step()


def test_stacks_are_split_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    models = network(), network()
    for model, most in zip(models, (muon._MOST_ELEMENTS, 1), strict=True):
        monkeypatch.setattr(muon, "_MOST_ELEMENTS", most)
        optimizer = Muon(lr=1e-3).build(model)
        give_gradients(model.parameters(), seed=1)
        optimizer.step()
    torch.testing.assert_close(dict(models[0].state_dict()), dict(models[1].state_dict()), atol=1e-4, rtol=0)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    model = network()
    optimizer = Muon(lr=1e-3).build(model)
    give_gradients(model.parameters(), seed=1)
    weight = model.h[1].attn.c_attn.weight
    weight.grad, before = None, weight.detach().clone()
    optimizer.step()
    assert torch.equal(weight, before)
    assert weight not in optimizer.state


def test_a_step_of_124m_launches_fewer_than_a_tenth_of_the_kernels_of_torchs() -> None:
    with FakeTensorMode():
        model = GPT2(GPT2Config())
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        stacked = Muon(lr=1e-3).build(model)
        in_blocks = matrices_in_blocks(model)
        thirds = [part.detach() for parameter, parts in in_blocks.items() for part in parameter.chunk(parts)]
        for part in thirds:
            part.grad = torch.empty_like(part)
        one_by_one = torch.optim.Muon(thirds)
        adamw = torch.optim.AdamW([p for p in model.parameters() if p not in in_blocks], fused=True)
        for optimizer in (stacked, one_by_one, adamw):
            optimizer.step()  # which creates the state
        ours = launches(stacked.step)
        theirs = launches(one_by_one.step) + launches(adamw.step)
    assert len(thirds) == 72
    assert ours < 130
    assert theirs > 1600


def test_a_closure_is_computed_with_gradients() -> None:
    model = network()
    optimizer = Muon(lr=1e-3).build(model)
    assert isinstance(optimizer, MuonAdamW)

    def closure() -> Tensor:
        loss = model(torch.tensor([[1, 2, 3]])).sum()
        loss.backward()
        return loss.detach()

    assert optimizer.step(closure) is not None
    assert model.h[0].mlp.c_fc.weight.grad is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [("muon_lr", 0.0), ("muon_lr", float("inf")), ("muon_weight_decay", -0.1), ("momentum", 1.0), ("ns_steps", 0)],
)
def test_settings_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}: {value} is out of range"):
        Muon(**{"lr": 1e-3, field: value})


def test_all_faults_of_both_algorithms_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"^lr: .*\neps: .*\nmuon_lr: .*\nmomentum: "):
        Muon(lr=0, eps=0, muon_lr=0, momentum=2)
