"""Rows of examples: each once in an epoch, none seen by its neighbours, and padding that changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2_lightning.data.instruction.encoding import Example
from gpt2_lightning.data.instruction.samples import ExampleBatches, PackedSamples, PaddedSamples, batch_of
from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.huggingface import config_to_huggingface, to_huggingface
from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.model.loss import IGNORED
from tests.data.conversations import LETTERS, examples
from tests.huggingface.networks import lively

BLOCK = 23
CONFIG = GPT2Config(vocab_size=LETTERS.vocab_size, block_size=BLOCK, n_layer=2, n_head=3, n_embd=15)


def identities(rows: list[list[Example]]) -> list[int]:
    return [id(example) for row in rows for example in row]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_each_example_comes_once_in_an_epoch(packing: bool, epoch: int) -> None:
    rows = examples(41)
    samples = PackedSamples(rows, BLOCK, 7) if packing else PaddedSamples(rows, 3, 7)
    numbers = np.arange(epoch * samples.per_epoch, (epoch + 1) * samples.per_epoch)
    assert sorted(identities(samples.rows_of(numbers))) == sorted(map(id, rows))


@pytest.mark.parametrize("packing", [True, False])
def test_epochs_and_seeds_differ_in_order(packing: bool) -> None:
    rows = examples(41)
    samples = [PackedSamples(rows, BLOCK, seed) if packing else PaddedSamples(rows, 3, seed) for seed in (7, 8)]
    per_epoch = samples[0].per_epoch
    epochs = [identities(samples[0].rows_of(np.arange(e * per_epoch, (e + 1) * per_epoch))) for e in range(3)]
    other_seed = identities(samples[1].rows_of(np.arange(per_epoch)))
    assert len({tuple(order) for order in [*epochs, other_seed]}) == 4


@pytest.mark.parametrize("packing", [True, False])
def test_a_sample_depends_on_its_number_alone(packing: bool) -> None:
    """A run that goes on elsewhere reads the same, in whatever parts, also over the end of an epoch."""
    rows = examples(41)
    make = (lambda: PackedSamples(rows, BLOCK, 7)) if packing else (lambda: PaddedSamples(rows, 3, 7))
    whole = make().rows_of(np.arange(100))
    for start in (97, 0, 40, 41, 11, 99):
        assert make().rows_of(np.arange(start, 100)) == whole[start:]
        assert make().rows_of(np.array([start])) == whole[start : start + 1]


def test_a_hand_worked_row() -> None:
    one = Example(np.array([3, 4, 5, 9]), np.array([False, False, True, True]))
    other = Example(np.array([6, 7, 9]), np.array([False, True, True]))
    batch = batch_of([[one, other]], width=7, packed=True)
    assert batch.inputs[0, :5].tolist() == [3, 4, 5, 6, 7]
    assert batch.targets.tolist() == [[IGNORED, 5, 9, 7, 9, IGNORED, IGNORED]]
    assert batch.documents is not None
    assert batch.documents.tolist() == [[0, 0, 0, 1, 1, 2, 2]]
    assert batch.n_documents == 3


def test_a_full_row_has_no_padding() -> None:
    one = Example(np.array([3, 4, 5, 9]), np.array([False, False, True, True]))
    batch = batch_of([[one, one]], width=6, packed=True)
    assert batch.documents is not None
    assert batch.documents.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert batch.targets.tolist() == [[IGNORED, 5, 9] * 2]


def test_the_end_is_a_target_wherever_it_stands() -> None:
    """It is masked neither by its id, though padding might have the same, nor at the end of a row."""
    for samples in (PackedSamples(examples(41), BLOCK, 7), PaddedSamples(examples(41), 3, 7)):
        targets = samples.read(np.arange(samples.per_epoch)).targets
        assert int((targets == LETTERS.end_of_text).sum()) == 41
        assert int((targets != IGNORED).sum()) == sum(example.n_targets for example in examples(41))


def loss_and_gradients(model: GPT2, batches: list[Batch]) -> tuple[Tensor, list[Tensor]]:
    """The sum over all targets, and its gradients."""
    model.zero_grad()
    losses = [cross_entropy(model(b.inputs, document_ids=b.documents), b.targets, reduction="sum") for b in batches]
    total = torch.stack(losses).sum()
    total.backward()
    return total.detach(), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def separate_loss(model: GPT2, rows: list[Example]) -> tuple[Tensor, list[Tensor]]:
    """The same from each example read alone, without padding, with torch's loss of its answer."""
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float32)
    for example in rows:
        logits = model(torch.from_numpy(example.ids[:-1])[None])[0]
        learned = torch.from_numpy(example.learned[1:])
        wanted = torch.from_numpy(example.ids[1:])[learned]
        total = total + F.nll_loss(logits.log_softmax(-1)[learned].float(), wanted, reduction="sum")
    total.backward()
    return total.detach(), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def model() -> GPT2:
    return lively(CONFIG)


@pytest.mark.parametrize("kind", ["packed", "padded", "validation"])
def test_loss_and_gradients_are_those_of_each_example_alone(model: GPT2, kind: str) -> None:
    rows = examples(13)
    packed, padded = PackedSamples(rows, BLOCK, 7), PaddedSamples(rows, 3, 7)
    assert max(len(row) for row in packed.rows) > 1
    batches = {
        "packed": [packed.read(np.arange(packed.per_epoch))],
        "padded": [padded.read(np.arange(13))],
        "validation": list(map(ExampleBatches(rows, 4).__getitem__, range(4))),
    }[kind]
    loss, gradients = loss_and_gradients(model, batches)
    expected_loss, expected = separate_loss(model, rows)
    scale = max(float(gradient.abs().max()) for gradient in expected)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    assert largest_difference(gradients, expected) < 1e-5 * scale


