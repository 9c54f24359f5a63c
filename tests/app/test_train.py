"""The verb `train` from the command line to what a run leaves behind."""

from __future__ import annotations

import csv
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from gpt2_lightning.app.run.settings import largest_micro_batch
from gpt2_lightning.model import GPT2Config
from tests.app.tiny_runs import TINY
from tests.programs import Program, running

Run = Callable[..., object]


def rows(run: Path, *columns: str) -> list[tuple[str, ...]]:
    """A run's metrics, those columns that do not depend on the clock."""
    with (run / "metrics.csv").open() as file:
        return [tuple(row[column] for column in columns) for row in csv.DictReader(file)]


def test_run_leaves_its_folder(tiny_run: Path) -> None:
    files = {str(file.relative_to(tiny_run)) for file in tiny_run.rglob("*") if file.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/step-000012.ckpt"}
    assert files == {"config.yaml", "metrics.csv", "loss.png", "samples.md", "train.log", *checkpoints}
    assert (tiny_run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tiny_run / "loss.png").stat().st_size > 10_000


def test_configuration_is_kept_resolved(tiny_run: Path) -> None:
    config = yaml.safe_load((tiny_run / "config.yaml").read_text())
    assert config["name"] == "text-tiny"
    assert config["optimizer"]["lr"] == 0.5 / 32
    assert Path(config["run_dir"]) == tiny_run
    assert "${" not in (tiny_run / "config.yaml").read_text()


def test_validations_come_at_the_interval_and_at_the_end(tiny_run: Path) -> None:
    validated = [step for step, loss in rows(tiny_run, "step", "val/loss") if loss]
    assert validated == ["5", "10", "12"]
    assert (tiny_run / "samples.md").read_text().count("## Step") == 3


def test_metrics_hold_together(tiny_run: Path) -> None:
    columns = ["step", "tokens", "val/loss", "val/perplexity", "val/bits_per_byte"]
    for step, tokens, loss, perplexity, bits in rows(tiny_run, *columns):
        assert int(tokens) == int(step) * 4 * 32
        if loss:
            assert float(perplexity) == pytest.approx(torch.tensor(float(loss)).exp().item(), rel=1e-4)
            assert float(bits) == pytest.approx(float(loss) / 0.6931472, rel=1e-4), "a byte a character in this text"


def test_checkpoints_load_without_running_code(tiny_run: Path) -> None:
    for file in (tiny_run / "checkpoints").iterdir():
        checkpoint = torch.load(file, weights_only=True)
        assert checkpoint["gpt2_lightning"]["run_config"]["model"]["n_layer"] == 2
        assert "wte.weight" in checkpoint["state_dict"]


def test_summary_says_what_a_user_wants_next(run_verb: Run, small_text: Path) -> None:
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "trainer.max_steps=3")
    assert outcome.code == 0, outcome
    for expected in ("validation loss", "bits per byte", "metrics.csv", "loss.png", "samples.md", "checkpoints"):
        assert expected in outcome.out
    (hint,) = [line for line in outcome.out.splitlines() if line.startswith("for more: ")]
    settings = [word.strip("'") for word in hint.split() if "checkpoint=" in word]
    assert run_verb("generate", *settings, "prompt=the ship", "max_new_tokens=5").out.startswith("the ship")


def test_other_architecture_trains(run_verb: Run) -> None:
    options = ["model.positions=sinusoidal", "model.qkv_bias=false", "model.kernels=explicit", "model.tied_head=false"]
    dropouts = ["model.embd_pdrop=0.1", "model.attn_pdrop=0.1", "model.resid_pdrop=0.1"]
    outcome = run_verb("train", *TINY, *options, *dropouts, "trainer.max_tokens=300", "schedule=wsd", "precision=bf16")
    assert outcome.code == 0, outcome
    assert "3 steps" in outcome.out, "300 tokens are three steps of 128, rounded up"


def test_gpt2_tokenizer_needs_no_network(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("something asked the network"))
    outcome = run_verb("train", *TINY, "tokenizer=gpt2", "trainer.max_steps=1", "callbacks.samples=null")
    assert outcome.code == 0, outcome
    assert "vocabulary 50,257 (gpt2)" in outcome.out


