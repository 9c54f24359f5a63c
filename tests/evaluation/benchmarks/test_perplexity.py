"""Perplexity against transformers, lm-evaluation-harness, validation in training, and numbers worked by hand."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.shards.prepared import open_prepared
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import ItemRecord, Subject
from gpt2_lightning.evaluation.benchmarks.perplexity.benchmark import Perplexity
from gpt2_lightning.evaluation.benchmarks.perplexity.corpus import CorpusPerplexity
from gpt2_lightning.evaluation.benchmarks.perplexity.text import TextPerplexity
from gpt2_lightning.evaluation.comparison import compare
from gpt2_lightning.evaluation.evaluate import evaluate
from gpt2_lightning.huggingface import folder
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import lively

BLOCK = 13
ALPHABET = "abcdefghij \n"
LETTERS = CharTokenizer(ALPHABET)
WITH_END = CharTokenizer(ALPHABET, end_of_text=True)
TEXT = "a bad cab faced a big jihad\n each decade he had a bag\n" * 3


def subject(tokenizer: CharTokenizer = LETTERS, block_size: int = BLOCK) -> Subject:
    config = GPT2Config(vocab_size=tokenizer.vocab_size, block_size=block_size, n_layer=2, n_head=5, n_embd=35)
    return Subject(lively(config), tokenizer, "RUN")


def successor() -> Subject:
    """A model that predicts the next letter of the alphabet, whatever came before it."""
    size = len(LETTERS.alphabet)
    config = GPT2Config(
        vocab_size=size, block_size=BLOCK, n_layer=1, n_head=1, n_embd=size, tied_head=False, layer_norm_epsilon=1e-12
    )
    model = GPT2(config).eval()
    with torch.no_grad():
        for parameter in model.h.parameters():
            parameter.zero_()
        model.wpe.weight.zero_()
        model.wte.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(torch.eye(size).roll(1, 0))
    return Subject(model, LETTERS, "RUN")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    file = tmp_path / "book.txt"
    file.write_text(TEXT)
    return file


def metrics(benchmark: Perplexity, measured: Subject, data_dir: Path | None = None) -> dict[str, float]:
    (result,) = evaluate({"name": benchmark}, measured, data_dir)
    return {metric.name: metric.value for metric in result.metrics}


def all_records(benchmark: Perplexity, measured: Subject) -> list[ItemRecord]:
    items = benchmark.items(measured, None).items
    records = {record["id"]: record for record in benchmark.records(measured, items)}
    return [records[item.id] for item in items]


def exported(measured: Subject, tmp_path: Path) -> Any:
    """The model as transformers loads it."""
    from transformers import AutoModelForCausalLM

    folder.write(measured.model, measured.tokenizer, tmp_path / "exported", "# A card\n", 10**9)
    return AutoModelForCausalLM.from_pretrained(tmp_path / "exported")


def guide(network: Any, ids: torch.Tensor, max_length: int, stride: int) -> float:
    """Perplexity by the loop of Hugging Face's guide, in which the mean of a window has the weight of its labels."""
    total, count, previous_end = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + max_length, len(ids))
        inputs = ids[None, begin:end]
        labels = inputs.clone()
        labels[:, : -(end - previous_end)] = -100
        predicted = int((labels[:, 1:] != -100).sum())
        if predicted:
            total += float(network(inputs, labels=labels).loss) * predicted
            count += predicted
        previous_end = end
        if end == len(ids):
            break
    return math.exp(total / count)


@pytest.mark.parametrize("stride", [1, 5, BLOCK])
@torch.no_grad()
def test_sliding_windows_have_the_perplexity_of_a_loop_with_transformers(
    book: Path, tmp_path: Path, stride: int
) -> None:
    measured = subject()
    network = exported(measured, tmp_path)
    ids = torch.from_numpy(LETTERS.encode(TEXT).astype("int64"))
    expected = guide(network, ids, BLOCK, stride)
    found = metrics(TextPerplexity(path=str(book), documents="joined", stride=stride), measured)
    assert found["perplexity"] == pytest.approx(expected, rel=1e-5)
    others = [guide(network, ids, BLOCK, other) for other in (1, 5, BLOCK) if other != stride]
    assert all(abs(found["perplexity"] / other - 1) > 1e-3 for other in others), "the stride makes a difference"
    shifted = guide(network, ids.roll(1), BLOCK, stride)
    assert abs(found["perplexity"] / shifted - 1) > 1e-4, "one other token shows"