@pytest.mark.parametrize("leak", ["attention", "one boundary", "target"])
def test_a_planted_leak_shows(model: GPT2, leak: str) -> None:
    rows = examples(13)
    samples = PackedSamples(rows, BLOCK, 7)
    batch = samples.read(np.arange(samples.per_epoch))
    assert batch.documents is not None
    if leak == "attention":
        batch = batch._replace(documents=None)
    elif leak == "one boundary":  # as if the second example of each row went on where the first ended
        batch = batch._replace(documents=batch.documents.clamp(min=1))
    else:
        last = (batch.documents[:, 1:] != batch.documents[:, :-1]) & (batch.targets[:, 1:] == IGNORED)
        targets = batch.targets.clone()
        targets[:, :-1][last] = batch.inputs[:, 1:][last]  # the first token of the next example
        batch = batch._replace(targets=targets)
    loss, gradients = loss_and_gradients(model, [batch])
    expected_loss, expected = separate_loss(model, rows)
    scale = max(float(gradient.abs().max()) for gradient in expected)
    assert abs(float(loss - expected_loss)) > 1e-4 * float(expected_loss)
    assert largest_difference(gradients, expected) > 1e-3 * scale


@pytest.mark.parametrize("packed", [True, False])
def test_what_stands_in_the_padding_changes_nothing(model: GPT2, packed: bool) -> None:
    rows = [[example] for example in examples(5)]
    batch = batch_of(rows, BLOCK, packed)
    empty = torch.arange(BLOCK)[None] >= torch.tensor([[row[0].width] for row in rows])
    filled = batch._replace(inputs=torch.where(empty, LETTERS.end_of_text, batch.inputs))
    assert not torch.equal(filled.inputs, batch.inputs)
    one, other = loss_and_gradients(model, [batch]), loss_and_gradients(model, [filled])
    assert torch.equal(one[0], other[0])
    assert largest_difference(one[1], other[1]) < 1e-5


def test_loss_and_gradients_are_huggingfaces(model: GPT2) -> None:
    """Labels of -100 there; the mean is over what carries loss in both."""
    from transformers import GPT2Config as TheirConfig
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel(TheirConfig(**config_to_huggingface(CONFIG))).eval()
    theirs.load_state_dict(to_huggingface(model), strict=False)
    rows = examples(7)
    width = max(len(example.ids) for example in rows)
    ids = torch.zeros(7, width, dtype=torch.int64)
    labels = torch.full((7, width), -100)
    for row, example in enumerate(rows):
        ids[row, : len(example.ids)] = torch.from_numpy(example.ids)
        labels[row, : len(example.ids)] = torch.from_numpy(np.where(example.learned, example.ids, -100))
    loss = theirs(ids, labels=labels).loss
    loss.backward()
    samples = PackedSamples(rows, BLOCK, 7)
    total, gradients = loss_and_gradients(model, [samples.read(np.arange(samples.per_epoch))])
    count = sum(example.n_targets for example in rows)
    torch.testing.assert_close(total / count, loss.detach(), rtol=1e-6, atol=0)
    assert theirs.transformer.wte.weight.grad is not None
    torch.testing.assert_close(gradients[0] / count, theirs.transformer.wte.weight.grad, rtol=1e-4, atol=1e-5)


def test_targets_of_a_sample_are_a_mean_over_the_epoch() -> None:
    for samples in (PackedSamples(examples(41), BLOCK, 7), PaddedSamples(examples(41), 3, 7)):
        targets = samples.read(np.arange(samples.per_epoch)).targets
        assert samples.targets_per_sample == pytest.approx(float((targets != IGNORED).sum()) / samples.per_epoch)


def test_the_share_of_padding_is_that_of_the_batches() -> None:
    rows = examples(41)
    packed, padded = PackedSamples(rows, BLOCK, 7), PaddedSamples(rows, 6, 7)
    used = sum(example.width for example in rows)
    assert packed.padding == pytest.approx(1 - used / packed.read(np.arange(packed.per_epoch)).inputs.numel())
    places = sum(padded.read(np.arange(start, min(start + 3, 41))).inputs.numel() for start in range(0, 41, 3))
    assert padded.padding(3) == pytest.approx(1 - used / places)


def test_neighbours_are_of_similar_width() -> None:
    rows = examples(200, longest=18)
    sorted_share = PaddedSamples(rows, 5, 7).padding(5)
    widths = np.array([example.width for example in rows]).reshape(40, 5)
    unsorted_share = 1 - widths.sum() / (5 * widths.max(axis=1).sum())
    assert sorted_share < 0.3 * unsorted_share


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_has_every_example_once_over_all_ranks(world_size: int) -> None:
    rows = examples(17)
    ranks = [ExampleBatches(rows, 4, rank, world_size) for rank in range(world_size)]
    batches = [rank[index] for rank in ranks for index in range(len(rank))]
    read = sorted(
        (*inputs[: int((targets != IGNORED).nonzero().max()) + 1].tolist(), int(targets[targets != IGNORED].sum()))
        for batch in batches
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True)
    )
    expected = sorted((*example.ids[:-1].tolist(), int(example.ids[example.learned].sum())) for example in rows)
    assert read == expected
