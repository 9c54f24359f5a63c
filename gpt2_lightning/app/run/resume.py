"""Resuming of runs: find and check the checkpoint, and print the command that resumes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpt2_lightning.app.config.defaults import with_defaults
from gpt2_lightning.app.config.moved import TARGET, current, with_current_targets
from gpt2_lightning.app.config.overrides import as_typed, command
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run import lock
from gpt2_lightning.checkpoints import files, folder, runs
from gpt2_lightning.checkpoints.content import Description, describe, differing_fields
from gpt2_lightning.checkpoints.training_state import require_training_state
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.interrupts import Interrupted

log = logging.getLogger(__name__)

_PADDING = "pad_vocab_to_multiple_of"


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint in memory."""

    path: Path
    content: dict[str, Any]
    run_config: dict[str, Any]
    """Configuration of the run that wrote the checkpoint."""
    lacks_report: bool
    """Whether training had ended at this checkpoint, and the process was killed before it had written the report."""

    @property
    def run(self) -> Path | None:
        """Folder of the run that wrote the checkpoint; None for a checkpoint outside of a run."""
        return folder.run_of(self.path)


def load_checkpoint(resume: str, run_dir: Path, wanted: Description, max_steps: int) -> LoadedCheckpoint | None:
    """Read the checkpoint to resume from; None for a new run.

    Args:
        resume: `never`; `auto` for the latest run of the same name, unless there is none or it has ended; `here` for
            the run in `run_dir` itself, in the same way; `must` for the latest run of the same name; anything else is a
            run's folder or a checkpoint.
        run_dir: the folder of a new run; its siblings are the runs of the same name.
        wanted: description of the model in the present configuration.
        max_steps: total number of optimizer steps of the run.

    Raises:
        UserError: if there is no such run, it has reached its end, or it does not fit the configuration.
    """
    checkpoint = runs.checkpoint_to_resume(resume, run_dir)
    if checkpoint is None:
        return None
    content = files.read(checkpoint)
    found = describe(content, checkpoint)
    if "global_step" not in content:
        raise UserError(
            f"resume: {checkpoint} holds a model without a training state to resume; "
            "start from its weights with finetune's init_from"
        )
    require_training_state(content, checkpoint)
    run = folder.run_of(checkpoint)
    is_last = content["global_step"] >= max_steps or content["stopped_early"]
    lacks_report = is_last and run is not None and lock.is_unfinished(run)
    if is_last and not lacks_report and resume in ("auto", "here"):
        return None
    if content["global_step"] >= max_steps and not lacks_report:
        raise UserError(
            f"resume: {checkpoint} is at step {content['global_step']:,}, and the run ends at step {max_steps:,}; "
            "raise trainer.max_steps to continue"
        )
    _require_fit(checkpoint, wanted, found)
    return LoadedCheckpoint(checkpoint, content, found.run_config, lacks_report)


