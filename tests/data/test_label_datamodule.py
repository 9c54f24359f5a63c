"""Labeled texts in batches: which, in what order, how padded; and labels that cannot be learned."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2_lightning.data.classification.batches import LabelBatch, LabeledSamples, LabeledSet
from gpt2_lightning.data.classification.datamodule import LabelDataModule
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.data.sampling.batches import TrainingBatches
from gpt2_lightning.data.tables import LabeledText, LabeledTexts, Splits
from gpt2_lightning.errors import UserError
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer

ALPHABET = "abcdefgh "
TOKENIZER = CharTokenizer(ALPHABET)
HAM, SPAM = LabeledText("a bad egg", "ham"), LabeledText("abcdefghabcdefgh", "spam")


def rows_of(count: int, seed: int = 0) -> list[LabeledText]:
    """Texts of 1 to 40 characters."""
    dice = np.random.default_rng(seed)
    texts = ["".join(dice.choice(list("abcdefgh"), dice.integers(1, 41))) for _ in range(count)]
    return [LabeledText(text, "ab"[i % 2]) for i, text in enumerate(texts)]


def set_of(count: int) -> LabeledSet:
    rows = rows_of(count)
    texts = EncodedTexts([row.text for row in rows], TOKENIZER, 64)
    return LabeledSet(rows, texts, KINDS["single"].targets(rows, ("a", "b")))


def module_of(
    train: list[LabeledText], *, block_size: int = 11, kind: str = "single", **more: object
) -> LabelDataModule:
    settings = {"classes": ("ham", "spam"), "batch_size": 4, "micro_batch_size": 2, "seed": 0, **more}
    val, test = settings.pop("val", [HAM, SPAM]), settings.pop("test", [HAM])
    return LabelDataModule(Splits(train, val, test), TOKENIZER, kind=KINDS[kind], block_size=block_size, **settings)


def texts_in(batch: LabelBatch) -> list[str]:
    return [TOKENIZER.decode(ids[mask].tolist()) for ids, mask in zip(batch.ids, batch.mask, strict=True)]


def test_a_batch_has_its_texts_and_no_more_padding_than_it_needs() -> None:
    texts = ["abc", "h", "gfedcba", "b d"]
    encoded = EncodedTexts(texts, TOKENIZER, 7)
    ids, mask = encoded.batch(np.array([3, 1, 0]))
    assert ids.shape == mask.shape == (3, 3)
    assert mask.tolist() == [[True] * 3, [True, False, False], [True] * 3]
    assert texts_in(LabelBatch(ids, mask, torch.zeros(3))) == ["b d", "h", "abc"]
    assert ids.dtype == torch.int64


def test_what_is_longer_than_the_context_is_cut_and_counted() -> None:
    encoded = EncodedTexts(["abcdefgh", "abc", "abcdefghab"], TOKENIZER, 5)
    assert (encoded.n_cut, encoded.lengths.tolist()) == (2, [5, 3, 5])
    assert encoded.share_cut == pytest.approx((3 + 5) / 21)
    assert texts_in(LabelBatch(*encoded.batch(np.arange(3)), torch.zeros(3))) == ["abcde", "abc", "abcde"]


def test_a_text_without_a_space_before_its_first_word_gets_one() -> None:
    encoded = EncodedTexts(["abc", " h", "abcde"], TOKENIZER, 5, add_prefix_space=True)
    assert texts_in(LabelBatch(*encoded.batch(np.arange(3)), torch.zeros(3))) == [" abc", " h", " abcd"]
    assert encoded.left_out.tolist() == [0, 0, 1]


@pytest.mark.parametrize(("count", "batch_size"), [(101, 8), (7, 5), (3, 8), (64, 8), (1, 1), (1000, 3)])
def test_every_epoch_has_every_row_once(count: int, batch_size: int) -> None:
    samples = LabeledSamples(set_of(count), batch_size, seed=5)
    for epoch in range(4):
        rows = samples.rows(np.arange(epoch * count, (epoch + 1) * count))
        assert sorted(rows.tolist()) == list(range(count))


def test_the_order_is_a_function_of_seed_and_number() -> None:
    def whole(seed: int) -> list[int]:
        return LabeledSamples(set_of(101), 8, seed).rows(np.arange(500)).tolist()

    samples = LabeledSamples(set_of(101), 8, seed=5)
    chosen = np.random.default_rng(0).permutation(500)[:97]
    assert samples.rows(chosen).tolist() == [whole(5)[n] for n in chosen]
    assert samples.rows(np.array([499])).tolist() == [whole(5)[499]]
    assert whole(6) != whole(5)


def test_epochs_differ() -> None:
    order = LabeledSamples(set_of(101), 8, seed=5).rows(np.arange(303)).reshape(3, 101)
    for one, other in itertools.combinations(order, 2):
        assert (one == other).mean() < 0.1


@pytest.mark.parametrize("first_batch", [0, 400])
def test_a_batch_has_texts_of_similar_length(first_batch: int) -> None:
    """In later epochs as well, where batches begin at other places of the epoch."""
    data = set_of(1001)

    def padding(rows: np.ndarray) -> float:
        """Share of padding in batches of eight."""
        lengths = data.texts.lengths[rows].reshape(-1, 8)
        return float(1 - lengths.sum() / (lengths.max(axis=1) * 8).sum())

    ours = LabeledSamples(data, 8, seed=5).rows(np.arange(first_batch * 8, (first_batch + 100) * 8))
    by_chance = np.random.default_rng(0).permutation(1001)[:800]
    assert padding(by_chance) > 0.4
    assert padding(ours) < 0.06


def test_short_and_long_batches_come_mixed() -> None:
    lengths = set_of(1001).texts.lengths
    means = lengths[LabeledSamples(set_of(1001), 8, seed=5).rows(np.arange(1000))].reshape(-1, 8).mean(axis=1)
    assert means[:20].max() > 30
    assert means[:20].min() < 10
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3


@pytest.mark.parametrize(("micro", "world"), [(8, 1), (2, 1), (4, 2), (2, 4)])
def test_parts_of_a_batch_have_its_rows_whatever_their_size_and_rank(micro: int, world: int) -> None:
    samples = LabeledSamples(set_of(101), 8, seed=5)
    ranks = [TrainingBatches(samples, micro, rank, world, first_sample=16) for rank in range(world)]
    read = [text for index in range(20 * 8 // micro // world) for rank in ranks for text in texts_in(rank[index])]
    rows = samples.data.rows
    assert read == [rows[row].text for row in samples.rows(np.arange(16, 16 + 160))]


def test_labels_stay_with_their_texts() -> None:
    samples = LabeledSamples(set_of(101), 8, seed=5)
    batch = samples.read(np.arange(101))
    labels = {row.text: "ab".index(str(row.label)) for row in samples.data.rows}
    assert [labels[text] for text in texts_in(batch)] == batch.labels.tolist()


@pytest.mark.parametrize("world", [1, 3])
def test_validation_has_every_row_once_in_batches_of_similar_length(
    world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(23)
    read: list[str] = []
    for rank in range(world):
        module = module_of(rows, val=rows, test=[], classes=("a", "b"), block_size=64, micro_batch_size=3)
        monkeypatch.setattr(module, "place", lambda rank=rank: (rank, world))
        batches = list(module.val_dataloader())
        read += [text for batch in batches for text in texts_in(batch)]
        assert len(batches) == len(module.val_dataloader())
        if world == 1:
            assert [len(text) for text in read] == sorted(len(row.text) for row in rows)
    assert sorted(read) == sorted(row.text for row in rows)


def test_training_goes_on_where_it_stood() -> None:
    rows = rows_of(23)
    modules = [module_of(rows, classes=("a", "b"), val=rows, test=[]) for _ in range(2)]
    modules[1].load_state_dict({"samples_seen": 12, "step": 3})
    whole, rest = (iter(module.train_dataloader()) for module in modules)
    batches = [next(whole) for _ in range(10)]
    for expected in batches[6:]:
        assert texts_in(next(rest)) == texts_in(expected)


def test_kinds_of_labels() -> None:
    several = [LabeledText("a", ("x", "z")), LabeledText("b", ()), LabeledText("c", ("y",))]
    assert KINDS["multi"].targets(several, ("x", "y", "z")).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert KINDS["regression"].targets([LabeledText("a", 2.5), LabeledText("a", -1.0)], ()).tolist() == [2.5, -1.0]
    assert KINDS["single"].targets([SPAM, HAM, SPAM], ("ham", "spam")).tolist() == [1, 0, 1]


def test_figures_of_the_rows() -> None:
    module = module_of([HAM, SPAM, SPAM])
    assert module.class_counts().tolist() == [1, 2]
    assert module.samples.per_epoch == 3
    assert module.samples.targets_per_sample == pytest.approx((9 + 11 + 11) / 3)
    assert (module.train.texts.n_cut, len(module.val), len(module.test)) == (2, 2, 1)


def test_a_label_that_is_none_of_the_classes_is_named() -> None:
    with pytest.raises(UserError, match="the label 'eggs', which is none of ham, spam"):
        module_of([HAM, SPAM], val=[LabeledText("a", "eggs")])
    with pytest.raises(UserError, match="the label 'eggs', which is none of ham, spam"):
        module_of([LabeledText("a", ("ham", "eggs"))], kind="multi")


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_class_that_training_lacks_is_named(kind: str) -> None:
    row = LabeledText("a", "ham" if kind == "single" else ("ham",))
    with pytest.raises(UserError, match=r"training part .*label.* spam, eggs"):
        module_of([row, row], kind=kind, classes=("ham", "spam", "eggs"), val=[row], test=[row])


def test_numbers_that_are_all_the_same_cannot_be_learned() -> None:
    with pytest.raises(UserError, match=r"2 training rows .* 1\.5"):
        module_of([LabeledText("a", 1.5), LabeledText("b", 1.5)], kind="regression", classes=(), val=[], test=[])


def test_a_class_that_validation_lacks_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        module_of([HAM, SPAM], val=[SPAM], test=[])
    assert caplog.messages == ["the validation part has no row of ham: it says nothing about that"]


def test_a_text_that_the_tokenizer_cannot_encode_is_named() -> None:
    with pytest.raises(UserError, match=r"the text 'abcé' cannot be encoded: .*é"):
        EncodedTexts(["abc", "abcé"], CharTokenizer(ALPHABET, unknown="error"), 5)


def test_a_text_without_a_token_is_named() -> None:
    with pytest.raises(UserError, match="the text 'éé' has no token in this tokenizer"):
        EncodedTexts(["abc", "éé"], CharTokenizer(ALPHABET, unknown="skip"), 5)


def test_real_messages_are_cut_and_padded_little(shared_data: Path) -> None:
    table = LabeledTexts(
        path=str(shared_data / "sms-spam" / "SMSSpamCollection"),
        format="tsv",
        columns=["label", "text"],
        quote=None,
        labels=["ham", "spam"],
        balance=True,
    )
    splits = table.read()
    module = LabelDataModule(splits, GPT2Tokenizer(), ("ham", "spam"), KINDS["single"], 64, 16, 8, seed=0)
    assert [len(part) for part in (module.train, module.val, module.test)] == [1045, 149, 300]
    assert (module.train.texts.n_cut, round(module.train.texts.share_cut, 3)) == (13, 0.011)
    batches = iter(module.train_dataloader())
    masks = [next(batches).mask for _ in range(130)]
    assert 1 - sum(mask.sum().item() for mask in masks) / sum(mask.numel() for mask in masks) < 0.04


def test_no_texts_are_no_batches() -> None:
    texts = EncodedTexts([], TOKENIZER, 5)
    assert (len(texts), texts.n_cut, texts.share_cut, texts.by_length(3)) == (0, 0, 0.0, [])
