"""Corpora, tokenizers and token data modules, made from the configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich import get_console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from gpt2_lightning.app.config import build
from gpt2_lightning.app.config.overrides import as_typed, command
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.data.corpora.mix import Mix
from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.corpora.web import Remote
from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.folder import META, folder_of
from gpt2_lightning.data.shards.prepare import Advance, Prepared, prepare
from gpt2_lightning.data.shards.prepared import Tokens, open_prepared
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer
from gpt2_lightning.tokenizers.saved import from_corpus as saved_tokenizer
from gpt2_lightning.tokenizers.saved import write_tokenizer

log = logging.getLogger(__name__)

_VERSION = 2
"""Version of trained tokenizers in the cache; in version 1, alphabets came from the training text alone."""
_SAID_FROM = 2**25
"""Bytes of text whose preparation is announced when standard output is not a terminal."""
_SECONDS_BETWEEN_LINES = 30
"""Seconds between log lines when standard output is not a terminal."""

AnyCorpus = Corpus | TokenFiles | Mix


def corpus_of(node: dict[str, Any], cache_dir: Path) -> AnyCorpus:
    """Make the corpus of a configuration, downloading it if necessary.

    Args:
        node: settings with a `_target_`, checked by preflight.
        cache_dir: folder of downloads.

    Raises:
        UserError: if the data are not a corpus, or a download fails.
    """
    corpus = build.make(node)
    if isinstance(corpus, Mix):
        return dataclasses.replace(corpus, corpora={n: _fetched(part, cache_dir) for n, part in corpus.corpora.items()})
    return _fetched(corpus, cache_dir)


def tokenizer_for(node: dict[str, Any], corpus: AnyCorpus, cache_dir: Path) -> Tokenizer:
    """Make the tokenizer of a configuration. A tokenizer trained on the corpus is cached and reused.

    Args:
        node: settings with a `_target_`, checked by preflight.
        corpus: corpus to train on, if the tokenizer needs training.
        cache_dir: folder whose subfolder `tokenizers` has the trained tokenizers.
    """
    sources = _texts_of(corpus)
    prints = [source.fingerprint(cache_dir) for source in sources]
    key = hashlib.sha256(json.dumps([_VERSION, node, prints], sort_keys=True).encode()).hexdigest()[:24]
    kept = cache_dir / "tokenizers" / f"{key}.json"
    if sources and kept.exists():
        return saved_tokenizer((), False, str(kept))
    texts, all_texts = _Watched(sources), _Watched(sources, all_splits=True)
    several = len(sources) > 1 or any(source.several_documents for source in sources)
    tokenizer = build.make(node, texts=texts, all_texts=all_texts, several_documents=several)
    if texts.were_read or all_texts.were_read:
        write_tokenizer(tokenizer, kept)
    return tokenizer


def training_texts(corpus: AnyCorpus) -> Iterator[str]:
    """Return an iterator over pieces of the training text.

    Raises:
        UserError: if the corpus is tokenized already and has no text.
    """
    return iter(_Watched(_texts_of(corpus)))


def open_corpora(corpus: AnyCorpus, tokenizer: Tokenizer, cache_dir: Path) -> dict[str, Tokens]:
    """Open the token ids of a corpus, preparing a small corpus if necessary.

    Returns:
        Token ids by name of the corpus in a mix; the name of a single corpus is "".

    Raises:
        UserError: if a large corpus is not prepared.
    """
    if isinstance(corpus, Mix):
        return {name: _open(part, tokenizer, cache_dir) for name, part in corpus.corpora.items()}
    return {"": _open(corpus, tokenizer, cache_dir)}


def token_data(
    corpus: AnyCorpus,
    tokenizer: Tokenizer,
    cache_dir: Path,
    block_size: int,
    settings: RunSettings,
    micro_batch_size: int,
) -> TokenDataModule:
    """Return the data module of a corpus or a mix; small corpora are prepared if necessary.

    Args:
        corpus: a corpus, or several in a mix.
        tokenizer: tokenizer of all corpora.
        cache_dir: folder of prepared corpora.
        block_size: tokens that a sample predicts.
        settings: batch size and random seed.
        micro_batch_size: samples per forward pass of one process.
    """
    if corpus.documents != "joined" and not all(part.several_documents for part in _texts_of(corpus)):
        log.warning(
            "data.documents=%s has no effect on the training text of one document; name several files, or one with a "
            "document in each row",
            corpus.documents,
        )
    corpora = open_corpora(corpus, tokenizer, cache_dir)
    return TokenDataModule(
        list(corpora.values()),
        block_size,
        settings.samples_in_step(block_size),
        micro_batch_size,
        settings.seed,
        weights=[corpus.weight_of(name) for name in corpora] if isinstance(corpus, Mix) else None,
        documents=corpus.documents,
        end_of_text=tokenizer.end_of_text,
    )


def prepare_with_progress(
    corpus: Corpus, tokenizer: Tokenizer, folder: Path, cache_dir: Path, workers: int | None
) -> Prepared:
    """Call `prepare` with a progress bar, or with log lines if there is no terminal."""
    columns = (TextColumn("preparing"), BarColumn(), DownloadColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with _bar(*columns) as progress:

        def start(total: int) -> Advance:
            task = progress.add_task("", total=total)
            told = time.monotonic()
            if progress.disable and total > _SAID_FROM:
                log.info("preparing %.0f MB", total / 1e6)

            def advance(done: int) -> None:
                nonlocal told
                progress.advance(task, done)
                if progress.disable and time.monotonic() - told > _SECONDS_BETWEEN_LINES:
                    told = time.monotonic()
                    log.info("prepared %.0f of %.0f MB", progress.tasks[task].completed / 1e6, total / 1e6)

            return advance

        return prepare(corpus, tokenizer, folder, cache_dir, workers, start)


def _fetched(corpus: Any, cache_dir: Path) -> Any:
    if not isinstance(corpus, Remote):
        if not isinstance(corpus, Corpus | TokenFiles):
            raise UserError(
                f"data: {type(corpus).__name__} is no running text; choose a corpus such as data=scifi or data=text. "
                "Tables are for finetune, with task=classify or task=instruct"
            )
        return corpus
    columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _bar(*columns) as progress:
        tasks: dict[str, TaskID] = {}

        def watch(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        return corpus.fetch(cache_dir, watch)


def _bar(*columns: ProgressColumn) -> Progress:
    console = get_console()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _open(corpus: Corpus | TokenFiles | Remote, tokenizer: Tokenizer, cache_dir: Path) -> Tokens:
    if isinstance(corpus, TokenFiles):
        return corpus.open(tokenizer, cache_dir)
    assert not isinstance(corpus, Remote), "downloaded by `corpus_of`"
    folder = folder_of(corpus, tokenizer, cache_dir)
    if not (folder / META).exists() and not corpus.prepares_itself:
        raise UserError(
            "this corpus is large and is not prepared yet; prepare it once, with the same data and tokenizer settings: "
            f"{command('prepare', *_given())}"
        )
    prepare_with_progress(corpus, tokenizer, folder, cache_dir, workers=None)
    return open_prepared(folder, tokenizer, cache_dir)


def _given() -> list[str]:
    """Return the user's overrides of data and tokenizer."""
    from hydra.core.hydra_config import HydraConfig

    given = [as_typed(override) for override in HydraConfig.get().overrides.task]
    return [override for override in given if override.startswith(("data", "tokenizer", "cache_dir"))]


def _texts_of(corpus: AnyCorpus) -> list[Corpus]:
    parts: Iterable[object] = corpus.corpora.values() if isinstance(corpus, Mix) else [corpus]
    return [part for part in parts if isinstance(part, Corpus)]


class _Watched(Iterable[str]):
    """Text of corpora, with a flag for whether it was read.

    Args:
        corpora: corpora whose texts are concatenated.
        all_splits: whether to include the validation text, rather than the training text alone.
    """

    def __init__(self, corpora: list[Corpus], all_splits: bool = False) -> None:
        self.corpora, self.all_splits = corpora, all_splits
        self.were_read = False

    def __iter__(self) -> Iterator[str]:
        self.were_read = True
        if not self.corpora:
            raise UserError(
                "token files hold no text; choose the tokenizer that made them: "
                "tokenizer=gpt2, or tokenizer=saved or huggingface with its tokenizer.path"
            )
        for corpus in self.corpora:
            yield from corpus.all_text() if self.all_splits else corpus.training_text()
