"""The shape of a GPT-2, as plain values."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from gpt2_lightning.model.kernels import GELUS, KERNELS
from gpt2_lightning.model.positions import POSITIONS
from gpt2_lightning.settings import BelowOne, OneOf, PositiveFloat, PositiveInt, Settings, relation

_NEAR = 4096
"""Numbers of heads below and above the one given among which a divisor of the width is looked for."""


@dataclass(frozen=True)
class GPT2Config(Settings):
    """Everything that fixes a network's architecture; the defaults are OpenAI's smallest GPT-2, without dropout.

    Raises:
        ValueError: with every violated invariant, a line each, as "field: what is wrong".
    """

    vocab_size: PositiveInt = 50257
    """Number of distinct tokens. A run takes it from its tokenizer."""
    block_size: PositiveInt = 1024
    """Longest context, in tokens."""
    n_layer: PositiveInt = 12
    """Number of blocks."""
    n_head: PositiveInt = 12
    """Attention heads in each block."""
    n_embd: PositiveInt = 768
    """Width of the residual stream, in channels."""
    positions: Annotated[str, OneOf(POSITIONS)] = "learned"
    """Positional encoding, a name in `positions.POSITIONS`."""
    qkv_bias: bool = True
    """Whether the query, key and value projection has a bias."""
    tied_head: bool = True
    """Whether the output head shares its weight with the token embedding."""
    pad_vocab_to_multiple_of: PositiveInt = 1
    """Fill the rows of the embedding and the head up to a multiple of this, such as 64, at which GPUs multiply faster.
    What is added stands for no token: it is never read, gets no probability and is not exported."""
    embd_pdrop: BelowOne = 0.0
    """Dropout probability after the embeddings."""
    attn_pdrop: BelowOne = 0.0
    """Dropout probability of the attention weights."""
    resid_pdrop: BelowOne = 0.0
    """Dropout probability of what each sub-layer adds to the residual stream."""
    layer_norm_epsilon: PositiveFloat = 1e-5
    """Added to the variance in every layer norm."""
    initializer_range: PositiveFloat = 0.02
    """Standard deviation of the initial weights."""
    gelu: Annotated[str, OneOf(GELUS)] = "tanh"
    """The activation inside the MLPs: `tanh`, the approximation of OpenAI's GPT-2, or `exact`."""
    kernels: Annotated[str, OneOf(KERNELS)] = "fused"
    """`fused` for speed, `native` for training on a CPU, `explicit` to read: a name in `kernels.KERNELS`."""

    @relation
    def _heads_divide_the_width(self) -> Iterator[str]:
        if self.n_embd % self.n_head == 0:
            return
        below = self.n_embd - self.n_embd % self.n_head
        widths = [str(width) for width in (below, below + self.n_head) if width]
        near = range(max(1, self.n_head - _NEAR), min(self.n_head + _NEAR, self.n_embd) + 1)
        divisors = [d for d in near if self.n_embd % d == 0]
        fewer = max((d for d in divisors if d < self.n_head), default=None)
        more = min((d for d in divisors if d > self.n_head), default=None)
        heads = [str(d) for d in (fewer, more) if d] or ["1"]
        yield (
            f"n_embd: {self.n_embd} is not divisible by n_head={self.n_head}; "
            f"the nearest that fit are n_embd={' or '.join(widths)}, or n_head={' or '.join(heads)}"
        )

    @property
    def has_torch_attention(self) -> bool:
        """Whether attention is torch's function, which chooses the fastest kernel of the device."""
        return KERNELS[self.kernels].attention is KERNELS["fused"].attention

    @property
    def vocab_rows(self) -> int:
        """Rows of the embedding and the head: `vocab_size`, and those that pad it."""
        return math.ceil(self.vocab_size / self.pad_vocab_to_multiple_of) * self.pad_vocab_to_multiple_of

    @property
    def head_size(self) -> int:
        """Channels of one head, D."""
        return self.n_embd // self.n_head
