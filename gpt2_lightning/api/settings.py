"""The settings of a generation, the same in Python and on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling
from gpt2_lightning.settings import FreeText, NonEmpty, PathText, PositiveInt, relation
from gpt2_lightning.tokenizers import Tokenizer


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
    bad_words: list[NonEmpty] = field(default_factory=list)
    """Words that do not occur in a text, as they are written and with a space before them."""
    choices: list[NonEmpty] = field(default_factory=list)
    """Texts of which one is the answer, each with a space before it where the prompt does not end in one."""
    ignore_end_of_text: bool = False
    """Whether texts continue after an end-of-text token, up to `max_new_tokens`."""
    special_tokens: bool = False
    """Whether names of special tokens in a prompt, such as `<|endoftext|>`, are encoded as these tokens, or as text."""
    raw: bool = False
    """Whether a model that was trained on instructions continues the prompt as it stands, without its template."""
    system: Annotated[str, FreeText(nullable=True)] | None = None
    """A system message before the prompt, for models whose template has one."""
    speculate: PathText | None = None
    """Drafts tokens, of which several are verified in one pass: `lookup` takes them from the text so far, a model with
    the same tokenizer, named like `checkpoint`, generates them. The texts stay the same; null for no drafts."""

    @relation
    def _stop_is_a_list(self) -> Iterator[str]:
        if isinstance(self.stop, str):
            yield f"stop: {self.stop!r} is a string, a list of strings is expected"

    @relation
    def _end_of_text_is_ignored_or_named(self) -> Iterator[str]:
        if self.ignore_end_of_text and self.eos_token_id is not None:
            yield "eos_token_id: it does not go with ignore_end_of_text=true, choose one"

    @relation
    def _choices_are_chosen_token_by_token(self) -> Iterator[str]:
        if self.n_beams > 1 and (self.choices or self.choices_ids):
            yield "choices: beam search does not support them; leave choices or n_beams out"

    @relation
    def _drafts_are_verified_token_by_token(self) -> Iterator[str]:
        if self.speculate is not None and self.n_beams > 1:
            yield f"speculate: beam search (n_beams={self.n_beams}) does not support it; leave one of them out"
        if self.speculate is not None and (self.choices or self.choices_ids):
            yield "speculate: it does not go with choices, whose tokens are few; leave one of them out"

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


def with_token_ids(settings: GenerationSettings, tokenizer: Tokenizer) -> GenerationSettings:
    """Express `bad_words` and `choices` as token ids.

    Raises:
        UserError: if a choice has no tokens.
    """
    if not settings.bad_words and not settings.choices:
        return settings
    banned = [tokenizer.encode(text).tolist() for word in settings.bad_words for text in (word, f" {word}")]
    chosen = [tokenizer.encode(choice).tolist() for choice in settings.choices]
    if not all(chosen):
        raise UserError("choices: one has no character that the tokenizer has; leave it out")
    return dataclasses.replace(
        settings,
        bad_words=[],
        choices=[],
        bad_words_ids=[*settings.bad_words_ids, *filter(None, banned)],
        choices_ids=[*settings.choices_ids, *chosen],
    )


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
    epsilon_cutoff: float
    eta_cutoff: float
    min_new_tokens: int
    eos_token_id: int | list[int] | None
    suppress_tokens: list[int]
    logit_bias: dict[int, float] | None
    bad_words_ids: list[list[int]]
    choices_ids: list[list[int]]
    bad_words: list[str]
    choices: list[str]
    stop: list[str]
    ignore_end_of_text: bool
    special_tokens: bool
    raw: bool
    system: str | None
    speculate: str | None
