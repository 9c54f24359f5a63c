from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.training.trainer import DEFAULT_STEPS, TrainerSpec
from tests.training.process_environment import set_environment


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        ({"max_steps": 17}, 17),
        ({"max_tokens": 42 * 10}, 10),
        ({"max_tokens": 42 * 10 + 1}, 11),
        ({"max_tokens": 1}, 1),
        ({"max_epochs": 1}, 9),
        ({"max_epochs": 2}, 17),
        ({"max_epochs": 0.5}, 5),
        ({"max_epochs": 0.12}, 1),
        ({}, DEFAULT_STEPS),
    ],
)
def test_steps_by_hand(limit: dict[str, Any], steps: int) -> None:
    """Six sequences of seven tokens are 42 tokens a step; fifty samples are 8 1/3 steps."""
    assert TrainerSpec(**limit).steps(batch_size=6, block_size=7, samples_per_epoch=50) == steps


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_steps": 100, "max_tokens": 5000}, ["max_steps=100", "max_tokens=5000"]),
        ({"max_tokens": 5000, "max_epochs": 2.5}, ["max_tokens=5000", "max_epochs=2.5"]),
        ({"max_steps": 1, "max_tokens": 2, "max_epochs": 3}, ["max_steps=1", "max_tokens=2", "max_epochs=3"]),
        ({"max_steps": 1_234_567, "max_tokens": 300_000_000_000}, ["max_steps=1234567", "max_tokens=300000000000"]),
    ],
)
def test_two_limits_exclude_each_other_and_are_shown(limits: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ValueError, match="exclude each other") as caught:
        TrainerSpec(**limits)
    message = str(caught.value).replace(",", "")
    assert all(limit in message for limit in named)


@pytest.mark.parametrize(
    "field", ["max_steps", "max_tokens", "max_epochs", "val_check_interval", "log_every_n_steps", "gradient_clip_val"]
)
@pytest.mark.parametrize("value", [0, -1])
def test_settings_out_of_range_are_named(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field}: {value} is out of range"):
        TrainerSpec(**{field: value})


def test_all_faults_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"timeout: -1 .*\nval_check_interval: 0 .*\nmax_steps: .* exclude "):
        TrainerSpec(max_steps=5, max_tokens=1e6, val_check_interval=0, timeout=-1)


def test_no_clipping_is_allowed() -> None:
    assert TrainerSpec(gradient_clip_val=None).gradient_clip_val is None


def test_intervals_count_optimizer_steps_in_the_trainer() -> None:
    spec = TrainerSpec(val_check_interval=5, log_every_n_steps=3, gradient_clip_val=0.5, accelerator="cpu")
    trainer = spec.build(max_steps=11, accumulate=4, callbacks=[], loggers=[])
    assert trainer.max_steps == 11
    assert trainer.accumulate_grad_batches == 4
    assert trainer.val_check_interval == 20
    assert trainer.gradient_clip_val == 0.5


@pytest.mark.parametrize("accelerator", ["cuda", "mps"])
def test_an_accelerator_that_is_not_there_is_named(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"accelerator: this machine has no {accelerator}"):
        TrainerSpec(accelerator=accelerator)


@pytest.mark.parametrize(("load", "threads", "warns"), [(9.0, 2, True), (9.0, 1, False), (0.5, 2, False)])
def test_several_threads_on_a_busy_machine_are_named_with_the_setting_that_rules(
    monkeypatch: pytest.MonkeyPatch, load: float, threads: int, warns: bool
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    remark = TrainerSpec(accelerator="cpu", threads=threads).threads_remark()
    assert (remark is not None) == warns
    if remark:
        assert "load of the machine is 9.0 already, and this run has 2 threads for 2 cores" in remark
        assert "trainer.threads=1" in remark


def test_the_number_of_threads_is_a_setting() -> None:
    before = torch.get_num_threads()
    try:
        TrainerSpec(accelerator="cpu", threads=before + 1).build(1, 1, [], [])
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_single_process_of_a_batch_script_is_no_task_of_srun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "srun").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    set_environment(monkeypatch, {"SLURM_JOB_ID": 7, "SLURM_JOB_NAME": "job", "SLURM_NTASKS": 2, "SLURM_PROCID": 0})
    trainer = TrainerSpec(accelerator="cpu").build(max_steps=1, accumulate=1, callbacks=[], loggers=[])
    assert (trainer.world_size, trainer.global_rank) == (1, 0)
    assert type(trainer.strategy).__name__ == "SingleDeviceStrategy"
    assert not [str(each.message) for each in recwarn if "srun" in str(each.message)]
