"""The verb `params`: the parameters of a model, as a table, a tree, CSV or a diagram."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpt2_lightning.app.config import build, targets
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.terminal import until_the_reader_stops, wide_console
from gpt2_lightning.app.reports.parameters import print_summary, print_table, print_tree, write_csv
from gpt2_lightning.app.run.corpora import corpus_of, tokenizer_for
from gpt2_lightning.atomic_replace import replacing
from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.diagrams.parts import FORMATS, diagram_files, diagram_format, draw_diagram
from gpt2_lightning.inspection.parameters.tensors import TensorSummary, compare, meta_model, summarize_tensors
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.pretrained.load import LoadOptions, read_pretrained
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.settings import PathText, Settings, relation

_COLUMNS_IN_FILES = 160
_MISMATCHES_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/params.yaml`.

    Raises:
        ValueError: if settings do not fit each other; the message lists all faults.
    """

    runs_dir: PathText = "runs"
    """Folder of all runs, for `latest`."""
    cache_dir: PathText = "~/.cache/gpt2-lightning"
    """Folder of trained tokenizers, which determine the vocabulary size of a `model=`."""
    checkpoint: PathText | None = None
    """The model to inspect, named as for `generate`; null for `latest`, unless `model` is given."""
    base: PathText | None = None
    """The base model of a LoRA adapter; null for the path in the adapter."""
    compare: PathText | None = None
    """A second model; the change of each tensor from it is shown."""
    view: Literal["table", "tree", "csv"] = "table"
    """Format of the output."""
    diagram: PathText | None = None
    """A .svg or .png file for a diagram of the network with tensor shapes and parameter counts. With `{part}` in its
    name, one file for each of network, embeddings, block, attention and gelu."""
    overwrite: bool = False
    """Whether an existing diagram is replaced."""
    trusted_modules: list[str] = field(default_factory=list)
    """Modules of your own that a `_target_` may name; only on the command line, since importing one runs its code."""
    data: targets.Data
    tokenizer: targets.Tokenizer
    model: targets.Model | None = None
    """An architecture to inspect without a checkpoint, on the meta device."""

    @relation
    def _checkpoint_or_architecture(self) -> Iterator[str]:
        if self.model is not None and self.checkpoint is not None:
            yield f"checkpoint: {self.checkpoint} is given, and a model too; name one of them"

    @relation
    def _tree_compares_nothing(self) -> Iterator[str]:
        if self.view == "tree" and self.compare is not None:
            yield "compare: a tree shows no values; choose view=table or view=csv"

    @relation
    def _architecture_has_no_values(self) -> Iterator[str]:
        if self.model is not None and self.compare is not None:
            yield "compare: an architecture has no values to compare; name a checkpoint in place of the model"

    @relation
    def _diagram_has_a_format(self) -> Iterator[str]:
        if self.diagram is not None and diagram_format(self.diagram) not in FORMATS:
            yield f"diagram: {self.diagram} must end in .{' or .'.join(FORMATS)}"


def run(plain: dict[str, Any]) -> None:
    """Print the parameters and draw the diagrams.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    diagrams = _free_files(config)
    if config.model is not None:
        model, place = _architecture(config.model, config), "an architecture, without values"
    else:
        found = _load(config.checkpoint or "latest", config)
        model, place = found.model, found.location
    tensors = summarize_tensors(model)
    if config.compare is not None:
        other = _load(config.compare, config)
        tensors, faults = compare(tensors, model, other.model)
        _require_common(tensors, model, other, place)
        place = f"{place}, compared with {other.location}"
        _print_mismatches(faults)
    with until_the_reader_stops():
        if config.view == "csv":
            write_csv(tensors, sys.stdout)
        else:
            console = wide_console(_COLUMNS_IN_FILES)
            print(place)
            (print_table if config.view == "table" else print_tree)(tensors, console)
            print_summary(tensors, model, console)
    for part, file in diagrams.items():
        with replacing(file.resolve(), "diagram") as temporary:
            draw_diagram(model.config, part, temporary, diagram_format(file.name))
        print(f"drew {display_path(file)}", file=sys.stderr)  # standard output may be CSV


def _free_files(config: Config) -> dict[str, Path]:
    """Return the file of each diagram to draw.

    Raises:
        UserError: if one exists and `overwrite` is false.
    """
    files = {} if config.diagram is None else diagram_files(config.diagram)
    existing = [display_path(file) for file in files.values() if file.exists()]
    if existing and not config.overwrite:
        raise UserError(f"diagram: {', '.join(existing)} exists; name another, or add overwrite=true to replace it")
    return files


def _require_common(tensors: Sequence[TensorSummary], model: GPT2, other: LoadedModel, place: str) -> None:
    if any(one.change for one in tensors):
        return
    raise UserError(
        "no tensor of the two models has the same name and shape, so there is nothing to compare\n"
        f"  {place}: {_describe(model.config)}\n"
        f"  {other.location}: {_describe(other.model.config)}\n"
        "  name a checkpoint of the same architecture with compare="
    )


def _describe(config: GPT2Config) -> str:
    sizes = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
    return " ".join(f"{name}={getattr(config, name)}" for name in sizes)


def _print_mismatches(faults: Sequence[str]) -> None:
    if not faults:
        return
    print(f"not compared: {len(faults)} tensors without a counterpart of the same shape", file=sys.stderr)
    for fault in faults[:_MISMATCHES_SHOWN]:
        print(f"  {fault}", file=sys.stderr)
    if len(faults) > _MISMATCHES_SHOWN:
        print(f"  and {len(faults) - _MISMATCHES_SHOWN} more", file=sys.stderr)


def _load(source: str, config: Config) -> LoadedModel:
    found = read_pretrained(source, LoadOptions(Path(config.runs_dir).expanduser(), config.base))
    for note in found.notes:
        print(f"{found.location}: {note}", file=sys.stderr)
    return found


def _architecture(node: dict[str, Any], config: Config) -> GPT2:
    """Make the model of the settings; `vocab_size` defaults to that of the tokenizer."""
    if "vocab_size" in node:
        return meta_model(build.make(node))
    cache_dir = Path(config.cache_dir).expanduser()
    tokenizer = tokenizer_for(config.tokenizer, corpus_of(config.data, cache_dir), cache_dir)
    return meta_model(build.model_config(node, tokenizer.vocab_size))
