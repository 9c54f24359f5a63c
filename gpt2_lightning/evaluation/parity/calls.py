"""Settings to which calls of `generate` and `pipeline("text-generation")` with default arguments resolve.

The defaults depend on the version of transformers and are therefore read at run time: `generate` passes the resolved
settings to the function given as `custom_generate`.
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
"""Settings by their names in `generate`; None for a disabled filter or penalty."""
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
"""Settings of the choice of tokens, with the value that disables each."""
_OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
"""Settings without effect in greedy decoding."""
UNUSED = "not used"
LENGTH = "max_new_tokens"
CHOOSING = ("do_sample", *_OFF, LENGTH, "eos_token_id")
"""Settings that determine a text, given the logits and the seed."""
_BEYOND = 8
"""Maximum number of new tokens of a call beyond our `max_new_tokens`."""


@dataclass(frozen=True)
class Call:
    """A call that generates text with their model."""

    name: str
    resolved: Settings
    run: Callable[[Settings], Text]
    """Function that generates a text with the given settings and defaults for the others."""


@dataclass(frozen=True)
class Resolved:
    """Resolved settings of a call with defaults, and its text."""

    name: str
    settings: Settings
    padding_side: str | None
    """Padding side of the tokenizer; None without one."""
    text: Text
    """The generated text, of limited length."""
    deciding: tuple[str, ...] | None
    """Settings because of which the text differs from ours; None if settings do not explain the difference."""
    matched: Match
    """Comparison with its text under all of our settings."""


def our_settings(sampling: Sampling, end_of_text: int | None) -> Settings:
    """Return our settings by their names in `generate`."""
    return _plain(matched_settings(sampling, end_of_text), sampling.max_new_tokens)


def in_use(settings: Settings) -> Settings:
    """Return settings with UNUSED for those without effect."""
    return settings if settings["do_sample"] else settings | dict.fromkeys(_OF_SAMPLING, UNUSED)


def resolve_calls(
    pair: Pair, theirs: Theirs, prompt: str, ids: Tensor, their_ids: Tensor | None, sampling: Sampling, our_text: Text
) -> list[Resolved]:
    """Call `generate`, and `pipeline` if its prompt tokens equal ours; find the settings that change the text.

    Args:
        pair: two networks whose logits agree.
        theirs: their side, with the tokenizer.
        prompt: prompt of the text.
        ids: our tokens of the prompt, (T,).
        their_ids: their tokens of the prompt; None without a tokenizer.
        sampling: our settings.
        our_text: our text with these settings.
    """
    sides = [theirs.tokenizer.padding_side if theirs.tokenizer else None]
    calls = [_generate_call(theirs, ids, sampling.seed)]
    if their_ids is not None and torch.equal(ids, their_ids):
        calls.append(_pipeline_call(theirs, prompt, len(ids), sampling.seed))
        sides.append(theirs.tokenizer.padding_side)  # the pipeline may have changed it
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
    """Return the settings because of which the text of a call differs from ours; with all of ours, it is equal."""
    new, their_new = ours[LENGTH], call.resolved[LENGTH]
    different = [key for key in CHOOSING if key != LENGTH and call.resolved[key] != ours[key]]

    def agrees(mended: Sequence[str]) -> bool:
        return call.run({key: ours[key] for key in (*mended, LENGTH)}) == text

    needed = smallest_set(different, agrees) or []
    ends_by_itself = len(text) < min(new, their_new)
    return needed if new == their_new or ends_by_itself else [*needed, LENGTH]


def _generate_call(theirs: Theirs, prompt: Tensor, seed: int) -> Call:
    """Return the call `model.generate(ids)` on a prompt (T,)."""
    model, ids = theirs.model, prompt[None]

    def run(settings: Settings) -> Text:
        with seeded(seed, model.device):
            found = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        return tuple(found[0, len(prompt) :].tolist())

    return _call("generate()", run, len(prompt))


def _pipeline_call(theirs: Theirs, prompt: str, length: int, seed: int) -> Call:
    """Return the call `pipeline("text-generation", …)(prompt)` for a prompt of `length` tokens."""
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
