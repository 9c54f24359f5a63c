"""Models to convert: random ones of ours, and the networks of nanoGPT and minGPT, which share their modules' names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2_lightning.model import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=23, block_size=13, n_layer=2, n_head=5, n_embd=35)


def enliven(network: nn.Module) -> None:
    """Five times the initial weights, and biases and norms that are no zeros and ones, so that a fault shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.mul_(5)


def lively(config: GPT2Config = CONFIG) -> GPT2:
    """A model of ours whose logits depend on all of it."""
    torch.manual_seed(1)
    model = GPT2(config)
    enliven(model)
    return model.eval()


def some_ids(config: GPT2Config = CONFIG) -> Tensor:
    return torch.randint(config.vocab_size, (3, config.block_size), generator=torch.Generator().manual_seed(5))


class TheirAttention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool, context: int | None) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.c_proj = nn.Linear(width, width, bias=bias)
        self.heads = heads
        if context is not None:
            self.register_buffer("bias", torch.ones(1, 1, context, context).tril())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class TheirBlock(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool, context: int | None, gelu: str) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=bias)
        self.attn = TheirAttention(width, heads, bias, context)
        self.ln_2 = nn.LayerNorm(width, bias=bias)
        mlp = {"c_fc": nn.Linear(width, 4 * width, bias=bias), "c_proj": nn.Linear(4 * width, width, bias=bias)}
        self.mlp = nn.ModuleDict(mlp)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        wide = F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate=self.gelu)
        return x + self.mlp["c_proj"](wide)


class TheirGPT(nn.Module):
    """nanoGPT's network with `mask=False`, `tied=True` and either GELU; minGPT's with the opposite and tanh."""

    def __init__(self, config: GPT2Config, bias: bool, mask: bool, tied: bool, gelu: str) -> None:
        super().__init__()
        torch.manual_seed(2)
        width, context = config.n_embd, config.block_size
        blocks = [
            TheirBlock(width, config.n_head, bias, context if mask else None, gelu) for _ in range(config.n_layer)
        ]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, width),
                "wpe": nn.Embedding(context, width),
                "h": nn.ModuleList(blocks),
                "ln_f": nn.LayerNorm(width, bias=bias),
            }
        )
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        if tied:
            self.lm_head.weight = self.transformer["wte"].weight
        enliven(self)

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        x = self.transformer["wte"](ids) + self.transformer["wpe"](torch.arange(ids.size(1)))
        for block in self.transformer["h"]:
            x = block(x)
        logits: Tensor = self.lm_head(self.transformer["ln_f"](x))
        return logits


def nanogpt(config: GPT2Config = CONFIG, bias: bool = True, gelu: str = "none") -> TheirGPT:
    return TheirGPT(config, bias=bias, mask=False, tied=True, gelu=gelu)


def mingpt(config: GPT2Config = CONFIG) -> TheirGPT:
    return TheirGPT(config, bias=True, mask=True, tied=False, gelu="tanh")


def nanogpt_checkpoint(network: TheirGPT, config: GPT2Config, bias: bool = True, compiled: bool = True) -> dict:
    """What nanoGPT saves as `ckpt.pt`."""
    prefix = "_orig_mod." if compiled else ""
    shape = {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")}
    return {
        "model": {prefix + name: tensor for name, tensor in network.state_dict().items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]},
        "model_args": {**shape, "bias": bias, "dropout": 0.0},
        "iter_num": 250,
        "best_val_loss": torch.tensor(1.75),
        "config": {"dataset": "shakespeare", "batch_size": 12, "learning_rate": 1e-3, "compile": compiled},
    }
