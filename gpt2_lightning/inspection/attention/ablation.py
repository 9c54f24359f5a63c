"""Ablation of attention heads: the effect of each head on the loss and on the predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt2_lightning.inspection.attention.reading import text_losses
from gpt2_lightning.model import GPT2

_MOST_LOGITS = 2**26
"""Logits held at once, 256 MiB of float32."""
_SHOWN_PREDICTIONS = 5


@dataclass(frozen=True)
class AblationEffect:
    """The effect of ablating one head, on one text."""

    layer: int
    head: int
    loss_change: float | None
    """Change of the loss in nats per token; positive where the head helps. None for a text of one token."""
    divergence: float
    """Kullback-Leibler divergence between the next-token distributions with and without the head, in nats, averaged
    over the text."""
    likeliest: list[float]
    """Probabilities, without the head, of the most likely tokens after the text with the head."""
    most_changed: int
    """The token whose probability after the text changes most."""
    before: float
    """Its probability with the head."""
    after: float
    """Its probability without the head."""


@torch.no_grad()
def ablate_heads(model: GPT2, ids: Tensor) -> list[AblationEffect]:
    """Ablate each head in turn, by zeroing its input to the output projection of its layer.

    Args:
        model: in evaluation mode.
        ids: the text, (T,).

    Returns:
        All heads in descending order of `loss_change`, or of `divergence` where there is no loss.
    """
    ids = ids.to(model.wte.weight.device)
    logits = model(ids.unsqueeze(0))
    base = logits[0].float().log_softmax(dim=-1)  # (T, V)
    (base_loss,) = text_losses(logits, ids.unsqueeze(0))
    at_once = max(1, _MOST_LOGITS // base.numel())
    effects: list[AblationEffect] = []
    for layer in range(model.config.n_layer):
        for heads in torch.arange(model.config.n_head).split(at_once):
            effects += _effects(model, ids, layer, heads.tolist(), base, base_loss)
    return sorted(effects, key=lambda e: -(e.divergence if e.loss_change is None else e.loss_change))


def _effects(
    model: GPT2, ids: Tensor, layer: int, heads: Sequence[int], base: Tensor, base_loss: float | None
) -> Iterator[AblationEffect]:
    texts = ids.expand(len(heads), -1)  # the same text once for each head
    with _switched_off(model, layer, heads):
        logits = model(texts)
    likeliest = base[-1].topk(min(_SHOWN_PREDICTIONS, base.size(-1))).indices
    for head, loss, row in zip(heads, text_losses(logits, texts), logits, strict=True):
        ablated = row.float().log_softmax(dim=-1)
        before, after = base[-1].exp(), ablated[-1].exp()
        most_changed = int((after - before).abs().argmax())
        yield AblationEffect(
            layer=layer,
            head=head,
            loss_change=None if loss is None or base_loss is None else loss - base_loss,
            divergence=max(0.0, (base.exp() * (base - ablated)).sum(dim=-1).mean().item()),
            likeliest=after[likeliest].tolist(),
            most_changed=most_changed,
            before=before[most_changed].item(),
            after=after[most_changed].item(),
        )


@contextlib.contextmanager
def _switched_off(model: GPT2, layer: int, heads: Sequence[int]) -> Iterator[None]:
    """Zero the output of head `heads[b]` of a layer in row b of a batch."""
    size = model.config.head_size

    def zero_heads(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        (mixed,) = given  # outputs of the heads, concatenated, (B, T, C)
        mixed = mixed.clone()
        for text, head in enumerate(heads):
            mixed[text, :, head * size : (head + 1) * size] = 0
        return (mixed,)

    hook = model.get_submodule(f"h.{layer}.attn.c_proj").register_forward_pre_hook(zero_heads)
    try:
        yield
    finally:
        hook.remove()
