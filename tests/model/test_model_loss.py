"""The loss, against values worked out by hand, and in parts against torch's of all logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.model import gpt2 as gpt2_module
from gpt2_lightning.model import loss as loss_module
from gpt2_lightning.model.gpt2 import Linear
from gpt2_lightning.model.lora.adapters import add_lora, set_adapter
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.model.loss import IGNORED, chunked_cross_entropy

ODDS = torch.tensor([[[1.0, 1.0, 2.0], [1.0, 6.0, 1.0]], [[5.0, 4.0, 1.0], [1.0, 1.0, 1.0]]])
LOGITS = ODDS.log()
"""Two texts of two tokens; the softmax of each row is its odds over their sum: 1/4, 1/4, 1/2, and so on."""


def test_mean_is_over_all_tokens() -> None:
    targets = torch.tensor([[2, 0], [0, 1]])
    expected = (math.log(2) + math.log(8) + math.log(2) + math.log(3)) / 4
    assert cross_entropy(LOGITS, targets).item() == pytest.approx(expected, rel=1e-6)


def test_sum_is_in_nats() -> None:
    targets = torch.tensor([[2, 0], [0, 1]])
    assert cross_entropy(LOGITS, targets, reduction="sum").item() == pytest.approx(math.log(2 * 8 * 2 * 3), rel=1e-6)


def test_ignored_targets_count_in_neither_sum_nor_mean() -> None:
    targets = torch.tensor([[IGNORED, 0], [0, IGNORED]])
    total = math.log(8) + math.log(2)
    assert cross_entropy(LOGITS, targets, reduction="sum").item() == pytest.approx(total, rel=1e-6)
    assert cross_entropy(LOGITS, targets).item() == pytest.approx(total / 2, rel=1e-6)


def test_ignored_targets_have_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    cross_entropy(logits, torch.tensor([[IGNORED, 0], [0, IGNORED]])).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0] == 0).all()
    assert (logits.grad[1, 1] == 0).all()
    expected = torch.tensor([1 / 8 - 1, 6 / 8, 1 / 8]) / 2
    torch.testing.assert_close(logits.grad[0, 1], expected)


def test_ignored_is_the_convention_of_torch_and_hugging_face() -> None:
    assert IGNORED == -100


def test_logits_of_lower_precision_are_summed_in_float32() -> None:
    """In bfloat16 the sum of 512 such losses would be right to two digits only."""
    logits = torch.randn(4, 128, 31, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.randint(31, (4, 128), generator=torch.Generator().manual_seed(1))
    loss = cross_entropy(logits, targets, reduction="sum")
    chosen = logits.double().log_softmax(-1).gather(-1, targets.unsqueeze(-1))
    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(-chosen.sum().item(), rel=1e-5)


V, C = 31, 5


@pytest.fixture
def parts_of_ten_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "LARGEST_LOGITS", 10 * V)


def head_of(padding: int = 0, seed: int = 0) -> Linear:
    torch.manual_seed(seed)
    return Linear(C, V, bias=False, padding=padding)


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Features of 3 x 17 tokens, which is no multiple of a part; some targets carry no loss, in one row none does."""
    dice = torch.Generator().manual_seed(1)
    targets = torch.randint(V, (3, 17), generator=dice)
    targets[0, ::3] = IGNORED
    targets[2] = IGNORED
    return torch.randn(3, 17, C, generator=dice, dtype=dtype).mul_(5).requires_grad_(), targets


def losses_and_gradients(head: nn.Module, features: Tensor, targets: Tensor) -> list[tuple[Tensor, ...]]:
    """In parts, and by torch from all logits at once; scaled as a training step scales them."""
    wanted = [features, *(parameter for parameter in head.parameters() if parameter.requires_grad)]
    logits = head(features)
    plain = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum", ignore_index=IGNORED)
    found = []
    for loss in (chunked_cross_entropy(head, features, targets), plain):
        found.append((loss.detach(), *torch.autograd.grad(loss / 7, wanted, allow_unused=True)))
    return found


@pytest.mark.usefixtures("parts_of_ten_tokens")
@pytest.mark.parametrize("padding", [0, 3])
def test_a_loss_in_parts_is_that_of_all_logits_with_its_gradients(padding: int) -> None:
    in_parts, plain = losses_and_gradients(head_of(padding), *batch())
    torch.testing.assert_close(in_parts, plain, rtol=1e-5, atol=1e-6)
    assert all(gradient.abs().max() > 0.1 for gradient in plain)


@pytest.mark.usefixtures("parts_of_ten_tokens")
def test_parts_never_hold_more_logits_than_they_may() -> None:
    head, shapes = head_of(), []
    head.register_forward_hook(lambda _, __, logits: shapes.append(tuple(logits.shape)))
    features, targets = batch()
    chunked_cross_entropy(head, features, targets).backward()
    with torch.no_grad():
        chunked_cross_entropy(head, features, targets)
    assert shapes == [(1, 9, V)] * 3 + [(1, 8, V)] * 3 + [(1, 9, V)] * 3 + [(1, 8, V)] * 3


