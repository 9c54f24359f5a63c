"""The settings of a generation, the same in Python and on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling
from gpt2_lightning.settings import FreeText, NonEmpty, PositiveInt, relation


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(Sampling):
    """Settings of `LanguageModel.generate`: those of `Sampling`, and these.

    Raises:
        ValueError: with every setting that is out of range or does not fit the others, a line each.
    """

    num_samples: PositiveInt = 1
    """Texts for each prompt."""
    stop: list[NonEmpty] = field(default_factory=list)
    """Strings that end a text. They are not part of it."""
    ignore_end_of_text: bool = False
    """Whether texts continue after an end-of-text token, up to `max_new_tokens`."""
    raw: bool = False
    """Whether a model that was trained on instructions continues the prompt as it stands, without its template."""
    system: Annotated[str, FreeText(nullable=True)] | None = None
    """A system message before the prompt, for models whose template has one."""

    @relation
    def _stop_is_a_list(self) -> Iterator[str]:
        if isinstance(self.stop, str):
            yield f"stop: {self.stop!r} is a string, a list of strings is expected"

    @relation
    def _samples_differ(self) -> Iterator[str]:
        if self.n_beams == 1 and self.num_samples > 1 and self.temperature == 0:
            yield f"num_samples: {self.num_samples} texts would be the same one with temperature=0"

    @relation
    def _beams_are_enough(self) -> Iterator[str]:
        if self.n_beams > 1 and self.num_samples > self.n_beams:
            yield f"num_samples: {self.num_samples} is out of range, n_beams={self.n_beams} finds no more than that"

    @relation
    def _beam_search_does_not_stop(self) -> Iterator[str]:
        if self.n_beams > 1 and self.stop:
            yield "stop: beam search does not support stop strings; leave stop or n_beams out"


def with_changes(settings: GenerationSettings, changes: Mapping[str, Any]) -> GenerationSettings:
    """Replace fields of settings.

    Raises:
        UserError: if a value is out of range or does not fit the others.
        TypeError: if there is no such field.
    """
    try:
        return dataclasses.replace(settings, **changes)
    except ValueError as error:
        raise UserError(str(error)) from None


def new_tokens(max_length: int, prompt_lengths: Sequence[int], changes: Mapping[str, Any]) -> int:
    """The `max_new_tokens` that `max_length` means.

    Args:
        max_length: tokens of a prompt and what follows it.
        prompt_lengths: tokens of each prompt.
        changes: the other settings of the call.

    Raises:
        UserError: if it is no number above 0, the same for all prompts, or was given as well.
    """
    if "max_new_tokens" in changes:
        raise UserError(
            f"max_length: {max_length} does not go with max_new_tokens={changes['max_new_tokens']}, choose one"
        )
    shortest, longest = min(prompt_lengths), max(prompt_lengths)
    if shortest < longest:
        raise UserError(
            f"max_length: {max_length} leaves unequal room to prompts of {shortest} to {longest} tokens; "
            "set max_new_tokens instead"
        )
    if max_length <= longest:
        raise UserError(f"max_length: {max_length} leaves no room after a prompt of {longest} tokens")
    return max_length - longest


class GenerationOptions(TypedDict, total=False):
    """Keyword arguments of `LanguageModel.generate`; see the fields of `GenerationSettings`."""

    max_new_tokens: int
    temperature: float
    top_k: int | None
    seed: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    no_repeat_ngram_size: int | None
    log_probabilities: int | None
    n_beams: int
    length_penalty: float
    early_stopping: Literal[True, False, "never"]
    stop: list[str]
    ignore_end_of_text: bool
    raw: bool
    system: str | None
