"""Files of attention measurements: arrays (npz), a summary (JSON) and the ablation (CSV)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gpt2_lightning.inspection.attention.measure import AttentionMeasurement
from gpt2_lightning.inspection.attention.reading import rollout
from gpt2_lightning.inspection.attention.scores import SCORES
from gpt2_lightning.inspection.token_labels import text_labels, token_labels
from gpt2_lightning.tokenizers import Tokenizer

_STRONGEST = 3
_DIGITS = 6


def strongest(weights: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Select the tokens with the largest weights, (…, T, K), and these weights; -1 and 0 where fewer exist.

    Args:
        weights: (…, T, T), [query, key].
        dim: -1 for the tokens that each token attends to, its sources; -2 for those that attend to it, its targets.
    """
    values, tokens = weights.movedim(dim, -1).topk(min(_STRONGEST, weights.size(-1)))
    return tokens.masked_fill(values == 0, -1), values


def write_arrays(inspected: AttentionMeasurement, path: Path) -> None:
    """Write an npz: `ids`, `weights`, `rollout`, `score_…` and `repeated_…` of each head, the strongest `sources` and
    `targets` of each token in each head, `source_weights` and `target_weights`."""
    weights = inspected.reading.weights
    sources, source_weights = strongest(weights, -1)
    targets, target_weights = strongest(weights, -2)
    arrays = {
        "ids": inspected.reading.ids,
        "weights": weights,
        "rollout": rollout(weights),
        "sources": sources,
        "source_weights": source_weights,
        "targets": targets,
        "target_weights": target_weights,
        **{f"score_{name}": score for name, score in inspected.scores.items()},
        **{f"repeated_{name}": score for name, score in inspected.repeated_scores.items()},
    }
    plain: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
    np.savez(path, **plain)


def write_summary(
    checkpoints: Sequence[tuple[AttentionMeasurement, Path]], tokenizer: Tokenizer, repeated: str, path: Path
) -> None:
    """Write JSON of the tokens, and for each checkpoint its heads and its predictions at each token.

    Args:
        checkpoints: measurements, each with the path of its arrays.
        tokenizer: of all of them.
        repeated: a description of the repeated sequence.
        path: the file to write.
    """
    ids = checkpoints[0][0].reading.ids.tolist()
    summary = {
        "tokens": [{"id": i, "text": label} for i, label in zip(ids, text_labels(ids, tokenizer), strict=True)],
        "repeated_sequence": repeated,
        "scores": {name: " ".join((score.__doc__ or "").split()) for name, score in SCORES.items()},
        "checkpoints": [
            {
                "name": inspected.name,
                "arrays": arrays.name,
                "loss": inspected.reading.loss,
                "heads": _heads(inspected, tokenizer),
                "tokens": _tokens(inspected, tokenizer),
            }
            for inspected, arrays in checkpoints
        ],
    }
    path.write_text(json.dumps(summary, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_effects(inspected: AttentionMeasurement, tokenizer: Tokenizer, path: Path) -> None:
    """Write CSV of the ablation effects, in descending order of the loss."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["layer", "head", "loss_change", "divergence", "most_changed_token", "before", "after"])
        for effect in inspected.effects:
            (label,) = token_labels([effect.most_changed], tokenizer)
            change = "" if effect.loss_change is None else effect.loss_change
            table.writerow([effect.layer, effect.head, change, effect.divergence, label, effect.before, effect.after])


def _heads(inspected: AttentionMeasurement, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    layers, heads = inspected.reading.weights.shape[:2]
    effects = {(effect.layer, effect.head): effect for effect in inspected.effects}
    likeliest = token_labels(inspected.reading.lens_ids[-1, -1].tolist(), tokenizer)
    with_head = inspected.reading.lens_probabilities[-1, -1].tolist()
    listed: list[dict[str, Any]] = []
    for layer, head in np.ndindex(layers, heads):
        row: dict[str, Any] = {"layer": layer, "head": head}
        row |= {name: _number(score[layer, head]) for name, score in inspected.scores.items()}
        row |= {f"repeated_{name}": _number(score[layer, head]) for name, score in inspected.repeated_scores.items()}
        if effect := effects.get((layer, head)):
            after = zip(likeliest, with_head, effect.likeliest, strict=True)
            row["switched_off"] = {
                "loss_change": effect.loss_change,
                "divergence": effect.divergence,
                "next_token": [{"token": t, "with": _number(p), "without": _number(q)} for t, p, q in after],
            }
        listed.append(row)
    return listed


def _tokens(inspected: AttentionMeasurement, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Sources and targets of each token in the mean of all heads, and the predictions after it."""
    reading = inspected.reading
    mean = reading.weights.mean(dim=(0, 1))  # (T, T)
    sources, targets = strongest(mean, -1), strongest(mean, -2)
    listed = []
    for token, predicted in enumerate(reading.lens_ids[-1].tolist()):
        probabilities = reading.lens_probabilities[-1, token].tolist()
        row: dict[str, Any] = {
            "sources": _pairs(sources, token),
            "targets": _pairs(targets, token),
            "next": [
                {"token": label, "probability": _number(p)}
                for label, p in zip(token_labels(predicted, tokenizer), probabilities, strict=True)
            ],
        }
        if token < len(reading.next_ranks):
            row["probability_of_next"] = _number(reading.next_probabilities[token])
            row["likelier_than_next"] = int(reading.next_ranks[token])
        listed.append(row)
    return listed


def _pairs(found: tuple[Tensor, Tensor], token: int) -> list[dict[str, Any]]:
    tokens, weights = (of_all[token].tolist() for of_all in found)
    return [{"token": t, "weight": _number(w)} for t, w in zip(tokens, weights, strict=True) if t >= 0]


def _number(value: Tensor | float) -> float | None:
    """Round; None for NaN, which JSON does not represent."""
    return None if math.isnan(value) else round(float(value), _DIGITS)
