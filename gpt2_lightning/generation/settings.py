"""Settings of text generation, and the order in which they act on the logits.

The order is Hugging Face's: biases, penalties (repetition, presence and frequency, n-grams), constraints (bad words,
least length, choices, suppressed tokens), temperature, filters. Their `generate` defaults to the 50 likeliest tokens;
here all tokens are the default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval
from torch import Tensor

from gpt2_lightning.generation.filters import Filters
from gpt2_lightning.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    relation,
)

_LOWEST_TEMPERATURE = 1e-6


@dataclass(frozen=True)
class Sampling(Filters):
    """Settings of one generation. Their meaning is that of Hugging Face's `generate`, unless stated otherwise.

    Raises:
        ValueError: with every setting that is out of range, a line each, as "field: what is wrong".
    """

    max_new_tokens: PositiveInt = 500
    """Tokens to add, at most."""
    temperature: NonNegativeFloat = 0.8
    """Divides the logits: below 1 is safer, above 1 is wilder, 0 always takes the likeliest token."""
    seed: Seed = 0
    """The same seed gives the same text."""
    repetition_penalty: PositiveFloat = 1.0
    """Divides positive logits of tokens in the prompt and the text, multiplies negative ones; 1 is off."""
    presence_penalty: Annotated[float, Interval(ge=-2, le=2)] = 0.0
    """Taken off the logit of each token that was generated before; as in OpenAI's API, the prompt does not count."""
    frequency_penalty: Annotated[float, Interval(ge=-2, le=2)] = 0.0
    """Taken off the logit of a token for each time that it was generated; the prompt does not count."""
    no_repeat_ngram_size: PositiveInt | None = None
    """No sequence of so many tokens comes twice in prompt and text; no limit where it is null."""
    min_new_tokens: NonNegativeInt = 0
    """Tokens to add, at least: no text ends before."""
    eos_token_id: NonNegativeInt | list[NonNegativeInt] | None = None
    """Id or ids that end a text, in place of those of the model; null for those of the model."""
    suppress_tokens: list[NonNegativeInt] = field(default_factory=list)
    """Ids of tokens that are never chosen."""
    logit_bias: dict[int, float] | None = None
    """Numbers that are added to the logits of tokens, by their ids; null for none."""
    bad_words_ids: list[list[NonNegativeInt]] = field(default_factory=list)
    """Sequences of ids that never occur in a text; see `bad_words` for words."""
    choices_ids: list[list[NonNegativeInt]] = field(default_factory=list)
    """A text is one of these sequences of ids; see `choices` for texts."""
    log_probabilities: NonNegativeInt | None = None
    """Also report the log-probability of each chosen token and of this many of the likeliest; null reports none."""
    n_beams: PositiveInt = 1
    """Texts that beam search keeps at a time; 1 is no beam search. It draws nothing and needs temperature 0."""
    length_penalty: Annotated[float, Interval(ge=-10, le=10)] = 1.0
    """Beam search divides a text's log-probability by its length to this power: above 0 favors longer texts."""
    early_stopping: Literal[True, False, "never"] = False
    """When beam search ends: true, at `n_beams` finished texts; false, when the best open beam looks worse than all of
    those at its present length; never, when it looks worse at any length."""

    @relation
    def _logits_divided_by_the_temperature_are_finite(self) -> Iterator[str]:
        if 0 < self.temperature < _LOWEST_TEMPERATURE:
            yield (
                f"temperature: {self.temperature} is out of range, 0 or {_LOWEST_TEMPERATURE} and more is allowed; 0 "
                "takes the most probable token"
            )

    @relation
    def _beam_search_draws_nothing(self) -> Iterator[str]:
        if self.n_beams > 1 and self.temperature != 0:
            yield f"temperature: {self.temperature} does not go with n_beams={self.n_beams}, set temperature=0"

    @relation
    def _lengths_leave_room(self) -> Iterator[str]:
        if self.min_new_tokens > self.max_new_tokens:
            yield f"min_new_tokens: {self.min_new_tokens} is above max_new_tokens={self.max_new_tokens}"

    @relation
    def _sequences_have_tokens(self) -> Iterator[str]:
        for name, sequences in (("bad_words_ids", self.bad_words_ids), ("choices_ids", self.choices_ids)):
            if not all(sequences):
                yield f"{name}: a sequence is empty, one id or more is needed"

    @relation
    def _beam_search_scores_texts(self) -> Iterator[str]:
        if self.n_beams > 1 and self.log_probabilities is not None:
            yield f"log_probabilities: beam search (n_beams={self.n_beams}) reports scores of texts alone"

    @property
    def reads_history(self) -> bool:
        """Whether the choice depends on ids, and not on the logits alone."""
        reading = (self.no_repeat_ngram_size, self.min_new_tokens, self.bad_words_ids, self.choices_ids)
        penalties = (self.presence_penalty, self.frequency_penalty)
        return self.repetition_penalty != 1 or any(penalties) or any(reading)

    def ends(self, end_of_text: int | Collection[int] | None) -> frozenset[int]:
        """The ids that end a text: those of the settings, else those of the model."""
        ids = end_of_text if self.eos_token_id is None else self.eos_token_id
        if ids is None:
            return frozenset()
        return frozenset((ids,) if isinstance(ids, int) else ids)

    def filtered(self, logits: Tensor) -> Tensor:
        """Divide logits (R, V) by the temperature, which is not 0, and set those of filtered tokens to -inf."""
        return self.filter(logits / self.temperature)
