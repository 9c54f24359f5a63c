"""The verb `prepare`: tokenization of a corpus into shards."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2_lightning.app.config import targets
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run.corpora import corpus_of, prepare_with_progress, tokenizer_for
from gpt2_lightning.data.corpora.mix import Mix
from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.shards.folder import META, folder_of
from gpt2_lightning.data.shards.prepare import Prepared
from gpt2_lightning.data.shards.prepared import open_prepared
from gpt2_lightning.data.shards.reports import count_done
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PathText, PositiveInt, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/prepare.yaml`.

    Raises:
        ValueError: if the number of workers is out of range.
    """

    cache_dir: PathText = "~/.cache/gpt2-lightning"
    """Folder of prepared corpora, downloads and trained tokenizers."""
    output: PathText | None = None
    """Folder of the shards; null for a subfolder of `cache_dir`, which training uses automatically."""
    workers: PositiveInt | None = None
    """Number of worker processes; null for one per core."""
    trusted_modules: list[str] = field(default_factory=list)
    """Modules of your own that a `_target_` may name; only on the command line, since importing one runs its code."""
    data: targets.Data
    tokenizer: targets.Tokenizer


def run(plain: dict[str, Any]) -> None:
    """Prepare a corpus, all corpora of a mix, or one share of a corpus.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    log_to_terminal()
    config = Config(**plain)
    cache_dir = Path(config.cache_dir).expanduser()
    corpus = corpus_of(config.data, cache_dir)
    if isinstance(corpus, TokenFiles):
        raise UserError("data=tokens names token files, and there is nothing to prepare; train on them as they are")
    if isinstance(corpus, Mix) and config.output is not None:
        raise UserError(
            "output: a mix has several corpora; prepare each with data=NAME output=FOLDER, or leave output out"
        )
    tokenizer = tokenizer_for(config.tokenizer, corpus, cache_dir)
    for part in corpus.corpora.values() if isinstance(corpus, Mix) else [corpus]:
        if isinstance(part, Corpus):
            folder = Path(config.output).expanduser() if config.output else folder_of(part, tokenizer, cache_dir)
            with _stoppable(folder):
                prepared = prepare_with_progress(part, tokenizer, folder, cache_dir, config.workers)
            if not prepared.missing:
                open_prepared(folder, tokenizer, cache_dir)
            _report(prepared)
            if note := tokenizer.take_note():
                log.info("  %s", note)


@contextlib.contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Context manager in which Ctrl-C and SIGTERM exit after a message on how to resume."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stopped:
        log.info(
            "stopped; %d pieces are done, and the same command goes on: %s", count_done(folder), display_path(folder)
        )
        raise SystemExit(stopped.code if isinstance(stopped, SystemExit) else 128 + signal.SIGINT) from None


def _report(prepared: Prepared) -> None:
    folder = display_path(prepared.folder)
    if prepared.missing:
        log.info("%s: this share is done; the pieces left for other machines: %d", folder, prepared.missing)
        return
    meta = json.loads((prepared.folder / META).read_text(encoding="utf-8"))
    log.info("%s: %s", folder, "was ready" if prepared.was_ready else "ready")
    for split, name in (("train", "training"), ("val", "validation")):
        part = meta[split]
        log.info(
            "  %-10s  %s tokens, %s, shards: %d, %.2f bytes of text a token",
            name,
            f"{part['tokens']:,}",
            f"documents: {part['documents']:,}" if part["documents"] else "the beginning of one document",
            len(part["shards"]),
            part["text_bytes"] / part["tokens"],
        )
    if meta["empty_documents"]:
        log.info("  %s empty documents were left out", f"{meta['empty_documents']:,}")
