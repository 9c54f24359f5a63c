"""The settings of the verb `generate`, and which of them go together."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass

from gpt2_lightning.api.settings import GenerationSettings
from gpt2_lightning.pretrained.devices import Device, DType

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}


@dataclass(frozen=True, kw_only=True)
class Config(GenerationSettings):
    r"""The top level of `conf/generate.yaml`: the settings of `GenerationSettings`, and these.

    In `stop`, `\n`, `\t` and `\\` are a line feed, a tab and a backslash.

    Raises:
        ValueError: with every setting that is out of range or does not fit the others.
    """

    runs_dir: str
    """Folder of all runs, for `checkpoint=latest`."""
    cache_dir: str
    """Folder of the interactive prompt's history."""
    checkpoint: str
    """`latest`, a run's folder, a checkpoint file, a Hugging Face folder, or `hf:NAME@REVISION`."""
    base: str | None
    """The model that a LoRA adapter was trained on, if it was moved; null for where it was then."""
    device: Device
    """Where to compute; `auto` is the fastest device of the machine."""
    dtype: DType
    """What to compute in; `auto` is that of the checkpoint."""
    compile: bool
    """Whether to compile the forward pass of a token, for which the first token waits."""
    prompt: str | None
    """Beginning of the text; `-` reads it from standard input, as null does where something is piped in."""
    prompts: str | None
    """A file of prompts: a line each, or JSONL with the field `prompt`."""
    output: str | None
    """The JSONL file for the answers to `prompts`."""
    batch_size: int
    """Prompts of the file in a batch."""
    interactive: bool
    """Whether to ask for prompts on the terminal."""
    probabilities: bool
    """Whether to show the probability of each token."""
    alternatives: int
    """Number of the likeliest tokens to list beside each."""

    def __post_init__(self) -> None:
        faults = [*self._faults_alone(), *self._faults_together()]
        try:
            super().__post_init__()
        except ValueError as error:
            faults = [*str(error).splitlines(), *faults]
        if faults:
            raise ValueError("\n".join(faults))

    @property
    def shows_probabilities(self) -> bool:
        """Whether the terminal gets more than the text."""
        return self.probabilities or self.alternatives > 0

    @property
    def stop_strings(self) -> list[str]:
        """`stop`, with escapes replaced."""
        return [re.sub(r"\\[nt\\]", lambda escape: _ESCAPES[escape[0]], string) for string in self.stop]

    def generation(self) -> GenerationSettings:
        """The settings of the generation."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(GenerationSettings)}
        values["stop"] = self.stop_strings
        if self.shows_probabilities:
            values["log_probabilities"] = self.alternatives
        return GenerationSettings(**values)

    def _faults_alone(self) -> Iterator[str]:
        for name, least in (("batch_size", 1), ("alternatives", 0)):
            if (value := getattr(self, name)) < least:
                yield f"{name}: {value} is out of range, {least} or more is allowed"

    def _faults_together(self) -> Iterator[str]:
        sources = {"prompt": self.prompt is not None, "prompts": self.prompts is not None}
        given = [name for name, is_given in {**sources, "interactive": self.interactive}.items() if is_given]
        if len(given) > 1:
            yield f"{given[0]}: it does not go with {' and '.join(given[1:])}, choose one"
        if self.prompts is not None and self.output is None:
            yield "output: missing; add output=FILE.jsonl for the answers to prompts"
        if self.output is not None and self.prompts is None:
            yield "output: it is for the answers to prompts=FILE; to keep a single text add > FILE"
        if self.output == "-":
            yield "output: - is not a file, which a run needs to continue after an interruption; name one"
        if self.shows_probabilities and self.prompts is not None:
            yield "probabilities: they are for the terminal; log_probabilities=N writes them to the output"
        if self.log_probabilities is not None and self.prompts is None:
            yield "log_probabilities: they go to an output; probabilities=true and alternatives=N show them here"
        if self.n_beams > 1 and self.shows_probabilities:
            yield "probabilities: beam search reports scores of texts alone; leave probabilities or n_beams out"
