"""WikiText against lm-evaluation-harness, and the reading of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Subject
from gpt2_lightning.evaluation.benchmarks.perplexity.detokenizer import detokenize
from gpt2_lightning.evaluation.benchmarks.perplexity.wikitext import WikiText, articles
from gpt2_lightning.evaluation.evaluate import evaluate
from gpt2_lightning.huggingface import folder
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.tokenizers import BPETokenizer
from tests.huggingface.networks import lively

BPE = BPETokenizer([(71, 72), (256, 73)])
LINES = [
    " ",
    " = Tikal = ",
    " ",
    ' Tikal ( ti ak \'al ) is the ruin of a city , " likely " named Yax Mutal ; it is 1 @,@ 500 years @-@ old . ',
    " ",
    " = = Name = = ",
    " ",
    ' It may mean " at the waterhole " , the cities \' own name being lost : gone . ',
    " ",
    " = Mycena inclinata = ",
    " ",
    " Caps have 1 @.@ 5 to 4 cm ( 0 @.@ 6 in ) [ a ] ; at 20 ° C they are gray ! ",
    " ",
    " = = = Habitat = = = ",
    " ",
    " Oaks ? N of them . ",
]
TEXT = "".join(f"{line}\n" for line in LINES)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A small WikiText-2."""
    (tmp_path / "wikitext-2-raw").mkdir()
    (tmp_path / "wikitext-2-raw" / "wiki.test.raw").write_text(TEXT)
    return tmp_path


def subject() -> Subject:
    config = GPT2Config(vocab_size=BPE.vocab_size, block_size=31, n_layer=2, n_head=5, n_embd=35)
    return Subject(lively(config), BPE, "RUN")


@pytest.mark.parametrize(
    ("line", "is_title"),
    [
        (" = Tikal = ", True),
        ("= a = b =", True),
        (" = = Name = = ", False),
        (" = = = Habitat = = = ", False),
        (" a = b = ", False),
        (" = a = b ", False),
        (" = ", False),
        ("", False),
    ],
)
def test_an_article_begins_with_its_title(line: str, is_title: bool) -> None:
    assert articles(f"one\n{line}\nmore") == (["one", f"{line}\nmore"] if is_title else [f"one\n{line}\nmore"])


def test_blank_lines_before_the_first_title_are_no_article() -> None:
    assert articles(" \n = a = \n b \n") == [" = a = \n b \n"]


def test_the_detokenizer_is_that_of_the_harness() -> None:
    theirs = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext").wikitext_detokenizer
    assert detokenize(TEXT) == theirs({"page": TEXT})
    for spaced in (" @-@ ", " , ", '" l', " ; ", " °", "( ", " ]", " 's", "= =", "\n ", " N "):
        assert spaced not in detokenize(TEXT), spaced


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation"])
def test_real_articles_are_detokenized_as_by_the_harness(shared_data: Path, split: str) -> None:
    theirs = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext").wikitext_detokenizer
    text = (shared_data / "wikitext-2-raw" / f"wiki.{split[:5]}.raw").read_text()
    pages = articles(text)
    assert len(pages) == {"train": 629, "validation": 60}[split]
    assert [detokenize(page) for page in pages] == [theirs({"page": page}) for page in pages]


def test_metrics_are_those_of_the_harness(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext")
    from lm_eval.api import metrics
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    measured = subject()
    folder.write(measured.model, BPE, tmp_path / "exported", "# A card\n", 10**9)
    harness: Any = HFLM(pretrained=str(tmp_path / "exported"), device="cpu", batch_size=2, dtype="float32")
    pages = [{"page": page} for page in articles(TEXT)]
    requests = [Instance("loglikelihood_rolling", page, (task.wikitext_detokenizer(page),), 0) for page in pages]
    found = harness.loglikelihood_rolling(requests, disable_tqdm=True)
    results = [task.process_results(page, (value,)) for page, value in zip(pages, found, strict=True)]
    expected = {
        "word_perplexity": metrics.weighted_perplexity,
        "byte_perplexity": metrics.weighted_perplexity,
        "bits_per_byte": metrics.bits_per_byte,
    }
    (result,) = evaluate({"wikitext2": WikiText(name="wikitext-2-raw")}, measured, data_dir)
    for name, aggregate in expected.items():
        assert result[name].value == pytest.approx(aggregate([of_page[name] for of_page in results]), rel=1e-5), name
    assert result.metrics[0].name == "word_perplexity"
    spaced = WikiText(name="wikitext-2-raw", detokenize=False)
    (with_spaces,) = evaluate({"wikitext2": spaced}, measured, data_dir)
    assert with_spaces["word_perplexity"].value != pytest.approx(result["word_perplexity"].value, rel=1e-2)


def test_rows_of_the_data_set_on_the_hub_are_the_lines_of_the_file(data_dir: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    (tmp_path / "hub" / "wikitext-2-raw").mkdir(parents=True)
    rows = ["" if line == " " else f"{line}\n" for line in LINES]
    table = pyarrow.table({"text": rows})
    pyarrow.parquet.write_table(table, tmp_path / "hub" / "wikitext-2-raw" / "test-00000-of-00001.parquet")
    benchmark = WikiText(name="wikitext-2-raw")
    from_hub, from_file = (benchmark.items(subject(), place) for place in (tmp_path / "hub", data_dir))
    assert from_hub.digest == from_file.digest
    assert from_hub.source.endswith(from_file.source.partition(" (")[2])


def test_joined_articles_are_one_text(data_dir: Path) -> None:
    separate, joined = (
        WikiText(name="wikitext-2-raw", documents=documents).items(subject(), data_dir)
        for documents in ("separate", "joined")
    )
    n_bytes = len(TEXT.removeprefix(" \n").encode())
    assert f"2 documents, 103 words, {n_bytes - 1:,} bytes" in separate.source, "the line feed between them is in none"
    assert f"1 document, 101 words, {n_bytes:,} bytes" in joined.source


def test_a_file_of_another_length_is_noted(data_dir: Path) -> None:
    (note,) = WikiText(name="wikitext-2-raw").items(subject(), data_dir).notes
    assert note.endswith("wiki.test.raw has 16 lines, and the published file has 4,358")


@pytest.mark.slow
def test_the_published_file_needs_no_note(shared_data: Path) -> None:
    items = WikiText(name="wikitext-2-raw", split="validation", limit=3).items(subject(), shared_data)
    assert (items.notes, len(items.items)) == ((), 3)
    assert "(60 documents, 214,006 words, 1,146,785 bytes, " in items.source


def test_an_absent_file_is_named_with_its_origin_and_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wikitext-103-raw.*download https://\S+ .*into .*wikitext-103-raw"):
        WikiText(name="wikitext-103-raw").items(subject(), tmp_path)
