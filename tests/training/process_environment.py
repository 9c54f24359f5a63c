"""Environment variables of programs that start processes."""

from __future__ import annotations

import pytest

TORCHRUN: dict[str, int | str] = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": 5,
    "WORLD_SIZE": 6,
    "LOCAL_RANK": 2,
    "LOCAL_WORLD_SIZE": 3,
}

SRUN: dict[str, int | str] = {
    "SLURM_STEP_NUM_TASKS": 6,
    "SLURM_STEP_NUM_NODES": 2,
    "SLURM_NTASKS": 6,
    "SLURM_NTASKS_PER_NODE": 3,
    "SLURM_PROCID": 5,
    "SLURM_LOCALID": 2,
}


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, int | str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
