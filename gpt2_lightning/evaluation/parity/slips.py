"""Effect of common mistakes on the text of this model, measured by making each on a correct network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from gpt2_lightning.evaluation.parity.fixes import Change, Changes, altered
from gpt2_lightning.evaluation.parity.padding import Padding, Written, padded_texts
from gpt2_lightning.evaluation.parity.sides import TheirModel
from gpt2_lightning.evaluation.parity.texts import seeded

_DROPOUT = 0.1


def _dropout(model: TheirModel) -> list[Change]:
    rates = [(module, "p", _DROPOUT) for module in model.modules() if isinstance(module, nn.Dropout)]
    return [*rates, *((module, "training", True) for module in model.modules())]


def _other_gelu(model: TheirModel) -> list[Change]:
    other = nn.GELU(approximate="tanh" if model.config.activation_function == "gelu" else "none")
    return [(block.mlp, "act", other) for block in model.transformer.h]


def _half(model: TheirModel) -> list[Change]:
    return [(parameter, "data", parameter.data.bfloat16()) for parameter in model.parameters()]


_IN_NETWORK: dict[str, Changes] = {
    f"dropout left on, at {_DROPOUT}": _dropout,
    "the other GELU, exact or tanh": _other_gelu,
    "bfloat16": _half,
}
_IN_PADDING = {
    "left padding without position ids": Padding(position_ids=False),
    "left padding without an attention mask": Padding(attention_mask=False),
    "right padding": Padding(side="right"),
}


@dataclass(frozen=True)
class Slip:
    """Effect of a mistake on greedy texts."""

    name: str
    distance: float
    """Total variation distance of the distributions of the first new token, 0 to 1; the maximum over all texts."""
    first_token: int | None
    """Number of the first new token that differs in any text, from 1; None if all texts are equal."""
    compared: int
    """New tokens per text."""


def measure_slips(model: TheirModel, prompts: Sequence[Tensor], count: int, seed: int) -> list[Slip]:
    """Make each mistake, and compare greedy texts after prompts of different lengths.

    Args:
        model: a correct model, which is restored afterwards.
        prompts: prompts, (T,) each.
        count: new tokens per text.
        seed: random seed of dropout.
    """
    right = padded_texts(model, prompts, Padding(), count)
    slips = []
    for name, changes in _IN_NETWORK.items():
        with seeded(seed, model.device), altered(model, [changes]):
            slips.append(_compare(name, right, padded_texts(model, prompts, Padding(), count)))
    for name, padding in _IN_PADDING.items():
        slips.append(_compare(name, right, padded_texts(model, prompts, padding, count)))
    return slips


def _compare(name: str, right: Written, found: Written) -> Slip:
    distance = (right.logits.softmax(-1) - found.logits.softmax(-1)).abs().sum(-1).max() / 2
    steps = enumerate(zip(zip(*right.texts, strict=True), zip(*found.texts, strict=True), strict=True), start=1)
    differing = [step for step, (expected, tokens) in steps if expected != tokens]
    return Slip(name, float(distance), min(differing, default=None), len(right.texts[0]))
