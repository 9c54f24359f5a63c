"""Measurement of all differences between both sides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.parity.calls import Resolved, Settings, our_settings, resolve_calls
from gpt2_lightning.evaluation.parity.causes import (
    Cause,
    Explanation,
    Twins,
    explain,
    padding_causes,
    rounding_cause,
    token_cause,
)
from gpt2_lightning.evaluation.parity.fixes import corrected
from gpt2_lightning.evaluation.parity.layers import (
    LayerDifference,
    layer_differences,
    loss_of,
    our_forward,
    their_forward,
)
from gpt2_lightning.evaluation.parity.loop import LoopText, loop_texts
from gpt2_lightning.evaluation.parity.padding import Padding
from gpt2_lightning.evaluation.parity.sides import Ours, Theirs, quiet, require_same_shape
from gpt2_lightning.evaluation.parity.slips import Slip, measure_slips
from gpt2_lightning.evaluation.parity.texts import GREEDY, Match, Pair, ragged, ways, write_both
from gpt2_lightning.evaluation.parity.weights import Weights, compare_weights
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.huggingface.verify import random_ids

_LOOP_STEPS = 8
"""Maximum number of new tokens of texts generated without a KV cache."""


@dataclass(frozen=True)
class Networks:
    """Differences of the uncorrected networks: weights, hidden states and loss."""

    weights: Weights
    on_prompt: tuple[LayerDifference, ...]
    on_random_ids: tuple[LayerDifference, ...]
    our_loss: float
    """Loss in nats per token."""
    their_loss: float
    loss_tokens: int


@dataclass(frozen=True)
class Report:
    """Comparison of both sides."""

    networks: Networks
    explanation: Explanation
    """Causes of differences between the networks."""
    our_prompt: tuple[int, ...]
    """Our tokens of the prompt."""
    their_prompt: tuple[int, ...] | None
    """Their tokens of the prompt; None without a tokenizer."""
    matches: tuple[Match, ...]
    """Texts of both sides from our tokens, with the same settings."""
    mended: tuple[Match, ...]
    """Texts as in `matches`, with the fixes of the explanation."""
    padding: Padding
    """Padding of the loop around their model."""
    loop: tuple[LoopText, ...]
    """Texts of that loop; empty if its padding is correct."""
    mended_loop: tuple[LoopText, ...]
    """Texts as in `loop`, with the fixes of the explanation and the same padding."""
    our_settings: Settings
    our_text: tuple[int, ...]
    calls: tuple[Resolved, ...]
    """Calls of transformers with default settings."""
    slips: tuple[Slip, ...]
    causes: tuple[Cause, ...]
    """Causes of all differences except settings, in the order of their effect on a text."""


def measure(
    ours: Ours,
    theirs: Theirs,
    prompt: str,
    sampling: Sampling,
    n_beams: int,
    text: str | None = None,
    padding: Padding = Padding(),  # noqa: B008  # it is frozen
) -> Report:
    """Compare networks, texts, and the resolved settings of calls.

    Args:
        ours: our side.
        theirs: their side.
        prompt: prompt of the texts.
        sampling: settings of the texts; greedy and beam search use its length and penalties.
        n_beams: number of beams of the beam search.
        text: text on which the loss is measured; None for the prompt with its greedy continuation.
        padding: padding of the user's loop around their model.

    Raises:
        UserError: if the models have different shapes, the texts do not fit into the context, or the text is too short.
    """
    require_same_shape(ours.model, theirs.model)
    ids = ours.ids(prompt)
    pair = Pair(ours.model, theirs.model, ours.tokenizer.end_of_text)
    steps = min(sampling.max_new_tokens, _LOOP_STEPS)
    writing = _Writing(pair, ids, ways(sampling, n_beams), padding, steps)
    _require_room(len(writing.prompts[-1]), sampling.max_new_tokens, ours.model.config.block_size)
    with quiet():
        their_ids = theirs.ids(prompt)
        random = random_ids(ours.model.config).to(ids.device)
        twins = Twins(ours.model, theirs.model)
        explanation = explain(ours.model, theirs.model, twins, [ids[None], random])
        found = mended = writing.texts()
        learned = _tokens_of(text, ours) if text else writing.longest_continued(found)
        networks = _networks(pair, ids, random, learned[: ours.model.config.block_size + 1])
        with corrected(theirs.model, explanation.fixes):
            if explanation.fixes:
                mended = writing.texts()
            our_text = mended.matches[1 if sampling.temperature else 0].ours
            calls = resolve_calls(pair, theirs, prompt, ids, their_ids, sampling, our_text)
            slips = measure_slips(theirs.model, writing.prompts, steps, sampling.seed)
            causes = [*explanation.causes, *writing.causes(their_ids, mended)]
        causes += writing.rounding_causes(twins, explanation, mended)
    return Report(
        networks=networks,
        explanation=explanation,
        our_prompt=tuple(ids.tolist()),
        their_prompt=None if their_ids is None else tuple(their_ids.tolist()),
        matches=found.matches,
        mended=mended.matches,
        padding=padding,
        loop=found.loop,
        mended_loop=mended.loop,
        our_settings=our_settings(sampling, pair.end_of_text),
        our_text=our_text,
        calls=tuple(calls),
        slips=tuple(slips),
        causes=tuple(causes),
    )


@dataclass(frozen=True)
class _Texts:
    """Texts of both sides."""

    matches: tuple[Match, ...]
    loop: tuple[LoopText, ...]


@dataclass(frozen=True)
class _Writing:
    """Generation of the compared texts: both networks, the prompt (T,) and the settings."""

    pair: Pair
    prompt: Tensor
    settings: dict[str, Sampling]
    padding: Padding
    steps: int
    """New tokens of each text in the loop around their model."""

    @property
    def prompts(self) -> list[Tensor]:
        """Prompts of several lengths, the longest last."""
        return ragged(self.prompt)

    def texts(self) -> _Texts:
        """Generate the texts with the networks in their current state."""
        matches = write_both(self.pair, self.prompt, self.settings)
        return _Texts(tuple(matches), loop_texts(self.pair, self.prompts, self.padding, self.steps))

    def longest_continued(self, texts: _Texts) -> Tensor:
        """Return the longest prompt followed by our greedy text, (T,)."""
        return torch.cat((self.prompts[-1], self.prompt.new_tensor(texts.matches[-1].ours)))

    def causes(self, their_prompt: Tensor | None, mended: _Texts) -> list[Cause]:
        """Return causes outside of the networks: tokens of the prompt, and padding of the loop."""
        greedy = self.settings[GREEDY]
        return [
            *token_cause(self.pair, self.prompt, their_prompt, mended.matches[0], greedy),
            *padding_causes(self.pair, self.prompts, self.padding, self.steps),
        ]

    def rounding_causes(self, twins: Twins, explanation: Explanation, mended: _Texts) -> list[Cause]:
        """Return the cause of texts that differ although the networks agree, if there are any."""
        if not explanation.is_whole or not any(match.divergence for match in mended.matches):
            return []
        with corrected(twins.theirs, explanation.fixes):
            exact = write_both(Pair(twins.ours, twins.theirs, self.pair.end_of_text), self.prompt, self.settings)
        return [rounding_cause(mended.matches, exact, explanation.precision)]


def _networks(pair: Pair, prompt: Tensor, random: Tensor, learned: Tensor) -> Networks:
    ours, theirs = pair.ours, pair.theirs
    return Networks(
        weights=compare_weights(ours, theirs),
        on_prompt=tuple(layer_differences(ours, theirs, prompt[None])),
        on_random_ids=tuple(layer_differences(ours, theirs, random)),
        our_loss=loss_of(our_forward(ours), learned),
        their_loss=loss_of(their_forward(theirs), learned),
        loss_tokens=len(learned) - 1,
    )


def _require_room(prompt: int, new: int, block_size: int) -> None:
    if prompt + new > block_size:
        most = f"max_new_tokens={block_size - prompt}" if prompt < block_size else "a shorter prompt"
        raise UserError(
            f"{prompt} tokens of a prompt and {new} new ones do not fit into the context of {block_size}, past which "
            f"transformers fails; use {most}"
        )


def _tokens_of(text: str, ours: Ours) -> Tensor:
    ids = ours.ids(text)
    if len(ids) < 2:
        raise UserError("text: it has one token, and a loss needs two; write more")
    return ids
