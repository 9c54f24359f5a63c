"""Settings of the verb `generate`, and relations between them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from gpt2_lightning.api.settings import GenerationSettings
from gpt2_lightning.pretrained.devices import Device, DType, Quantization
from gpt2_lightning.settings import FreeText, NonNegativeInt, PathText, PositiveInt, relation

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}


@dataclass(frozen=True, kw_only=True)
class Config(GenerationSettings):
    r"""The top level of `conf/generate.yaml`, with the settings of `GenerationSettings`.

    In `stop`, `\n`, `\t` and `\\` are a line feed, a tab and a backslash.

    Raises:
        ValueError: if settings are out of range or do not fit each other; the message lists all faults.
    """

    runs_dir: PathText = "runs"
    """Folder of all runs, for `checkpoint=latest`."""
    cache_dir: PathText = "~/.cache/gpt2-lightning"
    """Folder of the interactive prompt's history."""
    checkpoint: PathText = "latest"
    """`latest`, a run's folder, a checkpoint file, a Hugging Face folder, or `hf:NAME@REVISION`."""
    base: PathText | None = None
    """The base model of a LoRA adapter; null for the path in the adapter."""
    device: Device = "auto"
    """Device; `auto` for the fastest available."""
    dtype: DType = "auto"
    """Data type to compute in; `auto` for that of the checkpoint."""
    quantize: Quantization = "none"
    """`int8` for int8 weights on a CPU: a third of the memory, and faster."""
    compile: bool = False
    """Whether to compile the forward pass of a token, which delays the first token; not for beam search and choices. On
    CUDA the step of a token is a CUDA graph, compiled or not."""
    prompt: Annotated[str, FreeText()] | None = None
    """Prompt; `-` reads standard input, as does null if standard input is a pipe or file."""
    prompts: PathText | None = None
    """A file of prompts: one per line, or JSONL with the field `prompt`."""
    output: PathText | None = None
    """The JSONL file for the answers to `prompts`."""
    batch_size: PositiveInt = 16
    """Number of prompts of the file per batch."""
    interactive: bool = False
    """Whether to read prompts interactively on the terminal."""
    probabilities: bool = False
    """Whether to show the probability of each token."""
    alternatives: NonNegativeInt = 0
    """Number of most probable tokens to list for each position."""

    @property
    def shows_probabilities(self) -> bool:
        """Whether probabilities or alternatives are shown."""
        return self.probabilities or self.alternatives > 0

    @property
    def stop_strings(self) -> list[str]:
        """`stop`, with escape sequences decoded."""
        return [re.sub(r"\\[nt\\]", lambda escape: _ESCAPES[escape[0]], string) for string in self.stop]

    def generation(self) -> GenerationSettings:
        """The settings of the generation."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(GenerationSettings)}
        values["stop"] = self.stop_strings
        if self.shows_probabilities:
            values["log_probabilities"] = self.alternatives
        return GenerationSettings(**values)

    @relation
    def _drafts_are_not_compiled(self) -> Iterator[str]:
        if self.speculate is not None and self.compile:
            yield "speculate: compile=true compiles the pass of a single token; leave one of them out"

    @relation
    def _int8_weights_are_not_compiled(self) -> Iterator[str]:
        if self.compile and self.quantize != "none":
            yield f"compile: it does not go with quantize={self.quantize}, leave one out"

    @relation
    def _prompts_come_from_one_place(self) -> Iterator[str]:
        sources = {"prompt": self.prompt is not None, "prompts": self.prompts is not None}
        given = [name for name, is_given in {**sources, "interactive": self.interactive}.items() if is_given]
        if len(given) > 1:
            yield f"{given[0]}: it does not go with {' and '.join(given[1:])}, choose one"

    @relation
    def _prompts_have_an_output(self) -> Iterator[str]:
        if self.prompts is not None and self.output is None:
            yield "output: missing; add output=FILE.jsonl for the answers to prompts"
        if self.output is not None and self.prompts is None:
            yield "output: it is for the answers to prompts=FILE; to keep a single text add > FILE"
        if self.output == "-":
            yield "output: - is not a file, which a run needs to continue after an interruption; name one"

    @relation
    def _probabilities_have_a_place(self) -> Iterator[str]:
        if self.shows_probabilities and self.prompts is not None:
            yield "probabilities: they are for the terminal; log_probabilities=N writes them to the output"
        if self.log_probabilities is not None and self.prompts is None:
            yield "log_probabilities: they go to an output; probabilities=true and alternatives=N show them here"
        if self.n_beams > 1 and self.shows_probabilities:
            yield "probabilities: beam search reports scores of texts alone; leave probabilities or n_beams out"
