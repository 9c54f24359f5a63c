"""A network made by hand: its first head looks at the token before, its second finds what came after the same token."""

from __future__ import annotations

import torch

from gpt2_lightning.model import GPT2, GPT2Config

VOCABULARY, CONTEXT = 13, 52
_SHARP = 60.0


@torch.no_grad()
def planted_network() -> GPT2:
    """Two layers of one head. The residual stream is a one-hot token, a one-hot position, and room for a token."""
    width = 2 * VOCABULARY + CONTEXT
    token, place, earlier = (
        torch.arange(VOCABULARY),
        VOCABULARY + torch.arange(CONTEXT),
        VOCABULARY + CONTEXT + torch.arange(VOCABULARY),
    )
    model = GPT2(GPT2Config(VOCABULARY, CONTEXT, n_layer=2, n_head=1, n_embd=width)).eval()
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    model.wte.weight[token, token] = 1
    model.wpe.weight[torch.arange(CONTEXT), place] = 1
    first, second = (block.attn for block in model.h)
    query, key, value = (slice(i * width, (i + 1) * width) for i in range(3))
    first.c_attn.weight[query][place[:-1], place[1:]] = _SHARP  # a query at i asks for position i - 1
    first.c_attn.weight[key][place, place] = 1
    first.c_attn.weight[value][earlier, token] = 1  # and copies its token
    first.c_proj.weight[earlier, earlier] = (2 / width) ** 0.5  # undoes the norm's scale: two of the numbers are 1
    second.c_attn.weight[query][earlier, token] = _SHARP  # a query asks for its own token
    second.c_attn.weight[key][earlier, earlier] = 1  # before a key;
    second.c_attn.weight[key][earlier, place[0]] = -2  # the first key has none before it
    return model
