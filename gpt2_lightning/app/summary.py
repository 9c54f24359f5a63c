"""What a run says of itself when it starts and when it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from gpt2_lightning.app import runs
from gpt2_lightning.app.command_line import command
from gpt2_lightning.checkpoints.folder import FOLDER
from gpt2_lightning.data.datamodule import TokenDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.language import bits_per_byte, perplexity
from gpt2_lightning.model.size import count_parameters, flops_per_token
from gpt2_lightning.tokenizers import Tokenizer
from gpt2_lightning.training.callbacks import Metrics, Samples
from gpt2_lightning.training.callbacks.samples import FILE as SAMPLES
from gpt2_lightning.training.csv_logger import FILE as METRICS
from gpt2_lightning.training.language_modeling import LanguageModeling

log = logging.getLogger(__name__)

_PROMPT = "The "


def describe_start(
    module: LanguageModeling, data: TokenDataModule, max_steps: int, run_dir: Path, resumed: Path | None
) -> None:
    """Say what will be trained on what, for how long, and where it goes."""
    config = module.model.config
    tokens = max_steps * data.batch_size * data.block_size
    accumulation = data.batch_size // data.micro_batch_size
    log.info(
        "model:  %s parameters, %.1f MFLOPs per token trained, vocabulary %s (%s)",
        f"{count_parameters(config):,}",
        flops_per_token(config) / 1e6,
        f"{config.vocab_size:,}",
        module.description.tokenizer.kind,
    )
    log.info("text:   %s tokens to train on, %s to validate", f"{data.train_tokens:,}", f"{data.val_tokens:,}")
    log.info(
        "plan:   %s steps of %d sequences of %d tokens%s: %s tokens, %.1f epochs",
        f"{max_steps:,}",
        data.batch_size,
        data.block_size,
        f" in {accumulation} parts" if accumulation > 1 else "",
        f"{tokens:,}",
        max_steps * data.batch_size / data.samples.per_epoch,
    )
    log.info("folder: %s%s", runs.shown(run_dir), f", going on from {resumed.name}" if resumed else "")


def summarise(
    data: TokenDataModule, metrics: Metrics, callbacks: Iterable[object], tokenizer: Tokenizer, run_dir: Path
) -> None:
    """Print the figures, where things are, a sample, and the command for more."""
    where = runs.shown(run_dir)
    best = metrics.best_val_loss
    last = metrics.latest["val/loss"]
    log.info("")
    log.info("done: %s tokens, %.1f epochs", f"{data.tokens_seen:,}", data.epochs_seen)
    log.info(
        "  validation loss  %.4f (lowest %.4f: perplexity %.2f, %.3f bits per byte)",
        last,
        best,
        perplexity(best),
        bits_per_byte(best, data.bytes_per_token("val")),
    )
    for name, what in (
        (METRICS, "figures"),
        (runs.LOSS_PICTURE, "loss curve"),
        (SAMPLES, "samples"),
        (FOLDER, "checkpoints"),
    ):
        if (run_dir / name).exists():
            log.info("  %-16s %s", what, f"{where}/{name}")
    samples = next((callback for callback in callbacks if isinstance(callback, Samples)), None)
    if samples is not None:
        log.info("\n%s\n", samples.latest.strip())
    log.info("for more: %s", command("generate", f"checkpoint={where}", *_example_prompt(tokenizer)))


def _example_prompt(tokenizer: Tokenizer) -> list[str]:
    try:
        tokenizer.encode(_PROMPT)
    except UserError:
        return []
    return [f"prompt={_PROMPT}"]
