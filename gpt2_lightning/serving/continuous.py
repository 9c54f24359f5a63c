"""Continuous batching: texts join and leave a running batch at every token (Yu et al. 2022, "Orca", section 4)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.decoder import Finish, Token
from gpt2_lightning.generation.history import History
from gpt2_lightning.generation.reader import cache_dtype, check_prompts
from gpt2_lightning.generation.sampling import Sampler, why_no_token
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.model import GPT2, KVCache

CHUNK = 256
"""Tokens of prompts that are processed at most between two tokens of the running texts."""


class Prefill:
    """Processes a prompt chunk by chunk. The chunks depend on the prompt alone, and so do the logits.

    Args:
        model: in evaluation mode.
        prompt: ids, (T,), T >= 1; of a longer one than the context, the end is read.

    Raises:
        UserError: if the prompt is empty or has ids outside the vocabulary.
    """

    def __init__(self, model: GPT2, prompt: Tensor) -> None:
        check_prompts([prompt], model.config.vocab_size)
        weight = model.wte.weight
        self.model, self.prompt = model, prompt.to(weight.device)
        self._window = self.prompt[-model.config.block_size :]
        self.cache = KVCache(model.config, 1, weight.device, cache_dtype(weight), len(self._window))
        self.logits: Tensor | None = None
        """Of the next token, (1, V), once all is read."""

    @property
    def chunk(self) -> int:
        """Tokens of the next chunk; 0 once all is read."""
        return min(CHUNK, len(self._window) - self.cache.lengths[0])

    @torch.inference_mode()
    def advance(self) -> bool:
        """Process a chunk; return whether it was the last one."""
        (start,) = self.cache.lengths
        x = self.model.features(self._window[start : start + CHUNK].unsqueeze(0), cache=self.cache)  # (1, T, C)
        if self.cache.lengths[0] == len(self._window):
            self.logits = self.model.lm_head(x[:, -1])
        return self.logits is not None


class RunningText:
    """A text of a batch: its own settings, random numbers and history.

    Args:
        prefill: of its prompt, complete.
        sampling: the settings.
        row: number from which the seed is derived; see `Sampler`.
        ends: ids that end the text.
    """

    def __init__(self, prefill: Prefill, sampling: Sampling, row: int = 0, ends: Collection[int] = ()) -> None:
        self.sampling, self.row, self.ends = sampling, row, sampling.ends(ends)
        self.history = History([prefill.prompt])
        self.sampler = Sampler(sampling, 1, prefill.prompt.device, row, self.ends)
        self.left = sampling.max_new_tokens
        """Tokens to add, at most."""
        self.next_id = torch.zeros(1, dtype=torch.int64, device=prefill.prompt.device)
        """The last token, which has not been read, (1,)."""

    def choose(self, logits: Tensor) -> Token:
        """Choose the next token, given logits (1, V).

        Raises:
            UserError: if there is none.
        """
        history, self.left = self.history, self.left - 1
        noise = self.sampler.noise_for(logits)
        self.sampler.draw(noise)
        chosen = self.sampler.select(logits, noise, history.ids, history.lengths, history.prompt_lengths)
        self.next_id = chosen.ids
        token = int(chosen.ids)
        if token < 0:
            raise UserError(why_no_token(logits, self.sampling))
        finished: Finish | None = "end_of_text" if token in self.ends else None if self.left else "length"
        if chosen.log_probabilities is None or chosen.top_ids is None or chosen.top_log_probabilities is None:
            return Token(self.row, token, finished)
        likeliest = zip(chosen.top_ids[0].tolist(), chosen.top_log_probabilities[0].tolist(), strict=True)
        return Token(self.row, token, finished, chosen.log_probabilities.item(), tuple(likeliest))


class ContinuousBatch:
    """Generates a token of every running text at each step. Texts may differ in their settings and lengths.

    A text has its own random numbers, so that with equal settings it has the tokens that `Decoder` generates after the
    same prompt, whichever texts run beside it. As there, logits may differ in their last digits with the size of the
    batch, since matrix products add in another order; a token differs only where such a difference decides it.

    Args:
        model: in evaluation mode.
        rows: largest number of texts.
    """

    def __init__(self, model: GPT2, rows: int) -> None:
        weight = model.wte.weight
        self.model = model
        self._cache = KVCache(model.config, rows, weight.device, cache_dtype(weight))
        self._cache.reset(0)
        self.texts: list[RunningText] = []
        """The running texts."""

    @property
    def free(self) -> int:
        """Number of texts that may join."""
        return self._cache.batch_size - len(self.texts)

    def join(self, text: RunningText, prefill: Prefill) -> Token:
        """Add a text, and return its first token. It does not join if that ends it.

        Raises:
            UserError: if there is none; the text does not join.
        """
        assert prefill.logits is not None
        with torch.inference_mode():
            token = text.choose(prefill.logits)
            if token.finished is None:
                self._cache.append(prefill.cache)
                self.texts.append(text)
        return token

    def leave(self, text: RunningText) -> None:
        """Remove a text, whose row is free at once."""
        row = self.texts.index(text)
        self._cache.remove(row)
        self.texts[row] = self.texts[-1]
        self.texts.pop()

    @torch.inference_mode()
    def step(self) -> list[tuple[RunningText, Token | UserError]]:
        """Choose the next token of each text; a text without one, or that ends with it, leaves."""
        if not self.texts:
            return []
        for row, text in enumerate(self.texts):
            if self._cache.lengths[row] == self.model.config.block_size:
                self._slide(row, text)
            text.history.add(text.next_id)
        ids = torch.cat([text.next_id for text in self.texts])
        logits = self.model.lm_head(self.model.features(ids.unsqueeze(1), cache=self._cache)[:, -1])  # (R, V)
        found: list[tuple[RunningText, Token | UserError]] = []
        for text, row_logits in zip(list(self.texts), logits.split(1), strict=True):
            try:
                token: Token | UserError = text.choose(row_logits)
            except UserError as error:
                token = error
            if isinstance(token, UserError) or token.finished:
                self.leave(text)
            found.append((text, token))
        return found

    def _slide(self, row: int, text: RunningText) -> None:
        """Move the window of a full row; see `Reader`."""
        kept = 3 * self.model.config.block_size // 4
        if kept:
            self.model.features(text.history.last(0, kept).unsqueeze(0), cache=self._cache.row(row))
        self._cache.lengths[row] = kept
