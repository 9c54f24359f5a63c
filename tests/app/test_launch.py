"""Runs of several processes, from the command line."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt2_lightning.app.launch import launcher
from gpt2_lightning.app.run.rank_failures import Death
from gpt2_lightning.app.run.resume import as_restarted, require_same_settings
from gpt2_lightning.app.run.settings import share_of_batch
from gpt2_lightning.checkpoints import folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.trainer import TrainerSpec
from tests.planted_gpus import NO_DEVICE, plant_gpus
from tests.programs import Program, running

Run = Callable[..., Any]
SECONDS_TO_START, SECONDS_TO_END = 300, 15
"""To start, on a machine that has much else to do; to end after one has died, where processes wait for half an hour."""
ON_TWO = ["model=tiny", "batch_size=4", "trainer=ddp_cpu", "callbacks.samples.max_new_tokens=20"]


@pytest.fixture
def start(workplace: Path, small_text: Path) -> Iterator[Callable[..., Program]]:
    """Start training on two processes."""
    with contextlib.ExitStack() as started:

        def do(*settings: str) -> Program:
            text = ["data=text", f"data.path={small_text}"]
            return started.enter_context(running("train", *ON_TWO, *text, *settings, output=workplace / "said"))

        yield do


def newest_step(run_dir: Path) -> int:
    return max((folder.step_of(file) or 0 for file in folder.by_step(run_dir)), default=0)


def ranks_of(program: Program) -> list[int]:
    """Process ids of those that train for a program or for a run of its sweep: what starts nothing more itself."""
    found, above = [], [program.pid]
    while above:
        pid = above.pop()
        started = children(pid)
        above += started
        if not started and b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(pid)
    return sorted(found)


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are found in /proc")


@pytest.mark.slow
@needs_proc
def test_a_sweep_of_runs_on_two_goes_on_where_one_was_killed_and_one_process_speaks(
    start: Callable[..., Program], workplace: Path
) -> None:
    sweep = workplace / "sweep"
    length = ["trainer.max_steps=200", "trainer.val_check_interval=100", "callbacks.checkpoint.every_n_steps=100"]
    command = ["-m", "optimizer.lr=1e-3,3e-3", *length, "hydra.sweep.dir=sweep"]
    program = start(*command)
    program.wait_until((sweep / "0" / "metrics.csv").exists, SECONDS_TO_START)
    ranks = ranks_of(program)
    os.kill(ranks[0], signal.SIGKILL)
    program.wait_until(lambda: gone(ranks), SECONDS_TO_END)
    code, output = program.wait(SECONDS_TO_START), program.output()
    assert code == 1, output
    assert "process 0 of 2 (from 0) was ended by SIGKILL, perhaps since memory ran out; the others were" in output
    assert "1 of 2 runs have not ended" in output
    assert "Traceback" not in output
    assert "Warning" not in output
    run = sweep / "1"
    files = {str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/step-000200.ckpt"}
    assert files == {"config.yaml", "metrics.csv", "loss.png", "samples.md", "status.json", "train.log", *checkpoints}
    assert (run / "samples.md").read_text().count("## Step") == 2
    assert (run / "train.log").read_text().count("step 200 of 200") == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["devices"] == 2
    again = start(*command)
    code, output = again.wait(SECONDS_TO_START), again.output()
    assert code == 0, output
    assert "2 runs in sweep, 1 of them done before" in output
    assert output.count("plan: ") == 1
    assert "on 2 processes" in output
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == {"0", "1"}


@needs_proc
@pytest.mark.slow
def test_a_run_goes_on_where_a_process_was_killed_and_saves_once_at_a_signal(start: Callable[..., Program]) -> None:
    """A Ctrl-C reaches every process from the terminal, and those that train once more from their parent."""
    here = Path("here")
    saving = ["trainer.max_steps=99999", "callbacks.checkpoint.every_n_steps=5", f"run_dir={here}"]
    program = start(*saving, "trainer.max_restarts=2")
    program.wait_until(lambda: newest_step(here) > 0, SECONDS_TO_START)
    first = ranks_of(program)
    os.kill(first[1], signal.SIGKILL)
    program.wait_until(lambda: gone(first), SECONDS_TO_END)
    saved = newest_step(here)
    program.wait_until(lambda: newest_step(here) > saved, SECONDS_TO_START)
    second = ranks_of(program)
    assert len(second) == 2
    os.killpg(program.pid, signal.SIGINT)
    code, output = program.wait(SECONDS_TO_END), program.output()
    assert code == 130, output
    assert "process 1 of 2 (from 0) was ended by SIGKILL, perhaps since memory ran out; restart 1 of 2" in output
    assert re.search(r"resuming from step-\d+\.ckpt", output)
    assert "restart 2 of" not in output
    assert "Traceback" not in output
    assert output.count("stopped by SIGINT") == 1
    assert output.strip().endswith("resume=here")
    assert f"at step {newest_step(here):,}, which is saved" in output
    assert gone(second)
    assert not Path("here-1").exists()
    steps = [int(row.split(",")[0]) for row in (here / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps))


class Ends:
    """In place of the agent: how the processes end at each start, and what they were started with."""

    def __init__(self, *ends: object) -> None:
        self.ends = list(ends)
        self.settings: list[dict[str, Any]] = []

    def __call__(self, spec: TrainerSpec, meeting: None) -> Ends:
        return self

    def run(self, work: Any, start: int, folder: Path) -> object:
        assert start == len(self.settings)
        self.settings.append(work.args[1])
        (folder / "run-0").write_text("runs/here")
        end = self.ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return end


def start_with(ends: Ends, monkeypatch: pytest.MonkeyPatch, max_restarts: int) -> Any:
    monkeypatch.setattr(launcher, "Agent", ends)
    spec = TrainerSpec(accelerator="cpu", strategy="ddp", max_restarts=max_restarts)
    return launcher._start("train", {"resume": "never", "run_dir": "runs/there"}, spec)


def test_a_run_that_had_saved_nothing_begins_again_in_its_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = Ends(Death("process 1 failed", "ZeroDivisionError\n"), Death("process 0 died"), 1.5)
    assert start_with(ends, monkeypatch, max_restarts=3) == 1.5
    assert ends.settings == [
        {"resume": "never", "run_dir": "runs/there"},
        *[{"resume": "here", "run_dir": "runs/here"}] * 2,
    ]
    assert capsys.readouterr().err.splitlines() == [
        "process 1 failed",
        "ZeroDivisionError",
        "process 1 failed; restart 1 of 3, from its beginning",
        "process 0 died; restart 2 of 3, from its beginning",
    ]


@pytest.mark.parametrize("end", [UserError("not enough memory"), SystemExit(143)], ids=["mistake", "sigterm"])
def test_what_a_user_did_is_not_restarted(end: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(end, 1.5)
    with pytest.raises(type(end)):
        start_with(ends, monkeypatch, max_restarts=3)
    assert len(ends.settings) == 1


def test_a_restart_goes_on_from_the_newest_checkpoint(tmp_path: Path) -> None:
    settings = {"resume": "copied.ckpt", "run_dir": "there", "seed": 1}
    assert as_restarted(settings, None) == settings
    assert as_restarted(settings, tmp_path) == settings
    assert as_restarted({**settings, "resume": "auto"}, tmp_path)["resume"] == "here"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000005.ckpt").touch()
    assert as_restarted(settings, tmp_path) == {**settings, "resume": str(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["batch_size=9"], "batch_size: 9 does not divide among 2 processes, one for each device; the nearest"),
        (["batch_size=1"], "the nearest that do: 2"),
        (["batch_size=12", "micro_batch_size=4"], "micro_batch_size: 4 does not divide 6, the share of each of 2"),
        (["trainer.devices=0"], "trainer.devices: 0 is out of range"),
        (["trainer.timeout=0"], "trainer.timeout: 0 is out of range"),
        (["trainer.max_restarts=-1"], "trainer.max_restarts: -1 is out of range"),
        (["trainer.num_nodes=2"], "trainer.rdzv_endpoint: missing; 2 machines need a place to meet"),
        (["trainer.rdzv_endpoint=host"], "trainer.rdzv_endpoint: 'host' is not of the form HOST:PORT"),
        (["trainer.rdzv_endpoint=host:70000"], "trainer.rdzv_endpoint: 'host:70000' is not of the form HOST:PORT"),
        (["trainer.under_srun=true"], "trainer=slurm: srun has not started this program as one of several"),
        (["trainer.strategy=fsdp", "precision=fp16"], "trainer.precision: fp16 scales the loss"),
        (["trainer.reshard_after_forward=false"], "trainer.reshard_after_forward: false is for fsdp and hsdp"),
        (["trainer.strategy=single"], "trainer.devices: 2 need as many processes; use trainer=ddp"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_out_is_refused_before_anything_starts(
    run_verb: Run, workplace: Path, arguments: list[str], expected: str
) -> None:
    outcome = run_verb("train", "model=tiny", "trainer=ddp_cpu", *arguments)
    assert outcome.code == 2
    assert expected in outcome.err
    assert not (workplace / "runs").exists()


def test_gpus_that_are_not_there_are_named(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "use trainer=ddp_cpu, or trainer=auto for one process" in run_verb("train", "trainer=ddp").err
    assert "use auto" in run_verb("train", "trainer=gpu").err
    plant_gpus(monkeypatch, 2)
    outcome = run_verb("train", "trainer=ddp", "trainer.devices=4")
    assert outcome.code == 2
    assert "trainer.devices: 4 are asked for, and this machine has 2 (0: NVIDIA H200 (151 GB), 1: NV" in outcome.err


def test_a_gpu_that_fails_ends_a_run_without_a_trace(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise NO_DEVICE

    monkeypatch.setattr(launcher, "run", fail)
    outcome = run_verb("train", "model=tiny", "trainer=cpu")
    assert outcome.code == 1
    assert outcome.err.startswith("error: CUDA error: no CUDA-capable device is detected; the GPU is gone or in use")
    assert outcome.err.rstrip().endswith("What was saved before is kept: resume=must goes on with it")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(("batch", "micro", "count", "share"), [(12, None, 1, 12), (12, 3, 2, 6), (12, 4, 3, 4)])
def test_shares_by_hand(batch: int, micro: int | None, count: int, share: int) -> None:
    assert share_of_batch(batch, micro, count) == share


def test_processes_with_other_settings_are_told_apart() -> None:
    same = {"optimizer": {"lr": 0.1}, "run_dir": "a"}
    require_same_settings([same, {**same, "run_dir": "b"}])
    with pytest.raises(UserError, match=r"process 2 .*settings .*\n  optimizer\.lr: 0\.1 and 0\.2"):
        require_same_settings([same, same, {**same, "optimizer": {"lr": 0.2}}])


def under_torchrun(monkeypatch: pytest.MonkeyPatch, world: int, local: int) -> None:
    numbers = {"RANK": 0, "WORLD_SIZE": world, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": local}
    for name, number in {**numbers, "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, str(number))


def test_a_trainer_of_one_is_refused_under_torchrun(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    under_torchrun(monkeypatch, world=4, local=2)
    outcome = run_verb("train", "model=tiny", "trainer=cpu")
    assert outcome.code == 2
    assert "4 processes were started, by torchrun or srun, for a trainer of one; use trainer=ddp" in outcome.err


def test_other_devices_than_torchrun_has_started_are_refused(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    under_torchrun(monkeypatch, world=6, local=3)
    outcome = run_verb("train", "model=tiny", "trainer=ddp_cpu")
    assert outcome.code == 2
    assert (
        "trainer.devices: 3 processes were started on this machine, by torchrun or srun, for 2 devices" in outcome.err
    )
