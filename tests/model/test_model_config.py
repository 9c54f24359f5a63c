"""GPT2Config: what it accepts, and what it says of the rest."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from gpt2_lightning.model import GPT2Config


def faults_of(**fields: Any) -> list[str]:
    with pytest.raises(ValueError, match=": ") as caught:
        GPT2Config(**fields)
    return str(caught.value).splitlines()


def test_defaults_are_the_smallest_gpt2() -> None:
    config = GPT2Config()
    sizes = (config.vocab_size, config.block_size, config.n_layer, config.n_head, config.n_embd)
    assert sizes == (50257, 1024, 12, 12, 768)
    assert (config.positions, config.qkv_bias, config.tied_head) == ("learned", True, True)
    assert (config.layer_norm_epsilon, config.initializer_range) == (1e-5, 0.02)


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GPT2Config().n_layer = 3


def test_head_size_is_width_over_heads() -> None:
    assert GPT2Config(n_head=5, n_embd=35).head_size == 7


@pytest.mark.parametrize(
    ("n_embd", "n_head", "message"),
    [
        (100, 12, "100 is not divisible by n_head=12; the nearest that fit are n_embd=96 or 108, or n_head=10 or 20"),
        (7, 3, "7 is not divisible by n_head=3; the nearest that fit are n_embd=6 or 9, or n_head=1 or 7"),
        (3, 5, "3 is not divisible by n_head=5; the nearest that fit are n_embd=5, or n_head=3"),
    ],
)
def test_indivisible_width_names_both_numbers_and_the_nearest_that_fit(n_embd: int, n_head: int, message: str) -> None:
    assert faults_of(n_embd=n_embd, n_head=n_head) == [f"n_embd: {message}"]


def test_every_suggestion_fits_and_none_is_nearer() -> None:
    """Against a search by brute force, for all small sizes."""
    checked = 0
    for n_embd in range(1, 41):
        for n_head in range(1, 41):
            if n_embd % n_head == 0:
                GPT2Config(n_embd=n_embd, n_head=n_head)
                continue
            (fault,) = faults_of(n_embd=n_embd, n_head=n_head)
            suggested = re.fullmatch(r".*are n_embd=(?P<widths>.*), or n_head=(?P<heads>.*)", fault)
            assert suggested, fault
            widths = [w for w in range(1, 100) if w % n_head == 0]
            heads = [h for h in range(1, 100) if n_embd % h == 0]
            assert suggested["widths"].split(" or ") == nearest(n_embd, widths)
            assert suggested["heads"].split(" or ") == nearest(n_head, heads)
            checked += 1
    assert checked > 1000


def nearest(wanted: int, fitting: list[int]) -> list[str]:
    below = [n for n in fitting if n < wanted][-1:]
    above = [n for n in fitting if n > wanted][:1]
    return [str(n) for n in below + above]


@pytest.mark.parametrize("field", ["vocab_size", "block_size", "n_layer", "n_head", "n_embd"])
@pytest.mark.parametrize("value", [0, -3])
def test_sizes_below_one_are_refused(field: str, value: int) -> None:
    assert faults_of(**{field: value}) == [f"{field}: {value} is out of range, 1 or more is allowed"]


@pytest.mark.parametrize("field", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_outside_its_range_is_refused(field: str, value: float) -> None:
    assert faults_of(**{field: value}) == [f"{field}: {value} is out of range, 0 up to (not including) 1 is allowed"]


@pytest.mark.parametrize("field", ["layer_norm_epsilon", "initializer_range"])
@pytest.mark.parametrize("value", [0.0, -1e-5, float("nan")])
def test_epsilon_and_range_must_be_above_zero(field: str, value: float) -> None:
    assert faults_of(**{field: value}) == [f"{field}: {value} is out of range, a finite number above 0 is allowed"]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    assert faults_of(positions="rotary", kernels="fast") == [
        "positions: 'rotary' is not one of learned, sinusoidal",
        "kernels: 'fast' is not one of fused, native, explicit",
    ]


def test_every_fault_is_listed_at_once() -> None:
    faults = faults_of(n_layer=0, block_size=-1, attn_pdrop=2.0, layer_norm_epsilon=0.0, kernels="fast")
    assert sorted(fault.split(":")[0] for fault in faults) == sorted(
        ["n_layer", "block_size", "attn_pdrop", "layer_norm_epsilon", "kernels"]
    )


def test_an_indivisible_width_is_listed_beside_other_faults() -> None:
    faults = faults_of(n_embd=100, n_head=12, attn_pdrop=2.0, kernels="fast")
    assert sorted(fault.split(":")[0] for fault in faults) == ["attn_pdrop", "kernels", "n_embd"]


def test_no_division_is_tried_without_heads() -> None:
    assert [fault.split(":")[0] for fault in faults_of(n_head=0, n_embd=0)] == ["n_head", "n_embd"]
