"""The verb `train`: from a configuration to a run's folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from gpt2_lightning.app import build, runs
from gpt2_lightning.app.corpora import corpus_of, open_corpora, tokenizer_for
from gpt2_lightning.app.logs import log_to_file, log_to_terminal, stop_logging_to
from gpt2_lightning.app.preflight import Node
from gpt2_lightning.app.resume import choose_checkpoint, log_changes, say_how_to_go_on
from gpt2_lightning.app.runs import make_folder
from gpt2_lightning.app.summary import describe_start, summarise
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.checkpoints.folder import run_of
from gpt2_lightning.data.datamodule import TokenDataModule
from gpt2_lightning.data.mix import Mix
from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.curves import draw_loss
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.training.callbacks import Metrics, assemble
from gpt2_lightning.training.csv_logger import FILE as METRICS
from gpt2_lightning.training.interrupts import Interrupted
from gpt2_lightning.training.language_modeling import LanguageModeling

_MOST_ELEMENTS = 2**30
"""Activations of a micro-batch, with its logits, where the user does not choose: 4 GiB in float32."""
_ACTIVATIONS_PER_CHANNEL = 16
"""What a block keeps for the backward pass: its norms, queries, keys, values, the wide MLP twice, and what it adds."""


@dataclass(frozen=True)
class Config:
    """The top level of `conf/train.yaml`.

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
    """Sequences in an optimizer step, over all devices."""
    micro_batch_size: int | None
    """Sequences in a forward pass; null for as many as take about 4 GiB for activations in float32."""
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


def run(plain: dict[str, Any]) -> float:
    """Train, and leave a run's folder behind.

    Args:
        plain: the resolved configuration, checked by preflight.

    Returns:
        The lowest validation loss, in nats per token.
    """
    log_to_terminal()
    config = Config(**plain)
    cache_dir = Path(config.cache_dir).expanduser()
    corpus = corpus_of(config.data, cache_dir)
    tokenizer = tokenizer_for(config.tokenizer, corpus, cache_dir)
    corpora = open_corpora(corpus, tokenizer, cache_dir)
    architecture = build.model_config(config.model, tokenizer.vocab_size)
    micro_batch_size = config.micro_batch_size or largest_micro_batch(config.batch_size, architecture)
    data = TokenDataModule(
        list(corpora.values()),
        architecture.block_size,
        config.batch_size,
        micro_batch_size,
        config.seed,
        weights=[corpus.weight_of(name) for name in corpora] if isinstance(corpus, Mix) else None,
        documents=corpus.documents,
        end_of_text=tokenizer.end_of_text,
    )
    trainer_spec = build.make(config.trainer)
    max_steps = trainer_spec.steps(config.batch_size, architecture.block_size, data.samples.per_epoch)

    wanted = Path(config.run_dir)
    description = Description(architecture, tokenizer, plain)
    resumed = choose_checkpoint(config.resume, wanted, description, max_steps)
    run_dir = (run_of(resumed) if resumed else None) or make_folder(wanted, may_be_there=_in_a_sweep())
    plain["run_dir"] = str(run_dir)
    log_file = _open_folder(run_dir, plain)
    try:
        if resumed:
            log_changes(resumed, plain)
        torch.manual_seed(config.seed)
        with _telling_of_memory(micro_batch_size):
            model = GPT2(architecture)
        module = LanguageModeling(model, build.make(config.optimizer), build.make(config.schedule), description)
        metrics = Metrics(trainer_spec.log_every_n_steps)
        callbacks = assemble(metrics, build.make_all(config.callbacks, run_dir=run_dir))
        loggers = build.make_all(config.logger, run_dir=run_dir)
        trainer = trainer_spec.build(max_steps, config.batch_size // micro_batch_size, callbacks, loggers)
        describe_start(module, data, max_steps, run_dir, resumed)
        try:
            with _telling_of_memory(micro_batch_size):
                _fit(trainer, module, data, resumed)
        except Interrupted as stop:
            _draw(run_dir, config.name)
            say_how_to_go_on(stop, trainer.global_step, run_dir)
            raise SystemExit(stop.exit_code) from None
        _draw(run_dir, config.name)
        summarise(data, metrics, callbacks, tokenizer, run_dir)
        return metrics.best_val_loss
    except UserError as error:
        log_file.emit(logging.makeLogRecord({"msg": f"error: {error}", "level": logging.ERROR}))
        raise
    finally:
        stop_logging_to(log_file)


def _fit(trainer: Any, module: LanguageModeling, data: TokenDataModule, resumed: Path | None) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit:  # so Lightning ends after a Ctrl-C that came before the first step
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _telling_of_memory(micro_batch_size: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        message = str(error)
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in message:
            raise
        reason = message.splitlines()[0] if message else "MemoryError"
        raise UserError(
            f"there is not enough memory ({reason}); set micro_batch_size below {micro_batch_size}, "
            "use precision=bf16, or choose a smaller model or model.block_size"
        ) from None


def _in_a_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def largest_micro_batch(batch_size: int, config: GPT2Config) -> int:
    """The largest divisor of the batch whose activations take at most about 4 GiB in float32."""
    elements_per_token = config.vocab_size + _ACTIVATIONS_PER_CHANNEL * config.n_layer * config.n_embd
    fits = max(1, _MOST_ELEMENTS // (config.block_size * elements_per_token))
    return max(m for m in range(1, min(fits, batch_size) + 1) if batch_size % m == 0)


def _divisors_by_distance(number: int, wanted: int) -> list[int]:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return sorted(divisors, key=lambda d: abs(d - wanted))


def _open_folder(run_dir: Path, plain: dict[str, Any]) -> logging.Handler:
    """Write the configuration and begin the log."""
    try:
        config = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        (run_dir / runs.CONFIG).write_text(config, encoding="utf-8")
        return log_to_file(run_dir / runs.LOG)
    except OSError as error:
        raise UserError(f"run_dir: {run_dir} cannot be written: {error.strerror}; set run_dir or runs_dir") from None


def _draw(run_dir: Path, title: str) -> None:
    metrics = run_dir / METRICS
    if metrics.exists():
        draw_loss(metrics, run_dir / runs.LOSS_PICTURE, title)
