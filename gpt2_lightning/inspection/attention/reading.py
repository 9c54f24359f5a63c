"""What a model does with a text: attention weights of every head, and what it would predict after every layer."""

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
    """One text, read by one model."""

    ids: Tensor
    """The text's tokens, (T,)."""
    weights: Tensor
    """Attention weights, (L, H, T, T), float32: [layer, head, query, key]. Rows sum to 1, and no query sees ahead."""
    lens_ids: Tensor
    """The likeliest next tokens after each layer, (L + 1, T, K), the likeliest first. Layer 0 is the embeddings; the
    last is what the model predicts."""
    lens_probabilities: Tensor
    """Their probabilities, (L + 1, T, K)."""
    next_probabilities: Tensor
    """Probability of the token that really comes next, after each token but the last, (T - 1,)."""
    next_ranks: Tensor
    """How many tokens are likelier than that one, (T - 1,)."""
    loss: float | None
    """Nats per token over the text; None for a single token, after which nothing is known to come."""


@torch.no_grad()
def attention_weights(model: GPT2, ids: Tensor) -> Tensor:
    """Attention weights of a text (T,) in every head, (L, H, T, T), float32. Errors as in `read`."""
    return _weights(model, ids)[0]


@torch.no_grad()
def read(model: GPT2, ids: Tensor) -> Reading:
    """Read a text (T,) and record what happens inside.

    The predictions after each layer are the "logit lens": the residual stream between the layers is read by the final
    norm and the head, as if no layer came after (nostalgebraist 2020, "interpreting GPT: the logit lens").

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
    came = probabilities.gather(1, ids[1:].unsqueeze(1))  # (T - 1, 1)
    return Reading(
        ids=ids.cpu(),
        weights=weights,
        lens_ids=torch.stack([tokens for tokens, _ in tops]).cpu(),
        lens_probabilities=torch.stack([values for _, values in tops]).cpu(),
        next_probabilities=came.squeeze(1).cpu(),
        next_ranks=(probabilities > came).sum(dim=1).cpu(),
        loss=text_losses(logits.unsqueeze(0), ids.unsqueeze(0))[0],
    )


def text_losses(logits: Tensor, ids: Tensor) -> list[float | None]:
    """The loss of each text (B, T), nats per token, from its logits (B, T, V); None where there is one token alone."""
    if ids.size(1) < 2:
        return [None] * len(ids)
    texts = zip(logits.split(1), ids.split(1), strict=True)
    return [cross_entropy(row[:, :-1], text[:, 1:]).item() for row, text in texts]


def rollout(weights: Tensor) -> Tensor:
    """How much of each token's input reaches each token through all layers, as far as attention mixes it, (T, T).

    Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3: the layers' mean weights, half of
    them and half of the identity for the residual connection, multiplied from the first layer to the last. It knows
    neither values nor MLPs.

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
        raise ValueError("there is no token to read")
    attn_weights: list[Tensor] = []
    logits = model(ids.unsqueeze(0).to(model.wte.weight.device), attn_weights=attn_weights)[0]
    return torch.cat(attn_weights).float().cpu(), logits


@contextlib.contextmanager
def _residual_streams(model: GPT2) -> Iterator[list[Tensor]]:
    """What enters the first block and leaves each, (1, T, C), in their order, once the model has run."""
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
    """The tokens of the largest logits (T, V), and their probabilities, (T, count) each."""
    logits = logits.float()
    values, tokens = logits.topk(count)
    return tokens, (values - logits.logsumexp(dim=-1, keepdim=True)).exp()