def with_saved_padding(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the padding of the vocabulary of the run that it resumes.

    Earlier versions did not pad the vocabularies of GPT-2's sizes; a checkpoint resumes with its own number of rows.
    """
    checkpoint = runs.checkpoint_to_resume(plain["resume"], Path(plain["run_dir"]))
    run = None if checkpoint is None else folder.run_of(checkpoint)
    if run is None:
        return plain
    try:
        saved = yaml.safe_load((run / runs.CONFIG).read_text(encoding="utf-8"))["model"].get(_PADDING, 1)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError):
        return plain  # the checkpoint has the architecture as well, and is compared with this configuration
    if plain["model"].get(_PADDING, 1) == saved:
        return plain
    log.info("model:  %s=%s, as in the run that is resumed", _PADDING, saved)
    return {**plain, "model": {**plain["model"], _PADDING: saved}}


def log_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Log settings that differ between the checkpoint's run and the present configuration, which takes effect."""
    before = with_defaults(with_current_targets(before))  # earlier versions stated no defaults
    for key, (old, new) in _changes(before, now).items():
        log.info("changed since the checkpoint: %s from %s to %s", key, old, new)


def require_same_settings(settings: Sequence[dict[str, Any]]) -> None:
    """Check that all ranks have the same settings.

    Args:
        settings: settings of each rank.

    Raises:
        UserError: if the settings of a rank differ from those of rank zero; the message lists the differences.
    """
    for rank, of_process in enumerate(settings):
        if differing := _changes(settings[0], of_process):
            listed = "\n  ".join(f"{key}: {first} and {other}" for key, (first, other) in differing.items())
            raise UserError(
                f"process {rank} was started with other settings than process 0; start all with the same command:\n"
                f"  {listed}"
            )


def as_restarted(plain: dict[str, Any], run_dir: Path | None) -> dict[str, Any]:
    """Return the settings of a restart after a rank died.

    Args:
        plain: settings of the previous start.
        run_dir: the run's folder; None if it was not created yet.
    """
    if run_dir is not None and folder.newest(run_dir) is not None:
        return {**plain, "resume": str(run_dir)}
    if run_dir is not None and plain["resume"] in ("never", "auto", "here"):
        return {**plain, "run_dir": str(run_dir), "resume": "here"}
    return plain


def log_how_to_resume(verb: str, stop: Interrupted, step: int, run_dir: Path) -> None:
    """Log the state of an interrupted run and, outside sweeps, the command that resumes it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    last = folder.newest(run_dir)
    state = "saved" if stop.saved else f"not saved; the last that was is {last.name if last else 'none'}"
    log.info("stopped by %s at step %s, which is %s", stop, f"{step:,}", state)
    if last is not None and HydraConfig.get().mode != RunMode.MULTIRUN:
        log.info("to resume:\n  %s", _command_to_resume(verb, run_dir))


def _require_fit(checkpoint: Path, wanted: Description, found: Description) -> None:
    remedy = "choose the settings of that run, or start a new one with resume=never"
    if differing := differing_fields(wanted.model, found.model):
        listed = "\n  ".join(differing)
        raise UserError(
            f"resume: {checkpoint} is of another architecture than this configuration:\n  {listed}\n{remedy}"
        )
    if wanted.tokenizer.hash() != found.tokenizer.hash():
        raise UserError(
            f"resume: {checkpoint} was trained with another tokenizer ({found.tokenizer.kind}, hash "
            f"{found.tokenizer.hash()[:12]}) than this text and configuration make ({wanted.tokenizer.kind}, hash "
            f"{wanted.tokenizer.hash()[:12]}): its ids mean something else; {remedy}"
        )
    if not _has_optimizer(found.run_config):
        raise UserError(
            f"resume: {checkpoint} does not state the optimizer of its run (run_config.optimizer.{TARGET}); use "
            "another checkpoint of the run, or start from its weights with finetune's init_from"
        )
    before, now = (current(d.run_config["optimizer"][TARGET]) for d in (found, wanted))
    if before != now:
        raise UserError(f"resume: {checkpoint} holds the state of {before}, the configuration has {now}; {remedy}")
    old_groups, groups = ([*d.run_config["optimizer"].get("groups", {})] for d in (found, wanted))
    if old_groups != groups:
        raise UserError(
            f"resume: {checkpoint} has optimizer.groups for {old_groups}, the configuration for {groups}; their values "
            f"may change, and not their names; {remedy}"
        )


def _has_optimizer(run_config: dict[str, Any]) -> bool:
    optimizer = run_config.get("optimizer")
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get(TARGET), str):
        return False
    return isinstance(optimizer.get("groups", {}), dict)


def _changes(before: Any, now: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if f"{path}{key}" not in ("run_dir", "resume")]
        return {k: v for key in keys for k, v in _changes(before.get(key), now.get(key), f"{path}{key}.").items()}
    return {} if before == now else {path.removesuffix("."): (before, now)}


def _command_to_resume(verb: str, run_dir: Path) -> str:
    from hydra.core.hydra_config import HydraConfig

    job = HydraConfig.get()
    flags = [
        argument
        for source in job.runtime.config_sources
        if source.provider == "command-line"
        for argument in ("--config-dir", display_path(Path(source.path)))
    ]
    given = [as_typed(override) for override in job.overrides.task]
    kept = [override for override in given if not override.startswith("resume=")]
    return command(verb, *flags, *kept, f"resume={display_path(run_dir)}")
