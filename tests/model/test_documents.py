"""Several documents in one window: equal, in logits and gradients, to each document alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpt2_lightning.model import GPT2, KVCache
from gpt2_lightning.model.documents import positions_and_mask
from tests.model.sizes import BLOCK, V

LENGTHS = [[5, 1, 7], [2, 11, 0]]
"""Of the documents in each row of the window."""


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(V, (2, BLOCK), generator=torch.Generator().manual_seed(1))


def numbered(lengths: list[list[int]]) -> Tensor:
    """3 for the tokens of the first document of a row, 4 for those of the second, …"""
    return torch.stack([torch.arange(3, 6).repeat_interleave(torch.tensor(row)) for row in lengths])


def alone(model: GPT2, ids: Tensor) -> Tensor:
    """Logits of the window, every document read by itself."""
    rows = [
        torch.cat([model(part.unsqueeze(0))[0] for part in row.split(lengths) if len(part)])
        for row, lengths in zip(ids, LENGTHS, strict=True)
    ]
    return torch.stack(rows)


def gradients(model: GPT2, logits: Tensor) -> list[Tensor]:
    seen = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return list(torch.autograd.grad(logits, list(model.parameters()), seen))


def test_logits_and_gradients_equal_those_of_separate_documents(model: GPT2, ids: Tensor) -> None:
    together, apart = model(ids, document_ids=numbered(LENGTHS)), alone(model, ids)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-11)
    for found, expected in zip(gradients(model, together), gradients(model, apart), strict=True):
        assert expected.abs().max() > 1e-5
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_boundary_that_is_missed_shows(model: GPT2, ids: Tensor) -> None:
    """Planted leaks: no boundaries at all, and one boundary a token late."""
    apart = alone(model, ids)
    late = [[6, 0, 7], [2, 11, 0]]
    assert (model(ids) - apart).abs().max() > 1e-2
    assert (model(ids, document_ids=numbered(late)) - apart)[0, 5].abs().max() > 1e-2


def test_a_changed_token_changes_its_own_document_alone(model: GPT2, ids: Tensor) -> None:
    documents = numbered(LENGTHS)
    before = model(ids, document_ids=documents)
    for place in range(BLOCK):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % V
        difference = (model(changed, document_ids=documents) - before).abs().amax(dim=-1)
        within = (documents == documents[:, place : place + 1]) & (torch.arange(BLOCK) >= place)
        assert (difference[within] > 1e-7).all()
        assert (difference[~within] == 0).all()


def test_one_document_is_read_as_usual(model: GPT2, ids: Tensor) -> None:
    one = torch.full((2, BLOCK), 7)
    torch.testing.assert_close(model(ids, document_ids=one), model(ids), rtol=0, atol=1e-12)


def test_recorded_attention_stays_within_documents(model: GPT2, ids: Tensor) -> None:
    record: list[Tensor] = []
    documents = numbered(LENGTHS)
    model(ids, attn_weights=record, document_ids=documents)
    same = (documents.unsqueeze(1) == documents.unsqueeze(2)) & torch.ones(BLOCK, BLOCK, dtype=torch.bool).tril()
    for weights in record:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5, BLOCK, dtype=torch.float64), rtol=0, atol=1e-12)
        shown = same.unsqueeze(1).expand_as(weights)
        assert (weights[shown] > 0).all()
        assert (weights[~shown] == 0).all()


def test_positions_and_mask_by_hand() -> None:
    document_ids = torch.tensor([[4, 4, 9, 9, 9], [0, 1, 2, 2, 2]])
    positions, attn_mask = positions_and_mask(document_ids)
    assert isinstance(attn_mask, Tensor)
    assert positions.tolist() == [[0, 1, 0, 1, 2], [0, 0, 0, 1, 2]]
    assert attn_mask.shape == (2, 1, 5, 5)
    assert attn_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]


def test_a_number_that_comes_again_is_another_document() -> None:
    """The first and the last may have equal numbers by accident; they do not see each other."""
    document_ids = torch.tensor([[1, 2, 1], [1, 1, 1]])
    positions, attn_mask = positions_and_mask(document_ids)
    assert isinstance(attn_mask, Tensor)
    assert positions.tolist() == [[0, 0, 0], [0, 1, 2]]
    assert torch.equal(attn_mask[0, 0], torch.eye(3, dtype=torch.bool))


@pytest.mark.parametrize("positions", ["learned"], indirect=True)
def test_documents_of_a_wrong_shape_or_with_a_cache_are_refused(model: GPT2, ids: Tensor) -> None:
    with pytest.raises(ValueError, match=r"document_ids have shape \(2, 12\), and ids \(2, 13\)"):
        model(ids, document_ids=numbered(LENGTHS)[:, 1:])
    cache = KVCache(model.config, 2, ids.device, torch.float64)
    with pytest.raises(ValueError, match="document_ids and a cache cannot be combined"):
        model(ids, cache=cache, document_ids=numbered(LENGTHS))
