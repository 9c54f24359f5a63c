"""Out-of-memory errors as messages with remedies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from gpt2_lightning import memory
from gpt2_lightning.app.config import build
from gpt2_lightning.app.run.job import Run, TrainingJob
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.checkpoints import folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.training import distributed, precision
from gpt2_lightning.training.trainer import TrainerSpec

_MENTIONED = 0.1
"""Fraction of a GPU's memory from which that of other programs is mentioned; the driver takes some of each process."""


@contextlib.contextmanager
def explain_out_of_memory(
    settings: RunSettings, job: TrainingJob, spec: TrainerSpec, run: Run | None = None
) -> Iterator[None]:
    """Turn an out-of-memory error into a message with remedies.

    Args:
        settings: settings of the run.
        job: the training job.
        spec: settings of the trainer.
        run: the run, once it has started.

    Raises:
        UserError: if there is not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not memory.is_exhausted(error):
            raise
        when = f" at step {run.task.global_step + 1:,}" if run is not None else ""
        remedies = "".join(f"set {each}, or " for each in _remedies(settings, job, spec))
        raise UserError(
            f"there is not enough memory{when} ({_reason(error)}); {remedies}choose a smaller model or model.block_size"
            f"{_held_by_others(spec)}{_saved(run)}"
        ) from None


def _reason(error: BaseException) -> str:
    """The first sentences of an error: that of CUDA goes on with all that is allocated."""
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    return first.partition(" GPU ")[0].rstrip(".")


def _remedies(settings: RunSettings, job: TrainingJob, spec: TrainerSpec) -> list[str]:
    """Return the settings of this run that would take less memory."""
    found = []
    if job.data.micro_batch_size > 1:
        found.append(f"micro_batch_size below {job.data.micro_batch_size}")
    if not settings.activation_checkpointing:
        found.append("activation_checkpointing=true")
    if spec.resolved_precision in ("fp32", "tf32") and precision.fault("bf16", spec.device_type) is None:
        found.append("precision=bf16")
    several = spec.strategy == "ddp" and distributed.world_size() > 1
    if several and spec.resolved_precision != "fp16" and build.make(settings.optimizer).supports_sharding:
        found.append("trainer=fsdp" if spec.on_cuda else "trainer=fsdp_cpu")
    return found


def _held_by_others(spec: TrainerSpec) -> str:
    if not spec.on_cuda:
        return ""
    others, total = memory.held_by_others(torch.device("cuda"))
    if others < _MENTIONED * total:
        return ""
    return f". Of the {total / 1e9:.1f} GB of this GPU, other programs hold about {others / 1e9:.1f} GB"


def _saved(run: Run | None) -> str:
    newest = None if run is None else folder.newest(run.folder)
    return "" if newest is None else f". The run is saved as {newest.name}: add resume=auto to continue it"
