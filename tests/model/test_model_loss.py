"""The loss, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from gpt2_lightning.model import cross_entropy
from gpt2_lightning.model.loss import IGNORED

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
