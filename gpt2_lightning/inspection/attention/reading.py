"""Attention weights and per-layer predictions of a model on one text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.model import GPT2, cross_entropy

_SHOWN_PREDICTIONS = 5


@dataclass(frozen=True)
class Reading:
    """The forward pass of one model over one text."""

    ids: Tensor
    """The text's tokens, (T,)."""
    weights: Tensor
    """Attention weights, (L, H, T, T), float32: [layer, head, query, key]. Rows sum to 1; keys after the query have
    weight 0."""
    lens_ids: Tensor
    """The most likely next tokens after each layer, (L + 1, T, K), in descending order. Index 0 is after the
    embeddings; the last index holds the predictions of the model."""
    lens_probabilities: Tensor
    """Their probabilities, (L + 1, T, K)."""
    next_probabilities: Tensor
    """Probability of the actual next token, after each token but the last, (T - 1,)."""
    next_ranks: Tensor
    """Number of tokens that are more likely than the actual next token, (T - 1,)."""
    loss: float | None
    """Cross-entropy in nats per token; None for a text of one token."""


@torch.no_grad()
def attention_weights(model: GPT2, ids: Tensor) -> Tensor:
    """Attention weights of a text (T,) in every head, (L, H, T, T), float32. Raises as `read` does."""
    return _weights(model, ids)[0]


@torch.no_grad()
def read(model: GPT2, ids: Tensor) -> Reading:
    """Run a text (T,) through a model and record attention weights and per-layer predictions.

    The predictions after each layer are the "logit lens": the final norm and the head, applied to the residual stream
    between layers (nostalgebraist 2020, "interpreting GPT: the logit lens").

    Raises:
        ValueError: if the text is empty, or longer than the model's context.
    """
    with _residual_streams(model) as streams:
        weights, logits = _weights(model, ids)
    ids = ids.to(logits.device)
    kept = min(_SHOWN_PREDICTIONS, model.config.vocab_size)
    tops = [_likeliest(model.lm_head(model.ln_f(stream))[0], kept) for stream in streams[:-1]]
    tops.append(_likeliest(logits, kept))
    probabilities = logits[:-1].float().softmax(dim=-1)  # (T - 1, V)
    actual = probabilities.gather(1, ids[1:].unsqueeze(1))  # (T - 1, 1)
    return Reading(
        ids=ids.cpu(),
        weights=weights,
        lens_ids=torch.stack([tokens for tokens, _ in tops]).cpu(),
        lens_probabilities=torch.stack([values for _, values in tops]).cpu(),
        next_probabilities=actual.squeeze(1).cpu(),
        next_ranks=(probabilities > actual).sum(dim=1).cpu(),
        loss=text_losses(logits.unsqueeze(0), ids.unsqueeze(0))[0],
    )


def text_losses(logits: Tensor, ids: Tensor) -> list[float | None]:
    """Cross-entropy of each text (B, T) from its logits (B, T, V), in nats per token; None for texts of one token."""
    if ids.size(1) < 2:
        return [None] * len(ids)
    texts = zip(logits.split(1), ids.split(1), strict=True)
    return [cross_entropy(row[:, :-1], text[:, 1:]).item() for row, text in texts]


def rollout(weights: Tensor) -> Tensor:
    """Attention rollout: the share of each input token in each token after all layers, (T, T).

    Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3: the product over layers
    of the head-averaged weights, each averaged with the identity for the residual connection. Values and MLPs are
    ignored.

    Args:
        weights: attention weights, (L, H, T, T).
    """
    mixed = (weights.mean(dim=1) + torch.eye(weights.size(-1))) / 2  # (L, T, T)
    total = mixed[0]
    for layer in mixed[1:]:
        total = layer @ total
    return total


def _weights(model: GPT2, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Attention weights (L, H, T, T) and logits (T, V)."""
    if not len(ids):
        raise ValueError("ids: the text has no tokens")
    attn_weights: list[Tensor] = []
    logits = model(ids.unsqueeze(0).to(model.wte.weight.device), attn_weights=attn_weights)[0]
    return torch.cat(attn_weights).float().cpu(), logits


@contextlib.contextmanager
def _residual_streams(model: GPT2) -> Iterator[list[Tensor]]:
    """Collect the input of the first block and the output of each block, (1, T, C), during a forward pass."""
    streams: list[Tensor] = []
    hooks = [
        model.h[0].register_forward_pre_hook(lambda _, given: streams.append(given[0])),
        *(block.register_forward_hook(lambda _, __, result: streams.append(result)) for block in model.h),
    ]
    try:
        yield streams
    finally:
        for hook in hooks:
            hook.remove()


def _likeliest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most likely tokens of logits (T, V) and their probabilities, (T, count) each."""
    logits = logits.float()
    values, tokens = logits.topk(count)
    return tokens, (values - logits.logsumexp(dim=-1, keepdim=True)).exp()
