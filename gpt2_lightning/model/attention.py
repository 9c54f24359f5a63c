"""Multi-head causal self-attention (Vaswani et al. 2017, section 3.2.2)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.inference.kv_cache import LayerCache
from gpt2_lightning.model.kernels import KERNELS, explicit
from gpt2_lightning.model.linear import Linear

Rotate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""What a positional encoding does to the queries and keys (B, H, T, D) of a block; GPT-2's own does nothing."""


class CausalSelfAttention(nn.Module):
    """Every token gathers, in H independent heads, from itself and the tokens before it.

    The mask that hides the tokens after it is in the kernels: see `explicit.attention_weights`.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_attn = Linear(config, config.n_embd, 3 * config.n_embd, bias=config.qkv_bias)
        self.c_proj = Linear(config, config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)
        self.attn_pdrop = config.attn_pdrop
        self.n_head, self.head_size = config.n_head, config.head_size
        self.kernels = KERNELS[config.kernels]

    def forward(
        self,
        x: Tensor,
        rotate: Rotate,
        cache: LayerCache | None = None,
        record: list[Tensor] | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: the normed residual stream, (B, T, C).
            rotate: the positional encoding's part in attention.
            cache: keys and values of the tokens before x; those of x are added to it.
            record: where to append this layer's attention weights, (B, H, T, S), computed by the explicit kernel.
            visible: whether a query sees a key, (B, 1, T, S); by default, whether it is not after it.

        Returns:
            What the layer adds to the residual stream, (B, T, C).
        """
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.n_head, self.head_size).permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        q, k = rotate(q, k)
        dtype = v.dtype
        if cache is not None:
            k, v = cache.append(k, v)  # (B, H, S, D), in the cache's type, in which attention is computed
            q = q.to(k.dtype)
        if record is not None:
            record.append(explicit.attention_weights(q, k, visible))
        y = self.kernels.attention(q, k, v, self.attn_pdrop if self.training else 0.0, visible)  # (B, H, T, D)
        y = y.to(dtype).transpose(1, 2).reshape(B, T, C)  # heads side by side again
        return self.resid_dropout(self.c_proj(y))
