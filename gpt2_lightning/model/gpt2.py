"""GPT-2 on one page: everything that a forward pass runs without a KV cache, LoRA or compilation.

    ids ─ wte + wpe ─ n_layer × ( x + attn(ln_1(x)) ─ x + mlp(ln_2(x)) ) ─ ln_f ─ lm_head ─ logits

The architecture is that of Radford et al. 2019, section 2.3. Shapes at line ends: B batch, T query tokens, S key tokens
(T, and those in the cache), C = n_embd channels, H = n_head heads, D = C / H channels of a head, V = vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.documents import DocumentMask, document_attention, needs_tensor, positions_and_mask
from gpt2_lightning.model.inference import onednn
from gpt2_lightning.model.inference.kv_cache import KVCache, LayerCache
from gpt2_lightning.model.kernels import GELUS, KERNELS
from gpt2_lightning.model.kernels.cudnn import without_cudnn
from gpt2_lightning.model.kernels.explicit import attention_weights
from gpt2_lightning.model.loss import IGNORED, LARGE_LOGITS, chunked_cross_entropy
from gpt2_lightning.model.positions import POSITIONS


@dataclass(frozen=True)
class AttentionContext:
    """What the attention of every block needs besides the residual stream."""

    positions: Tensor
    """Positions of the query tokens, (T,) if all texts share them, else (B, T)."""
    attn_mask: Tensor | DocumentMask | None = None
    """Whether a query attends to a key, bool, (B or 1, 1, T, S), or the boundaries of documents. By default queries and
    keys are the same tokens and attention is causal; a single query token attends to all keys."""
    rotate: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """`rotate` of a positional encoding that has one; see `positions.PositionalEncoding`."""
    cache: Sequence[LayerCache] | None = None
    """Keys and values of earlier tokens, one for each layer; those of the query tokens are added."""
    attn_weights: list[Tensor] | None = None
    """Collects the attention weights of every layer, (B, H, T, S), computed by the explicit kernel."""


class Linear(nn.Linear):
    """A linear layer whose weight may have more rows than the layer has outputs.

    Args:
        n_in: channels of the input.
        n_out: channels of the output.
        bias: whether the layer has a bias.
        padding: rows of the weight beyond `n_out`, which make matrix products faster and are cut off their result.
    """

    def __init__(self, n_in: int, n_out: int, bias: bool = True, padding: int = 0) -> None:
        super().__init__(n_in, n_out + padding, bias)
        self.out_features = n_out
        self.packed: Tensor | None = None
        """A copy of the weight in the processor's layout, used without gradients; see `inference.packed`."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            y = F.linear(x, self.weight, self.bias)  # (…, n_out + padding)
        else:
            y = onednn.linear(x, self.weight, self.bias, self.packed)
        # A slice of all outputs would copy the gradient.
        return y if y.size(-1) == self.out_features else y[..., : self.out_features]  # (…, n_out)


class LayerNorm(nn.Module):
    """Zero mean and unit variance over the channels of each token, then scale and shift (Ba et al. 2016)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd))
        self.eps = config.layer_norm_epsilon
        self.kernels = KERNELS[config.kernels]

    def forward(self, x: Tensor) -> Tensor:
        return self.kernels.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)  # (B, T, C)


class CausalSelfAttention(nn.Module):
    """Multi-head attention of each token to itself and the tokens before it (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: GPT2Config, layer_idx: int) -> None:
        super().__init__()
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.qkv_bias)
        self.c_proj = Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)
        self.attn_pdrop = config.attn_pdrop
        self.n_head, self.head_size = config.n_head, config.head_size
        self.layer_idx = layer_idx
        self.kernels = KERNELS[config.kernels]

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.n_head, self.head_size).permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        dtype = v.dtype
        if context.rotate is not None:
            q, k = context.rotate(q, k, context.positions)
        if context.cache is not None:
            k, v = context.cache[self.layer_idx].update(k, v)  # (B, H, S, D), in the dtype of the cache
            q = q.to(k.dtype)
        dropout_p = self.attn_pdrop if self.training else 0.0
        if isinstance(context.attn_mask, DocumentMask):
            y = document_attention(q, k, v, context.attn_mask, dropout_p)  # (B, H, T, D)
        else:
            is_causal = context.attn_mask is None and T > 1
            if context.attn_weights is not None:
                context.attn_weights.append(attention_weights(q, k, context.attn_mask, is_causal))
            y = self.kernels.attention(q, k, v, context.attn_mask, dropout_p, is_causal)  # (B, H, T, D)
        y = y.to(dtype).transpose(1, 2).reshape(B, T, C)  # concatenate the heads
        y = self.c_proj(y)  # (B, T, C)
        return self.resid_dropout(y) if self.training else y


