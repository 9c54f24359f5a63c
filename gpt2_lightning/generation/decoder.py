"""The generation loop: process the prompts once, then choose and process a token of each text at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from gpt2_lightning.generation.beams import Beam, beam_search
from gpt2_lightning.generation.constraints import begins
from gpt2_lightning.generation.reader import Reader
from gpt2_lightning.generation.sampling import Chosen, Sampler
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.generation.speculation.draft import Draft, drafter
from gpt2_lightning.generation.speculation.outcome import DraftOutcome
from gpt2_lightning.generation.speculation.verify import SpeculativeSteps
from gpt2_lightning.generation.static_steps import StaticSteps
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.inference.cuda_graph import CUDAGraphFunction
from gpt2_lightning.model.inference.packed import packed

Finish = Literal["end_of_text", "stop_string", "choice", "length"]
"""Why a text ended; `length` is `max_new_tokens`, `choice` a complete one that no other choice continues."""
_WORTH_PACKING = 32
"""New tokens from which packed weights save more time than packing takes."""
_WORTH_CAPTURING = 32
"""New tokens from which a CUDA graph should save more time than its capture takes: some tens of milliseconds, against
several for each token without one. An estimate."""


@dataclass(frozen=True)
class Token:
    """A chosen token. Log-probabilities are given if `Sampling.log_probabilities` is set."""

    row: int
    """Number of the text: index of its prompt, times the samples of a prompt, plus the index of the sample."""
    id: int
    finished: Finish | None
    """Why the text ends with this token, if it does. An end of text is not part of the text."""
    log_probability: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()
    """The likeliest ids with their log-probabilities, likeliest first."""
    outcome: DraftOutcome | None = None
    """What became of the draft at this token; None without speculation."""


class Decoder:
    """Generates texts after prompts in one batch. It iterates once, over steps: lists of tokens, one of each text.

    With a draft, see `speculation`, a step has tokens of some of the texts, and texts advance at their own speed.

    Finished texts leave the batch. A text depends on its prompt, its row and the settings, and not on the other texts.
    See `Reader` for texts longer than the context. On a GPU, and with a compiled model, tokens are chosen by
    `StaticSteps` unless the settings have choices.

    Args:
        model: in evaluation mode.
        prompts: ids of each, (T,), T >= 1; they may differ in length.
        sampling: the settings, without beams.
        samples: texts of each prompt, which is processed once for all of them.
        end_of_text: id or ids that end a text.
        first_row: number of rows in earlier batches, from which the seed of each row is derived.
        on_slide: called when the first text outgrows the context.
        draft: "lookup" or a smaller model with the same vocabulary, for speculation; not for settings with choices.

    Raises:
        UserError: if a prompt is empty or has ids outside the vocabulary, or if no token can be chosen.
        ValueError: if n_beams is above 1, see `search`; or if there are choices and a draft.
    """

    def __init__(
        self,
        model: GPT2,
        prompts: Sequence[Tensor],
        sampling: Sampling,
        samples: int = 1,
        end_of_text: int | Collection[int] | None = None,
        first_row: int = 0,
        on_slide: Callable[[], None] | None = None,
        draft: Draft | None = None,
    ) -> None:
        if sampling.n_beams > 1:
            raise ValueError(f"n_beams: {sampling.n_beams} is for beam search, and this chooses token by token")
        if draft is not None and sampling.choices_ids:
            raise ValueError("choices_ids: a choice among few texts has no draft")
        self.sampling, self.samples, self.ends = sampling, samples, sampling.ends(end_of_text)
        self._reader = Reader(model, prompts, len(prompts) * samples, sampling.max_new_tokens, on_slide)
        self._sampler = Sampler(sampling, len(prompts) * samples, model.wte.weight.device, first_row, self.ends)
        self._ended: set[int] = set()
        self._left = [sampling.max_new_tokens] * (len(prompts) * samples)
        """Tokens that each text may still get."""
        self._draft = draft

    def stop(self, row: int) -> None:
        """End a text after its last token."""
        self._ended.add(row)

    @torch.inference_mode()
    def __iter__(self) -> Iterator[list[Token]]:
        with ExitStack() as packed_models:
            for model in (self._reader.model, self._draft):
                if isinstance(model, GPT2):
                    packed_models.enter_context(_packed_for(self.sampling, model, len(self._left)))
            yield from self._steps()

    def _steps(self) -> Iterator[list[Token]]:
        logits = self._reader.start()  # (P, V)
        prompts = [prompt for prompt in range(len(logits)) for _ in range(self.samples)]
        self._reader.keep(prompts)
        for rows, chosen in self._chosen(logits[prompts]):  # (R, V)
            for row in rows:
                self._left[row] -= 1
            tokens = self._tokens(rows, chosen)
            yield tokens
            self._ended.update(token.row for token in tokens if token.finished)

    def _chosen(self, logits: Tensor) -> Iterator[tuple[list[int], Chosen]]:
        """Yield the texts that have not ended and their next tokens, given the logits (R, V) after the prompts."""
        if self._draft is not None:
            drafts = drafter(self._draft, self._reader, self._sampler)
            steps = SpeculativeSteps(self._reader, self._sampler, drafts)
            return steps.run(logits, self.sampling.max_new_tokens, self._ended)
        on_cuda = logits.is_cuda and self.sampling.max_new_tokens >= _WORTH_CAPTURING
        if self.sampling.choices_ids or not (on_cuda or self._reader.model.decode_step):
            return self._eager_steps(logits)
        capture = partial(CUDAGraphFunction, device=logits.device) if on_cuda else None
        static_steps = StaticSteps(self._reader, self._sampler, capture)
        return static_steps.run(logits, self.sampling.max_new_tokens, self._ended)

    def _eager_steps(self, logits: Tensor) -> Iterator[tuple[list[int], Chosen]]:
        rows, history = list(range(len(logits))), self._reader.history
        while True:
            chosen = self._sampler.choose(logits, history.ids, history.lengths, history.prompt_lengths)
            yield rows, chosen
            going, ids = [i for i, row in enumerate(rows) if row not in self._ended], chosen.ids
            if not going:
                return
            if len(going) < len(rows):
                rows, ids = [rows[i] for i in going], ids[going]
                self._reader.keep(going)
                self._sampler.keep(going)
            logits = self._reader.read(ids)

    def _tokens(self, rows: list[int], chosen: Chosen) -> list[Token]:
        ids = chosen.ids.tolist()
        ends: list[Finish | None] = [
            "end_of_text" if token in self.ends else None if self._left[row] else "length"
            for row, token in zip(rows, ids, strict=True)
        ]
        for i, token in enumerate(ids if self.sampling.choices_ids else ()):
            if ends[i] != "end_of_text" and self._is_chosen([*self._reader.history.new(i), token]):
                ends[i] = "choice"
        outcomes: Sequence[DraftOutcome | None] = chosen.outcomes or [None] * len(rows)
        log_probabilities: Sequence[float | None] = [None] * len(rows)
        likeliest: Sequence[tuple[tuple[int, float], ...]] = [()] * len(rows)
        if chosen.log_probabilities is not None:
            assert chosen.top_ids is not None
            assert chosen.top_log_probabilities is not None
            log_probabilities = chosen.log_probabilities.tolist()
            likeliest = [
                tuple(zip(*pairs, strict=True))
                for pairs in zip(chosen.top_ids.tolist(), chosen.top_log_probabilities.tolist(), strict=True)
            ]
        columns = zip(rows, ids, ends, log_probabilities, likeliest, outcomes, strict=True)
        return [Token(*fields) for fields in columns]

    def _is_chosen(self, text: list[int]) -> bool:
        """Whether new ids are a choice that is not the beginning of another one."""
        return [choice for choice in self.sampling.choices_ids if begins(choice, text)] == [text]


def generate(
    model: GPT2, prompt: Tensor, sampling: Sampling, end_of_text: int | Collection[int] | None = None
) -> Iterator[int]:
    """Yield the ids generated after a prompt (T,), up to an end of text, which is not yielded; see `Decoder`."""
    for (token,) in Decoder(model, [prompt], sampling, end_of_text=end_of_text):
        if token.finished == "end_of_text":
            return
        yield token.id


@torch.inference_mode()
def search(
    model: GPT2, prompt: Tensor, sampling: Sampling, end_of_text: int | Collection[int] | None = None
) -> list[Beam]:
    """Beam search after a prompt (T,), best text first; see `beam_search`."""
    reader = Reader(model, [prompt], sampling.n_beams, sampling.max_new_tokens)

    def step(ids: Tensor, rows: Tensor) -> Tensor:
        reader.keep(rows.tolist())
        return reader.read(ids)

    with _packed_for(sampling, model, sampling.n_beams):
        return beam_search(prompt, reader.start(), step, sampling, end_of_text)


def _packed_for(sampling: Sampling, model: GPT2, rows: int | None) -> AbstractContextManager[None]:
    """Pack the weights for products with `rows` tokens, where the texts are long enough; see `packed`."""
    is_compiled = model.decode_step is not None  # compiled code packs weights by itself
    return packed(model, rows) if sampling.max_new_tokens >= _WORTH_PACKING and not is_compiled else nullcontext()
