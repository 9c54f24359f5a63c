"""What two processes do together, over gloo, against what one does."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gpt2_lightning.data.tokens import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.training import processes
from gpt2_lightning.training.interrupts import Interrupted
from gpt2_lightning.training.optimizers import AdamW
from tests.training.short_run import CONFIG, Plan, Run, same_tensors
from tests.training.test_interrupts import RaiseSignal

Train = Callable[..., Run]
LAST = "step-000012.ckpt"
WITH_DROPOUT = dataclasses.replace(CONFIG, embd_pdrop=0.1, attn_pdrop=0.1, resid_pdrop=0.1)


def plan_of(folder: Path, micro_batch_size: int) -> Plan:
    return dataclasses.replace(alone(folder), micro_batch_size=micro_batch_size)


def alone(folder: Path) -> Plan:
    """A run of one process. A large eps keeps Adam from making steps of the rounding of gradients that are zero."""
    return Plan(folder, optimizer=AdamW(lr=0.1, eps=0.01))


def do_all(tokens: Tokens, folder: Path) -> tuple[str, int]:
    """All runs of two processes, since each start of them takes seconds; returns how the last one ended."""
    processes.join(on_cuda=False, timeout=timedelta(seconds=60))
    first = processes.is_first()
    plain = Run(plan_of(folder / "plain", 3), tokens).fit()
    torch.save(plain.model.state_dict(), folder / f"plain-{processes.rank()}.pt")
    Run(plan_of(folder / "in-parts", 1), tokens).fit()

    def dropping_out(name: str, resume: Path | None = None) -> None:
        plan = dataclasses.replace(plan_of(folder / name, 1), model=WITH_DROPOUT, trainer={"log_every_n_steps": 4})
        run = Run(plan, tokens)
        torch.manual_seed(processes.rank())
        run.fit(resume)

    dropping_out("whole")
    checkpoint = folder / "resumed" / "checkpoints" / "step-000006.ckpt"
    if first:
        checkpoint.parent.mkdir(parents=True)
        shutil.copy(folder / "whole" / "checkpoints" / checkpoint.name, checkpoint)
        metrics = (folder / "whole" / "metrics.csv").read_text(encoding="utf-8")
        (folder / "resumed" / "metrics.csv").write_text(metrics, encoding="utf-8")
    processes.wait_for_all()
    dropping_out("resumed", checkpoint)
    stopping = dataclasses.replace(
        plan_of(folder / "stopped", 3),
        checkpointing={"every_n_steps": 500},
        callbacks=[] if first else [RaiseSignal(3, signal.SIGTERM)],
    )
    try:
        Run(stopping, tokens).fit()
    except Interrupted as stop:
        return str(stop), stop.exit_code
    finally:
        processes.leave_together()
    return "not stopped", 0


@pytest.fixture(scope="module")
def ends(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, tuple[str, int]]]:
    """The folder of the runs, and how the last one ended in each process."""
    folder = tmp_path_factory.mktemp("two")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="test",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "log")),
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return folder, elastic_launch(config, do_all)(tokens, folder)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def two(ends: tuple[Path, dict[int, tuple[str, int]]]) -> Path:
    """The folder of the runs."""
    return ends[0]


@pytest.fixture(scope="module")
def one(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process."""
    return train(alone(tmp_path_factory.mktemp("one")))


def checkpoint_of(run_dir: Path, name: str = LAST) -> dict[str, object]:
    content = torch.load(run_dir / "checkpoints" / name, weights_only=True)
    assert isinstance(content, dict)
    return content


def column(run_dir: Path, name: str) -> dict[int, float]:
    header, *rows = [line.split(",") for line in (run_dir / "metrics.csv").read_text(encoding="utf-8").splitlines()]
    place = header.index(name)
    return {int(row[0]): float(row[place]) for row in rows if row[place]}


@pytest.mark.parametrize("name", ["plain", "in-parts"])
def test_two_processes_learn_the_same_as_one(two: Path, one: Run, name: str) -> None:
    for figure in ("train/loss", "val/loss", "grad_norm", "tokens", "lr"):
        assert column(two / name, figure) == pytest.approx(column(one.run_dir, figure), abs=1e-5), figure
    found = checkpoint_of(two / name)["state_dict"]
    torch.testing.assert_close(found, dict(one.model.state_dict()), atol=2e-5, rtol=0)


def test_all_processes_have_the_same_weights(two: Path) -> None:
    weights = [torch.load(two / f"plain-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert same_tensors(*weights)


def test_a_resumed_run_of_two_equals_an_uninterrupted_one_bit_for_bit(two: Path) -> None:
    """With dropout, and with losses since the last row in the checkpoint."""
    ours, theirs = (checkpoint_of(two / name) for name in ("resumed", "whole"))
    for part in ("state_dict", "optimizer_states", "random_states", "TokenDataModule", "global_step"):
        assert same_tensors(ours[part], theirs[part]), part
    for figure in ("train/loss", "val/loss", "grad_norm"):
        assert column(two / "resumed", figure) == column(two / "whole", figure)


def test_each_process_drops_out_other_values(two: Path) -> None:
    states = checkpoint_of(two / "whole")["random_states"]
    assert isinstance(states, list)
    assert len(states) == 2
    assert not same_tensors(states[0], states[1])


def test_losses_of_all_processes_are_kept(two: Path) -> None:
    """Six micro-batches a step, two steps after the last row."""
    losses = checkpoint_of(two / "whole", "step-000006.ckpt")["train_losses"]
    assert isinstance(losses, list)
    assert len(losses) == 2 * 6


def test_one_process_goes_on_from_two_and_says_so(
    two: Path, one: Run, train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = two / "plain" / "checkpoints" / "step-000006.ckpt"
    with caplog.at_level(logging.INFO, "gpt2_lightning"):
        run = train(alone(tmp_path), resume=checkpoint)
    assert "the checkpoint is of 2 processes and this run has 1" in caplog.text
    torch.testing.assert_close(dict(run.model.state_dict()), dict(one.model.state_dict()), atol=2e-5, rtol=0)


def test_a_signal_to_one_stops_all_after_the_same_step(ends: tuple[Path, dict[int, tuple[str, int]]]) -> None:
    folder, how = ends
    assert how == {0: ("SIGTERM", 143), 1: ("SIGTERM", 143)}
    assert {file.name for file in (folder / "stopped" / "checkpoints").iterdir()} == {"step-000003.ckpt"}
    assert checkpoint_of(folder / "stopped", "step-000003.ckpt")["global_step"] == 3


def test_more_processes_than_rows_to_validate_are_refused(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Run(Plan(tmp_path), tokens).data
    monkeypatch.setattr(data, "place", lambda: (0, 5))
    assert data.val_batch_size(rows=11) == 2
    assert data.val_batch_size(rows=500) == 6
    with pytest.raises(UserError, match="4 rows, fewer than the 5 processes"):
        data.val_batch_size(rows=4)
