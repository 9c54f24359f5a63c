import numpy as np
import pytest

from gpt2_lightning.data.sampling.permutation import SampleOrder, permute

SHAPES = [(8, 7), (14, 7), (15, 7), (16, 7), (22, 7), (97, 1), (101, 5), (1000, 13), (5003, 64)]
"""Corpus lengths with block sizes: the shortest that is allowed, one more or less than whole blocks, long ones."""


def epoch(order: SampleOrder, number: int) -> np.ndarray:
    return order.starts(np.arange(number * order.per_epoch, (number + 1) * order.per_epoch))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 257, 1000, 4099, 65537])
@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_permute_is_a_bijection(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


def test_permute_differs_by_key_and_from_the_identity() -> None:
    places = np.arange(1000)
    orders = np.stack([places, *(permute(places, 1000, key) for key in range(20))])
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).mean() < 0.02, "two random permutations agree at one place in a thousand"


def test_permute_spreads_neighbours() -> None:
    """Distances of neighbours in a random permutation of n average n / 3."""
    for key in range(5):
        steps = np.abs(np.diff(permute(np.arange(3000), 3000, key)))
        assert 900 < steps.mean() < 1100


def test_permute_evaluates_any_places() -> None:
    table = permute(np.arange(1009), 1009, 7)
    for places in (np.array([5]), np.array([1008, 0, 5, 5]), np.arange(1009)[::-3], np.array([], dtype=np.int64)):
        assert np.array_equal(permute(places, 1009, 7), table[places])


@pytest.mark.parametrize(("n_tokens", "block_size"), SHAPES)
@pytest.mark.parametrize("seed", [0, 1, 1337])
def test_an_epoch_has_every_window_once(n_tokens: int, block_size: int, seed: int) -> None:
    order = SampleOrder(n_tokens, block_size, seed)
    for number in range(5):
        starts = np.sort(epoch(order, number))
        assert len(starts) == order.per_epoch
        assert (np.diff(starts) == block_size).all(), "windows meet and do not overlap"
        assert starts[0] >= 0
        assert starts[-1] + block_size <= n_tokens - 1, "the last target is inside"


@pytest.mark.parametrize(("n_tokens", "block_size"), SHAPES)
def test_an_epoch_is_nearly_the_whole_corpus(n_tokens: int, block_size: int) -> None:
    left_out = n_tokens - 1 - SampleOrder(n_tokens, block_size, 0).per_epoch * block_size
    assert 0 <= left_out < 2 * block_size


def test_epochs_differ_in_order_and_in_phase() -> None:
    order = SampleOrder(2003, 17, seed=3)
    epochs = [epoch(order, number) for number in range(30)]
    phases = {int(starts.min()) for starts in epochs}
    places = {tuple((starts - starts.min()) // 17) for starts in epochs}
    assert len(phases) > 15
    assert len(places) == 30


def test_every_token_is_trained_on_sooner_or_later() -> None:
    order = SampleOrder(103, 11, seed=0)
    starts = order.starts(np.arange(60 * order.per_epoch))
    targets = np.unique(starts[:, None] + np.arange(1, 12))
    assert np.array_equal(targets, np.arange(1, 103))


def test_seeds_differ() -> None:
    firsts = {tuple(epoch(SampleOrder(2003, 17, seed), 0)) for seed in range(20)}
    assert len(firsts) == 20


@pytest.mark.parametrize("seed", [0, 5, 2**31, 2**40])
def test_order_is_a_pure_function_of_seed_and_sample(seed: int) -> None:
    """Any subset in any order, by another object, gives what the whole range gives."""
    whole = SampleOrder(701, 7, seed).starts(np.arange(600))
    other = SampleOrder(701, 7, seed)
    chosen = np.random.default_rng(0).permutation(600)[:211]
    assert np.array_equal(other.starts(chosen), whole[chosen])
    assert [int(other.starts(np.array([n]))[0]) for n in (599, 0, 98, 99)] == whole[[599, 0, 98, 99]].tolist()
