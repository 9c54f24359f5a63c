"""Settings common to all training runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt
from omegaconf import DictConfig, OmegaConf

from gpt2_lightning.app.config import build, targets
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.loss import LARGEST_LOGITS
from gpt2_lightning.settings import PathText, PositiveFloat, PositiveInt, Seed, Settings, relation
from gpt2_lightning.training.metrics.monitor import Mode, Monitor, mode_of
from gpt2_lightning.training.performance.compilation import Compile, compile_fault

DEFAULT_BATCH_SIZE = 16
_BatchSize = Annotated[int, Ge(1), Lt(2**40)]
_EXCLUSIVE = (
    ("trainer.max_steps", "trainer.max_tokens", "trainer.max_epochs"),
    ("batch_size", "batch_tokens"),
)
"""Settings of which at most one has a value."""
_MOST_ELEMENTS = 2**30
"""Maximum number of activations and logits in a micro-batch of the default size: 4 GiB in float32."""
_ACTIVATIONS_PER_CHANNEL = 16
"""Elements per channel that a block saves for the backward pass: outputs of the norms, query, key, value, the MLP's
hidden layer before and after GELU, and the terms added to the residual stream."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """Settings at the top level of both `train` and `finetune`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    name: str
    """Name of the run; runs of the same name share a folder in `runs_dir`."""
    runs_dir: PathText = "runs"
    """Folder of all runs."""
    run_dir: PathText
    """Folder of this run."""
    cache_dir: PathText = "~/.cache/gpt2-lightning"
    """Folder of prepared corpora, downloads and trained tokenizers."""
    seed: Seed = 1337
    """Fixes the initial weights, dropout and the order of samples."""
    batch_size: _BatchSize | None = None
    """Samples per optimizer step, over all devices; 16 if neither this nor `batch_tokens` is set."""
    batch_tokens: _BatchSize | None = None
    """Tokens per optimizer step, over all devices, in samples as long as the context; instead of `batch_size`."""
    micro_batch_size: PositiveInt | Literal["auto"] | None = None
    """Samples per forward pass: a number; null for an estimate, on NVIDIA GPUs of what fits into the free memory,
    elsewhere of about 4 GiB of activations in float32; `auto` for the largest that fits, found by trial steps."""
    compile: Compile = False
    """Whether to compile the blocks with torch.compile, or its mode: `default`, as for true, or `max-autotune`, which
    compiles for minutes to try more kernels. Neither captures CUDA graphs; see `compilation.compile_blocks`."""
    activation_checkpointing: bool = False
    """Whether to recompute activations in the backward pass: less memory for a third more time."""
    resume: PathText = "never"
    """`never`, `auto`, `must`, `here`, or a run or checkpoint to resume; see `resume.load_checkpoint`."""
    replay: PathText | None = None
    """Folder of an earlier run whose configuration is used, with the overrides of the command line applied."""
    plan: bool | Literal["probe"] = False
    """Whether to print an estimate of memory and time, and stop; `probe` also measures a few steps."""
    price: PositiveFloat | None = None
    """Price of one device hour, for the cost in the estimate; null to omit it."""
    trusted_modules: list[str] = field(default_factory=list)
    """Modules of your own that a `_target_` may name; only on the command line, since importing one runs its code."""
    data: targets.Data
    tokenizer: targets.Tokenizer
    model: targets.Model
    optimizer: targets.Optimizer
    schedule: targets.Schedule
    trainer: targets.Trainer
    callbacks: targets.Callbacks
    metrics: targets.Metrics
    """Validation metrics by name, in addition to those of the task."""
    benchmarks: targets.Benchmarks = field(default_factory=dict)
    """Benchmarks by name, which `callbacks=benchmarks` measures."""
    data_dir: PathText | None = None
    """A folder with a folder of data for each benchmark; null to fetch the data from the Hugging Face Hub."""
    monitor: str = "val/loss"
    """Logged metric that judges the run: for `best.ckpt`, early stopping, and the objective and pruning of sweeps."""
    monitor_mode: Mode | Literal["auto"] = "auto"
    """Whether lower (`min`) or higher (`max`) values of `monitor` are better; `auto` by the name of the metric."""
    logger: targets.Loggers

    @classmethod
    def adjust(cls, config: DictConfig, typed: dict[str, str]) -> None:
        """Adjust a composed configuration in place before it is checked.

        Of settings that exclude each other, one that was typed takes the place of a default's or a recipe's.

        Args:
            config: the composed configuration.
            typed: values of the command line by key.
        """
        for group in _EXCLUSIVE:
            if any(typed.get(key, "null") != "null" for key in group):
                for key in group:
                    if key not in typed and OmegaConf.select(config, key) is not None:
                        OmegaConf.update(config, key, None)

    @relation
    def _one_batch_size(self) -> Iterator[str]:
        if self.batch_size is not None and self.batch_tokens is not None:
            yield (
                f"batch_size: batch_size={self.batch_size} and batch_tokens={self.batch_tokens} exclude each other; "
                "set one of them to null"
            )

    @relation
    def _micro_batch_divides_the_batch(self) -> Iterator[str]:
        micro = self.micro_batch_size
        if not isinstance(micro, int) or self.batch_tokens is not None:
            return
        batch_size = self.batch_size or DEFAULT_BATCH_SIZE
        if micro > batch_size:
            yield f"micro_batch_size: {micro} is out of range, 1 to {batch_size} is allowed"
        elif batch_size % micro:
            yield (
                f"micro_batch_size: {micro} does not divide batch_size={batch_size}; the nearest that do are "
                f"{_nearest_divisors(batch_size, micro)}"
            )

    @relation
    def _compiler_is_available(self) -> Iterator[str]:
        if (fault := compile_fault(self.compile)) is not None:
            yield fault

    @relation
    def _monitor_has_a_mode(self) -> Iterator[str]:
        try:
            mode_of(self.monitor, self.monitor_mode)
        except UserError as error:
            yield str(error)

    @relation
    def _benchmarks_are_measured(self) -> Iterator[str]:
        chosen = [name for name, node in self.benchmarks.items() if node is not None]
        measures = self.callbacks.get("benchmarks") is not None
        if chosen and not measures:
            yield f"benchmarks: nothing measures {', '.join(chosen)}; add callbacks=benchmarks"
        if measures and not chosen:
            yield "benchmarks: callbacks=benchmarks measures none; name one or more, as in benchmarks=[lambada]"

    @property
    def monitored_metric(self) -> Monitor:
        """The metric that judges the run."""
        return Monitor(self.monitor, mode_of(self.monitor, self.monitor_mode))

    def samples_in_step(self, block_size: int) -> int:
        """Return the number of samples per optimizer step, over all devices.

        Args:
            block_size: tokens per sample.

        Raises:
            UserError: if `batch_tokens` is not a multiple of `block_size`.
        """
        if self.batch_tokens is None:
            return self.batch_size or DEFAULT_BATCH_SIZE
        samples, rest = divmod(self.batch_tokens, block_size)
        if rest:
            near = [f"{n * block_size} ({n} × {block_size})" for n in (samples, samples + 1) if n]
            raise UserError(
                f"batch_tokens: {self.batch_tokens} are no whole number of samples of {block_size} tokens "
                f"(model.block_size); the nearest that are: {' and '.join(near)}"
            )
        return samples

    def micro_batch(self, architecture: GPT2Config) -> int:
        """Return the number of samples per forward pass of one process: the configured one, or `largest_micro_batch`.

        The latter is used until the search or the estimate of a run: see `estimate.fill_memory`.

        Args:
            architecture: configuration of the model.

        Raises:
            UserError: if the batch does not divide.
        """
        return self.micro_batch_among(build.make(self.trainer).processes(), architecture)

    def micro_batch_among(self, count: int, architecture: GPT2Config) -> int:
        """Return `micro_batch` for `count` processes."""
        share = share_of_batch(self.samples_in_step(architecture.block_size), self.micro_batch_size, count)
        chosen = self.micro_batch_size
        return chosen if isinstance(chosen, int) else largest_micro_batch(share, architecture)


