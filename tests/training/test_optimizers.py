import itertools
from collections import Counter

import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.training.optimizers import AdamW, Muon
from gpt2_lightning.training.optimizers.parameter_groups import parameter_groups

SHAPE = {"vocab_size": 13, "block_size": 5, "n_layer": 2, "n_head": 3, "n_embd": 21}
OPTIONS = list(itertools.product(["learned", "sinusoidal"], [True, False], [True, False], ["fused", "explicit"]))


@pytest.fixture(params=OPTIONS, ids=lambda options: "-".join(map(str, options)))
def model(request: pytest.FixtureRequest) -> GPT2:
    positions, qkv_bias, tied_head, kernels = request.param
    torch.manual_seed(0)
    return GPT2(GPT2Config(**SHAPE, positions=positions, qkv_bias=qkv_bias, tied_head=tied_head, kernels=kernels))


def test_every_parameter_is_in_exactly_one_group(model: GPT2) -> None:
    grouped = Counter(id(p) for group in parameter_groups(model, 0.1) for p in group["params"])
    names = {id(p): name for name, p in model.named_parameters(remove_duplicate=False)}
    assert grouped.keys() == names.keys()
    assert set(grouped.values()) == {1}


def test_biases_and_norms_do_not_decay_and_all_else_does(model: GPT2) -> None:
    decay = {id(p): group["weight_decay"] for group in parameter_groups(model, 0.25) for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_vector = name.endswith(".bias") or ".ln_" in f".{name}"
        assert decay[id(parameter)] == (0.0 if is_vector else 0.25), name


def test_a_tied_weight_is_stepped_once() -> None:
    tied = GPT2(GPT2Config(**SHAPE, tied_head=True))
    untied = GPT2(GPT2Config(**SHAPE, tied_head=False))
    counts = [sum(p.numel() for g in parameter_groups(m, 0.1) for p in g["params"]) for m in (tied, untied)]
    assert counts[1] - counts[0] == 13 * 21


def test_frozen_parameters_are_left_out() -> None:
    model = GPT2(GPT2Config(**SHAPE))
    model.wte.requires_grad_(False)
    model.ln_f.requires_grad_(False)
    grouped = {id(p) for group in parameter_groups(model, 0.1) for p in group["params"]}
    assert grouped == {id(p) for p in model.parameters() if p.requires_grad}
    assert id(model.wte.weight) not in grouped


def test_steps_equal_adamw_written_out(model: GPT2) -> None:
    """Loshchilov and Hutter 2019, algorithm 2, in float64; the decay is outside of the moments."""
    lr, (beta1, beta2), eps, decay = 0.03, (0.8, 0.9), 1e-5, 0.4
    optimizer = AdamW(lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay).build(model)
    weights = {name: p.detach().double() for name, p in model.named_parameters()}
    m = {name: torch.zeros_like(w) for name, w in weights.items()}
    v = {name: torch.zeros_like(w) for name, w in weights.items()}
    generator = torch.Generator().manual_seed(1)
    for step in (1, 2, 3):
        for name, parameter in model.named_parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = gradient
            g = gradient.double()
            m[name] = beta1 * m[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * g**2
            if parameter.dim() >= 2:
                weights[name] = weights[name] * (1 - lr * decay)
            m_hat, v_hat = m[name] / (1 - beta1**step), v[name] / (1 - beta2**step)
            weights[name] = weights[name] - lr * m_hat / (v_hat.sqrt() + eps)
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.double(), weights[name], atol=1e-6, rtol=1e-5, msg=name)


def test_the_kernel_is_fused() -> None:
    assert AdamW(lr=1e-3).build(GPT2(GPT2Config(**SHAPE))).defaults["fused"] is True


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("lr", 0.0, "0.0"),
        ("lr", -1e-3, "-0.001"),
        ("lr", float("nan"), "nan"),
        ("betas", (0.9, 1.0), r"\[0\.9, 1\.0\]"),
        ("betas", (-0.1, 0.9), r"\[-0\.1, 0\.9\]"),
        ("eps", 0.0, "0.0"),
        ("weight_decay", -0.1, "-0.1"),
    ],
)
def test_settings_out_of_range_are_named(field: str, value: object, shown: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: {shown} is out of range"):
        AdamW(**{"lr": 1e-3, field: value})


def test_all_faults_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"lr: .*\nbetas: .*\neps: .*\nweight_decay: "):
        AdamW(lr=0, betas=(1, 1), eps=0, weight_decay=-1)


@pytest.mark.parametrize("make", [AdamW, Muon])
def test_exceptions_change_the_rate_and_the_decay_of_what_their_names_match(make: type[AdamW]) -> None:
    """The first pattern counts; the rest, and vectors, decay as before."""
    model = GPT2(GPT2Config(**SHAPE))
    exceptions = {r"wte|h\.0\.": {"lr_scale": 0.5, "weight_decay": 0.25}, r"mlp": {"lr_scale": 0.125}}
    plain, changed = (make(lr=0.5, groups=groups).build(model) for groups in ({}, exceptions))
    before, after = ({id(p): g for g in o.param_groups for p in g["params"]} for o in (plain, changed))
    for name, parameter in model.named_parameters():
        old, new = before[id(parameter)], after[id(parameter)]
        first, second = name.startswith(("wte", "h.0.")), name.startswith("h.1.mlp")
        scale = 0.5 if first else 0.125 if second else 1.0
        assert (new["lr"], new["lr_scale"]) == (old["lr"] * scale, old["lr_scale"] * scale), name
        assert new["weight_decay"] == (0.25 if first and parameter.dim() == 2 else old["weight_decay"]), name
    assert sum(len(group["params"]) for group in changed.param_groups) == len(list(model.parameters()))


def test_a_decay_of_zero_leaves_the_groups_as_they_are() -> None:
    """So that a resumed run may set it."""
    model = GPT2(GPT2Config(**SHAPE))
    sizes = [[len(g["params"]) for g in AdamW(lr=1, weight_decay=decay).build(model).param_groups] for decay in (0, 1)]
    assert sizes[0] == sizes[1]


def test_an_exception_for_nothing_lists_the_names() -> None:
    with pytest.raises(
        UserError, match=r"optimizer.groups: 'wtte' is found in no .* names are wte.weight, .*h\.0\.ln_1"
    ):
        AdamW(lr=1, groups={"wtte": {"lr_scale": 1}}).build(GPT2(GPT2Config(**SHAPE)))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"(": {}}, r"groups: '\(' is no regular expression: missing \)"),
        ({"wte": {"lr_scale": -1}}, "groups.wte.lr_scale: -1 is out of range"),
        ({"": {}}, "groups: '' is no name"),
    ],
)
def test_exceptions_out_of_range_are_named(groups: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdamW(lr=1, groups=groups)
