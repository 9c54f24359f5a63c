"""What the diagrams show of a network: its configuration, and the parameters of each module."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2_lightning.inspection.parameters.tensors import meta_model, summarize_tensors
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.positions import PositionalEncoding


@dataclass(frozen=True)
class Architecture:
    """A configuration with what follows from it."""

    config: GPT2Config
    counts: dict[str, int]
    """Parameters of each tensor by its name; a shared tensor is counted under its first name."""
    adds_positions: bool
    """Whether the positional encoding adds to the embeddings."""
    rotates: bool
    """Whether the positional encoding rotates queries and keys."""

    @classmethod
    def of(cls, config: GPT2Config) -> Architecture:
        """Build the network on the meta device and count."""
        model = meta_model(config)
        counts = {one.name: one.count for one in summarize_tensors(model) if one.kind != "buffer"}
        encoding = type(model.wpe)
        return cls(
            config=config,
            counts=counts,
            adds_positions=encoding.forward is not PositionalEncoding.forward,
            rotates=getattr(encoding, "rotate", PositionalEncoding.rotate) is not PositionalEncoding.rotate,
        )

    @property
    def total(self) -> int:
        """Parameters of the network."""
        return self.count("")

    @property
    def padding_rows(self) -> int:
        """Rows of the embedding and the head that stand for no token."""
        return self.config.vocab_rows - self.config.vocab_size

    def count(self, module: str) -> int:
        """Parameters of a module such as `h.0.attn`; 0 for one that shares all of its tensors."""
        prefix = f"{module}." if module else ""
        return sum(count for name, count in self.counts.items() if name.startswith(prefix))

    def shape(self, *sizes: int | str) -> str:
        """A tensor's shape as text: letters for sizes that the input decides, numbers for the others."""
        return f"({', '.join(number(size) for size in sizes)})"

    def linear(self, n_in: int, n_out: int, bias: bool = True) -> str:
        """A linear layer as text."""
        return f"{n_in:,} → {n_out:,}, {'with' if bias else 'without'} bias"


def number(size: int | str) -> str:
    """A size with separators between thousands; a letter as it is."""
    return size if isinstance(size, str) else f"{size:,}"


def plural(count: int, noun: str) -> str:
    """`1 layer`, `12 layers`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def dropout(probability: float) -> str:
    """A note on dropout, empty where there is none."""
    return f", dropout {probability:g}" if probability else ""
