"""The whole network: embeddings, blocks, final norm, output head (Radford et al. 2019, section 2.3)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.documents import separate
from gpt2_lightning.model.inference.kv_cache import KVCache, LayerCache
from gpt2_lightning.model.layers import Block, LayerNorm
from gpt2_lightning.model.linear import Linear
from gpt2_lightning.model.loss import summed_loss
from gpt2_lightning.model.positions import POSITIONS


class GPT2(nn.Module):
    """A decoder-only transformer. Its parameters have OpenAI's names (`wte`, `wpe`, `h.0.attn.c_attn`, …)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_rows, config.n_embd)  # weights of the token embedding
        self.wpe = POSITIONS[config.positions](config)  # weights of the positional encoding
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))  # hidden layers
        self.ln_f = LayerNorm(config)  # final layer norm
        padding = config.vocab_rows - config.vocab_size
        self.lm_head = Linear(config, config.n_embd, config.vocab_size, bias=False, padding=padding)
        self._initialise()
        self.tie_head()
        self.step: Callable[..., Tensor] | None = None
        """`through`, compiled for one token of each text; see `compiled.compiled`."""
        self.recomputes = False
        """Whether blocks keep nothing for the backward pass but their input, and compute again what it needs: less
        memory for a third more time (Chen et al. 2016)."""

    def tie_head(self) -> None:
        """Let the head use the token embedding's weight, where the configuration says so."""
        if self.config.tied_head:
            self.lm_head.weight = self.wte.weight

    def _initialise(self) -> None:
        """N(0, initializer_range) for weights, 0 for biases, as in OpenAI's code.

        Each block adds two terms to the residual stream. Their projections are scaled by 1 / sqrt(2 * n_layer), so that
        the sum of all keeps its size (Radford et al. 2019, section 2.3). Positional encodings start themselves.
        """
        std = self.config.initializer_range
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                shrink = math.sqrt(2 * self.config.n_layer) if name.endswith(".c_proj") else 1.0
                nn.init.normal_(module.weight, std=std / shrink)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for module in (self.wte, self.lm_head):
            nn.init.zeros_(module.weight.detach()[self.config.vocab_size :])

    def features(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        record: list[Tensor] | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """The residual stream after the final norm: what the head, and any other head, reads.

        Args:
            ids: token ids, (B, T), int64.
            cache: keys and values of the tokens before ids; those of ids are added to it.
            record: where to append every layer's attention weights, (B, H, T, S).
            documents: the document of each token, (B, T), int64, not falling along T. Tokens then see their own
                document alone, and positions begin at 0 in each, as if it were read alone. Not with a cache.

        Returns:
            Features of shape (B, T, C).

        Raises:
            ValueError: if ids, with what is cached, are longer than `block_size`, or if cache or documents do not fit.
        """
        end = ids.size(1) + (0 if cache is None else cache.longest)
        if end > self.config.block_size:
            raise ValueError(
                f"{end} tokens do not fit into the context: block_size is {self.config.block_size}; "
                "pass fewer, or use a model with a larger block_size"
            )
        positions, visible = _places(ids, cache, documents)
        x = self.through(ids, positions, visible, None if cache is None else cache.layers(positions), record)
        if cache is not None:
            cache.advance(ids.size(1))
        return x

    def through(
        self,
        ids: Tensor,
        positions: Tensor,
        visible: Tensor | None,
        layers: Sequence[LayerCache] | None = None,
        record: list[Tensor] | None = None,
    ) -> Tensor:
        """`features`, when it is known where tokens stand and what they see: tensors alone, which can be compiled."""
        rotate = functools.partial(self.wpe.rotate, positions=positions)
        x = self.drop(self.wpe.embed(self.wte(ids), positions))  # (B, T, C)
        for i, block in enumerate(self.h):
            layer_cache = None if layers is None else layers[i]
            if self.recomputes and torch.is_grad_enabled():
                x = checkpoint(block, x, rotate, layer_cache, record, visible, use_reentrant=False)
            else:
                x = block(x, rotate, layer_cache, record, visible)
        return self.ln_f(x)

    def forward(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        record: list[Tensor] | None = None,
        documents: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the token after each of ids (B, T); or, where these tokens are given, their loss.

        The loss is the sum over all targets (B, T) but those that are ignored, in nats: see `loss.summed_loss`. The
        other arguments and errors are as in `features`.
        """
        features = self.features(ids, cache, record, documents)
        return self.lm_head(features) if targets is None else summed_loss(self.lm_head, features, targets)


def _places(ids: Tensor, cache: KVCache | None, documents: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Positions of tokens, (T,) or (B, T), and which each sees, (B, 1, T, S); None for all that come no later."""
    if cache is not None:
        if documents is not None:
            raise ValueError("documents and a cache do not go together: a cache holds one text in each row")
        if len(ids) != len(cache.lengths):
            raise ValueError(f"ids have {len(ids)} rows, and the cache holds {len(cache.lengths)} texts")
        return cache.places(ids.size(1))
    if documents is None:
        return torch.arange(ids.size(1), device=ids.device), None
    if documents.shape != ids.shape:
        raise ValueError(f"documents have shape {tuple(documents.shape)}, and ids {tuple(ids.shape)}")
    return separate(documents)
