"""Corpora through `datasets`, from folders laid out like those of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2_lightning.data.corpora.hub import HubCorpus
from gpt2_lightning.data.corpus import BadRow, Segment
from gpt2_lightning.errors import UserError

pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """Three files of 20 rows to train on, one of 4 to validate."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "stories" / "data"
    folder.mkdir(parents=True)
    for i in range(3):
        texts = [f"story {i} {j}\r\n" for j in range(20)]
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / f"train-0000{i}-of-00003.parquet")
    pyarrow.parquet.write_table(
        pyarrow.table({"text": ["kept apart"] * 4}), folder / "validation-00000-of-00001.parquet"
    )
    return folder.parent


def read(corpus: HubCorpus) -> list[Segment]:
    return [segment for piece in corpus.pieces(whole_documents=False) for segment in corpus.read(piece)]


def test_every_row_is_a_document_and_every_file_a_piece(stories: Path) -> None:
    corpus = HubCorpus(name=str(stories), val_split="validation")
    assert len(corpus.pieces(whole_documents=False)) == 4
    segments = read(corpus)
    assert [s.text for s in segments if s.split == "train"] == [f"story {i} {j}\n" for i in range(3) for j in range(20)]
    assert [s.text for s in segments if s.split == "val"] == ["kept apart"] * 4
    assert all(s.ends_document for s in segments)


def test_without_a_validation_split_every_tenth_document_of_a_file_validates(stories: Path) -> None:
    validating = [s.text for s in read(HubCorpus(name=str(stories))) if s.split == "val"]
    places = [(0, 9), (0, 19), (1, 8), (1, 18), (2, 7), (2, 17)]
    assert validating == [f"story {i} {j}\n" for i, j in places]


def test_a_limit_takes_the_first_documents_over_files(stories: Path) -> None:
    segments = read(HubCorpus(name=str(stories), limit=23))
    assert [s.text for s in segments] == [f"story {i} {j}\n" for i, j in [(n // 20, n % 20) for n in range(23)]]
    assert len(read(HubCorpus(name=str(stories), val_split="validation", limit=3))) == 6


def test_lines_become_documents_where_one_starts(tmp_path: Path) -> None:
    """WikiText's rows are lines, and a title between single equals signs starts an article."""
    lines = [
        "",
        " = Robert = \n",
        "",
        " He acts . \n",
        " = = Career = = \n",
        " More . \n",
        "",
        " = Plane = \n",
        " It flies . \n",
    ]
    folder = tmp_path / "wiki"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    corpus = HubCorpus(name=str(folder), document_start=r" = [^=].* = \n", val_fraction=0.4)
    assert [s.text for s in read(corpus)] == [
        " = Robert = \n He acts . \n = = Career = = \n More . \n",
        " = Plane = \n It flies . \n",
    ]


def test_rows_without_text_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "fine"}\n{"text": null}\n')
    good, bad = read(HubCorpus(name=str(folder)))
    assert good == Segment("fine", "train")
    assert isinstance(bad, BadRow)
    assert "row 1" in bad.where
    assert "NoneType" in bad.reason
    (bad, _) = read(HubCorpus(name=str(folder), field="content"))
    assert isinstance(bad, BadRow)
    assert "it has text" in bad.reason


def test_a_split_that_is_not_there_is_named(stories: Path) -> None:
    with pytest.raises(UserError, match="tes"):
        HubCorpus(name=str(stories), train_split="tes").pieces(whole_documents=False)


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    corpus = HubCorpus(name="someone/something", revision="0" * 40)
    with pytest.raises(UserError, match=r"someone/something cannot be read: .*; check .*network.*copy the folder"):
        corpus.pieces(whole_documents=False)


@pytest.mark.parametrize("revision", [None, "main", "0" * 39, "G" * 40])
def test_a_data_set_of_the_hub_needs_a_commit(revision: str | None) -> None:
    with pytest.raises(ValueError, match=r"revision: .* is no commit of 40 digits; copy that of someone/something"):
        HubCorpus(name="someone/something", revision=revision)


def test_large_corpora_are_prepared_on_their_own() -> None:
    assert not HubCorpus(name="a/b", revision="0" * 40).prepares_itself
    assert HubCorpus(name="a/b", revision="0" * 40, limit=10).prepares_itself
    assert HubCorpus(name="a/b", revision="0" * 40, small=True).prepares_itself


def test_another_revision_or_field_is_another_corpus(tmp_path: Path) -> None:
    corpora = [HubCorpus(name="a/b", revision=d * 40) for d in "01"]
    corpora.append(HubCorpus(name="a/b", revision="0" * 40, field="body"))
    assert len({corpus.fingerprint(tmp_path) for corpus in corpora}) == 3
    same = HubCorpus(name="a/b", revision="0" * 40, shard=1, num_shards=2, documents="masked")
    assert same.fingerprint(tmp_path) == corpora[0].fingerprint(tmp_path)
