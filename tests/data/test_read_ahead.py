"""Batches that are read ahead are those that are read directly, in their order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from gpt2_lightning.data.classification.batches import LabeledSamples
from gpt2_lightning.data.sampling import base_datamodule
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.sampling.read_ahead import ReadAheadLoader, read_ahead
from gpt2_lightning.data.shards import sequence
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from tests.data.token_sequences import sequence_of


class Source:
    """An iterator of numbers; the one that is `missing` cannot be read."""

    def __init__(self, count: int, missing: int = -1) -> None:
        self.count, self.missing, self.read = count, missing, 0
        self.threads: set[int] = set()
        self.changed = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        with self.changed:
            if self.read == self.count:
                raise StopIteration
            number, self.read = self.read, self.read + 1
            self.threads.add(threading.get_ident())
            self.changed.notify_all()
        if number == self.missing:
            raise UserError(f"number {number} became shorter")
        return number

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.read == count, timeout=30)


def data_of(folder: Path) -> TokenDataModule:
    tokens = Tokens(sequence_of(folder, np.arange(307), [100]), sequence_of(folder, np.arange(59)), {})
    return TokenDataModule([tokens], block_size=7, batch_size=6, micro_batch_size=2, seed=5)


def test_values_come_in_their_order() -> None:
    assert list(read_ahead(Source(50))) == list(range(50))
    assert list(read_ahead(Source(0))) == []


def test_two_values_are_read_before_they_are_needed_and_no_more() -> None:
    source = Source(50)
    values = read_ahead(source)
    assert next(values) == 0
    source.wait_for(3)
    assert source.threads.isdisjoint({threading.get_ident()})
    values.close()  # type: ignore[attr-defined]  # it is a generator
    assert source.read == 3


@pytest.mark.parametrize("missing", [0, 1, 7])
def test_an_exception_comes_in_place_of_its_value(missing: int) -> None:
    values = read_ahead(Source(50, missing))
    assert [next(values) for _ in range(missing)] == list(range(missing))
    with pytest.raises(UserError, match=f"number {missing} became shorter"):
        next(values)


def test_the_thread_ends_with_its_iterator() -> None:
    before = {*threading.enumerate()}
    values = read_ahead(Source(50))
    next(values)
    (reader,) = {*threading.enumerate()} - before
    del values
    reader.join(30)
    assert not reader.is_alive()


def test_batches_of_a_data_module_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(data: TokenDataModule) -> list[torch.Tensor]:
        training = iter(data.train_dataloader())
        return [next(training).inputs for _ in range(80)] + [batch.targets for batch in data.val_dataloader()]

    direct = batches(data_of(tmp_path))
    monkeypatch.setattr(base_datamodule, "DataLoader", ReadAheadLoader)
    ahead = batches(data_of(tmp_path))
    assert isinstance(data_of(tmp_path).train_dataloader(), ReadAheadLoader)
    assert len(ahead) == len(direct) > 80
    assert all(map(torch.equal, ahead, direct))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_batches_are_read_ahead_and_pinned_for_gpus_only(tmp_path: Path, device: str) -> None:
    data, strategy = data_of(tmp_path), SimpleNamespace(root_device=torch.device(device))
    data.trainer = cast(
        Any, SimpleNamespace(strategy=strategy, global_rank=0, world_size=1, check_val_every_n_epoch=None)
    )
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert isinstance(loader, ReadAheadLoader) == loader.pin_memory == (device == "cuda")


def test_two_threads_read_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one open file at a time, each read closes the file of the other thread."""
    monkeypatch.setattr(sequence, "_MOST_OPEN", 1)
    tokens = sequence_of(tmp_path, np.arange(4000), list(range(10, 4000, 10)))
    wrong: list[int] = []

    def read(first: int) -> None:
        for start in range(first, 3900, 3):
            if not np.array_equal(tokens.slice(start, start + 25), np.arange(start, start + 25)):
                wrong.append(start)

    readers = [threading.Thread(target=read, args=(first,)) for first in (0, 1500)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert not wrong


def test_another_epoch_that_is_read_meanwhile_does_not_change_the_order() -> None:
    class Interrupted(LabeledSamples):
        """While an order is drawn, another thread reads the first epoch."""

        def __init__(self) -> None:
            self.per_epoch, self._latest = 4, None

        def _order(self, epoch: int) -> np.ndarray:
            order = np.arange(4) + 10 * epoch
            if epoch:
                other = threading.Thread(target=self.rows, args=(np.arange(4),))
                other.start()
                other.join()
            return order

    assert Interrupted().rows(np.arange(8, 12)).tolist() == [20, 21, 22, 23]
