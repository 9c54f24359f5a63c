"""Texts of different lengths in one cache: each is read as if it were alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpt2_lightning.model import GPT2, KVCache
from tests.model.sizes import BLOCK, V

LENGTHS = [3, 7, 1]


@pytest.fixture
def model(model: GPT2) -> GPT2:
    return model.requires_grad_(False)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(V, (3, BLOCK), generator=torch.Generator().manual_seed(1))


def new_cache(model: GPT2, texts: int = 3, capacity: int | None = None) -> KVCache:
    return KVCache(model.config, texts, torch.device("cpu"), torch.float64, capacity)


def read_padded(model: GPT2, ids: Tensor, cache: KVCache) -> None:
    """Read the beginnings of the three texts, padded at the end with whatever follows there."""
    cache.reset(3)
    model(ids[:, : max(LENGTHS)], cache=cache)
    cache.lengths = list(LENGTHS)


def assert_alike(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("steps", [(1, 1, 1, 1, 1, 1), (2, 3, 1), (6,)], ids=str)
def test_each_text_goes_on_at_its_own_position(model: GPT2, ids: Tensor, steps: tuple[int, ...]) -> None:
    cache = new_cache(model)
    read_padded(model, ids, cache)
    whole = model(ids)
    for count in steps:
        new = torch.stack([row[length : length + count] for row, length in zip(ids, cache.lengths, strict=True)])
        logits = model(new, cache=cache)
        for row, end in enumerate(cache.lengths):
            assert_alike(logits[row], whole[row, end - count : end])
    assert cache.lengths == [9, 13, 7]


def test_lengths_that_are_forgotten_show(model: GPT2, ids: Tensor) -> None:
    """Planted: padding taken for text."""
    cache = new_cache(model)
    read_padded(model, ids, cache)
    cache.lengths = [max(LENGTHS)] * 3
    new = torch.stack([row[length] for row, length in zip(ids, LENGTHS, strict=True)]).unsqueeze(1)
    assert (model(new, cache=cache)[0, 0] - model(ids)[0, 3]).abs().max() > 1e-2


def test_texts_are_reordered_dropped_and_multiplied(model: GPT2, ids: Tensor) -> None:
    cache = new_cache(model, texts=5)
    read_padded(model, ids, cache)
    whole = model(ids)
    texts = [0, 1, 2]
    for rows in ([2, 0, 1, 0, 2], [4, 1, 2], [0, 1], [1]):
        cache.reorder(rows)
        texts = [texts[row] for row in rows]
        assert cache.lengths == [LENGTHS[text] for text in texts]
        last = torch.stack([ids[text, LENGTHS[text] - 1] for text in texts]).unsqueeze(1)
        cache.lengths = [length - 1 for length in cache.lengths]  # read the last token once more
        logits = model(last, cache=cache)
        for row, text in enumerate(texts):
            assert_alike(logits[row, 0], whole[text, LENGTHS[text] - 1])


def test_a_row_is_read_anew_while_others_stay(model: GPT2, ids: Tensor) -> None:
    cache = new_cache(model)
    read_padded(model, ids, cache)
    model(ids[:1, 5:9], cache=cache.row(1))
    cache.lengths[1] = 4
    new = torch.stack((ids[0, 3], ids[0, 9], ids[2, 1])).unsqueeze(1)
    logits = model(new, cache=cache)
    assert_alike(logits[0, 0], model(ids[:1])[0, 3])
    assert_alike(logits[1, 0], model(ids[:1, 5:])[0, 4])
    assert_alike(logits[2, 0], model(ids[2:])[0, 1])


def test_recorded_attention_of_different_lengths_hides_what_is_not_text(model: GPT2, ids: Tensor) -> None:
    cache = new_cache(model)
    read_padded(model, ids, cache)
    attn_weights: list[Tensor] = []
    model(ids[:, :1], cache=cache, attn_weights=attn_weights)
    for weights in attn_weights:
        assert weights.shape == (3, 5, 1, 8)
        assert_alike(weights.sum(-1), torch.ones(3, 5, 1, dtype=torch.float64))
        for row, length in enumerate(LENGTHS):
            assert (weights[row, ..., : length + 1] > 0).all()
            assert (weights[row, ..., length + 1 :] == 0).all()


@pytest.mark.parametrize("positions", ["learned"], indirect=True)
def test_nothing_is_allocated_while_texts_grow(model: GPT2, ids: Tensor) -> None:
    cache = new_cache(model)
    places = [held.data_ptr() for held in (*cache.keys, *cache.values)]
    read_padded(model, ids, cache)
    cache.reorder([1, 1, 0])
    model(ids[:, :1], cache=cache)
    cache.reset()
    assert [held.data_ptr() for held in (*cache.keys, *cache.values)] == places


@pytest.mark.parametrize("positions", ["learned"], indirect=True)
def test_what_does_not_fit_is_refused(model: GPT2, ids: Tensor) -> None:
    cache = new_cache(model, capacity=5)
    with pytest.raises(ValueError, match=r"^6 tokens do not fit into the cache: it holds 5"):
        model(ids[:, :6], cache=cache)
    model(ids[:, :5], cache=cache)
    with pytest.raises(ValueError, match="4 texts do not fit into the cache: its batch_size is 3"):
        cache.reorder([0, 1, 2, 2])
    with pytest.raises(ValueError, match="ids have 1 rows, and the cache holds 3 texts"):
        model(ids[:1, :1], cache=cache)
    full = new_cache(model)
    model(ids[:, :12], cache=full)
    full.lengths = [12, 4, 13]
    with pytest.raises(ValueError, match="14 tokens do not fit into the context: block_size is 13"):
        model(ids[:, :1], cache=full)


@pytest.mark.parametrize("positions", ["learned"], indirect=True)
def test_a_cache_may_hold_another_type_than_the_weights(model: GPT2, ids: Tensor) -> None:
    """float32 in the cache rounds what float64 would hold, and no more."""
    cache = KVCache(model.config, 3, torch.device("cpu"), torch.float32)
    model(ids[:, :7], cache=cache)
    cache.lengths = list(LENGTHS)
    new = torch.stack([row[length] for row, length in zip(ids, LENGTHS, strict=True)]).unsqueeze(1)
    logits = model(new, cache=cache)
    assert logits.dtype == torch.float64
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(logits[row, 0], model(ids)[row, length], rtol=0, atol=1e-3)
