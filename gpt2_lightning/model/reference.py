"""The forward pass of GPT-2 in its plainest form, on the tensors of a file.

This is the reference: conversions compare their logits with it, and tests those of every set of kernels. It shares no
code with `gpt2` and none with the conversions, so that a weight in the wrong place changes the result. It has neither
dropout nor a cache, does not train, and converts weights to the dtype of the computation one at a time.

Shapes: B batch, T tokens, C channels, H heads, D = C / H, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ReferenceGPT2:
    """GPT-2 as the tensors of a file (Radford et al. 2019, section 2.3)."""

    weights: Mapping[str, Tensor]
    """Tensors under the names of OpenAI's modules, without a prefix, such as `h.0.attn.c_attn.weight`. A missing bias
    is no bias; a missing `lm_head.weight` is `wte.weight`."""
    n_layer: int
    n_head: int
    layer_norm_epsilon: float = 1e-5
    conv1d: bool = False
    """Whether projections are (in, out), as in OpenAI's and Hugging Face's files, instead of (out, in)."""
    exact_gelu: bool = False
    """Whether GELU is exact, instead of GPT-2's tanh approximation."""

    @torch.no_grad()
    def logits(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits (B, T, V) of the token after each of ids (B, T), computed in dtype."""
        T = ids.size(1)
        x = F.embedding(ids, self._get("wte.weight", dtype)) + self._get("wpe.weight", dtype)[:T]  # (B, T, C)
        for layer in range(self.n_layer):
            x = x + self._attention(self._norm(x, f"h.{layer}.ln_1"), f"h.{layer}.attn")  # (B, T, C)
            x = x + self._mlp(self._norm(x, f"h.{layer}.ln_2"), f"h.{layer}.mlp")  # (B, T, C)
        head = "lm_head.weight" if "lm_head.weight" in self.weights else "wte.weight"
        return self._norm(x, "ln_f") @ self._get(head, dtype).mT  # (B, T, V)

    def _attention(self, x: Tensor, name: str) -> Tensor:
        """Causal multi-head attention: softmax(q kᵀ / sqrt(D)) v (Vaswani et al. 2017, equation 1)."""
        B, T, C = x.shape
        qkv = self._project(x, f"{name}.c_attn")  # (B, T, 3C)
        q, k, v = (part.view(B, T, self.n_head, -1).transpose(1, 2) for part in qkv.split(C, dim=-1))  # (B, H, T, D)
        scores = q @ k.mT / q.size(-1) ** 0.5  # (B, H, T, T)
        future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
        y = scores.masked_fill(future, float("-inf")).softmax(dim=-1) @ v  # (B, H, T, D)
        return self._project(y.transpose(1, 2).reshape(B, T, C), f"{name}.c_proj")  # (B, T, C)

    def _mlp(self, x: Tensor, name: str) -> Tensor:
        x = F.gelu(self._project(x, f"{name}.c_fc"), approximate="none" if self.exact_gelu else "tanh")  # (B, T, 4C)
        return self._project(x, f"{name}.c_proj")  # (B, T, C)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight = self._get(f"{name}.weight", x.dtype)
        return F.layer_norm(x, weight.shape, weight, self._bias(name, x.dtype), self.layer_norm_epsilon)

    def _project(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._get(f"{name}.weight", x.dtype), self._bias(name, x.dtype)
        y = x @ (weight if self.conv1d else weight.mT)
        return y if bias is None else y + bias

    def _bias(self, name: str, dtype: torch.dtype) -> Tensor | None:
        return self._get(f"{name}.bias", dtype) if f"{name}.bias" in self.weights else None

    def _get(self, name: str, dtype: torch.dtype) -> Tensor:
        return self.weights[name].to(dtype)
