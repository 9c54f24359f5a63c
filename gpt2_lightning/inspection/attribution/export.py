"""Attributions of several texts: the values of tables, pages and plots, and their export as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2_lightning.inspection.attribution.deletion import RANDOM_ORDERS, SHARES, AttributionResult, Deletion
from gpt2_lightning.inspection.attribution.methods import METHODS

_DIGITS = 6


@dataclass(frozen=True)
class AttributedText:
    """A text with the prediction of a classifier and its attribution."""

    text: str
    """The input text."""
    tokens: list[str]
    """Printable labels of the tokens of the classifier's input."""
    n_left_out: int
    """Number of tokens beyond the truncation of the classifier."""
    answer: str
    """The predicted class, classes, or number."""
    label: str | None
    """The label whose evidence is attributed; None for regression."""
    result: AttributionResult

    @property
    def heading(self) -> str:
        """One line with the answer and the attributed label."""
        if self.label is None:
            return f"answer {self.result.answer:.4g}"
        what = f"{self.label}: probability {self.result.answer:.4f}"
        return what if self.answer == self.label else f"{what} (the answer is {self.answer})"

    def strongest(self, method: str, count: int) -> list[tuple[str, float]]:
        """The tokens with the largest absolute values, and their values."""
        values = self.result.attributions[method]
        largest = values.abs().argsort(descending=True, stable=True)[:count].tolist()
        return [(self.tokens[i], float(values[i])) for i in largest]

    def shades(self, method: str) -> list[float]:
        """Values divided by the largest absolute value, -1 to 1, for colors."""
        values = self.result.attributions[method]
        shares: list[float] = (values / values.abs().max().clamp_min(torch.finfo().tiny)).tolist()
        return shares


RANDOM = "random_orders"
"""Name of the baseline in files, beside the names in `METHODS`."""


def compared_name(compared: str) -> str:
    """Display name of a method or of `RANDOM`."""
    return METHODS[compared].name if compared in METHODS else "random orders"


def scores(text: AttributedText) -> dict[str, tuple[float, float]]:
    """Mean drops of the answer and of the evidence, for each method and for `RANDOM`."""
    found = {method: (one.score, one.evidence_score) for method, one in text.result.deletions.items()}
    random = [(one.score, one.evidence_score) for one in text.result.random_deletions]
    return found | {RANDOM: _mean(random)}


def mean_scores(texts: Sequence[AttributedText]) -> dict[str, tuple[float, float]]:
    """`scores`, averaged over texts."""
    found = [scores(text) for text in texts]
    return {name: _mean([one[name] for one in found]) for name in found[0]}


def format_value(value: float, signed: bool = False) -> str:
    """Format a value with three decimals and the minus sign U+2212; signed values get a plus."""
    return f"{round(value, 3) + 0.0:{'+' if signed else ''}.3f}".replace("-", "−")


def _mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    firsts, seconds = zip(*pairs, strict=True)
    return sum(firsts) / len(pairs), sum(seconds) / len(pairs)


def write_attributions(texts: Sequence[AttributedText], name: str, output: str, path: Path) -> None:
    """Write JSON of all attributions and deletion scores.

    Args:
        texts: at least one.
        name: display name of the classifier.
        output: the quantity whose drops are given: `probability`, or `number` for regression.
        path: the file to write.
    """
    summary = {
        "checkpoint": name,
        "methods": {method: known.meaning for method, known in METHODS.items()},
        "deletion": {"drop_of": output, "shares": SHARES, "random_orders": RANDOM_ORDERS},
        "mean_scores": {compared: _pair(pair) for compared, pair in mean_scores(texts).items()},
        "texts": [_plain(text, output) for text in texts],
    }
    path.write_text(json.dumps(summary, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(text: AttributedText, output: str) -> dict[str, Any]:
    found = text.result
    rows = zip(text.tokens, found.ids.tolist(), *(found.attributions[m].tolist() for m in METHODS), strict=True)
    return {
        "text": text.text,
        "answer": text.answer,
        "label": text.label,
        output: _rounded(found.answer),
        "evidence": _rounded(found.evidence),
        "tokens_left_out": text.n_left_out,
        "tokens": [
            {"token": token, "id": i, **{m: _rounded(value) for m, value in zip(METHODS, values, strict=True)}}
            for token, i, *values in rows
        ],
        "deletion": {
            method: {
                **_deletion(deletion),
                "random_orders_beaten": found.beaten(method),
            }
            for method, deletion in found.deletions.items()
        },
        RANDOM: [_deletion(deletion) for deletion in found.random_deletions],
    }


def _deletion(deletion: Deletion) -> dict[str, Any]:
    return {
        **_pair((deletion.score, deletion.evidence_score)),
        "drops": [_rounded(drop) for drop in deletion.answer_drops.tolist()],
        "evidence_drops": [_rounded(drop) for drop in deletion.evidence_drops.tolist()],
    }


def _pair(pair: tuple[float, float]) -> dict[str, float]:
    return {"score": _rounded(pair[0]), "evidence_score": _rounded(pair[1])}


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
