"""The settings that every run has, whatever it trains."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2_lightning.app.preflight import Node
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.training import processes

_MOST_ELEMENTS = 2**30
"""Activations of a micro-batch, with its logits, where the user does not choose: 4 GiB in float32."""
_ACTIVATIONS_PER_CHANNEL = 16
"""What a block keeps for the backward pass: its norms, queries, keys, values, the wide MLP twice, and what it adds."""


@dataclass(frozen=True)
class RunSettings:
    """What `train` and `finetune` have in common at the top level.

    Raises:
        ValueError: with every setting that is out of range.
    """

    name: str
    """Runs of one name lie in one folder."""
    runs_dir: str
    """Folder of all runs."""
    run_dir: str
    """Folder of this run."""
    cache_dir: str
    """Folder of prepared corpora, downloads and trained tokenizers."""
    seed: int
    """Fixes the initial weights, dropout and the order of samples."""
    batch_size: int
    """Samples in an optimizer step, over all devices."""
    micro_batch_size: int | None
    """Samples in a forward pass; null for as many as take about 4 GiB for activations in float32."""
    resume: str
    """`never`, `auto`, `must`, or a run or checkpoint to go on with."""
    data: Node
    tokenizer: Node
    model: Node
    optimizer: Node
    schedule: Node
    trainer: Node
    callbacks: dict[str, Node | None]
    logger: dict[str, Node | None]

    def __post_init__(self) -> None:
        faults = []
        if self.batch_size < 1:
            faults.append(f"batch_size: {self.batch_size} is out of range, 1 or more is allowed")
        elif self.micro_batch_size is not None and not 1 <= self.micro_batch_size <= self.batch_size:
            faults.append(
                f"micro_batch_size: {self.micro_batch_size} is out of range, 1 to {self.batch_size} is allowed"
            )
        elif self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            near = sorted(_divisors_by_distance(self.batch_size, self.micro_batch_size)[:2])
            faults.append(
                f"micro_batch_size: {self.micro_batch_size} does not divide batch_size={self.batch_size}; "
                f"the nearest that do are {' and '.join(map(str, near))}"
            )
        if not 0 <= self.seed < 2**63:
            faults.append(f"seed: {self.seed} is out of range, 0 up to (not including) 2**63 is allowed")
        if faults:
            raise ValueError("\n".join(faults))

    def micro_batch(self, architecture: GPT2Config) -> int:
        """Samples in a forward pass of one process: the user's, or what fits."""
        share = share_of_batch(self.batch_size, self.micro_batch_size, processes.count())
        return self.micro_batch_size or largest_micro_batch(share, architecture)


def share_of_batch(batch_size: int, micro_batch_size: int | None, count: int) -> int:
    """Samples that each of several processes has of a batch.

    Raises:
        UserError: if the batch or the share does not divide.
    """
    share, rest = divmod(batch_size, count)
    if rest:
        near = f"{share * count} and {(share + 1) * count}" if share else str(count)
        raise UserError(
            f"batch_size: {batch_size} does not divide among {count} processes, one for each device; "
            f"the nearest that do: {near}"
        )
    if micro_batch_size is not None and share % micro_batch_size:
        near = " and ".join(map(str, sorted(_divisors_by_distance(share, micro_batch_size)[:2])))
        raise UserError(
            f"micro_batch_size: {micro_batch_size} does not divide {share}, the share of each of {count} processes of "
            f"batch_size={batch_size}; the nearest that do: {near}"
        )
    return share


def largest_micro_batch(batch_size: int, config: GPT2Config) -> int:
    """The largest divisor of the batch whose activations take at most about 4 GiB in float32."""
    elements_per_token = config.vocab_size + _ACTIVATIONS_PER_CHANNEL * config.n_layer * config.n_embd
    fits = max(1, _MOST_ELEMENTS // (config.block_size * elements_per_token))
    return max(m for m in range(1, min(fits, batch_size) + 1) if batch_size % m == 0)


def _divisors_by_distance(number: int, wanted: int) -> list[int]:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return sorted(divisors, key=lambda d: abs(d - wanted))
