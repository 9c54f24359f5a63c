"""All that is measured of two sides, in one go."""

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
from gpt2_lightning.evaluation.parity.fixes import put_right
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
"""New tokens of the texts that are written without a cache, at most."""


@dataclass(frozen=True)
class Networks:
    """Weights and what is computed from them, as both sides are."""

    weights: Weights
    on_prompt: tuple[LayerDifference, ...]
    on_random_ids: tuple[LayerDifference, ...]
    our_loss: float
    """In nats per token."""
    their_loss: float
    loss_tokens: int


@dataclass(frozen=True)
class Report:
    """Both sides, compared."""

    networks: Networks
    explanation: Explanation
    """Why the networks differ, if they do."""
    our_prompt: tuple[int, ...]
    """The prompt's tokens."""
    their_prompt: tuple[int, ...] | None
    """As their tokenizer has them; None without one."""
    matches: tuple[Match, ...]
    """Texts as both sides write them from our tokens with the same settings."""
    mended: tuple[Match, ...]
    """The same with what the explanation names put right."""
    padding: Padding
    """Of the loop around their model."""
    loop: tuple[LoopText, ...]
    """What that loop writes; none where its padding is right."""
    mended_loop: tuple[LoopText, ...]
    """The same with what the explanation names put right, and the padding as it is."""
    our_settings: Settings
    our_text: tuple[int, ...]
    calls: tuple[Resolved, ...]
    """What calls of theirs do that leave all settings to defaults."""
    slips: tuple[Slip, ...]
    causes: tuple[Cause, ...]
    """Of all differences but those by settings; the first one first."""


def measure(
    ours: Ours,
    theirs: Theirs,
    prompt: str,
    sampling: Sampling,
    n_beams: int,
    text: str | None = None,
    padding: Padding = Padding(),  # noqa: B008  # it is frozen
) -> Report:
    """Compare networks, texts, and what calls resolve their settings to.

    Args:
        prompt: what the texts start from.
        sampling: of the texts; greedy ones and beams have its length and penalties.
        n_beams: of the beam search.
        text: to measure the loss on; None for the prompt with its likeliest continuation.
        padding: how a loop around their model, that is to be explained, reads prompts of different lengths.

    Raises:
        UserError: if the models have different shapes, the texts do not fit into the context, or the text is too short.
    """
    require_same_shape(ours.model, theirs.model)
    ids = ours.ids(prompt)
    prompts = ragged(ids)
    _require_room(len(prompts[-1]), sampling.max_new_tokens, ours.model.config.block_size)
    end_of_text = ours.tokenizer.end_of_text
    pair, settings = Pair(ours.model, theirs.model, end_of_text), ways(sampling, n_beams)
    with quiet():
        their_ids = theirs.ids(prompt)
        random = random_ids(ours.model.config).to(ids.device)
        twins = Twins(ours.model, theirs.model)
        explanation = explain(ours.model, theirs.model, twins, [ids[None], random])
        matches = mended = write_both(pair, ids, settings)
        learned = _tokens_of(text, ours) if text else torch.cat((prompts[-1], ids.new_tensor(matches[-1].ours)))
        networks = _networks(pair, ids, random, learned[: ours.model.config.block_size + 1])
        steps = min(sampling.max_new_tokens, _LOOP_STEPS)
        loop = mended_loop = loop_texts(pair, prompts, padding, steps)
        with put_right(theirs.model, explanation.fixes):
            if explanation.fixes:
                mended = write_both(pair, ids, settings)
                mended_loop = loop_texts(pair, prompts, padding, steps)
            our_text = mended[1 if sampling.temperature else 0].ours
            calls = resolve_calls(pair, theirs, prompt, ids, their_ids, sampling, our_text)
            slips = measure_slips(theirs.model, prompts, steps, sampling.seed)
            causes = [
                *explanation.causes,
                *token_cause(pair, ids, their_ids, mended[0], settings[GREEDY]),
                *padding_causes(pair, prompts, padding, steps),
            ]
        if explanation.is_whole and any(match.divergence for match in mended):
            with put_right(twins.theirs, explanation.fixes):
                again = write_both(Pair(twins.ours, twins.theirs, end_of_text), ids, settings)
            causes.append(rounding_cause(mended, again, explanation.precision))
    return Report(
        networks=networks,
        explanation=explanation,
        our_prompt=tuple(ids.tolist()),
        their_prompt=None if their_ids is None else tuple(their_ids.tolist()),
        matches=tuple(matches),
        mended=tuple(mended),
        padding=padding,
        loop=loop,
        mended_loop=mended_loop,
        our_settings=our_settings(sampling, end_of_text),
        our_text=our_text,
        calls=tuple(calls),
        slips=tuple(slips),
        causes=tuple(causes),
    )


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
