"""The verb `tokenizer`: train a tokenizer, trace its merges, measure it, and export it to Hugging Face."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from rich import get_console
from rich.table import Table
from rich.text import Text

from gpt2_lightning.app.config import targets
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run.corpora import corpus_of, tokenizer_for, training_texts
from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.tokenizer_files import write_tokenizer_files
from gpt2_lightning.inspection.token_labels import token_label
from gpt2_lightning.inspection.vocabulary import VocabularyStatistics, examine
from gpt2_lightning.settings import FreeText, NonNegativeInt, PathText, PositiveInt, Settings
from gpt2_lightning.tokenizers import BPETokenizer, GPT2Tokenizer, Tokenizer
from gpt2_lightning.tokenizers.gpt2 import read_merge_lines
from gpt2_lightning.tokenizers.merge_trace import MergeStep, merge_trace
from gpt2_lightning.tokenizers.saved import FILE, write_tokenizer

log = logging.getLogger(__name__)

_COLORS = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
_MEASURED_BYTES = 16_000_000
_UNUSED_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/tokenizer.yaml`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    cache_dir: PathText = "~/.cache/gpt2-lightning"
    """Folder of downloads and trained tokenizers."""
    text: Annotated[str, FreeText()] = "The airlock opened, and the keeper of the lamp went out."
    """Text whose tokens are shown."""
    steps: NonNegativeInt = 20
    """Number of merges to show, from the first; 0 for the tokens only."""
    output: PathText | None = None
    """Folder to write the tokenizer to; null for none."""
    block_size: PositiveInt = 1024
    """Maximum length in the files for Hugging Face, in tokens."""
    trusted_modules: list[str] = field(default_factory=list)
    """Modules of your own that a `_target_` may name; only on the command line, since importing one runs its code."""
    data: targets.Data
    tokenizer: targets.Tokenizer


def run(plain: dict[str, Any]) -> None:
    """Make the tokenizer, show its merges, print its statistics, and write it.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    log_to_terminal()
    config = Config(**plain)
    cache_dir = Path(config.cache_dir).expanduser()
    output = Path(config.output).expanduser() if config.output else None
    if output is not None and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"output: {output} is there already; name a folder that is not, or is empty")
    if output is not None:
        _make_folder(output)
    corpus = corpus_of(config.data, cache_dir)
    tokenizer = tokenizer_for(config.tokenizer, corpus, cache_dir)
    log.info("%s: %s tokens", tokenizer.kind, f"{tokenizer.vocab_size:,}")
    if config.text:
        _show(config.text, tokenizer, config.steps)
    if isinstance(corpus, TokenFiles):
        log.info("statistics need a text; name one with data=")
    else:
        texts = _up_to(_MEASURED_BYTES, training_texts(corpus))
        _print_statistics(examine(tokenizer, texts, GPT2Tokenizer()), tokenizer)
    if output is not None:
        _write(tokenizer, output, config.block_size)


def _make_folder(output: Path) -> None:
    """Create the output folder before the computation, so that a failure loses no work."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output: the folder {output} cannot be made: {error.strerror}; name another") from None


def _show(text: str, tokenizer: Tokenizer, steps: int) -> None:
    merging = _merging(tokenizer)
    if merging is not None:
        every = list(merge_trace(merging, text))
        log.info("")
        for number, step in enumerate(every[: steps + 1] if steps else []):
            get_console().print(_caption(number, step), _colored(list(itertools.chain(*step.words)), step.pair), sep="")
        if len(every) - 1 > steps:
            log.info("and %d more merges; steps=%d shows all", len(every) - 1 - steps, len(every) - 1)
    ids = tokenizer.encode(text).tolist()
    if note := tokenizer.take_note():
        log.info(note)
    log.info("\n%d tokens:", len(ids))
    get_console().print(_colored([tokenizer.token_bytes(i) for i in ids], None))
    log.info("%s\n", " ".join(map(str, ids)))


def _merging(tokenizer: Tokenizer) -> BPETokenizer | None:
    """Return the tokenizer as a `BPETokenizer`, for its merge trace; None if it has no merges."""
    if isinstance(tokenizer, GPT2Tokenizer):
        return BPETokenizer.from_merge_lines(read_merge_lines())
    return tokenizer if isinstance(tokenizer, BPETokenizer) else None


def _caption(number: int, step: MergeStep) -> Text:
    if step.pair is None:
        return Text("bytes              ", style="dim")
    return Text(f"{number:>3}. merge {(step.rank or 0) + 1:<6,} ", style="dim")


def _colored(tokens: list[bytes], merged: tuple[bytes, bytes] | None) -> Text:
    """Format tokens in alternating colors, with the last merge highlighted; without colors, separated by bars."""
    new = b"".join(merged) if merged else None
    between = "" if get_console().color_system else "|"
    line = Text(overflow="fold")
    for i, token in enumerate(tokens):
        line.append(between if i else "")
        style = "bold white on red" if token == new else _COLORS[i % len(_COLORS)]
        line.append(token_label(token), style=style)
    return line


def _print_statistics(statistics: VocabularyStatistics, tokenizer: Tokenizer) -> None:
    log.info("on the first %s bytes of the training text:", f"{statistics.text_bytes:,}")
    table = Table("")
    table.add_column(tokenizer.kind, justify="right")
    table.add_column("gpt2", justify="right")
    table.add_row("vocabulary", f"{tokenizer.vocab_size:,}", f"{GPT2Tokenizer().vocab_size:,}")
    table.add_row("tokens", f"{statistics.tokens:,}", f"{statistics.reference_tokens:,}")
    per_token = (statistics.bytes_per_token, statistics.reference_bytes_per_token)
    table.add_row("bytes a token", *(f"{value:.3f}" for value in per_token))
    get_console().print(table)
    log.info("longest tokens:  %s", "  ".join(map(token_label, statistics.longest)))
    log.info("most frequent:   %s", "  ".join(f"{token_label(t)} {count:,}" for t, count in statistics.most_frequent))
    unused = [token_label(tokenizer.token_bytes(i)) for i in statistics.unused[:_UNUSED_SHOWN]]
    more = " …" if len(statistics.unused) > _UNUSED_SHOWN else ""
    log.info("never used:      %s of %s  %s%s", len(statistics.unused), tokenizer.vocab_size, "  ".join(unused), more)


def _up_to(limit: int, texts: Iterator[str]) -> Iterator[str]:
    total = 0
    for text in texts:
        yield text
        total += len(text.encode(errors="surrogatepass"))
        if total >= limit:
            return


def _write(tokenizer: Tokenizer, output: Path, block_size: int) -> None:
    files = write_tokenizer_files(tokenizer, output, block_size)
    write_tokenizer(tokenizer, output / FILE)
    log.info("\nfor Hugging Face's software: %s", ", ".join(file.name for file in files))
    log.info("for training:                tokenizer=saved tokenizer.path=%s", display_path(output))
