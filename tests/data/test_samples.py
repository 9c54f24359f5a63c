import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gpt2_lightning.data.sampling import samples as samples_module
from gpt2_lightning.data.sampling.permutation import SampleOrder
from gpt2_lightning.data.sampling.samples import JoinedSamples, MixedSamples, Samples, SeparateSamples
from gpt2_lightning.data.sampling.windows import Batch, DocumentWindows
from gpt2_lightning.model.loss import IGNORED
from tests.data.token_sequences import END, sequence_of

ROUND = 4096


class Numbered(Samples):
    """Samples that are their own numbers, of a corpus that has its own hundred thousands."""

    def __init__(self, corpus: int, per_epoch: int) -> None:
        self.corpus, self.per_epoch, self.targets_per_sample = corpus, per_epoch, 1.0 + corpus

    def read(self, numbers: NDArray[np.int64]) -> Batch:
        inputs = torch.from_numpy(numbers + 100_000 * self.corpus)[:, None]
        return Batch(inputs, inputs + 1)


def mix_of(weights: list[float], seed: int = 3) -> MixedSamples:
    return MixedSamples([Numbered(i, 10 + i) for i in range(len(weights))], weights, seed)


def documents(seed: int, length: int) -> NDArray[np.int64]:
    """Ids in which a tenth are ends of documents."""
    return np.random.default_rng(seed).integers(0, END + 1, size=length)


@pytest.fixture
def separate(tmp_path: Path) -> SeparateSamples:
    return SeparateSamples(sequence_of(tmp_path, documents(0, 307), [100]), block_size=5, seed=11, end_of_text=END)


def rows_of(batch: Batch) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat([batch.inputs, batch.targets], dim=1).tolist()]


def test_joined_samples_are_the_windows_of_the_order(tmp_path: Path) -> None:
    samples = JoinedSamples(sequence_of(tmp_path, np.arange(307), [50]), block_size=7, seed=11)
    numbers = np.array([3, 0, 41, 42, 1000])
    starts = SampleOrder(307, 7, seed=11).starts(numbers)
    assert samples.read(numbers).inputs.tolist() == [list(range(s, s + 7)) for s in starts]
    assert samples.read(numbers).targets.tolist() == [list(range(s + 1, s + 8)) for s in starts]
    assert (samples.per_epoch, samples.targets_per_sample) == (42, 7)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_of_separate_samples_has_every_window_once(separate: SeparateSamples, epoch: int) -> None:
    windows = DocumentWindows(separate.windows.sequence, 5, END)
    starts, lengths = windows.places(np.arange(len(windows)))
    ids = documents(0, 307)
    expected = sorted(
        ((*ids[s : s + n], *ids[s + 1 : s + n + 1]), n) for s, n in zip(starts.tolist(), lengths.tolist(), strict=True)
    )
    batch = separate.read(np.arange(epoch * separate.per_epoch, (epoch + 1) * separate.per_epoch))
    found = []
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        n = sum(target != IGNORED for target in targets)
        found.append(((*inputs[:n], *targets[:n]), n))
    assert sorted(found) == expected


def test_separate_samples_hold_one_document(separate: SeparateSamples) -> None:
    batch = separate.read(np.arange(5 * separate.per_epoch))
    predicted = batch.targets != IGNORED
    assert not ((batch.inputs[:, 1:] == END) & predicted[:, 1:]).any()
    assert int(predicted.sum()) == 5 * 306
    assert separate.targets_per_sample * separate.per_epoch == pytest.approx(306)


def test_epochs_of_separate_samples_differ(separate: SeparateSamples) -> None:
    whole = rows_of(separate.read(np.arange(3 * separate.per_epoch)))
    epochs = [tuple(whole[i * separate.per_epoch : (i + 1) * separate.per_epoch]) for i in range(3)]
    assert len(set(epochs)) == 3


@pytest.mark.parametrize("kind", ["separate", "mixed"])
def test_samples_are_a_pure_function_of_seed_and_number(separate: SeparateSamples, tmp_path: Path, kind: str) -> None:
    def make(seed: int) -> Samples:
        part = SeparateSamples(separate.windows.sequence, 5, seed, END)
        other = JoinedSamples(sequence_of(tmp_path, documents(1, 97)), 5, seed)
        return MixedSamples([part, other], [1, 2], seed) if kind == "mixed" else part

    whole = rows_of(make(11).read(np.arange(600)))
    chosen = np.random.default_rng(0).permutation(600)[:211]
    assert rows_of(make(11).read(chosen)) == [whole[i] for i in chosen]
    assert [rows_of(make(11).read(np.array([n])))[0] for n in (599, 0, 98)] == [whole[n] for n in (599, 0, 98)]
    assert rows_of(make(12).read(np.arange(600))) != whole


