"""Corpora that are downloaded first, from the local server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.corpora import gutenberg
from gpt2_lightning.data.corpora.download import ignore
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpora.web import GutenbergBooks, WebText
from gpt2_lightning.data.corpus import BadRow, Segment
from gpt2_lightning.errors import UserError
from tests.data.bad_server import Answer, BadServer, bad_server

BOOK = (
    "The Project Gutenberg eBook of Number {n}\r\n\r\n*** START OF THE PROJECT GUTENBERG EBOOK NUMBER {n} ***\r\n\r\n"
    "Chapter one of {n}.\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK NUMBER {n} ***\r\nLicence\r\n"
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    with bad_server() as server:
        yield server


def segments(corpus: TextCorpus) -> list[Segment | BadRow]:
    return [segment for piece in corpus.pieces(whole_documents=False) for segment in corpus.read(piece)]


def test_one_file_is_cut_at_its_end_and_fetched_once(server: BadServer, tmp_path: Path) -> None:
    body = b"0123456789" * 9
    corpus = WebText(
        files={"input.txt": [server.answer("/a", Answer(body))]}, sha256={"input.txt": hashlib.sha256(body).hexdigest()}
    )
    for _ in range(2):
        head, tail = segments(corpus.fetch(tmp_path, ignore))
        assert head == Segment("0123456789" * 8 + "0", "train", ends_document=False)
        assert tail == Segment("123456789", "val")
    assert len(server.requests) == 1


def test_several_files_are_documents_and_settings_are_kept(server: BadServer, tmp_path: Path) -> None:
    files = {f"{name}.txt": [server.answer(f"/{name}", Answer(name.encode() * 9))] for name in "abcd"}
    corpus = WebText(files=files, val_fraction=0.5, limit=3, documents="masked").fetch(tmp_path, ignore)
    assert segments(corpus) == [Segment("a" * 9, "train"), Segment("b" * 9, "val"), Segment("c" * 9, "train")]
    assert corpus.documents == "masked"


def test_another_file_than_published_is_no_corpus(server: BadServer, tmp_path: Path) -> None:
    corpus = WebText(files={"input.txt": [server.answer("/a", Answer(b"altered"))]}, sha256={"input.txt": "0" * 64})
    with pytest.raises(UserError, match=r"input\.txt"):
        corpus.fetch(tmp_path, ignore)


def test_a_checksum_needs_its_file() -> None:
    with pytest.raises(ValueError, match=r"sha256\.b: there is no file of this name; there are a"):
        WebText(files={"a": ["http://x/a"]}, sha256={"b": "0"})


@pytest.fixture
def library(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> BadServer:
    """Three books at the address where the program looks for them."""
    for number in (35, 84, 62):
        server.answer(f"/{number}", Answer(BOOK.format(n=number).encode()))
    monkeypatch.setattr(gutenberg, "urls", lambda number: [f"{server.url}/{number}"])
    return server


def test_books_are_documents_without_what_is_wrapped_around_them(library: BadServer, tmp_path: Path) -> None:
    corpus = GutenbergBooks(books=[35, 84, 62], val_fraction=0.5).fetch(tmp_path, ignore)
    texts = [(s.text, s.split) for s in segments(corpus) if isinstance(s, Segment)]
    names = [("Chapter one of 35.\n", "train"), ("Chapter one of 84.\n", "val"), ("Chapter one of 62.\n", "train")]
    assert texts == names, "in the order of the list"
    assert corpus.several_documents


def test_a_limit_downloads_no_more_books_than_it_takes(library: BadServer, tmp_path: Path) -> None:
    GutenbergBooks(books=[35, 84, 62], limit=2, val_fraction=0.5).fetch(tmp_path, ignore)
    assert [request.path for request in library.requests] == ["/35", "/84"]


def test_a_book_of_two_lists_is_downloaded_once(library: BadServer, tmp_path: Path) -> None:
    GutenbergBooks(books=[35, 84]).fetch(tmp_path, ignore)
    GutenbergBooks(books=[84, 62]).fetch(tmp_path, ignore)
    assert [request.path for request in library.requests] == ["/35", "/84", "/62"]


def test_what_is_no_book_is_named(server: BadServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = server.answer("/1", Answer(b"<html>blocked</html>"))
    monkeypatch.setattr(gutenberg, "urls", lambda number: [address])
    with pytest.raises(UserError, match=r"pg1\.txt: .*blocked"):
        GutenbergBooks(books=[1]).fetch(tmp_path, ignore)


def test_a_book_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="books: 35 is there more than once"):
        GutenbergBooks(books=[35, 84, 35])


def test_training_downloads_its_text(
    server: BadServer, run_verb: Callable[..., Any], workplace: Path, tmp_path: Path
) -> None:
    mine = workplace / "mine" / "data"
    mine.mkdir(parents=True)
    address = server.answer("/text", Answer(b"The lamp goes over the old sea. " * 90))
    (mine / "far.yaml").write_text(
        "_target_: gpt2_lightning.data.corpora.web.WebText\nfiles:\n  far.txt: [" + address + "]\n"
    )
    settings = ["data=far", "model=tiny", "batch_size=2", "trainer=cpu", "trainer.max_steps=2"]
    outcome = run_verb("train", "--config-dir", "mine", *settings, f"cache_dir={tmp_path / 'cache'}")
    assert outcome.code == 0, outcome.err
    assert len(server.requests) == 1