def require_shares(plain: dict[str, Any], count: int) -> None:
    """Check that a batch divides among processes, unless its size depends on the model (`batch_tokens`).

    Args:
        plain: the resolved configuration.
        count: number of processes.

    Raises:
        UserError: see `share_of_batch`.
    """
    if plain["batch_tokens"] is None:
        share_of_batch(plain["batch_size"] or DEFAULT_BATCH_SIZE, plain["micro_batch_size"], count)


def share_of_batch(batch_size: int, micro_batch_size: int | Literal["auto"] | None, count: int) -> int:
    """Return the number of samples of a batch per process.

    Args:
        batch_size: samples per optimizer step.
        micro_batch_size: samples per forward pass, or how it is determined.
        count: number of processes.

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
    if isinstance(micro_batch_size, int) and share % micro_batch_size:
        whole = f"batch_size={batch_size}"
        divided = whole if count == 1 else f"{share}, the share of each of {count} processes of {whole}"
        raise UserError(
            f"micro_batch_size: {micro_batch_size} does not divide {divided}; "
            f"the nearest that do: {_nearest_divisors(share, micro_batch_size)}"
        )
    return share


def largest_micro_batch(batch_size: int, config: GPT2Config) -> int:
    """Return the largest divisor of the batch whose activations need at most about 4 GiB in float32."""
    in_blocks = config.block_size * _ACTIVATIONS_PER_CHANNEL * config.n_layer * config.n_embd
    logits = config.block_size * config.vocab_rows
    fits = max(_MOST_ELEMENTS // (in_blocks + logits), (_MOST_ELEMENTS - LARGEST_LOGITS) // in_blocks)
    return max(m for m in range(1, min(max(1, fits), batch_size) + 1) if batch_size % m == 0)


def _nearest_divisors(number: int, wanted: int) -> str:
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    divisors = sorted({*small, *(number // d for d in small)}, key=lambda d: abs(d - wanted))
    return " and ".join(map(str, sorted(divisors[:2])))