@pytest.mark.parametrize("documents", ["joined", "separate"])
@pytest.mark.parametrize("stride", [None, 1, 5])
@pytest.mark.parametrize("length", [2, BLOCK, BLOCK + 1, BLOCK + 2, 50])
def test_each_token_is_predicted_once(tmp_path: Path, documents: Any, stride: int | None, length: int) -> None:
    (tmp_path / "text.txt").write_text(TEXT[:length])
    for tokenizer in (LETTERS, WITH_END):
        benchmark = TextPerplexity(path=str(tmp_path / "text.txt"), documents=documents, stride=stride)
        is_first_predicted = documents == "separate" and tokenizer is WITH_END
        records = all_records(benchmark, subject(tokenizer))
        assert sum(record["tokens"] for record in records) == length - (not is_first_predicted)
        assert len({record["id"] for record in records}) == len(records)


def test_metrics_of_a_model_whose_answers_are_known(tmp_path: Path) -> None:
    """Each letter is followed by the next of the alphabet, but once: "abc" occurs twelve times, "a" follows "c"."""
    text = "abc" * 12 + " d\n"
    (tmp_path / "text.txt").write_text(text)
    found = metrics(TextPerplexity(path=str(tmp_path / "text.txt"), documents="joined"), successor())
    size = len(ALPHABET)
    # A layer norm makes of a one-hot vector one with mean 0 and variance 1.
    high, low = (1 - 1 / size) / math.sqrt((1 - 1 / size) / size), -1 / size / math.sqrt((1 - 1 / size) / size)
    log_normalizer = math.log(math.exp(high) + (size - 1) * math.exp(low))
    order = sorted(ALPHABET)
    right = sum(order.index(second) - order.index(first) == 1 for first, second in itertools.pairwise(text))
    assert right == 24
    tokens = len(text) - 1
    loss = (tokens * log_normalizer - right * high - (tokens - right) * low) / tokens
    assert found["loss"] == pytest.approx(loss, rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-6)
    assert found["bits_per_token"] == pytest.approx(loss / math.log(2), rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(loss / math.log(2), rel=1e-6), "a character is a byte"
    # White space divides the text into three parts, of which the last is empty.
    assert math.log(found["word_perplexity"]) == pytest.approx(loss * len(text) / 3, rel=1e-6)


def test_bits_per_byte_count_bytes_not_characters(tmp_path: Path) -> None:
    """Two letters of two bytes each: a model without preferences needs a bit for each of the letters."""
    tokenizer = CharTokenizer("éè", end_of_text=False)
    model = GPT2(GPT2Config(vocab_size=2, block_size=4, n_layer=1, n_head=1, n_embd=4)).eval()
    torch.nn.init.zeros_(model.wte.weight)
    (tmp_path / "text.txt").write_text("éèéèéé")
    found = metrics(TextPerplexity(path=str(tmp_path / "text.txt")), Subject(model, tokenizer, "RUN"))
    assert (found["perplexity"], found["bits_per_token"], found["bits_per_byte"]) == pytest.approx((2, 1, 0.5))
    assert found["word_perplexity"] == pytest.approx(2**6)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    rows = [TEXT[start : start + length] for start, length in zip(range(0, 100, 3), itertools.cycle((40, 7, 90)))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    corpus = TextCorpus(path=str(tmp_path / "rows.jsonl"), val_fraction=0.5)
    prepare(corpus, WITH_END, tmp_path / "shards", tmp_path / "cache", workers=1)
    return tmp_path / "shards"


@pytest.mark.parametrize("documents", ["joined", "separate"])
@torch.no_grad()
def test_loss_on_a_prepared_corpus_is_that_of_validation(shards: Path, tmp_path: Path, documents: Any) -> None:
    measured = subject(WITH_END)
    tokens = open_prepared(shards, WITH_END, tmp_path / "cache")
    data = TokenDataModule([tokens], BLOCK, 4, documents=documents, end_of_text=WITH_END.end_of_text)
    batches = [(batch, measured.model(batch.inputs, batch.targets)) for batch in data.val_dataloader()]
    count = sum(int((batch.targets >= 0).sum()) for batch, _ in batches)
    loss = sum(float(total) for _, total in batches) / count
    found = metrics(CorpusPerplexity(path=str(shards), documents=documents), measured)
    assert found["loss"] == pytest.approx(loss, rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(loss / math.log(2) / tokens.bytes_per_token["val"], rel=1e-6)
    assert "word_perplexity" not in found
    other: Documents = "separate" if documents == "joined" else "joined"
    assert metrics(CorpusPerplexity(path=str(shards), documents=other), measured)["loss"] != pytest.approx(loss, 1e-4)


@torch.no_grad()
def test_a_stride_on_a_prepared_corpus_is_that_of_the_guide(shards: Path, tmp_path: Path) -> None:
    measured = subject(WITH_END)
    sequence = open_prepared(shards, WITH_END, tmp_path / "cache").train
    ids = torch.from_numpy(sequence.slice(0, len(sequence)))
    found = metrics(CorpusPerplexity(path=str(shards), split="train", stride=4), measured)
    assert found["perplexity"] == pytest.approx(guide(exported(measured, tmp_path), ids, BLOCK, 4), rel=1e-5)


def test_a_corpus_of_another_tokenizer_is_refused(shards: Path) -> None:
    with pytest.raises(UserError, match="another tokenizer"):
        CorpusPerplexity(path=str(shards)).items(subject(LETTERS), None)
    with pytest.raises(UserError, match="documents: the tokenizer has no end-of-text token"):
        CorpusPerplexity(path=str(shards), documents="separate").items(subject(LETTERS), None)


def test_rows_are_documents_and_blank_ones_are_none(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"body": "a bad cab"}\n\n{"body": ""}\n{"body": "faced a big jihad"}\n')
    benchmark = TextPerplexity(path=str(tmp_path / "rows.jsonl"), field="body")
    items = benchmark.items(subject(WITH_END), None)
    assert items.source.endswith("rows.jsonl (2 documents, 7 words, 26 bytes, 26 tokens)")
    assert [item.id for item in items.items] == ["0", "1.0", "1.1"]
    joined = replace(benchmark, documents="joined").items(subject(WITH_END), None)
    assert joined.source.endswith("(1 document, 7 words, 26 bytes, 27 tokens)"), "an end of text is between them"


def test_bad_rows_are_listed(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"body": "a"}\n[]\n')
    with pytest.raises(UserError, match=r"2 rows are no documents(.|\n)*row 2: no field 'text'") as refused:
        TextPerplexity(path=str(tmp_path / "rows.jsonl")).items(subject(), None)
    assert "data." not in str(refused.value)


def test_characters_that_the_tokenizer_lacks_are_counted_in_a_note(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a zoo cab")
    (note,) = TextPerplexity(path=str(tmp_path / "text.txt")).items(subject(), None).notes
    assert "3 characters (2 distinct: 'o', 'z') are not in the tokenizer's alphabet" in note
    (tmp_path / "text.txt").write_text("a cab")
    assert TextPerplexity(path=str(tmp_path / "text.txt")).items(subject(), None).notes == ()


def test_a_limit_takes_evenly_spaced_passages(book: Path) -> None:
    benchmark = TextPerplexity(path=str(book))
    every = [item.id for item in benchmark.items(subject(), None).items]
    assert len(every) == 13
    few = [item.id for item in replace(benchmark, limit=4).items(subject(), None).items]
    assert few == [every[number] for number in (0, 3, 6, 9)]


def test_intervals_contain_the_value(book: Path) -> None:
    (result,) = evaluate({"text": TextPerplexity(path=str(book))}, subject())
    for metric in result.metrics:
        assert metric.low is not None, metric
        assert metric.high is not None, metric
        assert metric.low < metric.value < metric.high
        assert not metric.higher_is_better


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"stride": BLOCK + 1}, f"stride: {BLOCK + 1} is longer than the context of RUN, {BLOCK} tokens"),
        ({"path": "absent.txt"}, "path: there is no file or folder .*absent.txt"),
    ],
)
def test_what_cannot_be_measured_is_named(book: Path, settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        TextPerplexity(**{"path": str(book), **settings}).items(subject(), None)


@pytest.mark.parametrize("text", ["", "a"], ids=["no token", "one token"])
def test_a_text_without_a_predicted_token_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "text.txt").write_text(text)
    with pytest.raises(UserError, match="has no token that could be predicted"):
        TextPerplexity(path=str(tmp_path / "text.txt")).items(subject(), None)


@pytest.mark.parametrize(("n_documents", "is_compared"), [(12, True), (3, False)])
def test_models_with_other_contexts_are_compared_by_document(
    tmp_path: Path, n_documents: int, is_compared: bool
) -> None:
    """Of few documents, the bootstrap resamples passages, which are other texts."""
    rows = [json.dumps({"text": TEXT[: 20 + 7 * number]}) for number in range(n_documents)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    benchmarks = {"text": TextPerplexity(path=str(tmp_path / "rows.jsonl"))}
    folders = {7: tmp_path / "this", BLOCK: tmp_path / "other"}
    for block_size, output in folders.items():
        list(evaluate(benchmarks, subject(WITH_END, block_size), output=output))
    if is_compared:
        (found,) = compare(benchmarks, *folders.values())
        assert found.not_comparable == ()
        assert {"loss", "word_perplexity"} <= {difference.name for difference in found.differences}
    else:
        with pytest.raises(UserError, match="the models divide the data into other tokens or passages"):
            compare(benchmarks, *folders.values())
