"""The adapters' arithmetic, what they leave alone, and how they go in and out of a model."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from gpt2_lightning.model import GPT2, GPT2Config, KVCache, cross_entropy
from gpt2_lightning.model.gpt2 import Linear
from gpt2_lightning.model.kernels import KERNELS
from gpt2_lightning.model.lora.adapters import (
    active_adapter,
    adapter_state,
    adapters,
    add_lora,
    base_state,
    load_adapter,
    merge,
    remove_lora,
    set_adapter,
    unmerge,
    using_adapter,
)
from gpt2_lightning.model.lora.layers import TARGETS, LoRALinear, LoRASpec

CONFIG = GPT2Config(vocab_size=23, block_size=13, n_layer=3, n_head=5, n_embd=35)
ALL = LoRASpec(rank=3, alpha=7, targets=("q", "k", "v", "attn_out", "mlp_up", "mlp_down", "head"))
every_kernel = pytest.mark.parametrize("kernels", KERNELS)
every_target = pytest.mark.parametrize("target", TARGETS)


def large_weights(config: GPT2Config = CONFIG) -> GPT2:
    """Random weights, five times their usual size, so that mistakes show."""
    torch.manual_seed(0)
    model = GPT2(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            else:
                parameter.mul_(5)
    return model


def fill(model: GPT2, name: str = "default", seed: int = 3) -> None:
    """Give an adapter's A and B random values, so that it does something."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in adapter_state(model, name).values():
        tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))


def adapted(spec: LoRASpec = ALL, config: GPT2Config = CONFIG) -> GPT2:
    model = large_weights(config)
    add_lora(model, spec)
    fill(model)
    return model


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(23, (2, 11), generator=torch.Generator().manual_seed(1))


def loss_of(model: GPT2, ids: Tensor) -> Tensor:
    return cross_entropy(model(ids)[:, :-1], ids[:, 1:])


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tied_head", [True, False])
def test_a_new_adapter_changes_no_bit(kernels: str, dtype: torch.dtype, tied_head: bool, ids: Tensor) -> None:
    model = large_weights(dataclasses.replace(CONFIG, kernels=kernels, tied_head=tied_head)).to(dtype)
    before = model(ids)
    add_lora(model, dataclasses.replace(ALL, dropout=0.5))
    assert torch.equal(model(ids), before)
    assert torch.equal(model.train()(ids), before)


@every_kernel
@every_target
def test_each_target_adds_its_product_to_its_own_outputs(kernels: str, target: str) -> None:
    """Against the weight that it amounts to, built by hand."""
    model = adapted(LoRASpec(rank=3, alpha=7, targets=[target]), dataclasses.replace(CONFIG, kernels=kernels))
    path = "lm_head" if target == "head" else f"h.1.{TARGETS[target]}"
    layer = model.get_submodule(path)
    assert isinstance(layer, LoRALinear)
    state = adapter_state(model)
    change = 7 / 3 * state[f"{path}.lora_B.{target}"] @ state[f"{path}.lora_A.{target}"]
    weight = layer.weight.clone()
    first, last = {"q": (0, 35), "k": (35, 70), "v": (70, 105)}.get(target, (0, layer.out_features))
    weight[first:last] += change
    x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(2))
    expected = torch.nn.functional.linear(x, weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-4)
    assert (layer(x) - torch.nn.functional.linear(x, layer.weight, layer.bias))[..., first:last].abs().min() > 0


@every_target
def test_every_layer_of_a_target_is_adapted_and_no_other(target: str) -> None:
    model = adapted(LoRASpec(rank=3, targets=[target]))
    found = {path for path, module in model.named_modules() if isinstance(module, LoRALinear)}
    assert found == ({"lm_head"} if target == "head" else {f"h.{i}.{TARGETS[target]}" for i in range(3)})


