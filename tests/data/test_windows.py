import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2_lightning.data.sampling import windows as windows_module
from gpt2_lightning.data.sampling.windows import DocumentWindows, JoinedWindows, Windows, read_batch
from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.model.loss import IGNORED
from tests.data.token_sequences import END, sequence_of

BLOCK = 5
CORPORA = {
    "one document": "abc.",
    "one that is not closed": "abc",
    "the last is not closed": "ab.cdefg.hi",
    "an end comes first": ".ab.cd.",
    "empty documents": "ab...c..",
    "nothing but ends": "....",
    "longer than a block": "abcdefghabcdefgh.ab.abcdeabcde.abcd.abcde.",
    "one target": "a.",
    "no end at all": "abcdefghabcdefgh",
}
"""Corpora of documents, each closed by a full stop, which stands for the end of text."""


def ids_of(text: str) -> list[int]:
    return [END if c == "." else ord(c) - ord("a") for c in text]


def all_places(windows: Windows) -> tuple[list[int], list[int]]:
    starts, lengths = windows.places(np.arange(len(windows)))
    return starts.tolist(), lengths.tolist()


def documents_by_hand(ids: list[int]) -> list[tuple[int, int]]:
    """First and last token of each document, its first being the end of the one before."""
    borders = [0, *(place for place, token in enumerate(ids) if token == END), len(ids) - 1]
    return [(first, last) for first, last in itertools.pairwise(borders) if last > first]


@pytest.fixture(params=CORPORA.values(), ids=CORPORA.keys())
def ids(request: pytest.FixtureRequest) -> list[int]:
    return ids_of(request.param)


@pytest.mark.parametrize("block_size", [1, 2, 5, 100])
@pytest.mark.parametrize("kind", ["joined", "separate"])
def test_every_token_but_the_first_is_a_target_once(tmp_path: Path, ids: list[int], block_size: int, kind: str) -> None:
    sequence = sequence_of(tmp_path, ids)
    joined = kind == "joined"
    windows = JoinedWindows(sequence, block_size) if joined else DocumentWindows(sequence, block_size, END)
    starts, lengths = all_places(windows)
    assert all(1 <= length <= block_size for length in lengths)
    targets = [start + 1 + i for start, length in zip(starts, lengths, strict=True) for i in range(length)]
    assert targets == list(range(1, len(ids)))


@pytest.mark.parametrize("block_size", [1, 2, 5, 100])
def test_separate_windows_are_the_documents_cut_into_blocks(tmp_path: Path, ids: list[int], block_size: int) -> None:
    expected = [
        (start, min(block_size, last - start))
        for first, last in documents_by_hand(ids)
        for start in range(first, last, block_size)
    ]
    starts, lengths = all_places(DocumentWindows(sequence_of(tmp_path, ids), block_size, END))
    assert list(zip(starts, lengths, strict=True)) == expected
    for start, length in expected:
        assert END not in ids[start + 1 : start + length], "an end opens a window or is its last target"


def test_joined_windows_run_over_boundaries(tmp_path: Path) -> None:
    assert all_places(JoinedWindows(sequence_of(tmp_path, ids_of("ab.cdefg.hi")), 4)) == ([0, 4, 8], [4, 4, 2])


def test_places_of_any_windows_in_any_order(tmp_path: Path) -> None:
    windows = DocumentWindows(sequence_of(tmp_path, ids_of("abcdefgh.ab..abcdef.")), 3, END)
    starts, lengths = windows.places(np.array([6, 0, 4, 4]))
    whole_starts, whole_lengths = all_places(windows)
    assert starts.tolist() == [whole_starts[i] for i in (6, 0, 4, 4)]
    assert lengths.tolist() == [whole_lengths[i] for i in (6, 0, 4, 4)]


@pytest.mark.parametrize("scanned_at_once", [1, 2, 3, 7])
def test_documents_are_the_same_however_much_is_scanned_at_once(
    tmp_path: Path, ids: list[int], scanned_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = sequence_of(tmp_path, ids)
    whole = all_places(DocumentWindows(sequence, 3, END))
    monkeypatch.setattr(windows_module, "_SCANNED_AT_ONCE", scanned_at_once)
    assert all_places(DocumentWindows(sequence, 3, END)) == whole


def test_a_batch_holds_inputs_and_the_tokens_after_them(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 50, size=53)
    batch = read_batch(sequence_of(tmp_path, ids, [20]), np.array([17, 0, 47]), None, BLOCK)
    assert batch.inputs.tolist() == [ids[s : s + 5].tolist() for s in (17, 0, 47)]
    assert batch.targets.tolist() == [ids[s + 1 : s + 6].tolist() for s in (17, 0, 47)]
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.int64, torch.int64)
    assert batch.documents is None


