"""The forward pass straight on a file's tensors: what a conversion is compared with.

It shares no code with `model` and none with the conversions, so that a weight in the wrong place shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Network:
    """A GPT-2 as a file holds it.

    The tensors have the names of OpenAI's modules, with no prefix; biases that are not there are none.
    """

    weights: Mapping[str, Tensor]
    n_layer: int
    n_head: int
    layer_norm_epsilon: float = 1e-5
    conv1d: bool = False
    """Whether projections are [in, out], as in OpenAI's and Hugging Face's files, and not [out, in]."""
    exact_gelu: bool = False
    """Whether GELU is the exact one, and not the tanh approximation of GPT-2."""

    @torch.no_grad()
    def logits(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits (B, T, V) of ids (B, T), with the weights widened to dtype a layer at a time."""
        B, T = ids.shape
        x = F.embedding(ids, self._get("wte.weight", dtype)) + self._get("wpe.weight", dtype)[:T]  # (B, T, C)
        for layer in range(self.n_layer):
            block = f"h.{layer}."
            queries, keys, values = (
                part.reshape(B, T, self.n_head, -1).transpose(1, 2)  # (B, H, T, D)
                for part in self._project(self._norm(x, block + "ln_1", dtype), block + "attn.c_attn", dtype).chunk(
                    3, -1
                )
            )
            scores = queries @ keys.mT / queries.size(-1) ** 0.5  # (B, H, T, T)
            future = torch.full((T, T), float("-inf"), dtype=dtype).triu(1)
            mixed = ((scores + future).softmax(-1) @ values).transpose(1, 2).flatten(2)  # (B, T, C)
            x = x + self._project(mixed, block + "attn.c_proj", dtype)
            wide = self._project(self._norm(x, block + "ln_2", dtype), block + "mlp.c_fc", dtype)  # (B, T, 4C)
            wide = F.gelu(wide, approximate="none" if self.exact_gelu else "tanh")
            x = x + self._project(wide, block + "mlp.c_proj", dtype)
        head = "lm_head.weight" if "lm_head.weight" in self.weights else "wte.weight"
        return self._norm(x, "ln_f", dtype) @ self._get(head, dtype).mT

    def _get(self, name: str, dtype: torch.dtype) -> Tensor:
        return self.weights[name].to(dtype)

    def _bias(self, module: str, dtype: torch.dtype) -> Tensor | None:
        return self._get(f"{module}.bias", dtype) if f"{module}.bias" in self.weights else None

    def _norm(self, x: Tensor, module: str, dtype: torch.dtype) -> Tensor:
        scale = self._get(f"{module}.weight", dtype)
        return F.layer_norm(x, scale.shape, scale, self._bias(module, dtype), self.layer_norm_epsilon)

    def _project(self, x: Tensor, module: str, dtype: torch.dtype) -> Tensor:
        weight = self._get(f"{module}.weight", dtype)
        y = x @ (weight if self.conv1d else weight.mT)
        bias = self._bias(module, dtype)
        return y if bias is None else y + bias