def test_parts_are_small_where_the_head_is_narrow_and_larger_where_it_is_wide() -> None:
    """Elements of a part: 16 MiB in float32; twice the head's own; and never more than the largest."""
    narrow, wide, widest = (torch.empty(1, 1, width, device="cpu") for width in (32, 256, 768))
    assert loss_module._largest_chunk(narrow, 14_000) == 2**22
    assert loss_module._largest_chunk(wide, 14_000) == 2 * 14_000 * 256
    assert loss_module._largest_chunk(widest, 50_257) == 2**26
    assert loss_module._largest_chunk(narrow.to("meta"), 14_000) == 2**26


def test_small_logits_are_computed_at_once() -> None:
    head, shapes = head_of(), []
    head.register_forward_hook(lambda _, __, logits: shapes.append(tuple(logits.shape)))
    chunked_cross_entropy(head, *batch())
    assert shapes == [(3, 17, V)]


@pytest.mark.usefixtures("parts_of_ten_tokens")
def test_a_loss_in_parts_without_gradients_is_the_same() -> None:
    head, (features, targets) = head_of(), batch()
    with torch.no_grad():
        without = chunked_cross_entropy(head, features, targets)
    torch.testing.assert_close(without, chunked_cross_entropy(head, features, targets).detach(), rtol=1e-6, atol=0)
    assert not without.requires_grad


@pytest.mark.usefixtures("parts_of_ten_tokens")
def test_parts_agree_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        in_parts, plain = losses_and_gradients(head_of(), *batch())
    assert [each.dtype for each in in_parts] == [torch.float32] * 3
    torch.testing.assert_close(in_parts, plain, rtol=2e-2, atol=2e-2)
    exact = losses_and_gradients(head_of(), *batch())[1]
    assert not torch.equal(in_parts[0], exact[0]), "bfloat16 was in use"


@pytest.mark.usefixtures("parts_of_ten_tokens")
def test_gradients_of_bfloat16_weights_are_summed_in_float32() -> None:
    head, (features, targets) = head_of().bfloat16(), batch(torch.bfloat16)
    in_parts, plain = losses_and_gradients(head, features, targets)
    assert [each.dtype for each in in_parts] == [torch.float32, torch.bfloat16, torch.bfloat16]
    torch.testing.assert_close(in_parts, plain, rtol=2e-2, atol=2e-2)


@pytest.mark.usefixtures("parts_of_ten_tokens")
@pytest.mark.parametrize("in_use", ["default", None])
@pytest.mark.parametrize("multiple", [1, 8])
def test_parts_agree_with_an_adapter_on_the_head(in_use: str | None, multiple: int) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=V, block_size=17, n_layer=1, n_head=1, n_embd=C, pad_vocab_to_multiple_of=multiple)
    model = GPT2(config)
    add_lora(model, LoRASpec(rank=2, targets=["head"]))
    nn.init.normal_(model.lm_head.get_parameter("adapters.default.lora_B.head"))
    set_adapter(model, in_use)
    in_parts, plain = losses_and_gradients(model.lm_head, *batch())
    assert len(plain) == 1 + 1 + 2, "the loss, the features, and A and B of the adapter"
    if in_use is None:
        assert plain[2:] == (None, None)
        plain = (*plain[:2], *map(torch.zeros_like, in_parts[2:]))
    for ours, torchs in zip(in_parts, plain, strict=True):
        # Elements are differences of large sums, which torch's own float32 gets no better against float64.
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-6 * max(1.0, float(torchs.abs().max())))


@pytest.mark.usefixtures("parts_of_ten_tokens")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("documents", [None, torch.arange(17).expand(3, 17) // 6])
def test_a_network_learns_alike_in_parts(tied: bool, documents: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=V, block_size=17, n_layer=2, n_head=1, n_embd=C, tied_head=tied))
    ids, targets = torch.randint(V, (3, 17)), batch()[1]
    found = []
    for limit in (10 * V, 1000 * V):
        monkeypatch.setattr(loss_module, "LARGEST_LOGITS", limit)
        monkeypatch.setattr(gpt2_module, "LARGE_LOGITS", limit)
        model.zero_grad()
        loss = model(ids, document_ids=documents, targets=targets)
        loss.backward()
        found.append((loss.detach(), *(parameter.grad for parameter in model.parameters())))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)
    assert model.wte.weight.grad is not None
    assert model.wte.weight.grad.abs().max() > 0.01


@pytest.mark.usefixtures("parts_of_ten_tokens")
def test_a_second_backward_pass_is_refused_and_not_wrong() -> None:
    loss = chunked_cross_entropy(head_of(), *batch())
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward once"):
        loss.backward()