def test_rank_stabilised_adapters_divide_by_the_root_of_the_rank() -> None:
    assert LoRASpec(rank=16, alpha=8).scale == 0.5
    assert LoRASpec(rank=16, alpha=8, rank_stabilised=True).scale == 2


def test_initial_values_are_kaimings_and_zero() -> None:
    model = GPT2(dataclasses.replace(CONFIG, n_embd=320))
    add_lora(model, LoRASpec(rank=17))
    for name, tensor in adapter_state(model).items():
        if ".lora_B." in name:
            assert (tensor == 0).all()
        else:
            assert 0.95 / 320**0.5 < tensor.abs().max() <= 1 / 320**0.5
            assert tensor.std().item() == pytest.approx((1 / 3 / 320) ** 0.5, rel=0.05)


def test_q_k_and_v_start_from_different_values() -> None:
    model = GPT2(CONFIG)
    add_lora(model, LoRASpec(targets=("q", "k")))
    state = adapter_state(model)
    assert not torch.equal(state["h.0.attn.c_attn.lora_A.q"], state["h.0.attn.c_attn.lora_A.k"])


@every_kernel
def test_only_the_adapter_gets_gradients(kernels: str, ids: Tensor) -> None:
    model = adapted(config=dataclasses.replace(CONFIG, kernels=kernels)).train()
    loss_of(model, ids).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if ".adapters.default." in name}
    assert len(trained) == 2 * (3 * 6 + 1)
    for name, parameter in model.named_parameters():
        if name in trained:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name


def test_kernels_agree_in_logits_and_gradients(ids: Tensor) -> None:
    results = []
    for kernels in KERNELS:
        model = adapted(config=dataclasses.replace(CONFIG, kernels=kernels)).double()
        loss_of(model, ids).backward()
        results.append((model(ids).detach(), [parameter.grad for parameter in model.parameters()]))
    (fused, fused_gradients), *others = results
    assert len(others) == len(KERNELS) - 1
    for logits, gradients in others:
        torch.testing.assert_close(fused, logits, rtol=0, atol=1e-9)
        torch.testing.assert_close(fused_gradients, gradients, rtol=0, atol=1e-9)


def test_training_lowers_the_loss_and_leaves_the_base(ids: Tensor) -> None:
    model = large_weights()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    add_lora(model, ALL)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    start = loss_of(model, ids).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(model, ids).backward()
        optimizer.step()
    assert loss_of(model, ids).item() < start / 2
    after = base_state(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@every_kernel
def test_cached_logits_equal_uncached_at_every_step(kernels: str, ids: Tensor) -> None:
    config = dataclasses.replace(CONFIG, kernels=kernels)
    model = adapted(config=config).double()
    cache = KVCache(config, 2, ids.device, torch.float64)
    end = 0
    for step in (3, 1, 1, 4, 1, 1):
        logits = model(ids[:, end : end + step], cache=cache)
        end += step
        torch.testing.assert_close(logits, model(ids[:, :end])[:, -step:], rtol=0, atol=1e-9)


def test_dropout_is_for_training_and_for_the_addition_alone(ids: Tensor) -> None:
    plain, dropping = adapted(), adapted(dataclasses.replace(ALL, dropout=0.4))
    assert torch.equal(dropping(ids), plain(ids))
    dropping.train()
    assert (dropping(ids) - dropping(ids)).abs().max() > 1e-2
    with using_adapter(dropping, None):
        assert torch.equal(dropping(ids), large_weights()(ids))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tied_head", [True, False])
def test_merged_weights_compute_the_same_and_unmerge_again(dtype: torch.dtype, tied_head: bool, ids: Tensor) -> None:
    config = dataclasses.replace(CONFIG, tied_head=tied_head)
    model = adapted(config=config).to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits = model(ids)
    with using_adapter(model, None):
        assert (model(ids) - logits).abs().max() > 1
    merge(model)
    assert active_adapter(model) is None
    if dtype == torch.float32:
        torch.testing.assert_close(model(ids), logits, rtol=0, atol=1e-3)
    unmerge(model)
    assert active_adapter(model) == "default"
    rounding = {torch.float32: 1e-6, torch.bfloat16: 2**-6}[dtype]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=rounding, msg=name)
    assert model.config == config


