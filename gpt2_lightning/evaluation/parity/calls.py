"""What `generate` and `pipeline("text-generation")` make of a call that leaves things to their defaults.

The defaults change with the version of transformers, so they are asked for and not written down: `generate` hands
everything that it resolved to the function that it is given as `custom_generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.evaluation.parity.search import smallest_set
from gpt2_lightning.evaluation.parity.sides import Theirs
from gpt2_lightning.evaluation.parity.texts import Match, Pair, Text, match, matched_settings, seeded, until_end
from gpt2_lightning.generation.settings import Sampling

Settings = dict[str, Any]
"""By the names of `generate`; None where a filter or penalty is off."""
_OFF: Settings = {
    "temperature": None,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
}
"""Settings that choose tokens, with the value that does nothing."""
_OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
"""Those that have no part in taking the likeliest token."""
UNUSED = "not used"
LENGTH = "max_new_tokens"
CHOOSING = ("do_sample", *_OFF, LENGTH, "eos_token_id")
"""What decides a text, once the logits and the seed are given."""
_BEYOND = 8
"""New tokens past our number of them that a call may write before it is stopped."""


@dataclass(frozen=True)
class Call:
    """A way to get text from their model."""

    name: str
    resolved: Settings
    run: Callable[[Settings], Text]
    """What it writes where these settings are passed, and the others left to defaults."""


@dataclass(frozen=True)
class Resolved:
    """What a call with defaults resolves to, and what it writes."""

    name: str
    settings: Settings
    padding_side: str | None
    """Of the tokenizer; None without one."""
    text: Text
    """As far as it was asked for."""
    deciding: tuple[str, ...] | None
    """The settings for which it is not ours; None where they do not explain it."""
    matched: Match
    """What it writes with all of our settings."""


def our_settings(sampling: Sampling, end_of_text: int | None) -> Settings:
    """Ours, by their names."""
    return _plain(matched_settings(sampling, end_of_text), sampling.max_new_tokens)


def in_use(settings: Settings) -> Settings:
    """Settings, with UNUSED for those to which the others leave no part."""
    return settings if settings["do_sample"] else settings | dict.fromkeys(_OF_SAMPLING, UNUSED)


def resolve_calls(
    pair: Pair, theirs: Theirs, prompt: str, ids: Tensor, their_ids: Tensor | None, sampling: Sampling, our_text: Text
) -> list[Resolved]:
    """Call `generate`, and `pipeline` where that reads the prompt as we do; find what keeps them from our text.

    Args:
        pair: networks that agree.
        ids: our tokens of the prompt, (T,).
        their_ids: theirs; None without a tokenizer.
        our_text: what we write with the settings.
    """
    sides = [theirs.tokenizer.padding_side if theirs.tokenizer else None]
    calls = [_generate_call(theirs, ids, sampling.seed)]
    if their_ids is not None and torch.equal(ids, their_ids):
        calls.append(_pipeline_call(theirs, prompt, len(ids), sampling.seed))
        sides.append(theirs.tokenizer.padding_side)  # which the pipeline has set
    settings = our_settings(sampling, pair.end_of_text)
    room = min(pair.ours.config.block_size - len(ids), sampling.max_new_tokens + _BEYOND)
    found = []
    for call, side in zip(calls, sides, strict=True):
        text = call.run({"max_new_tokens": min(call.resolved["max_new_tokens"], room)})
        matched = match(pair, call.name, ids, our_text, call.run(settings))
        deciding = None if matched.divergence else tuple(_deciding(call, settings, our_text))
        found.append(Resolved(call.name, call.resolved, side, text, deciding, matched))
    return found


def _deciding(call: Call, ours: Settings, text: Text) -> list[str]:
    """The settings that keep a call from our text, which it writes with all of ours."""
    new, their_new = ours[LENGTH], call.resolved[LENGTH]
    different = [key for key in CHOOSING if key != LENGTH and call.resolved[key] != ours[key]]

    def agrees(mended: Sequence[str]) -> bool:
        return call.run({key: ours[key] for key in (*mended, LENGTH)}) == text

    needed = smallest_set(different, agrees) or []
    ends_by_itself = len(text) < min(new, their_new)
    return needed if new == their_new or ends_by_itself else [*needed, LENGTH]


def _generate_call(theirs: Theirs, prompt: Tensor, seed: int) -> Call:
    """`model.generate(ids)` on a prompt (T,)."""
    model, ids = theirs.model, prompt[None]

    def run(settings: Settings) -> Text:
        with seeded(seed, model.device):
            found = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        return tuple(found[0, len(prompt) :].tolist())

    return _call("generate()", run, len(prompt))


def _pipeline_call(theirs: Theirs, prompt: str, length: int, seed: int) -> Call:
    """`pipeline("text-generation", …)(prompt)`, for a prompt that is so many tokens long there."""
    import transformers

    model: Any = theirs.model
    pipeline: Any = transformers.pipeline(
        "text-generation", model=model, tokenizer=theirs.tokenizer, device=model.device
    )

    def run(settings: Settings) -> Text:
        with seeded(seed, model.device):
            (found,) = pipeline(prompt, return_tensors=True, **settings)
        return tuple(found["generated_token_ids"][length:])

    return _call("pipeline()", run, length)


def _call(name: str, run: Callable[[Settings], Text], prompt_length: int) -> Call:
    resolved: Settings = {}

    def note(model: Any, input_ids: Tensor, generation_config: Any, **_: Any) -> Tensor:
        fields = {key: getattr(generation_config, key, None) for key in (*CHOOSING, "pad_token_id")}
        resolved.update(_plain(fields, generation_config.max_length - prompt_length))
        return input_ids

    run({"custom_generate": note})

    def run_to_end(settings: Settings) -> Text:
        arguments = {key: _OFF.get(key) if value is None else value for key, value in settings.items()}
        return until_end(run(arguments), settings.get("eos_token_id", resolved["eos_token_id"]))

    return Call(name, resolved, run_to_end)


def _plain(fields: Settings, max_new_tokens: int) -> Settings:
    ends = fields["eos_token_id"]
    return {
        "do_sample": bool(fields["do_sample"]),
        **{key: None if fields.get(key) == off else fields.get(key) for key, off in _OFF.items()},
        "max_new_tokens": max_new_tokens,
        "eos_token_id": ends[0] if isinstance(ends, list) and len(ends) == 1 else ends,
        "pad_token_id": fields["pad_token_id"],
    }
