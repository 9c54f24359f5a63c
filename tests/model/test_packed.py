"""Packed weights give what the weights give, for as long as they are there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpt2_lightning.generation import Decoder, Sampling
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.gpt2 import Linear
from gpt2_lightning.model.inference import onednn
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.layers import LoRASpec

CONFIG = GPT2Config(vocab_size=1031, block_size=64, n_layer=1, n_head=8, n_embd=520)
"""Wide enough that all but one of its matrices are worth packing."""
IDS = torch.arange(34).view(2, 17)

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> GPT2:
    if request.param == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no products in bfloat16")
    torch.manual_seed(0)
    return GPT2(CONFIG).eval().to(request.param)


def layers(model: GPT2) -> list[Linear]:
    return [module for module in model.modules() if isinstance(module, Linear)]


def count_packed(model: GPT2) -> int:
    return sum(layer.packed is not None for layer in layers(model))


@torch.no_grad()
def logits(model: GPT2) -> Tensor:
    return model(IDS)


def test_packed_weights_give_the_same_logits(model: GPT2) -> None:
    plain = logits(model)
    with packed(model):
        assert count_packed(model) == 4
        found = logits(model)
        with packed(model):
            pass
        assert count_packed(model) == 4, "the inner one leaves them to the outer one"
    tolerance = 1e-5 if found.dtype == torch.float32 else 0.03
    torch.testing.assert_close(found, plain, rtol=0, atol=tolerance)
    assert count_packed(model) == 0


@pytest.mark.parametrize("rows", [1, 2, None])
@pytest.mark.parametrize("has_fast_blas", [True, False])
def test_the_layout_for_a_single_token_is_by_columns_where_blas_is_fast(
    model: GPT2, rows: int | None, has_fast_blas: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt2_lightning.model.inference.packed._has_fast_blas", lambda: has_fast_blas)
    by_columns = rows == 1 and has_fast_blas and model.wte.weight.dtype == torch.float32
    plain = logits(model)
    with packed(model, rows):
        copies = [layer.packed for layer in layers(model) if layer.packed is not None]
        assert [copy.is_mkldnn for copy in copies] == [not by_columns] * 4
        found = logits(model)
        if by_columns:
            assert all(copy.stride(0) == 1 for copy in copies)
            for layer in layers(model):
                assert layer.packed is None or torch.equal(layer.packed, layer.weight)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5 if plain.dtype == torch.float32 else 0.03)


@torch.no_grad()
def fail_while_packed(model: GPT2) -> None:
    """With a planted change of a copy, which shows that the copies are used."""
    with packed(model):
        model.lm_head.packed = onednn.pack(torch.zeros_like(model.lm_head.weight))
        assert not logits(model).any()
        raise RuntimeError("planted")


def test_the_copies_are_used_and_gone_after_an_exception(model: GPT2) -> None:
    plain = logits(model)
    with pytest.raises(RuntimeError, match="planted"):
        fail_while_packed(model)
    assert torch.equal(logits(model), plain)


def test_gradients_go_through_the_weights_themselves(model: GPT2) -> None:
    with packed(model):
        model(IDS).float().sum().backward()
    assert all(layer.weight.grad is not None for layer in layers(model))


def test_they_are_no_part_of_the_models_state(model: GPT2) -> None:
    names = list(model.state_dict())
    with packed(model):
        assert list(model.state_dict()) == names


def test_an_adapter_adds_to_packed_weights(model: GPT2) -> None:
    add_lora(model, LoRASpec(rank=3, targets=("qkv", "head")))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    plain = logits(model)
    with packed(model):
        tolerance = 1e-4 if plain.dtype == torch.float32 else 0.1
        torch.testing.assert_close(logits(model), plain, rtol=0, atol=tolerance)


def test_a_long_text_is_written_with_packed_weights_and_leaves_none_behind(model: GPT2) -> None:
    seen = []
    for _ in Decoder(model, [IDS[0]], Sampling(max_new_tokens=32, temperature=0)):
        seen.append(count_packed(model))
    assert set(seen) == {4}
    assert count_packed(model) == 0
    assert [count_packed(model) for _ in Decoder(model, [IDS[0]], Sampling(max_new_tokens=2))] == [0, 0]


def test_without_room_for_copies_there_are_none(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(layer.weight.nbytes for layer in layers(model))
    for left, count in ((2 * size + 1, 4), (2 * size, 0), (None, 4)):
        monkeypatch.setattr("gpt2_lightning.model.inference.packed.left_of_main", lambda left=left: left)
        with packed(model):
            assert count_packed(model) == count