def test_a_tied_head_is_adapted_without_its_embedding(ids: Tensor) -> None:
    model = adapted(LoRASpec(targets=["head"]))
    base = large_weights()
    embedding = base.wte.weight.clone()
    assert model.lm_head.weight is model.wte.weight
    assert torch.equal(model.features(ids), base.features(ids))
    logits = model(ids)
    assert (logits - base(ids)).abs().max() > 1
    merge(model)
    assert torch.equal(model.wte.weight, embedding)
    assert model.config.tied_head is False
    torch.testing.assert_close(model(ids), logits, rtol=0, atol=1e-4)
    unmerge(model)
    assert model.lm_head.weight is model.wte.weight
    assert torch.equal(model.wte.weight, embedding)


def test_the_base_keeps_its_names_and_loads_its_checkpoints() -> None:
    base = large_weights()
    model = adapted()
    assert base_state(model).keys() == base.state_dict().keys()
    misfit = model.load_state_dict(base.state_dict(), strict=False)
    assert misfit.unexpected_keys == []
    assert all(".adapters." in key for key in misfit.missing_keys)


@pytest.mark.parametrize("merged", [True, False])
def test_a_model_without_its_adapters_is_plain_again(merged: bool, ids: Tensor) -> None:
    model = adapted()
    if merged:
        merge(model)
    expected = model(ids) if merged else large_weights()(ids)
    remove_lora(model)
    assert torch.equal(model(ids), expected)
    assert not any(isinstance(module, LoRALinear) for module in model.modules())
    assert type(model.h[0].attn.c_attn) is Linear
    plain = GPT2(model.config)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain.eval()(ids), expected)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_several_adapters_are_chosen_by_name(ids: Tensor) -> None:
    specs = {"one": LoRASpec(rank=2, targets=["q", "mlp_up"]), "two": LoRASpec(rank=5, alpha=3, targets=["v", "head"])}
    alone = {}
    for seed, (name, spec) in enumerate(specs.items()):
        model = large_weights()
        add_lora(model, spec, name)
        fill(model, name, seed)
        alone[name] = model(ids)
    alone[None] = large_weights()(ids)
    both = large_weights()
    for seed, (name, spec) in enumerate(specs.items()):
        add_lora(both, spec, name)
        fill(both, name, seed)
    assert adapters(both) == specs
    for name in ("one", None, "two", "one"):
        set_adapter(both, name)
        assert active_adapter(both) == name
        assert torch.equal(both(ids), alone[name])
    with using_adapter(both, "two"):
        assert torch.equal(both(ids), alone["two"])
    assert active_adapter(both) == "one"
    assert not any(parameter.requires_grad for name, parameter in both.named_parameters() if ".two." not in name)
    assert all(parameter.requires_grad for name, parameter in both.named_parameters() if ".two." in name)


def test_an_adapter_alone_moves_to_another_copy_of_its_base(ids: Tensor) -> None:
    model, other = adapted(), large_weights()
    state = {name: tensor.clone() for name, tensor in adapter_state(model).items()}
    assert sum(tensor.numel() for tensor in state.values()) == 3 * 3 * (6 * 35 + 2 * 35 + 2 * 175) + 3 * (35 + 23)
    load_adapter(other, state, ALL, "moved")
    assert adapters(other) == {"moved": ALL}
    assert torch.equal(other(ids), model(ids))


