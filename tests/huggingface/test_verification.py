"""What conversions are held to catches planted faults, however small."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, verify
from gpt2_lightning.huggingface.weights import recast
from gpt2_lightning.model import GPT2, GPT2Config
from tests.huggingface.networks import CONFIG, lively

ANYWHERE = Path("anywhere")


def test_tokens_are_the_same_each_time_and_in_the_vocabulary() -> None:
    ids = verify.random_ids(GPT2Config())
    assert torch.equal(ids, verify.random_ids(GPT2Config()))
    assert ids.shape == (2, 32)
    assert len(ids.unique()) > 50
    assert verify.random_ids(CONFIG).shape == (2, 13)
    assert verify.random_ids(CONFIG).max() < 23


def test_large_models_are_compared_in_single_precision() -> None:
    assert verify.precision(GPT2Config()) == torch.float64
    assert verify.precision(GPT2Config(n_layer=36, n_head=20, n_embd=1280)) == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_logits_agree_with_transformers(tmp_path: Path, dtype: torch.dtype) -> None:
    model = lively().to(dtype)
    folder.write(model, None, tmp_path / "model", "", 10**12)
    ids = verify.random_ids(CONFIG)
    ours, theirs = (
        verify.model_logits(model, ids, torch.float64),
        verify.transformers_logits(tmp_path / "model", ids, torch.float64),
    )
    assert theirs is not None
    assert verify.require_agreement(theirs, ours, "they").largest_difference < 1e-12
    assert model.wte.weight.dtype == dtype


@pytest.mark.parametrize("change", [{"layer_norm_epsilon": 1.00001e-5}, {"n_head": 7}], ids=str)
def test_slightly_different_arithmetic_is_noticed_at_initial_weights(change: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = GPT2(CONFIG).eval()
    other = GPT2(dataclasses.replace(CONFIG, **change)).eval()
    other.load_state_dict(model.state_dict())
    ids = verify.random_ids(CONFIG)
    logits = [verify.model_logits(each, ids, torch.float64) for each in (model, other)]
    with pytest.raises(UserError, match="they differ by up to"):
        verify.require_agreement(*logits, "they")


def test_logits_that_are_no_numbers_do_not_agree() -> None:
    ones = torch.ones(2, 3, 5)
    assert verify.compare(ones, ones).agrees
    assert not verify.compare(ones * float("nan"), ones).agrees


def test_only_the_tokens_that_are_kept_are_compared() -> None:
    padded = torch.arange(7.0).expand(1, 1, 7)
    assert verify.compare(padded[..., :5], padded).largest_difference == 0


def test_tensors_that_changed_are_all_listed() -> None:
    written = {name: torch.arange(3.0) for name in ("a", "b", "c", "d")}
    verify.require_same(dict(written), written, ANYWHERE)
    found = {"a": written["a"], "b": written["b"] + 1e-6, "c": written["c"].double(), "e": written["d"]}
    with pytest.raises(UserError, match="anywhere: tensors read back differ") as caught:
        verify.require_same(found, written, ANYWHERE)
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == ["b", "c", "d", "e"]


def test_a_recast_model_is_a_copy_in_the_other_dtype() -> None:
    model = lively()
    half = recast(model, torch.float16)
    assert {p.dtype for p in half.parameters()} == {torch.float16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert half.lm_head.weight is half.wte.weight
