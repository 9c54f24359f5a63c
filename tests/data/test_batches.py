import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gpt2_lightning.data.sampling.batches import BatchNumbers, TrainingBatches, ValidationBatches
from gpt2_lightning.data.sampling.samples import JoinedSamples, MixedSamples, Samples, SeparateSamples
from gpt2_lightning.data.sampling.windows import Batch, DocumentWindows, JoinedWindows
from gpt2_lightning.model.loss import IGNORED
from tests.data.token_sequences import END, sequence_of


@pytest.fixture(params=["joined", "masked", "separate", "mixed"])
def samples(request: pytest.FixtureRequest, tmp_path: Path) -> Samples:
    ids = np.random.default_rng(0).integers(0, 20, size=307)
    sequence = sequence_of(tmp_path, ids, [30])
    joined = JoinedSamples(sequence, 7, seed=11)
    separate = SeparateSamples(sequence, 7, 11, END)
    made = {
        "joined": joined,
        "masked": JoinedSamples(sequence, 7, 11, masked_by=END),
        "separate": separate,
        "mixed": MixedSamples([joined, separate], [1, 2], seed=11),
    }
    return made[request.param]


def same(one: Batch, other: Batch) -> bool:
    return all(map(torch.equal, _columns(one), _columns(other)))


def joined(batches: list[Batch]) -> Batch:
    return Batch(*map(torch.cat, zip(*map(_columns, batches), strict=True)))


def _columns(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and documents, numbered from 0 in each row; without documents a row is one."""
    documents = batch.inputs * 0 if batch.documents is None else batch.documents - batch.documents[:, :1]
    assert batch.n_documents in (None, len(documents) + int(documents.diff().sum())), "they are counted"
    return batch.inputs, batch.targets, documents


def test_a_training_batch_is_its_samples(samples: Samples) -> None:
    assert same(TrainingBatches(samples, batch_size=5)[3], samples.read(np.arange(15, 20)))


@pytest.mark.parametrize(("world_size", "per_rank"), [(2, 3), (3, 2), (6, 1)])
def test_the_ranks_together_read_what_one_process_reads(samples: Samples, world_size: int, per_rank: int) -> None:
    alone = TrainingBatches(samples, batch_size=6)
    ranks = [TrainingBatches(samples, per_rank, rank, world_size) for rank in range(world_size)]
    for index in (0, 1, 5, 40, 700):
        assert same(joined([rank[index] for rank in ranks]), alone[index])


def test_micro_batches_together_are_the_batch(samples: Samples) -> None:
    alone = TrainingBatches(samples, batch_size=6)
    micro = TrainingBatches(samples, batch_size=2)
    for index in (0, 7):
        assert same(joined([micro[3 * index + i] for i in range(3)]), alone[index])


def test_ranks_that_accumulate_read_the_samples_of_the_step(samples: Samples) -> None:
    """A step of 12 is two micro-batches of 3 on each of two ranks."""
    step = samples.read(np.arange(24, 36))
    ranks = [TrainingBatches(samples, 3, rank, 2) for rank in range(2)]
    assert same(joined([rank[index] for index in (4, 5) for rank in ranks]), step)


def test_batches_start_at_any_sample(samples: Samples) -> None:
    later = TrainingBatches(samples, batch_size=3, first_sample=20)
    assert same(later[1], samples.read(np.array([23, 24, 25])))


def test_endless_numbers_start_anew() -> None:
    numbers = BatchNumbers()
    assert list(itertools.islice(numbers, 4)) == [0, 1, 2, 3]
    assert list(itertools.islice(numbers, 2)) == [0, 1]


@pytest.mark.parametrize("n_tokens", [2, 3, 7, 8, 9, 15, 22, 100, 113])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_validation_predicts_every_token_but_the_first_once(
    tmp_path: Path, n_tokens: int, batch_size: int, world_size: int
) -> None:
    windows = [JoinedWindows(sequence_of(tmp_path, np.arange(n_tokens), [1]), 7)]
    ranks = [ValidationBatches(windows, batch_size, rank, world_size) for rank in range(world_size)]
    batches = [dataset[i] for dataset in ranks for i in range(len(dataset))]
    targets = torch.cat([batch.targets[batch.targets != IGNORED] for batch in batches])
    inputs = torch.cat([batch.inputs[batch.targets != IGNORED] for batch in batches])
    assert torch.equal(targets, inputs + 1)
    assert all(batch.inputs.size(0) <= batch_size for batch in batches)
    assert targets.sort().values.tolist() == list(range(1, n_tokens))


@pytest.mark.parametrize("batch_size", [1, 3, 50])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_corpora_of_a_mix_validate_and_no_batch_has_two(tmp_path: Path, batch_size: int, world_size: int) -> None:
    windows = [JoinedWindows(sequence_of(tmp_path, np.arange(n) + 1000 * i), 7) for i, n in enumerate((30, 8, 101))]
    ranks = [ValidationBatches(windows, batch_size, rank, world_size) for rank in range(world_size)]
    batches = [dataset[i] for dataset in ranks for i in range(len(dataset))]
    targets = [batch.targets[batch.targets != IGNORED] for batch in batches]
    assert all(len(set((t // 1000).tolist())) == 1 for t in targets)
    expected = [*range(1, 30), *range(1001, 1008), *range(2001, 2101)]
    assert torch.cat(targets).sort().values.tolist() == expected


def test_validation_of_separate_documents_predicts_the_same_tokens(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, END + 1, size=211)
    sequence = sequence_of(tmp_path, ids)
    batches = ValidationBatches([DocumentWindows(sequence, 7, END)], batch_size=4)
    targets = torch.cat(
        [batch.targets[batch.targets != IGNORED] for batch in map(batches.__getitem__, range(len(batches)))]
    )
    assert targets.tolist() == ids[1:].tolist()


def test_validation_of_masked_documents_says_which_they_are(tmp_path: Path) -> None:
    windows = [JoinedWindows(sequence_of(tmp_path, [1, END, 2, 3, END, END, 4, 5]), 4)]
    documents = ValidationBatches(windows, batch_size=2, masked_by=END)[0].documents
    assert documents is not None
    assert documents[:, :3].tolist() == [[0, 1, 1], [1, 2, 2]]


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_share_validation_evenly(tmp_path: Path, world_size: int) -> None:
    windows = [JoinedWindows(sequence_of(tmp_path, np.arange(211)), 7)]
    counts = [len(ValidationBatches(windows, 2, rank, world_size)) for rank in range(world_size)]
    assert max(counts) - min(counts) <= 1


def test_there_is_no_batch_after_the_last(tmp_path: Path) -> None:
    batches = ValidationBatches([JoinedWindows(sequence_of(tmp_path, np.arange(211)), 7)], batch_size=2)
    assert len(batches) == 15
    for index in (15, -1):
        with pytest.raises(IndexError, match="there are 15 batches"):
            batches[index]
