"""The shape of a GPT-2, as plain values."""

import math
from dataclasses import dataclass

from gpt2_lightning.model.kernels import GELUS, KERNELS
from gpt2_lightning.model.positions import POSITIONS


@dataclass(frozen=True)
class GPT2Config:
    """Everything that fixes a network's architecture; the defaults are OpenAI's smallest GPT-2, without dropout.

    Raises:
        ValueError: with every violated invariant, a line each, as "field: what is wrong".
    """

    vocab_size: int = 50257
    """Number of distinct tokens. A run takes it from its tokenizer."""
    block_size: int = 1024
    """Longest context, in tokens."""
    n_layer: int = 12
    """Number of blocks."""
    n_head: int = 12
    """Attention heads in each block."""
    n_embd: int = 768
    """Width of the residual stream, in channels."""
    positions: str = "learned"
    """Positional encoding, a name in `positions.POSITIONS`."""
    qkv_bias: bool = True
    """Whether the query, key and value projection has a bias."""
    tied_head: bool = True
    """Whether the output head shares its weight with the token embedding."""
    pad_vocab_to_multiple_of: int = 1
    """Fill the rows of the embedding and the head up to a multiple of this, such as 64, at which GPUs multiply faster.
    What is added stands for no token: it is never read, gets no probability and is not exported."""
    embd_pdrop: float = 0.0
    """Dropout probability after the embeddings."""
    attn_pdrop: float = 0.0
    """Dropout probability of the attention weights."""
    resid_pdrop: float = 0.0
    """Dropout probability of what each sub-layer adds to the residual stream."""
    layer_norm_epsilon: float = 1e-5
    """Added to the variance in every layer norm."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    gelu: str = "tanh"
    """The activation inside the MLPs: `tanh`, the approximation of OpenAI's GPT-2, or `exact`."""
    kernels: str = "fused"
    """`fused` for speed, `explicit` to read: a name in `kernels.KERNELS`."""

    def __post_init__(self) -> None:
        faults = [*self._range_faults(), *self._name_faults()]
        if min(self.n_embd, self.n_head) >= 1 and self.n_embd % self.n_head:
            faults.append(self._division_fault())
        if faults:
            raise ValueError("\n".join(faults))

    @property
    def vocab_rows(self) -> int:
        """Rows of the embedding and the head: `vocab_size`, and those that pad it."""
        return math.ceil(self.vocab_size / self.pad_vocab_to_multiple_of) * self.pad_vocab_to_multiple_of

    @property
    def head_size(self) -> int:
        """Channels of one head, D."""
        return self.n_embd // self.n_head

    def _range_faults(self) -> list[str]:
        sizes = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "pad_vocab_to_multiple_of")
        faults = [
            f"{n}: {getattr(self, n)} is out of range, 1 or more is allowed" for n in sizes if getattr(self, n) < 1
        ]
        for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
            if not 0 <= getattr(self, name) < 1:
                faults.append(f"{name}: {getattr(self, name)} is out of range, 0 up to (not including) 1 is allowed")
        faults += [
            f"{name}: {getattr(self, name)} is out of range, it must be above 0"
            for name in ("layer_norm_epsilon", "initializer_range")
            if not getattr(self, name) > 0
        ]
        return faults

    def _name_faults(self) -> list[str]:
        choices = {"positions": list(POSITIONS), "gelu": list(GELUS), "kernels": list(KERNELS)}
        return [
            f"{name}: '{getattr(self, name)}' is not one of {', '.join(known)}"
            for name, known in choices.items()
            if getattr(self, name) not in known
        ]

    def _division_fault(self) -> str:
        below = self.n_embd - self.n_embd % self.n_head
        widths = [str(width) for width in (below, below + self.n_head) if width]
        divisors = [d for d in range(1, self.n_embd + 1) if self.n_embd % d == 0]
        fewer = max(d for d in divisors if d < self.n_head)
        more = min((d for d in divisors if d > self.n_head), default=None)
        heads = [str(d) for d in (fewer, more) if d]
        return (
            f"n_embd: {self.n_embd} is not divisible by n_head={self.n_head}; "
            f"the nearest that fit are n_embd={' or '.join(widths)}, or n_head={' or '.join(heads)}"
        )
