"""The verb `attention`: attention weights and head scores as arrays, plots and an HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.result_folder import free_folder, leave
from gpt2_lightning.app.reports.attention import OUTPUT_FILES, AttentionReport
from gpt2_lightning.checkpoints import folder, runs
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.inspection.attention.measure import measure_attention
from gpt2_lightning.inspection.attention.scores import repeated_sequence
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.settings import FreeText, NonEmpty, NonNegativeInt, PathText, Settings, relation

_MOST_STEPS = 12


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/attention.yaml`.

    Raises:
        ValueError: if settings are out of range or do not fit each other; the message lists all faults.
    """

    runs_dir: PathText = "runs"
    """Folder of all runs, for `latest`."""
    checkpoint: PathText = "latest"
    """The model, named as for `generate`."""
    base: PathText | None = None
    """The base model of LoRA adapters; null for the path in each adapter."""
    tokenizer_from: PathText | None = None
    """Source of the tokenizer, as for `convert`, for a model without one."""
    prompt: Annotated[NonEmpty, FreeText()]
    """The input text."""
    layer: NonNegativeInt | None = None
    """The layer to plot; null for that of the plotted head."""
    head: NonNegativeInt | None = None
    """The head to plot; null for the one with the highest induction score."""
    token: NonNegativeInt | None = None
    """The query token to plot; null for the last."""
    compare: PathText | None = None
    """A second model with the same numbers of layers and heads, and the same tokenizer."""
    steps: bool = False
    """Whether to measure every checkpoint of the run."""
    ablate: bool = False
    """Whether to ablate each head in turn."""
    pictures: bool = True
    """Whether to write plots beside the arrays and the page."""
    output: Annotated[PathText, MinLen(1)] = "attention"
    """The output folder."""
    overwrite: bool = False
    """Not needed: an output folder of this verb is replaced in any case. For commands of earlier versions."""

    @relation
    def _head_has_its_layer(self) -> Iterator[str]:
        if self.head is not None and self.layer is None:
            yield "head: each layer has one of this number; name the layer too, with layer="

    @relation
    def _steps_or_another_model(self) -> Iterator[str]:
        if self.steps and self.compare is not None:
            yield "compare: steps=true compares the checkpoints of one run; choose one of them"


def run(plain: dict[str, Any]) -> None:
    """Measure each model on the prompt, write the output folder, and print a summary.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    output = free_folder(config.output, OUTPUT_FILES)
    names = _checkpoints(config)
    first = _load(names[0], config)
    ids = _ids(config.prompt, first)
    _require_in_range(config, first, ids)
    shape = first.model.config
    repeated, description = repeated_sequence(shape.vocab_size, shape.block_size)
    if config.ablate:
        print(f"switching off {shape.n_layer * shape.n_head} heads in turn")
    inspected = [
        measure_attention(source.model.float().eval(), ids, repeated, _name(source), config.ablate)
        for source in _load_all(names, first, len(ids), config)
    ]
    shown = len(inspected) - 1 if config.steps else 0
    tokenizer = first.description().tokenizer
    result = AttentionReport(inspected, shown, tokenizer, description, config.layer, config.head, config.token)
    leave(result, output, config.pictures)


def _checkpoints(config: Config) -> list[str]:
    """Return the names of the models to measure."""
    if config.compare is not None:
        return [config.checkpoint, config.compare]
    if not config.steps:
        return [config.checkpoint]
    path = Path(config.checkpoint).expanduser()
    run = folder.run_of(
        path if path.is_file() else runs.find_checkpoint(config.checkpoint, Path(config.runs_dir).expanduser())
    )
    checkpoints = [] if run is None else folder.by_step(run)
    if not checkpoints:
        raise UserError(f"steps: {config.checkpoint} is no run with checkpoints of its steps; name a run's folder")
    if len(checkpoints) == 1:
        raise UserError(
            f"steps: {display_path(checkpoints[0])} is the only one of its run; callbacks.checkpoint.keep=10 keeps more"
        )
    if len(checkpoints) > _MOST_STEPS:
        print(f"the run has {len(checkpoints)} checkpoints: {_MOST_STEPS} are measured, with the first and the last")
        even = torch.linspace(0, len(checkpoints) - 1, _MOST_STEPS).round().int().tolist()
        checkpoints = [checkpoints[i] for i in even]
    return [str(checkpoint) for checkpoint in checkpoints]


def _load(place: str, config: Config) -> LoadedModel:
    source = load_pretrained(place, LoadOptions(Path(config.runs_dir).expanduser(), config.base, config.tokenizer_from))
    source.description()  # raises without a tokenizer
    for note in source.notes:
        print(f"{source.location}: {note}")
    return source


def _load_all(names: Sequence[str], first: LoadedModel, tokens: int, config: Config) -> Iterator[LoadedModel]:
    """Load the models one at a time, so that at most two are in memory; each must be comparable with the first."""
    yield first
    for name in names[1:]:
        source = _load(name, config)
        _require_comparable(first, source, tokens)
        yield source


def _require_comparable(first: LoadedModel, other: LoadedModel, tokens: int) -> None:
    ours, theirs = first.model.config, other.model.config
    faults = [
        f"{field}: {getattr(ours, field)} and {getattr(theirs, field)}"
        for field in ("n_layer", "n_head")
        if getattr(ours, field) != getattr(theirs, field)
    ]
    if first.description().tokenizer.hash() != other.description().tokenizer.hash():
        faults.append("they have different tokenizers")
    if tokens > theirs.block_size:
        faults.append(f"the prompt has {tokens} tokens, the second has a context of {theirs.block_size}")
    if faults:
        raise UserError("\n  ".join([f"{_name(first)} and {_name(other)} cannot be compared head by head", *faults]))


def _ids(prompt: str, source: LoadedModel) -> Tensor:
    """Encode the prompt, (T,), truncated on the left to the context."""
    tokenizer = source.description().tokenizer
    ids = prompt_ids(prompt, tokenizer)
    if note := tokenizer.take_note():
        print(f"in the prompt, {note}")
    context = source.model.config.block_size
    if len(ids) > context:
        print(f"the prompt has {len(ids)} tokens and the context {context}: the last {context} are read")
    return ids[-context:]


def _require_in_range(config: Config, source: LoadedModel, ids: Tensor) -> None:
    shape = source.model.config
    counts = {"layer": shape.n_layer, "head": shape.n_head, "token": len(ids)}
    faults = [
        f"{name}: {value} is out of range, 0 to {count - 1} is allowed"
        for name, count in counts.items()
        if (value := getattr(config, name)) is not None and value >= count
    ]
    if faults:
        raise UserError("\n  ".join([f"{_name(source)} has no such place", *faults]))


def _name(source: LoadedModel) -> str:
    if source.checkpoint is None:
        return source.location
    step = "" if source.step is None else f" at step {source.step:,}"
    return f"{display_path(folder.run_of(source.checkpoint) or source.checkpoint)}{step}"
