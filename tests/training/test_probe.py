"""A few steps that are tried, and the batches on which they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gpt2_lightning.data.classification.batches import LabelBatch
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.sampling.samples import Samples
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.training.performance.probe import Probe, probe_steps
from gpt2_lightning.training.performance.sequence_lengths import at_max_length, max_length, mean_length
from gpt2_lightning.training.trainer import TrainerSpec
from tests.training.language_modules import task
from tests.training.short_run import BLOCK

WIDTHS = [3, 5, 4, 2, 7, 3, 6, 2]


class Texts(Samples[LabelBatch]):
    """Texts of known widths; a batch is as wide as its longest."""

    per_epoch = len(WIDTHS)
    targets_per_sample = 4.0

    def read(self, numbers: NDArray[np.int64]) -> LabelBatch:
        lengths = torch.tensor([WIDTHS[number % len(WIDTHS)] for number in numbers.tolist()])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return LabelBatch(mask.long() * 5, mask, torch.ones(len(lengths), int(lengths.max())))


def test_widths_by_hand() -> None:
    assert max_length(Texts(), 11) == 7
    assert mean_length(Texts(), 2) == np.mean([5, 4, 7, 6])
    assert mean_length(Texts(), 8) == 7


def test_batches_may_be_as_wide_as_they_come(tokens: Tokens) -> None:
    data: Any = TokenDataModule([tokens], BLOCK, 6, 6, seed=0)
    data.samples = texts = Texts()
    with at_max_length(data, 11):
        batch = data.samples.read(np.array([2, 3]))
        assert batch.ids.shape == batch.mask.shape == (2, 7)
        assert batch.mask.all()
        assert batch.labels.shape == (2, 4), "labels have no place for each token"
    assert data.samples is texts


@pytest.mark.parametrize(("parts", "in_a_step"), [(1, 1), (2, 2), (5, 2)])
def test_a_trial_reads_the_batches_of_the_run_and_leaves_nothing(
    tokens: Tokens, parts: int, in_a_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = TokenDataModule([tokens], BLOCK, 3 * parts, 3, seed=0)
    samples, shapes = data.samples, []
    read = samples.read

    def noted(numbers: NDArray[np.int64]) -> Any:
        shapes.append(numbers.tolist())
        return read(numbers)

    monkeypatch.setattr(samples, "read", noted)
    probe = probe_steps(task(), data, TrainerSpec(accelerator="cpu", val_check_interval=1), parts, steps=3)
    assert shapes[: 3 * in_a_step] == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(3 * in_a_step)]
    assert (probe.seconds_to_add > 0) == (parts > 1)
    assert probe.seconds_to_step > 0
    assert data.trainer is None
    assert data.samples_seen == 0


def test_a_step_is_as_long_as_its_parts() -> None:
    assert Probe(seconds_to_add=2.0, seconds_to_step=5.0, peak_memory=None).seconds_of(4) == 3 * 2 + 5
    assert Probe(seconds_to_add=0.0, seconds_to_step=5.0, peak_memory=None).seconds_of(1) == 5
