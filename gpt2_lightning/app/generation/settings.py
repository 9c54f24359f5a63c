"""The settings of the verb `generate`, and which of them go together."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpt2_lightning.generation import Sampling
from gpt2_lightning.pretrained.devices import Device

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}


@dataclass(frozen=True, kw_only=True)
class Config(Sampling):
    """The top level of `conf/generate.yaml`: the settings of `Sampling`, and these.

    Raises:
        ValueError: with every setting that is out of range or does not fit the others.
    """

    runs_dir: str
    """Folder of all runs, for `checkpoint=latest`."""
    cache_dir: str
    """Folder of the interactive prompt's history."""
    checkpoint: str
    """`latest`, a run's folder, a checkpoint file, a folder of Hugging Face's, or `hf:NAME@REVISION`."""
    base: str | None
    """Where the model lies that a LoRA adapter was trained on; null for where it was then."""
    device: Device
    """Where to compute; `auto` takes the fastest there is."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"]
    """What to compute in; `auto` is that of the checkpoint."""
    compile: bool
    """Whether to compile the reading of a token, for which the first one waits."""
    prompt: str | None
    """What the text starts from; `-` reads it from standard input, as null does where something is piped in."""
    raw: bool
    """Whether a model that was trained on instructions continues the prompt as it stands, without its template."""
    system: str | None
    """A message before the question, for a model whose template has a place for one."""
    prompts: str | None
    """A file of prompts: a line each, or JSONL with the field `prompt`."""
    output: str | None
    """The file, JSONL, that gets the answers to `prompts`."""
    batch_size: int
    """Prompts of the file that are continued at a time."""
    interactive: bool
    """Whether to ask for prompts on the terminal."""
    num_samples: int
    """Texts for each prompt."""
    stop: list[str]
    r"""Strings that end a text and are no part of it; `\n`, `\t`, `\\` in them are a line feed, a tab, a backslash."""
    ignore_end_of_text: bool
    """Whether texts go on after an end of text, up to `max_new_tokens`."""
    probabilities: bool
    """Whether to show how probable each token was."""
    alternatives: int
    """The likeliest tokens to list beside each."""

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
    def stop_strings(self) -> tuple[str, ...]:
        """`stop`, to the letter."""
        return tuple(re.sub(r"\\[nt\\]", lambda escape: _ESCAPES[escape[0]], string) for string in self.stop)

    def sampling(self) -> Sampling:
        """The settings of the sampler."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Sampling)}
        if self.shows_probabilities:
            values["log_probabilities"] = self.alternatives
        return Sampling(**values)

    def _faults_alone(self) -> Iterator[str]:
        for name, least in (("batch_size", 1), ("num_samples", 1), ("alternatives", 0)):
            if (value := getattr(self, name)) < least:
                yield f"{name}: {value} is out of range, {least} or more is allowed"
        if "" in self.stop:
            yield "stop: an empty string would end every text before it begins"

    def _faults_together(self) -> Iterator[str]:
        sources = {"prompt": self.prompt is not None, "prompts": self.prompts is not None}
        given = [name for name, is_given in {**sources, "interactive": self.interactive}.items() if is_given]
        if len(given) > 1:
            yield f"{given[0]}: it does not go with {' and '.join(given[1:])}, choose one"
        if self.prompts is not None and self.output is None:
            yield "output: missing; add output=FILE.jsonl, which gets the answers to prompts"
        if self.output is not None and self.prompts is None:
            yield "output: it takes the answers to prompts=FILE; to keep a single text add > FILE"
        if self.output == "-":
            yield "output: - is no file, and answers are kept in one so that a run can go on; name it"
        if self.shows_probabilities and self.prompts is not None:
            yield "probabilities: they are for the terminal; log_probabilities=N writes them to the output"
        if self.log_probabilities is not None and self.prompts is None:
            yield "log_probabilities: they go to an output; probabilities=true and alternatives=N show them here"
        if self.n_beams > 1:
            yield from self._faults_of_beams()
        elif self.num_samples > 1 and self.temperature == 0:
            yield f"num_samples: {self.num_samples} texts would be the same one with temperature=0"

    def _faults_of_beams(self) -> Iterator[str]:
        if self.num_samples > self.n_beams:
            yield f"num_samples: {self.num_samples} is out of range, n_beams={self.n_beams} finds no more than that"
        if self.stop:
            yield "stop: beam search knows no stop strings; leave stop or n_beams out"
        if self.shows_probabilities:
            yield "probabilities: beam search reports scores of texts alone; leave probabilities or n_beams out"
