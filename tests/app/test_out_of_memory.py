"""Memory that runs out in a run: what is said, what is left, and how it continues."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpt2_lightning import memory
from gpt2_lightning.app.run import out_of_memory
from gpt2_lightning.training.language_modeling import LanguageModeling
from tests.app.tiny_runs import TINY, newest_run
from tests.outcomes import refused

Run = Callable[..., Any]
CUDA = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 23.99 GiB of which 3 GiB is free. "
    "Including non-PyTorch memory, this process has 20.00 GiB memory in use."
)
SHORT = ["data=text", "trainer.max_steps=8", "trainer.val_check_interval=4", "callbacks.checkpoint.every_n_steps=2"]


@pytest.fixture
def command(small_text: Path) -> list[str]:
    return [*TINY, *SHORT, f"data.path={small_text}", "callbacks.samples=null"]


def plant(patch: pytest.MonkeyPatch, method: str, step: int, error: Exception) -> None:
    """Raise an error in a method of the LightningModule when as many steps were made."""
    original = getattr(LanguageModeling, method)

    def failing(self: LanguageModeling, *arguments: Any) -> Any:
        if self.global_step == step:
            raise error
        return original(self, *arguments)

    patch.setattr(LanguageModeling, method, failing)


def test_at_the_first_step_the_remedies_are_named_and_nothing_is_left(
    run_verb: Run, command: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "training_step", 0, torch.OutOfMemoryError(CUDA))
    outcome = run_verb("train", *command)
    refused(outcome, "there is not enough memory at step 1", "Tried to allocate 20.00 GiB)", "choose a smaller model")
    refused(outcome, "micro_batch_size below 4", "activation_checkpointing=true", "precision=bf16")
    assert "total capacity" not in outcome.err
    assert "resume=auto" not in outcome.err
    assert not (workplace / "runs").exists()


def test_what_is_set_already_is_no_remedy(run_verb: Run, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "training_step", 0, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    outcome = run_verb("train", *command, "precision=bf16", "activation_checkpointing=true", "micro_batch_size=1")
    refused(outcome, "there is not enough memory", "choose a smaller model or model.block_size")
    for setting in ("micro_batch_size", "activation_checkpointing", "precision", "fsdp"):
        assert setting not in outcome.err


@pytest.mark.parametrize(("method", "step"), [("training_step", 5), ("validation_step", 4)])
def test_at_a_later_step_the_checkpoint_is_named_from_which_the_run_continues(
    run_verb: Run, command: list[str], workplace: Path, method: str, step: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, method, step, torch.OutOfMemoryError(CUDA))
        outcome = run_verb("train", *command)
    saved = "step-000004.ckpt" if method == "training_step" else "step-000002.ckpt"
    refused(outcome, f"not enough memory at step {step + 1}", f"The run is saved as {saved}: add resume=auto")
    run = newest_run(workplace / "runs" / "text-tiny")
    assert "there is not enough memory" in (run / "train.log").read_text()
    again = run_verb("train", *command, "resume=auto")
    assert again.code == 0, again
    assert f"resuming from {saved}" in again.out
    assert (run / "checkpoints" / "step-000008.ckpt").exists()


def test_memory_of_other_programs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 GB, 30 are free and 20 are of this process."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 20 * 10**9)
    assert memory.held_by_others(torch.device("cuda")) == (30 * 10**9, 80 * 10**9)
    on_gpu: Any = SimpleNamespace(on_cuda=True)
    said = out_of_memory._held_by_others(on_gpu)
    assert said == ". Of the 80.0 GB of this GPU, other programs hold about 30.0 GB"
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 49 * 10**9)
    assert out_of_memory._held_by_others(on_gpu) == "", "the rest is what the driver takes"
    assert out_of_memory._held_by_others(SimpleNamespace(on_cuda=False)) == ""  # type: ignore[arg-type]  # all it reads
