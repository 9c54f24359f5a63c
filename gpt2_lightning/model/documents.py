"""Several documents in one window, none of which sees another."""

from __future__ import annotations

import torch
from torch import Tensor


def separate(documents: Tensor) -> tuple[Tensor, Tensor]:
    """What makes the documents of a window as independent as if each were read alone.

    Args:
        documents: the document of each token, (B, T). A new one begins wherever the number changes.

    Returns:
        The position of each token within its document, (B, T), and whether a query token sees a key token,
        (B, 1, T, T): if that comes no later, and no earlier than the query's document begins.
    """
    index = torch.arange(documents.size(1), device=documents.device)  # (T,)
    begins = documents != documents.roll(1, dims=1)  # (B, T); the first token needs no mark, it begins at 0 anyway
    start = (begins * index).cummax(dim=1).values  # (B, T): where each token's document begins
    visible = (index <= index.unsqueeze(1)) & (index >= start.unsqueeze(2))  # (B, T, T)
    return index - start, visible.unsqueeze(1)
