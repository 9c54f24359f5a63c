"""Several documents in a window: positions and attention restart at the first token of each.

The mask is a tensor, or on CUDA, in 16-bit precision, the boundaries of the documents: FlashAttention (Dao 2023) takes
these instead of a mask, skips what a mask would hide, and is several times faster than attention with a dense mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2_lightning.model.config import GPT2Config

_LARGEST_HEAD = 128
"""Channels of a head up to which FlashAttention's backward pass runs on every GPU since compute capability 8.0."""


@dataclass(frozen=True)
class DocumentMask:
    """The mask of documents in the form of FlashAttention: their boundaries in the flattened batch."""

    cu_seqlens: Tensor
    """Cumulative lengths of the N documents, (N + 1,), int32, from 0 to B * T."""


def needs_tensor(weight: Tensor, config: GPT2Config) -> bool:
    """Return whether the mask of a network must be a tensor, given one of its weights."""
    if weight.device.type != "cuda" or not config.has_torch_attention:
        return True
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else weight.dtype
    return not has_flash_attention(weight.device, dtype, config.head_size)


def has_flash_attention(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Return whether `document_attention` runs on a device, with this dtype and number of channels of a head."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and head_size % 8 == 0
        and head_size <= _LARGEST_HEAD
        and torch.version.hip is None
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def positions_and_mask(
    document_ids: Tensor, dense: bool = True, n_documents: int | None = None
) -> tuple[Tensor, Tensor | DocumentMask]:
    """Positions of tokens within their document, and the mask: documents of a window are independent of each other.

    Args:
        document_ids: the document of each token, (B, T). A document begins wherever the number changes.
        dense: whether the mask is a tensor.
        n_documents: N, documents in the batch; None to count them, for which the CPU waits for the GPU. A larger number
            adds empty documents; with a smaller one, the last documents would be one.

    Returns:
        Positions, (B, T), and the mask, by which a query attends to keys of its own document that are not after it:
        bool, (B, 1, T, T), or a `DocumentMask`.
    """
    index = torch.arange(document_ids.size(1), device=document_ids.device)  # (T,)
    begins = document_ids != document_ids.roll(1, dims=1)  # (B, T); the first token begins at 0 in any case
    start = (begins * index).cummax(dim=1).values  # (B, T): where the document of each token begins
    if not dense:
        return index - start, DocumentMask(_cumulative_lengths(index == start, n_documents))
    attn_mask = (index <= index.unsqueeze(1)) & (index >= start.unsqueeze(2))  # (B, T, T)
    return index - start, attn_mask.unsqueeze(1)


def _cumulative_lengths(begins: Tensor, n_documents: int | None) -> Tensor:
    """`DocumentMask.cu_seqlens` of documents that begin at the marked tokens, (B, T)."""
    begun = begins.flatten().cumsum(dim=0)  # (B * T,): documents up to each token
    count = int(begun[-1]) if n_documents is None else n_documents
    numbers = torch.arange(1, count + 1, device=begins.device)
    return F.pad(torch.searchsorted(begun, numbers), (0, 1), value=begins.numel()).int()


def document_attention(q: Tensor, k: Tensor, v: Tensor, mask: DocumentMask, dropout_p: float = 0.0) -> Tensor:
    """Causal attention within documents by FlashAttention, with queries, keys, values and result (B, H, T, D).

    The operator is the one below `torch.nn.attention.varlen.varlen_attn`, which has no dropout and whose arguments
    differ between versions of torch. T is its bound on the length of a document, since the longest is known on the GPU
    alone.
    """
    B, _, T, _ = q.shape
    q, k, v = (x.to(v.dtype).transpose(1, 2).flatten(0, 1) for x in (q, k, v))  # (B * T, H, D), without a copy
    y, *_ = torch.ops.aten._flash_attention_forward(
        q, k, v, mask.cu_seqlens, mask.cu_seqlens, T, T, dropout_p, is_causal=True, return_debug_mask=False
    )
    return y.unflatten(0, (B, T)).transpose(1, 2)
