"""Messages at the start and the end of a run."""

from __future__ import annotations

import logging

from gpt2_lightning import memory
from gpt2_lightning.app.config.overrides import command
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run.job import Run
from gpt2_lightning.checkpoints import runs
from gpt2_lightning.checkpoints.folder import FOLDER
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.evaluation.language_metrics import bits_per_byte, perplexity
from gpt2_lightning.model.size import count_parameters, training_work
from gpt2_lightning.tokenizers import Tokenizer
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks import Samples
from gpt2_lightning.training.callbacks.measurements.attention import FILE as ATTENTION
from gpt2_lightning.training.callbacks.measurements.samples import FILE as SAMPLES
from gpt2_lightning.training.loggers.csv_logger import FILE as METRICS
from gpt2_lightning.training.metrics.monitor import VAL_LOSS
from gpt2_lightning.training.performance.peak_flops import device_name

log = logging.getLogger(__name__)

_PROMPT = "The "


def describe_start(run: Run) -> None:
    """Log the model, its data, the length of the run and its folder."""
    describe_model(run)
    data = run.job.data
    assert isinstance(data, TokenDataModule), "pre-training reads tokens"
    log.info("text:   %s tokens to train on, %s to validate", f"{data.train_tokens:,}", f"{data.val_tokens:,}")
    describe_plan(run)


def describe_model(run: Run) -> None:
    """Log the size of the model."""
    config = run.job.description.model
    log.info(
        "model:  %s parameters, %.1f MFLOPs per token trained, vocabulary %s (%s)",
        f"{count_parameters(config):,}",
        training_work(run.task.model).per_token(config.block_size) / 1e6,
        f"{config.vocab_size:,}",
        run.job.description.tokenizer.kind,
    )


def describe_plan(run: Run) -> None:
    """Log the length of the run and its folder."""
    data = run.job.data
    samples = run.max_steps * data.batch_size
    log.info(
        "plan:   %s steps of %d sequences of %d tokens%s: %s tokens, %.1f epochs",
        f"{run.max_steps:,}",
        data.batch_size,
        run.job.block_size,
        _shared_out(data.batch_size, data.micro_batch_size),
        f"{round(samples * data.samples.targets_per_sample):,}",
        samples / data.samples.per_epoch,
    )
    log.info("folder: %s%s", display_path(run.folder), f", resuming from {run.resumed.name}" if run.resumed else "")


def _shared_out(batch_size: int, micro_batch_size: int) -> str:
    count = distributed.world_size()
    parts = batch_size // (micro_batch_size * count)
    shared = f" on {count} processes" if count > 1 else ""
    if parts > 1:
        return f"{shared} in {parts} parts of {micro_batch_size}{' each' if shared else ''}"
    return f"{shared}, {micro_batch_size} each" if shared else ""


def summarize(run: Run) -> None:
    """Log the metrics of a language model, the files, a sample, and a command that generates text."""
    data, best = run.job.data, run.metrics.best_val_loss
    log.info("")
    log.info("done: %s tokens, %.1f epochs", f"{data.tokens_seen:,}", data.epochs_seen)
    bits = ""
    if isinstance(data, TokenDataModule):
        bits = f", {bits_per_byte(best, data.bytes_per_token('val')):.3f} bits per byte"
    log.info(
        "  validation loss  %.4f (lowest %.4f: perplexity %.2f%s)",
        run.metrics.latest.get("val/loss", best),
        best,
        perplexity(best),
        bits,
    )
    list_files(run)
    samples = next((callback for callback in run.callbacks if isinstance(callback, Samples)), None)
    if samples is not None:
        log.info("\n%s", samples.latest.strip())
    prompt = _example_prompt(run.job.description.tokenizer)
    log.info("\nfor more: %s", command("generate", f"checkpoint={display_path(run.folder)}", *prompt))


def list_files(run: Run) -> None:
    """Log the best value of a metric other than the validation loss, the speed, the memory and the files of the run."""
    metrics = run.metrics
    if metrics.monitor.metric != VAL_LOSS and metrics.best is not None:
        log.info("  %-16s %s %.4g at step %s", "best", metrics.monitor.metric, metrics.best, f"{metrics.best_step:,}")
    _describe_throughput(run)
    for name, what in (
        (METRICS, "figures"),
        (runs.LOSS_PICTURE, "loss curve"),
        (SAMPLES, "samples"),
        (ATTENTION, "attention"),
        (FOLDER, "checkpoints"),
    ):
        if (run.folder / name).exists():
            log.info("  %-16s %s", what, f"{display_path(run.folder)}/{name}")


def _describe_throughput(run: Run) -> None:
    throughput, device = run.metrics.throughput, run.task.trainer.strategy.root_device
    figures = throughput.whole.figures(throughput.peak_flops)
    if not throughput.whole.steps:
        return
    mfu = (
        f"MFU {figures['mfu']:.1%}" if "mfu" in figures else f"MFU unknown: no peak is listed for {device_name(device)}"
    )
    log.info("  %-16s %s tokens/s, %s", "speed", f"{figures['tokens_per_second']:,.0f}", mfu)
    if (peak := memory.peak(device)) is not None:
        log.info("  %-16s %.2f GB", "peak memory", peak / 1e9)


def _example_prompt(tokenizer: Tokenizer) -> list[str]:
    return [f"prompt={_PROMPT}"] if tokenizer.encodes(_PROMPT) else []