def test_early_stopping(run_verb: Run, small_text: Path, workplace: Path) -> None:
    stopping = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"]
    length = ["trainer.max_steps=50", "trainer.val_check_interval=2", "callbacks.early_stopping.min_delta=1.0"]
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", *stopping, *length)
    assert outcome.code == 0, outcome
    (run,) = (workplace / "runs" / "text-tiny").iterdir()
    assert [step for step, loss in rows(run, "step", "val/loss") if loss] == ["2", "4"]
    assert "stopping early" in outcome.out
    again = run_verb("train", *TINY, "data=text", f"data.path={small_text}", *stopping, *length, "resume=auto")
    assert again.code == 0, again
    assert "going on" not in again.out, "a run that stopped early has ended"


def test_sweep_has_a_folder_for_each_job(run_verb: Run, small_text: Path, workplace: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "trainer.max_steps=2", "optimizer.lr=1e-3,3e-3"]
    outcome = run_verb("train", "-m", *TINY, *settings)
    assert outcome.code == 0, outcome
    (sweep,) = (workplace / "runs" / "sweeps").iterdir()
    rates = [yaml.safe_load((sweep / job / "config.yaml").read_text())["optimizer"]["lr"] for job in ("0", "1")]
    assert rates == [1e-3, 3e-3]


def test_second_run_in_the_same_folder_keeps_the_first(run_verb: Run, small_text: Path, workplace: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "trainer.max_steps=1", "run_dir=here"]
    assert run_verb("train", *TINY, *settings).code == 0
    first = (workplace / "here" / "train.log").read_text()
    assert run_verb("train", *TINY, *settings).code == 0
    assert (workplace / "here" / "train.log").read_text() == first
    assert (workplace / "here-1" / "loss.png").exists()


def test_checkpoint_from_elsewhere_goes_on_in_a_new_run(
    run_verb: Run, tiny_run: Path, small_text: Path, workplace: Path
) -> None:
    (workplace / "download").mkdir()
    (workplace / "download" / "config.yaml").write_text("mine")
    shutil.copy(tiny_run / "checkpoints" / "step-000012.ckpt", workplace / "download" / "model.ckpt")
    settings = ["data=text", f"data.path={small_text}", "trainer.max_steps=14", "resume=download/model.ckpt"]
    outcome = run_verb("train", *TINY, *settings)
    assert outcome.code == 0, outcome
    assert "changed since the checkpoint: trainer.max_steps from 12 to 14" in outcome.out
    assert (workplace / "download" / "config.yaml").read_text() == "mine"
    assert len(list((workplace / "runs" / "text-tiny").glob("*/checkpoints/step-000014.ckpt"))) == 1


def test_home_is_understood_in_paths(run_verb: Run, small_text: Path, workplace: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "trainer.max_steps=1", "runs_dir=~/mine"]
    assert run_verb("train", *TINY, *settings).code == 0
    assert list((workplace.parent / "home" / "mine").glob("text-tiny/*/metrics.csv"))
    assert run_verb("generate", "runs_dir=~/mine", "max_new_tokens=1").code == 0


def test_auto_goes_on_with_the_latest_run_until_it_has_ended(run_verb: Run, small_text: Path, workplace: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "resume=auto"]
    runs = workplace / "runs" / "text-tiny"
    for max_steps, folders in ((4, 1), (6, 1), (6, 2)):
        outcome = run_verb(
            "train", *TINY, *settings, f"trainer.max_steps={max_steps}", f"run_dir=runs/text-tiny/{folders}"
        )
        assert outcome.code == 0, outcome
        assert len(list(runs.iterdir())) == folders
    config = yaml.safe_load((runs / "1" / "config.yaml").read_text())
    assert config["run_dir"] == "runs/text-tiny/1"


def test_checkpoints_may_be_switched_off(run_verb: Run, small_text: Path, workplace: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "trainer.max_steps=2", "callbacks.checkpoint=null"]
    assert run_verb("train", *TINY, *settings, "logger=[csv]").code == 0
    assert not list(workplace.rglob("*.ckpt"))


def with_a_checkpoint(runs: Path, program: Program) -> Path:
    """The folder of the only run, when it has saved."""
    program.wait_until(lambda: list(runs.glob("*/*/checkpoints/step-*.ckpt")), timeout=60)
    (run,) = runs.glob("*/*")
    return run


