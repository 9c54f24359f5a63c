import itertools

import numpy as np
import pytest
import torch

from gpt2_lightning.data.order import SampleOrder
from gpt2_lightning.data.windows import Endless, TrainingBatches, ValidationBatches


@pytest.fixture
def order() -> SampleOrder:
    return SampleOrder(n_tokens=307, block_size=7, seed=11)


def test_a_training_batch_is_the_windows_of_its_samples(order: SampleOrder) -> None:
    ids = np.random.default_rng(0).integers(0, 50, size=307).astype(np.uint16)
    batch = TrainingBatches(ids, order, batch_size=5)[3]
    expected = [ids[start : start + 8] for start in order.starts(np.arange(15, 20))]
    assert batch.dtype == torch.int64
    assert np.array_equal(batch.numpy(), np.stack(expected))


def test_ids_beyond_uint16_survive(order: SampleOrder) -> None:
    ids = np.arange(70_000, 70_307, dtype=np.uint32)
    assert int(TrainingBatches(ids, order, batch_size=41)[0].min()) >= 70_000


@pytest.mark.parametrize(("world_size", "per_rank"), [(2, 3), (3, 2), (6, 1)])
def test_the_ranks_together_read_what_one_process_reads(order: SampleOrder, world_size: int, per_rank: int) -> None:
    ids = np.arange(307)
    alone = TrainingBatches(ids, order, batch_size=6)
    ranks = [TrainingBatches(ids, order, per_rank, rank, world_size) for rank in range(world_size)]
    for index in (0, 1, 5, 40):
        assert torch.equal(torch.cat([rank[index] for rank in ranks]), alone[index])


def test_micro_batches_together_are_the_batch(order: SampleOrder) -> None:
    ids = np.arange(307)
    alone = TrainingBatches(ids, order, batch_size=6)
    micro = TrainingBatches(ids, order, batch_size=2)
    for index in (0, 7):
        assert torch.equal(torch.cat([micro[3 * index + i] for i in range(3)]), alone[index])


def test_batches_start_at_any_sample(order: SampleOrder) -> None:
    ids = np.random.default_rng(0).integers(0, 50, size=307).astype(np.uint16)
    whole = TrainingBatches(ids, order, batch_size=1)
    later = TrainingBatches(ids, order, batch_size=3, first_sample=20)
    assert torch.equal(later[1], torch.cat([whole[i] for i in (23, 24, 25)]))


def test_endless_numbers_start_anew() -> None:
    numbers = Endless()
    assert list(itertools.islice(numbers, 4)) == [0, 1, 2, 3]
    assert list(itertools.islice(numbers, 2)) == [0, 1]


@pytest.mark.parametrize("n_tokens", [2, 3, 7, 8, 9, 15, 22, 100, 113])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_validation_predicts_every_token_but_the_first_once(n_tokens: int, batch_size: int, world_size: int) -> None:
    ids = np.arange(n_tokens)
    ranks = [ValidationBatches(ids, 7, batch_size, rank, world_size) for rank in range(world_size)]
    batches = [dataset[i] for dataset in ranks for i in range(len(dataset))]
    assert all((batch.diff(dim=1) == 1).all() for batch in batches)
    assert all(batch.size(0) <= batch_size and batch.size(1) <= 8 for batch in batches)
    targets = torch.cat([batch[:, 1:].flatten() for batch in batches])
    assert targets.sort().values.tolist() == list(range(1, n_tokens))


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_share_validation_evenly(world_size: int) -> None:
    counts = [len(ValidationBatches(np.arange(211), 7, 2, rank, world_size)) for rank in range(world_size)]
    assert max(counts) - min(counts) <= 1
