"""Causes of differences, found by correcting each on a copy or temporarily and measuring the remaining difference."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.evaluation.parity.fixes import DTYPE, Fix, corrected, fixes_for
from gpt2_lightning.evaluation.parity.layers import LayerDifference, layer_differences, logit_difference
from gpt2_lightning.evaluation.parity.padding import SENTENCES, Padding, padded_texts
from gpt2_lightning.evaluation.parity.search import smallest_set
from gpt2_lightning.evaluation.parity.sides import TheirModel
from gpt2_lightning.evaluation.parity.texts import Match, Pair, matched_settings, our_texts, their_texts
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.huggingface.verify import Comparison, precision
from gpt2_lightning.huggingface.weights import dtype_name, recast
from gpt2_lightning.model import GPT2

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cause:
    """A cause of a difference between both sides."""

    name: str
    sentence: str
    evidence: str
    """Result of the measurement with the cause corrected."""


@dataclass(frozen=True)
class Explanation:
    """Causes of the difference between two networks."""

    causes: tuple[Cause, ...]
    fixes: tuple[Fix, ...]
    """Corrections with which the networks agree."""
    is_whole: bool
    """Whether the networks agree with all fixes."""
    layers: tuple[LayerDifference, ...]
    """Differences of the uncorrected networks on the last sample, in a precision high enough to tell arithmetic errors
    from rounding."""
    precision: str


class Twins:
    """Copies of both networks in a precision with negligible rounding; theirs is uncorrected."""

    def __init__(self, ours: GPT2, theirs: TheirModel) -> None:
        self.dtype = precision(ours.config)
        self.ours = recast(ours, self.dtype)
        self.theirs = copy.deepcopy(theirs).to(self.dtype)


def explain(ours: GPT2, theirs: TheirModel, twins: Twins, samples: Sequence[Tensor]) -> Explanation:
    """Find the causes of differing logits on samples, ids (B, T) each."""
    fixes = fixes_for(ours, theirs)
    exact = dtype_name(twins.dtype)

    @functools.cache
    def compared(*chosen: Fix) -> Comparison:
        return _worst(twins.ours, twins.theirs, chosen, samples)

    with torch.random.fork_rng():  # dropout draws random numbers
        layers = tuple(layer_differences(twins.ours, twins.theirs, samples[-1]))
        needed = smallest_set(fixes, lambda chosen: compared(*chosen).agrees)
        if needed is None:
            return Explanation((_unexplained(layers, fixes, exact),), (), False, layers, exact)
        causes = []
        for fix in needed:
            others = [other for other in needed if other is not fix]
            beside = f" beside {' and '.join(other.name for other in others)}" if others else ""
            evidence = (
                f"with this corrected{beside}, the largest logit difference falls from "
                f"{compared(*others).largest_difference:.1e} to {compared(*needed).largest_difference:.1e} (in {exact})"
            )
            causes.append(Cause(fix.name, fix.sentence, evidence))
        for fix in fixes:
            if fix.name == DTYPE and fix not in needed and (cause := _dtype_cause(fix, needed, ours, theirs, samples)):
                causes.append(cause)
                needed.append(fix)
    return Explanation(tuple(causes), tuple(needed), True, layers, exact)


def token_cause(pair: Pair, ours: Tensor, theirs: Tensor | None, from_ours: Match, greedy: Sampling) -> Iterator[Cause]:
    """Yield a cause if the prompt has different tokens on both sides.

    Args:
        pair: two networks whose logits agree.
        ours: our tokens of the prompt, (T,).
        theirs: their tokens of the prompt, (T,); None without a tokenizer.
        from_ours: greedy texts of both sides after our tokens.
        greedy: settings of the greedy text.
    """
    if theirs is None or torch.equal(ours, theirs):
        return
    pairs = enumerate(zip(ours.tolist(), theirs.tolist(), strict=False), start=1)
    part = next((f"; token {i} is {one} here and {other} there" for i, (one, other) in pairs if one != other), "")
    if not len(theirs):
        evidence = "there is none to start from"
    elif int(theirs.max()) >= pair.ours.config.vocab_size:
        evidence = f"there is no token {int(theirs.max())} in the model, so it fails there"
    elif len(theirs) + greedy.max_new_tokens > pair.ours.config.block_size:
        evidence = "they do not fit into the context with the text that follows, so it fails there"
    else:
        (text,) = their_texts(pair.theirs, [theirs], matched_settings(greedy, pair.end_of_text), greedy.seed)
        other = "the same text as we do" if text == from_ours.ours else "another text"
        evidence = (
            f"from its own tokens it writes {other}, from ours {'another' if from_ours.divergence else 'the same'}"
        )
    sizes = f"{len(ours)} here and {len(theirs)} there"
    yield Cause("tokenizer", f"the tokenizers make other tokens of the prompt: {sizes}{part}", evidence)


def padding_causes(pair: Pair, prompts: Sequence[Tensor], padding: Padding, count: int) -> Iterator[Cause]:
    """Yield the errors in the padding of prompts (T,) that change the first `count` new tokens of their model."""
    right = our_texts(pair.ours, prompts, Sampling(count, temperature=0), end_of_text=None)
    found = padded_texts(pair.theirs, prompts, padding, count).texts
    others = sum(one != other for one, other in zip(found, right, strict=True))

    def agrees(mended: Sequence[str]) -> bool:
        return padded_texts(pair.theirs, prompts, padding.without(mended), count).texts == tuple(right)

    for slip in smallest_set(padding.slips(), agrees) or []:
        evidence = f"{others} of {len(prompts)} texts of a batch differ from ours; with this corrected, none does"
        yield Cause(slip, SENTENCES[slip], evidence)


def rounding_cause(found: Sequence[Match], exact: Sequence[Match], precision: str) -> Cause:
    """Return the cause of different texts from networks that agree.

    Args:
        found: texts in the precision of the networks.
        exact: texts in a higher precision.
        precision: name of the higher precision.
    """
    names = ", ".join(match.name for match in found if match.divergence)
    if any(match.divergence for match in exact):
        return Cause(UNKNOWN, f"the networks agree, and the texts differ ({names})", f"in {precision} as well")
    return Cause(
        "rounding",
        f"the networks agree up to rounding, which decides between tokens that are as good as equal ({names})",
        f"in {precision} all of these texts are the same",
    )


def _dtype_cause(
    fix: Fix, needed: Sequence[Fix], ours: GPT2, theirs: TheirModel, samples: Sequence[Tensor]
) -> Cause | None:
    """Return the dtype as a separate cause: the weights are equal, and results computed from them are rounded."""
    before = _worst(ours, theirs, needed, samples).largest_difference
    after = _worst(ours, theirs, [*needed, fix], samples).largest_difference
    if not after < before:
        return None
    evidence = f"in our dtype the largest logit difference falls from {before:.1e} to {after:.1e}"
    return Cause(fix.name, fix.sentence, evidence)


def _worst(ours: GPT2, theirs: TheirModel, fixes: Sequence[Fix], samples: Sequence[Tensor]) -> Comparison:
    """Return the largest difference of logits over the samples, relative to the allowed one, with `fixes` applied."""
    with corrected(theirs, fixes):
        found = [logit_difference(ours, theirs, ids) for ids in samples]
    return max(found, key=lambda comparison: comparison.largest_difference / comparison.allowed)


def _unexplained(layers: Sequence[LayerDifference], fixes: Sequence[Fix], exact: str) -> Cause:
    start = next((layer for layer in layers if layer.difference > 1e-6 * max(1.0, layer.largest)), layers[-1])
    tried = f"; {' and '.join(fix.name for fix in fixes)}, corrected together, are not enough" if fixes else ""
    return Cause(
        UNKNOWN,
        "none of the known causes explains the difference",
        f"it begins at {start.place} with {start.difference:.1e} (in {exact}){tried}",
    )