@pytest.fixture
def long_run(small_text: Path) -> list[str]:
    """Settings with dropout, validation and frequent saves: everything that a resume could get wrong."""
    text = ["data=text", f"data.path={small_text}", "model.attn_pdrop=0.1", "model.resid_pdrop=0.1"]
    intervals = [
        "trainer.val_check_interval=40",
        "callbacks.checkpoint.every_n_steps=30",
        "trainer.log_every_n_steps=20",
    ]
    return [*text, *intervals, "trainer.max_steps=240"]


@pytest.mark.slow
def test_killed_run_goes_on_as_if_nothing_had_happened(run_verb: Run, workplace: Path, long_run: list[str]) -> None:
    with running("train", *TINY, *long_run, output=workplace / "said") as program:
        run = with_a_checkpoint(workplace / "runs", program)
        program.kill()
    resumed = run_verb("train", *TINY, *long_run, "resume=auto")
    assert resumed.code == 0, resumed
    assert "resuming from step-" in resumed.out
    whole = run_verb("train", *TINY, *long_run, "run_dir=whole")
    assert whole.code == 0, whole
    columns = ["step", "tokens", "train/loss", "val/loss", "lr", "grad_norm"]
    assert rows(run, *columns) == rows(workplace / "whole", *columns)
    weights = [
        torch.load(folder / "checkpoints" / "step-000240.ckpt", weights_only=True)["state_dict"]
        for folder in (run, workplace / "whole")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])


def stopped_by(number: signal.Signals, workplace: Path, *settings: str) -> tuple[Path, int, str]:
    """A run that got a signal after its first checkpoint: its folder, its exit code and what it said."""
    length = ["trainer.max_steps=9999", "callbacks.checkpoint.every_n_steps=5"]
    with running("train", *TINY, *settings, *length, output=workplace / "said") as program:
        run = with_a_checkpoint(workplace / "runs", program)
        program.send_signal(number)
        code = program.wait(timeout=60)
    assert f"stopped by {number.name}" in program.output()
    assert "Traceback" not in program.output()
    return run, code, program.output()


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_the_command_that_is_told_goes_on(
    workplace: Path, root: Path, small_text: Path
) -> None:
    (workplace / "my conf" / "model").mkdir(parents=True)
    (workplace / "my conf" / "model" / "mine.yaml").write_text("defaults: [tiny]\n")
    settings = ["--config-dir", "my conf", "model=mine", "data=text", f"data.path={small_text}"]
    run, code, output = stopped_by(signal.SIGINT, workplace, *settings)
    assert code == 130
    (saved,) = (run / "checkpoints").glob("step-*.ckpt")
    command = shlex.split(output.strip().splitlines()[-1])
    assert command[:2] == ["python", "train.py"]
    again = [*command[2:], f"trainer.max_steps={int(saved.stem[5:]) + 1}"]
    resumed = subprocess.run(
        [sys.executable, root / "train.py", *again], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed
    assert f"resuming from {saved.name}" in resumed.stdout


def test_sigterm_saves_and_ends_with_its_code(workplace: Path, small_text: Path) -> None:
    run, code, _ = stopped_by(signal.SIGTERM, workplace, "data=text", f"data.path={small_text}")
    assert code == 143
    assert list((run / "checkpoints").glob("step-*.ckpt"))


def test_micro_batch_divides_the_batch_and_bounds_the_activations() -> None:
    """A token of GPT-2 124M takes 50,257 + 16 * 12 * 768 = 197,713 elements; 2**30 are 5.3 sequences of 1,024."""
    char = GPT2Config(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128)
    assert largest_micro_batch(12, char) == 12
    assert largest_micro_batch(10**6, char) == 2000, "2,030 would fit, 2,000 divide"
    assert largest_micro_batch(32, GPT2Config()) == 4
    assert largest_micro_batch(5, GPT2Config()) == 5
    assert largest_micro_batch(13, GPT2Config()) == 1


def test_a_resumed_run_reads_its_checkpoint_once(
    run_verb: Run, small_text: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["data=text", f"data.path={small_text}", "resume=auto"]
    assert run_verb("train", *TINY, *settings, "trainer.max_steps=2").code == 0
    read: list[str] = []
    load = torch.load

    def counted(file: Path, **options: object) -> object:
        read.append(Path(file).name)
        return load(file, **options)

    monkeypatch.setattr(torch, "load", counted)
    assert run_verb("train", *TINY, *settings, "trainer.max_steps=3").code == 0
    assert read == ["step-000002.ckpt"]
