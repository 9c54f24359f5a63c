"""The verb `compare`: parity of a checkpoint with transformers' GPT-2, and the causes of differences."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from rich import get_console

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.sections import markdown, show
from gpt2_lightning.app.reports.comparison_page import page
from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.parity import Ours, Padding, load_theirs, measure
from gpt2_lightning.evaluation.parity.sides import Theirs, remove_padding
from gpt2_lightning.evaluation.parity.texts import ragged
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.huggingface import folder, hub
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.loaded_model import PEFT, THIS_PROGRAM, LoadedModel
from gpt2_lightning.settings import (
    FreeText,
    NonNegativeFloat,
    PathText,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Seed,
    Settings,
)

_NEW_TOKENS = 24
"""Default number of new tokens of a text."""
_TITLE = "A checkpoint beside transformers' GPT-2"


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/compare.yaml`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    runs_dir: PathText = "runs"
    """Folder of all runs, for `checkpoint=latest`."""
    checkpoint: PathText = "latest"
    """`latest`, a run's folder, a checkpoint file, a Hugging Face folder, or `hf:NAME@REVISION`."""
    base: PathText | None = None
    """The base model of a LoRA adapter; null for the path in the adapter."""
    with_: PathText | None = None
    """A Hugging Face folder or `hf:NAME@REVISION`; null for the checkpoint itself."""
    prompt: Annotated[str, FreeText()] = ""
    """Prompt of the generated texts; empty for the end-of-text token."""
    text: Annotated[str, FreeText()] | None = None
    """Text to measure the loss on; null for the prompt with its greedy continuation."""
    max_new_tokens: PositiveInt | None = None
    """New tokens of each text; null for 24, or fewer if the context is shorter."""
    temperature: NonNegativeFloat = 0.8
    """Sampling temperature; 0 for no sampled text."""
    top_k: PositiveInt | None = None
    """Number of most probable tokens to sample from; null for all tokens."""
    top_p: PositiveShare = 1.0
    """Cumulative probability for nucleus sampling; 1 is off."""
    repetition_penalty: PositiveFloat = 1.0
    """Repetition penalty for all texts; 1 is off."""
    n_beams: Annotated[int, Ge(2)] = 4
    """Number of beams for beam search."""
    seed: Seed = 0
    """Random seed of the sampled text."""
    training_mode: bool = False
    """Whether transformers' model is in training mode."""
    padding_side: Literal["left", "right"] = "left"
    """Side on which a loop around transformers' model pads prompts of different lengths."""
    attention_mask: bool = True
    """Whether that loop masks the padding."""
    position_ids: bool = True
    """Whether that loop passes position ids for each prompt."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of both models."""
    output: PathText | None = None
    """File for the report as Markdown; null for none."""

    def sampling(self) -> Sampling:
        """Return the settings of the sampled text."""
        return Sampling(
            max_new_tokens=_NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )


def run(plain: dict[str, Any]) -> None:
    """Compare the models, and print the report.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: this machine has none, or this torch was built without it; use device=cpu")
    output = None if config.output is None else Path(config.output).expanduser()
    if output is not None:
        with _writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)  # fail early: a large model takes minutes
    device = torch.device(config.device)
    source = load_pretrained(config.checkpoint, LoadOptions(Path(config.runs_dir).expanduser(), config.base))
    description = source.description()
    with _their_folder(config, source) as (path, place):
        theirs = load_theirs(path, device, place)
    ours = Ours(source.model.to(device).eval(), description.tokenizer, source.location)
    for note in (remove_padding(ours.model, theirs), _vocabulary_note(theirs)):
        if note is not None:
            print(f"{theirs.place}: {note}")
    for name, text in (("prompt", config.prompt), ("text", config.text or "")):
        ours.ids(text)
        if note := ours.tokenizer.take_note():
            print(f"in the {name}, {note}")
    theirs.model.train(config.training_mode)
    padding = Padding(config.padding_side, config.attention_mask, config.position_ids)
    report = measure(ours, theirs, config.prompt, _fitting_sampling(config, ours), config.n_beams, config.text, padding)
    sections = page(report, ours, theirs, config.seed)
    show(sections, get_console())
    if output is not None:
        with _writing(output):
            write_text(output, markdown(_TITLE, [sections[-1], *sections[:-1]]))
        print(f"wrote {display_path(output)}")


def _vocabulary_note(theirs: Theirs) -> str | None:
    """Describe a tokenizer of another size than the vocabulary of its model; None if they are equal."""
    rows = theirs.model.config.vocab_size
    if theirs.tokenizer is None or len(theirs.tokenizer) == rows:
        return None
    return f"in transformers its tokenizer has {len(theirs.tokenizer)} tokens, and its model {rows}"


def _fitting_sampling(config: Config, ours: Ours) -> Sampling:
    """Return the settings of the sampled text, with the default length limited by the context."""
    sampling = config.sampling()
    room = ours.model.config.block_size - len(ragged(ours.ids(config.prompt))[-1])
    if config.max_new_tokens is not None or not 1 <= room < sampling.max_new_tokens:
        return sampling
    print(f"texts have {room} new tokens: more do not fit into the context of {ours.model.config.block_size}")
    return dataclasses.replace(sampling, max_new_tokens=room)


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Context manager that reports write errors as a fault of `output`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"output: {output} cannot be written: {error.strerror}; name another file") from None


@contextlib.contextmanager
def _their_folder(config: Config, source: LoadedModel) -> Iterator[tuple[Path, str]]:
    """Yield the folder for transformers to load, and its name in the report."""
    is_theirs = source.program not in (THIS_PROGRAM, PEFT) and _is_theirs(config.checkpoint)
    named = config.with_ or (config.checkpoint if is_theirs else None)
    if named is None:
        with tempfile.TemporaryDirectory() as temporary:
            exported = Path(temporary) / "model"
            ends = source.ends_of_text()
            folder.write(source.model, source.tokenizer, exported, "", max_shard_bytes=5 * 10**9, ends=ends)
            yield exported, f"{source.location}, exported"
    elif named.startswith(hub.SCHEME):
        snapshot = hub.fetch(named)
        yield snapshot.folder, f"{hub.SCHEME}{snapshot.name}@{snapshot.commit}"
    elif _is_theirs(named):
        yield Path(named).expanduser(), named
    elif not Path(named).expanduser().exists():
        raise UserError(f"with: there is no {named}; check the path. A model of the hub is named hf:NAME@REVISION")
    else:
        raise UserError(
            f"with: {named} is no folder of Hugging Face's; name one, or hf:NAME@REVISION, or make one with "
            f"convert source={named} target=FOLDER"
        )


def _is_theirs(named: str) -> bool:
    return named.startswith(hub.SCHEME) or folder.is_model_folder(Path(named).expanduser())