def test_an_adapter_that_does_not_fit_is_told_tensor_by_tensor_and_changes_nothing() -> None:
    state = dict(adapter_state(adapted(LoRASpec(rank=3, targets=["q", "v"]))))
    state["h.0.attn.c_attn.lora_A.q"] = torch.zeros(4, 35)
    state["h.7.attn.c_attn.lora_A.q"] = state.pop("h.1.attn.c_attn.lora_A.q")
    model = large_weights()
    with pytest.raises(ValueError, match="the adapter does not fit") as caught:
        load_adapter(model, state, LoRASpec(rank=3, targets=["q", "v"]))
    assert str(caught.value).splitlines()[1:] == [
        "  h.1.attn.c_attn.lora_A.q: missing",
        "  h.0.attn.c_attn.lora_A.q: has shape (4, 35), needs (3, 35)",
        "  h.7.attn.c_attn.lora_A.q: not part of this adapter on this model",
    ]
    assert adapters(model) == {}
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rank": 0}, "rank: 0 is out of range, 1 or more"),
        ({"alpha": 0.0}, "alpha: 0.0 is out of range"),
        ({"dropout": 1.0}, "dropout: 1.0 is out of range"),
        ({"targets": []}, "targets: none is given; name one or more of q, k, v, qkv"),
        ({"targets": ["q", "query"]}, "targets: 'query' is not one of q, k, v, qkv, attn_out, mlp_up, mlp_down, head"),
        ({"targets": ["q", "q"]}, "targets: a name comes twice in q, q"),
        ({"targets": ["q", "qkv"]}, "targets: qkv adapts q already"),
    ],
)
def test_settings_out_of_range_are_told(change: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        LoRASpec(**change)


def test_all_faults_of_settings_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)rank.*alpha.*dropout.*targets"):
        LoRASpec(rank=0, alpha=-1, dropout=2, targets=[])


def test_misuse_is_told() -> None:
    model = large_weights()
    with pytest.raises(ValueError, match="no adapter is active"):
        merge(model)
    with pytest.raises(ValueError, match="no adapter is merged"):
        unmerge(model)
    add_lora(model, ALL, "one")
    with pytest.raises(ValueError, match="holds an adapter 'one' already"):
        add_lora(model, ALL, "one")
    for name in ("", "a.b", "keys"):
        with pytest.raises(ValueError, match="cannot have the name"):
            add_lora(model, ALL, name)
    with pytest.raises(ValueError, match="holds no adapter 'two'; it holds one"):
        set_adapter(model, "two")
    with pytest.raises(ValueError, match="holds no adapter 'two'; it holds one"):
        adapter_state(model, "two")
    merge(model)
    for forbidden in (lambda: set_adapter(model, None), lambda: add_lora(model, ALL, "two")):
        with pytest.raises(ValueError, match="'one' is merged into the weights; unmerge it first"):
            forbidden()


def test_adapters_work_under_autocast(ids: Tensor) -> None:
    model = adapted().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model, ids)
    loss.backward()
    exact = adapted().train()
    loss_of(exact, ids).backward()
    assert loss.item() == pytest.approx(loss_of(exact, ids).item(), rel=0.05)
    for found, expected in zip(model.parameters(), exact.parameters(), strict=True):
        assert (found.grad is None) == (expected.grad is None)


def test_a_small_adapter_of_the_smallest_gpt2_takes_less_than_three_megabytes() -> None:
    with torch.device("meta"):
        model = GPT2(GPT2Config())
    add_lora(model, LoRASpec(rank=8))
    assert sum(tensor.nbytes for tensor in adapter_state(model).values()) == 12 * 8 * (4 * 768 + 4 * 768) * 4 < 3e6


def test_places_do_not_overlap() -> None:
    """The pairs of q, k and v change different outputs of the same layer."""
    changed = []
    for target in ("q", "k", "v"):
        layer = adapted(LoRASpec(rank=3, targets=[target])).get_submodule("h.0.attn.c_attn")
        difference = layer(torch.ones(1, 35)) - large_weights().h[0].attn.c_attn(torch.ones(1, 35))
        changed.append(set(difference[0].nonzero().flatten().tolist()))
    assert [len(outputs) for outputs in changed] == [35, 35, 35]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(changed, 2))