class MLP(nn.Module):
    """Two linear layers with GELU between them, four times as wide inside, applied to each token separately."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.resid_pdrop)
        self.approximate = GELUS[config.gelu]
        self.kernels = KERNELS[config.kernels]

    def forward(self, x: Tensor) -> Tensor:
        x = self.kernels.gelu(self.c_fc(x), approximate=self.approximate)  # (B, T, 4C)
        x = self.c_proj(x)  # (B, T, C)
        return self.dropout(x) if self.training else x


class Block(nn.Module):
    """Attention, then MLP. Each reads a normalized copy of the residual stream and adds to the stream (pre-norm)."""

    def __init__(self, config: GPT2Config, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config)
        self.attn = CausalSelfAttention(config, layer_idx)
        self.ln_2 = LayerNorm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        x = x + self.attn(self.ln_1(x), context)  # (B, T, C)
        return x + self.mlp(self.ln_2(x))  # (B, T, C)


class GPT2(nn.Module):
    """A decoder-only transformer. Its parameters have OpenAI's names (`wte`, `wpe`, `h.0.attn.c_attn`, …)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_rows, config.n_embd)  # token embedding
        self.wpe = POSITIONS[config.positions](  # positional encoding
            config.block_size, config.n_embd, config.head_size, config.initializer_range
        )
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config, layer_idx) for layer_idx in range(config.n_layer))  # hidden layers
        self.ln_f = LayerNorm(config)  # final layer norm
        padding = config.vocab_rows - config.vocab_size
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False, padding=padding)
        self._initialize()
        self.tie_head()
        self.gradient_checkpointing = False
        """Whether blocks keep only their input for the backward pass and recompute the rest: less memory for a third
        more time (Chen et al. 2016)."""
        self.decode_step: Callable[[Tensor, AttentionContext], Tensor] | None = None
        """`forward_hidden`, compiled for one token of each text; see `inference.compiled`."""

    def tie_head(self) -> None:
        """Share the token embedding's weight with the head, where the configuration says so."""
        if self.config.tied_head:
            self.lm_head.weight = self.wte.weight

    def _initialize(self) -> None:
        """N(0, initializer_range) for weights and 0 for biases, as in OpenAI's code.

        Each block adds two terms to the residual stream. Their projections are scaled by 1 / sqrt(2 * n_layer), which
        keeps the variance of the sum independent of depth (Radford et al. 2019, section 2.3). Positional encodings
        initialize themselves.
        """
        std = self.config.initializer_range
        nn.init.normal_(self.wte.weight, std=std)
        for name, module in self.named_modules():
            if isinstance(module, Linear):
                is_residual = name.endswith(".c_proj")
                nn.init.normal_(module.weight, std=std / math.sqrt(2 * self.config.n_layer) if is_residual else std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in (self.wte, self.lm_head):
            nn.init.zeros_(module.weight.detach()[self.config.vocab_size :])

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        *,
        document_ids: Tensor | None = None,
        n_documents: int | None = None,
        cache: KVCache | None = None,
        attn_weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Compute logits, or the loss of given targets.

        Args:
            ids: token ids, (B, T), int64.
            targets: the token after each of ids, (B, T), int64; -100 carries no loss.
            document_ids: see `features`; so are the remaining arguments and the errors.

        Returns:
            Without targets, logits (B, T, V) of the token after each of ids. With targets, the sum of their
            cross-entropies in nats, a scalar in float32.
        """
        x = self.features(
            ids, document_ids=document_ids, n_documents=n_documents, cache=cache, attn_weights=attn_weights
        )  # (B, T, C)
        if targets is None:
            return self.lm_head(x)  # (B, T, V)
        if targets.numel() * self.config.vocab_size > LARGE_LOGITS:
            return chunked_cross_entropy(self.lm_head, x, targets)  # the same, in less memory
        logits = self.lm_head(x).flatten(0, 1).float()  # (B * T, V)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def features(
        self,
        ids: Tensor,
        *,
        document_ids: Tensor | None = None,
        n_documents: int | None = None,
        cache: KVCache | None = None,
        attn_weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Compute the residual stream after the final norm, which is the input of the head.

        Args:
            ids: token ids, (B, T), int64.
            document_ids: the document of each token, (B, T), int64, non-decreasing along T. Attention stays within a
                document and positions restart at 0 in each. Not supported with a cache.
            n_documents: documents in the batch, all rows together; None to count them, for which a GPU is waited for.
            cache: keys and values of the tokens before ids; those of ids are added.
            attn_weights: a list to which every layer appends its attention weights, (B, H, T, S).

        Returns:
            Features of shape (B, T, C).

        Raises:
            ValueError: if ids and the cached tokens exceed `block_size`, or if cache or document_ids do not fit.
        """
        end = ids.size(1) + (0 if cache is None else cache.longest)
        if end > self.config.block_size:
            raise ValueError(
                f"{end} tokens do not fit into the context: block_size is {self.config.block_size}; "
                "pass fewer, or use a model with a larger block_size"
            )
        rotate = getattr(self.wpe, "rotate", None)
        if cache is None:
            positions = torch.arange(ids.size(1), device=ids.device)  # (T,)
            attn_mask: Tensor | DocumentMask | None = None
            if document_ids is not None:
                if document_ids.shape != ids.shape:
                    shapes = f"{tuple(document_ids.shape)}, and ids {tuple(ids.shape)}"
                    raise ValueError(f"document_ids have shape {shapes}")
                dense = attn_weights is not None or needs_tensor(self.wte.weight, self.config)
                positions, attn_mask = positions_and_mask(document_ids, dense, n_documents)  # (B, T)
            return self.forward_hidden(ids, AttentionContext(positions, attn_mask, rotate, None, attn_weights))
        if document_ids is not None:
            raise ValueError("document_ids and a cache cannot be combined: each row of a cache holds one text")
        if len(ids) != len(cache.lengths):
            raise ValueError(f"ids have {len(ids)} rows, and the cache holds {len(cache.lengths)} texts")
        positions, attn_mask = cache.positions_and_mask(ids.size(1))
        context = AttentionContext(positions, attn_mask, rotate, cache.layers(positions), attn_weights)
        with without_cudnn():
            x = self.forward_hidden(ids, context)
        cache.advance(ids.size(1))
        return x

    def forward_hidden(self, ids: Tensor, context: AttentionContext) -> Tensor:
        """Tensor-only core of `features`, for torch.compile."""
        x = self.drop(self.wte(ids) + self.wpe(context.positions))  # (B, T, C)
        for block in self.h:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context)  # (B, T, C)
        return self.ln_f(x)
