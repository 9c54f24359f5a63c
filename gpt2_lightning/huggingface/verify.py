"""Verification of conversions: equal tensors, and equal logits before and after."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.weights import recast
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.size import count_parameters

_ROWS, _LONGEST = 2, 32
_LARGE = 500_000_000
"""Number of parameters above which logits are compared in float32, to save memory."""
_ROUNDINGS = 1000
"""Tolerance of logits in machine epsilons, since the order of summation differs."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of the logits of two models on the same tokens."""

    largest_difference: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.largest_difference <= self.allowed


def random_ids(config: GPT2Config) -> Tensor:
    """Return token ids for comparing logits, (2, T), from a fixed seed."""
    shape = (_ROWS, min(_LONGEST, config.block_size))
    return torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(0))


def random_texts(config: GPT2Config, pad: int | None) -> tuple[Tensor, Tensor]:
    """Return texts of different lengths for comparing scores, from a fixed seed.

    Args:
        config: configuration of the model.
        pad: id that must not occur in the texts; None for none.

    Returns:
        Token ids (B, T), padded on the right, and the mask (B, T), bool, which is False for padding.
    """
    longest = min(_LONGEST, config.block_size)
    lengths = torch.tensor([longest, max(1, longest // 2), 1])
    ids = torch.randint(config.vocab_size, (len(lengths), longest), generator=torch.Generator().manual_seed(0))
    ids = torch.where(ids == pad, (ids + 1) % config.vocab_size, ids) if pad is not None else ids
    return ids, torch.arange(longest) < lengths[:, None]


def precision(config: GPT2Config) -> torch.dtype:
    """Return the dtype for computing logits, independent of the weights: float64, in which rounding hides no error."""
    return torch.float64 if count_parameters(config) < _LARGE else torch.float32


@torch.no_grad()
def model_logits(model: GPT2, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute the logits (B, T, V) of ids (B, T), without dropout."""
    logits: Tensor = recast(model, dtype)(ids)
    return logits


@torch.no_grad()
def transformers_logits(folder: Path, ids: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Compute the logits (B, T, V) of a folder's model in transformers; None if transformers is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    logits: Tensor = model.eval()(ids).logits
    return logits


@torch.no_grad()
def classifier_scores(model: GPT2, score: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Compute the scores (B, labels) of padded texts (B, T) with a head (labels, C), in the model's dtype."""
    classifier = Classifier(model, len(score), pooling="last")
    classifier.score.weight = nn.Parameter(score.to(model.wte.weight.dtype))
    scores: Tensor = classifier.eval()(ids, mask)
    return scores


def transformers_scores(folder: Path, ids: Tensor, mask: Tensor, pad: int | None, dtype: torch.dtype) -> Tensor | None:
    """Compute the scores (B, labels) of a folder's classifier in transformers; None if it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype, local_files_only=True)
    return scores_of(model.eval(), ids, mask, pad)


@torch.no_grad()
def scores_of(classifier: Any, ids: Tensor, mask: Tensor, pad: int | None) -> Tensor:
    """Compute the scores (B, labels) of texts (B, T) with a transformers classifier.

    Args:
        classifier: classifier in evaluation mode.
        ids: token ids, (B, T), padded on the right.
        mask: False for padding, (B, T), bool.
        pad: id of the padding token; None to score texts one by one.
    """
    if pad is None:
        return torch.cat([classifier(row[kept][None]).logits for row, kept in zip(ids, mask, strict=True)])
    scores: Tensor = classifier(torch.where(mask, ids, pad), attention_mask=mask.long()).logits
    return scores


def compare(found: Tensor, expected: Tensor) -> Comparison:
    """Compare logits (B, T, V) or scores with the first V columns of the expected ones."""
    expected = expected[..., : found.size(-1)]
    scale = max(1.0, float(expected.abs().max()))
    return Comparison(float((found - expected).abs().max()), _ROUNDINGS * torch.finfo(found.dtype).eps * scale)


def require_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: Path) -> None:
    """Compare tensors read back with those written, bit for bit.

    Raises:
        UserError: with the names of tensors that differ.
    """
    different = [
        name
        for name in sorted(found.keys() | expected.keys())
        if name not in found
        or name not in expected
        or found[name].dtype != expected[name].dtype
        or not torch.equal(found[name], expected[name])
    ]
    if different:
        fault = f"{where}: tensors read back differ from those written, so the conversion was discarded"
        raise UserError("\n  ".join([fault, *different]))


def require_agreement(found: Tensor, expected: Tensor, what: str) -> Comparison:
    """Compare logits up to rounding.

    Raises:
        UserError: with the largest difference, if it exceeds the tolerance.
    """
    comparison = compare(found, expected)
    if not comparison.agrees:
        raise UserError(
            f"the conversion failed verification and was discarded: {what} differ by up to "
            f"{comparison.largest_difference:.1e}, and rounding explains {comparison.allowed:.1e}"
        )
    return comparison
