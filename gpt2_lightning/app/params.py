"""The verb `params`: what a model is made of, as a table, a tree or CSV."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpt2_lightning.app import build
from gpt2_lightning.app.corpora import corpus_of, tokenizer_for
from gpt2_lightning.app.parameter_views import print_summary, print_table, print_tree, write_csv
from gpt2_lightning.app.preflight import Node
from gpt2_lightning.app.sources import Source, open_source
from gpt2_lightning.inspection.parameters import compare, tensor_figures, unallocated
from gpt2_lightning.model import GPT2


@dataclass(frozen=True)
class Config:
    """The top level of `conf/params.yaml`.

    Raises:
        ValueError: with every setting that does not fit the others.
    """

    runs_dir: str
    """Folder of all runs, for `latest`."""
    cache_dir: str
    """Folder of trained tokenizers, which say how large the vocabulary of a `model=` is."""
    checkpoint: str | None
    """The model to look at, named as for `generate`; null for `latest`, unless `model` is given."""
    compare: str | None
    """A second one; every tensor's change from it is shown."""
    view: Literal["table", "tree", "csv"]
    """How to show it."""
    data: Node
    tokenizer: Node
    model: Node | None = None
    """An architecture to look at without a checkpoint; nothing is allocated."""

    def __post_init__(self) -> None:
        faults = []
        if self.model is not None and self.checkpoint is not None:
            faults.append(f"checkpoint: {self.checkpoint} is given, and a model too; name one of them")
        if self.view == "tree" and self.compare is not None:
            faults.append("compare: a tree shows no values; choose view=table or view=csv")
        if self.model is not None and self.compare is not None:
            faults.append("compare: an architecture has no values to compare; name a checkpoint in place of the model")
        if faults:
            raise ValueError("\n".join(faults))


def run(plain: dict[str, Any]) -> None:
    """Measure and print."""
    config = Config(**plain)
    runs_dir = Path(config.runs_dir).expanduser()
    if config.model is not None:
        model, place = _architecture(config.model, config), "an architecture, without values"
    else:
        found = _opened(config.checkpoint or "latest", runs_dir)
        model, place = found.model, found.place
    figures = tensor_figures(model)
    if config.compare is not None:
        other = _opened(config.compare, runs_dir)
        figures, faults = compare(figures, model, other.model)
        place = f"{place}, compared with {other.place}"
        for fault in faults:
            print(fault, file=sys.stderr)
    try:
        if config.view == "csv":
            write_csv(figures, sys.stdout)
        else:
            print(place)
            (print_table if config.view == "table" else print_tree)(figures)
            print_summary(figures, model)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _opened(source: str, runs_dir: Path) -> Source:
    found = open_source(source, runs_dir)
    for note in found.notes:
        print(f"{found.place}: {note}", file=sys.stderr)
    return found


def _architecture(node: dict[str, Any], config: Config) -> GPT2:
    """The model of the settings; where they do not state a vocabulary, the tokenizer does."""
    if "vocab_size" in node:
        return unallocated(build.make(node))
    cache_dir = Path(config.cache_dir).expanduser()
    tokenizer = tokenizer_for(config.tokenizer, corpus_of(config.data, cache_dir), cache_dir)
    return unallocated(build.model_config(node, tokenizer.vocab_size))