@pytest.mark.parametrize(
    ("weights", "quotas"),
    [
        ([1, 1], [2048, 2048]),
        ([3, 1], [3072, 1024]),
        ([0.75, 0.25], [3072, 1024]),
        ([1, 1, 1], [1366, 1365, 1365]),
        ([0.1, 0.2], [1365, 2731]),
        ([1e9, 5e8, 5e8], [2048, 1024, 1024]),
        ([1e-9, 1], [1, 4095]),
        ([1, 1e-300, 1], [2048, 1, 2047]),
        ([1e-9, 1e-9, 4096], [1, 1, 4094]),
        ([5], [4096]),
    ],
)
def test_every_round_has_the_exact_shares(weights: list[float], quotas: list[int]) -> None:
    mix = mix_of(weights)
    for turn in (0, 1, 5):
        part, _ = mix.choose(np.arange(turn * ROUND, (turn + 1) * ROUND))
        assert np.bincount(part, minlength=len(weights)).tolist() == quotas


@pytest.mark.parametrize("weights", [[1, 1], [3, 1, 0.001], [0.2, 0.3, 0.5]])
def test_each_corpus_goes_through_its_samples_in_turn(weights: list[float]) -> None:
    """After any whole round, the numbers of each are those from 0 up, each once, so that its epochs repeat nothing."""
    mix = mix_of(weights)
    part, own = mix.choose(np.arange(3 * ROUND))
    for index in range(len(weights)):
        numbers = own[part == index]
        assert sorted(numbers.tolist()) == list(range(len(numbers)))


def test_a_small_case_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of 4 with shares 3 to 1: slots 0, 1 and 2 are the first corpus's, 3 the second's."""
    monkeypatch.setattr(samples_module, "_ROUND", 4)
    monkeypatch.setattr(samples_module, "permute", lambda places, size, key: (places + key) % size)
    monkeypatch.setattr(samples_module, "keys_of", lambda seed, turn: (None, seed + turn))
    part, own = mix_of([3, 1], seed=1).choose(np.arange(12))
    #                    slots 1 2 3 0 | 2 3 0 1 | 3 0 1 2
    assert part.tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0]
    assert own.tolist() == [1, 2, 0, 0, 5, 1, 3, 4, 2, 6, 7, 8]


def test_corpora_alternate_in_another_way_in_every_round() -> None:
    mix = mix_of([1, 1])
    rounds = [mix.choose(np.arange(t * ROUND, (t + 1) * ROUND))[0] for t in range(6)]
    for one, other in itertools.combinations(rounds, 2):
        assert 0.45 < (one == other).mean() < 0.55
    assert abs(np.diff(rounds[0]).astype(bool).mean() - 0.5) < 0.05, "neighbours are as often of one corpus as of two"


def test_rows_are_those_of_the_corpora_in_the_order_asked_for() -> None:
    mix = mix_of([2, 1, 1])
    numbers = np.random.default_rng(0).permutation(9000)[:50]
    part, own = mix.choose(numbers)
    batch = mix.read(numbers)
    assert batch.inputs[:, 0].tolist() == (own + 100_000 * part).tolist()
    assert batch.targets[:, 0].tolist() == (own + 100_000 * part + 1).tolist()
    assert batch.documents is None
    assert set(part.tolist()) == {0, 1, 2}


def test_figures_of_a_mix() -> None:
    mix = mix_of([3, 1])
    assert mix.per_epoch == 10 + 11
    assert mix.targets_per_sample == pytest.approx(0.75 * 1 + 0.25 * 2)


def test_masked_documents_are_mixed_as_well(tmp_path: Path) -> None:
    parts = [JoinedSamples(sequence_of(tmp_path, documents(i, 101)), 7, 0, masked_by=END) for i in range(2)]
    batch = MixedSamples(list(parts), [1, 1], 0).read(np.arange(40))
    assert batch.documents is not None
    assert torch.equal(batch.documents, (batch.inputs == END).cumsum(1))