def test_short_windows_are_padded_with_what_is_not_predicted(tmp_path: Path) -> None:
    sequence = sequence_of(tmp_path, [11, 12, 13, 14, 15, 16, 17])
    batch = read_batch(sequence, np.array([0, 4]), np.array([5, 2]), BLOCK)
    no = IGNORED
    assert batch.targets.tolist() == [[12, 13, 14, 15, 16], [16, 17, no, no, no]]
    assert batch.inputs[0].tolist() == [11, 12, 13, 14, 15]
    assert batch.inputs[1, :2].tolist() == [15, 16]
    assert (batch.inputs[1, 2:] >= 0).all(), "a model looks them up"


def test_an_end_of_text_opens_the_document_after_it(tmp_path: Path) -> None:
    sequence = sequence_of(tmp_path, ids_of("ab.c..de.f"))
    batch = read_batch(sequence, np.array([0, 2, 4]), None, BLOCK, masked_by=END)
    assert batch.documents is not None
    assert batch.documents.tolist() == [[0, 0, 1, 1, 2], [1, 1, 2, 3, 3], [1, 2, 2, 2, 3]]
    assert batch.n_documents == 9


def test_rows_of_one_document_each_need_no_boundaries(tmp_path: Path) -> None:
    """The second row begins with the token that opens its document."""
    sequence = sequence_of(tmp_path, ids_of("abcde.fghij"))
    batch = read_batch(sequence, np.array([0, 5]), None, 5, masked_by=END)
    assert (batch.documents, batch.n_documents) == (None, None)


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=10, block_size=13, n_layer=2, n_head=2, n_embd=14)).eval().double()
    for weight in model.parameters():
        weight.data.mul_(5)
    return model


def losses_of_documents(model: GPT2, ids: list[int]) -> list[float]:
    """Loss of each target, where every document is read by itself."""
    losses = []
    for first, last in documents_by_hand(ids):
        logits = model(torch.tensor([ids[first:last]]))[0]
        targets = ids[first + 1 : last + 1]
        losses += [-float(row.log_softmax(-1)[target]) for row, target in zip(logits, targets, strict=True)]
    return losses


@pytest.mark.parametrize("text", ["abc.de.f..ghab", ".abcdef.ghabc."])
@torch.no_grad()
def test_masked_documents_are_as_if_each_were_read_alone(tmp_path: Path, model: GPT2, text: str) -> None:
    ids = ids_of(text)
    batch = read_batch(sequence_of(tmp_path, ids), np.array([0]), None, 13, masked_by=END)
    logits = model(batch.inputs, document_ids=batch.documents)
    found = [cross_entropy(logits[:, i : i + 1], batch.targets[:, i : i + 1]).item() for i in range(13)]
    expected = losses_of_documents(model, ids)
    assert found == pytest.approx(expected, abs=1e-6), "the loss is computed in float32"
    assert cross_entropy(logits, batch.targets).item() == pytest.approx(np.mean(expected), abs=1e-6)
    leaking = cross_entropy(model(batch.inputs), batch.targets).item()
    assert abs(leaking - np.mean(expected)) > 1e-3, "documents that see each other have another loss"


@torch.no_grad()
def test_separate_windows_have_the_losses_of_masked_documents(tmp_path: Path, model: GPT2) -> None:
    sequence = sequence_of(tmp_path, ids_of("abc.de.f..ghab"))
    windows = DocumentWindows(sequence, 13, END)
    separate = read_batch(sequence, *windows.places(np.arange(len(windows))), 13)
    masked = read_batch(sequence, np.array([0]), None, 13, masked_by=END)
    one = cross_entropy(model(separate.inputs), separate.targets, reduction="sum")
    other = cross_entropy(model(masked.inputs, document_ids=masked.documents), masked.targets, reduction="sum")
    assert one.item() == pytest.approx(other.item(), abs=1e-5)
    assert (separate.targets != IGNORED).sum() == 13
