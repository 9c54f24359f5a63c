"""The verb `train`: from a configuration to a run's folder."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from gpt2_lightning.app import build, runs
from gpt2_lightning.app.command_line import as_typed, command
from gpt2_lightning.app.logs import log_to_file, log_to_terminal, stop_logging_to
from gpt2_lightning.app.preflight import Node
from gpt2_lightning.app.summary import describe_start, summarise
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, describe, differing_fields
from gpt2_lightning.checkpoints.folder import newest, run_of
from gpt2_lightning.data.datamodule import TokenDataModule
from gpt2_lightning.data.tokens import encode_once
from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.curves import draw_loss
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.training.callbacks import Metrics, assemble
from gpt2_lightning.training.interrupts import Interrupted
from gpt2_lightning.training.language_modeling import LanguageModeling

log = logging.getLogger(__name__)

_MOST_LOGITS = 2**29
"""Elements of a micro-batch's logits where the user does not choose: 2 GiB in float32."""


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
    """Folder of encoded corpora."""
    seed: int
    """Fixes the initial weights, dropout and the order of samples."""
    batch_size: int
    """Sequences in an optimizer step, over all devices."""
    micro_batch_size: int | None
    """Sequences in a forward pass; null for as many as keep the logits below 2 GiB."""
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
        if self.seed < 0:
            faults.append(f"seed: {self.seed} is out of range, 0 or more is allowed")
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
    splits = build.make(plain["data"]).read()
    tokenizer = build.make(plain["tokenizer"], text=splits.train)
    model_config = build.model_config(plain["model"], tokenizer.vocab_size)
    micro_batch_size = config.micro_batch_size or largest_micro_batch(config.batch_size, model_config)
    data = TokenDataModule(
        encode_once(splits, tokenizer, Path(config.cache_dir).expanduser()),
        block_size=model_config.block_size,
        batch_size=config.batch_size,
        micro_batch_size=micro_batch_size,
        seed=config.seed,
    )
    trainer_spec = build.make(plain["trainer"])
    max_steps = trainer_spec.steps(config.batch_size, model_config.block_size, data.order.per_epoch)

    resumed = runs.checkpoint_to_resume(config.resume, Path(config.run_dir), max_steps)
    if resumed is not None:
        _check_resumed(resumed, plain, model_config, max_steps)
    run_dir = runs.make_folder(Path(config.run_dir)) if resumed is None else run_of(resumed)
    log_file = log_to_file(run_dir / runs.LOG)
    try:
        _write_config(plain, run_dir)
        torch.manual_seed(config.seed)
        description = Description(model_config, tokenizer, plain)
        module = LanguageModeling(
            GPT2(model_config), build.make(plain["optimizer"]), build.make(plain["schedule"]), description
        )
        metrics = Metrics(trainer_spec.log_every_n_steps)
        callbacks = assemble(metrics, build.make_all(plain["callbacks"], run_dir=run_dir))
        trainer = trainer_spec.build(
            max_steps,
            accumulate=config.batch_size // micro_batch_size,
            callbacks=callbacks,
            loggers=build.make_all(plain["logger"], run_dir=run_dir),
        )
        describe_start(module, data, max_steps, run_dir, resumed)
        try:
            trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
        except Interrupted as stop:
            _draw(run_dir, config.name)
            _say_how_to_go_on(stop, trainer.global_step, run_dir)
            raise SystemExit(stop.exit_code) from None
        _draw(run_dir, config.name)
        summarise(data, metrics, callbacks, run_dir)
        return metrics.best_val_loss
    finally:
        stop_logging_to(log_file)


def largest_micro_batch(batch_size: int, config: GPT2Config) -> int:
    """The largest divisor of the batch whose logits stay below 2 GiB in float32."""
    fits = max(1, _MOST_LOGITS // (config.block_size * config.vocab_size))
    return max(m for m in range(1, min(fits, batch_size) + 1) if batch_size % m == 0)


def _divisors_by_distance(number: int, wanted: int) -> list[int]:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return sorted(divisors, key=lambda d: abs(d - wanted))


def _check_resumed(checkpoint: Path, plain: dict[str, Any], wanted: GPT2Config, max_steps: int) -> None:
    """Refuse what cannot be gone on with, and say which settings have changed since."""
    content = files.read(checkpoint)
    found = describe(content, checkpoint)
    differing = differing_fields(wanted, found.model)
    if differing:
        raise UserError(
            f"resume: {checkpoint} is of another architecture than this configuration:\n  "
            + "\n  ".join(differing)
            + "\nchoose the same model and tokenizer as that run, or start a new one with resume=never"
        )
    if content["global_step"] >= max_steps:
        raise UserError(
            f"resume: {checkpoint} is at step {content['global_step']:,}, and the run ends at step {max_steps:,}; "
            "raise trainer.max_steps to go on"
        )
    for key, (before, now) in _changes(found.run_config, plain).items():
        log.info("changed since the checkpoint: %s from %s to %s", key, before, now)


def _changes(before: Any, now: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if f"{path}{key}" not in ("run_dir", "resume")]
        return {k: v for key in keys for k, v in _changes(before.get(key), now.get(key), f"{path}{key}.").items()}
    return {} if before == now else {path.removesuffix("."): (before, now)}


def _write_config(plain: dict[str, Any], run_dir: Path) -> None:
    try:
        (run_dir / runs.CONFIG).write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise UserError(f"run_dir: {run_dir} cannot be written: {error.strerror}; set run_dir or runs_dir") from None


def _draw(run_dir: Path, title: str) -> None:
    metrics = run_dir / runs.METRICS
    if metrics.exists():
        draw_loss(metrics, run_dir / runs.LOSS_PICTURE, title)


def _say_how_to_go_on(stop: Interrupted, step: int, run_dir: Path) -> None:
    last = newest(run_dir)
    state = "saved" if stop.saved else f"not saved; the last that was is {last.name if last else 'none'}"
    log.info("stopped by %s at step %s, which is %s", stop, f"{step:,}", state)
    if last is not None:
        log.info("to go on:\n  %s", _command_to_resume(run_dir))


def _command_to_resume(run_dir: Path) -> str:
    from hydra.core.hydra_config import HydraConfig

    given = [as_typed(override) for override in HydraConfig.get().overrides.task]
    kept = [override for override in given if not override.startswith("resume=")]
    return command("train", *kept, f"resume={os.path.relpath(run_dir)}")
