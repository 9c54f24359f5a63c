"""Weights & Biases without its service, and several loggers at once."""

from __future__ import annotations

import html
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.loggers import WandbLogger, guard, recording
from gpt2_lightning.training.loggers.reachable import answers
from tests.programs import leave_network, running
from tests.training.logged import in_csv, in_tensorboard, in_wandb

pytest.importorskip("wandb")
TINY = ["model=tiny", "batch_size=4", "trainer=cpu", "callbacks.samples.max_new_tokens=20"]
LENGTH = ["trainer.max_steps=7", "trainer.val_check_interval=3", "trainer.log_every_n_steps=2"]


@pytest.fixture(autouse=True)
def no_account(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without a login, and no service."""
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield
    wandb.teardown()  # it reads the environment once


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def runs_of(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "wandb").glob("offline-run-*"))


@pytest.mark.usefixtures("offline")
@pytest.mark.slow
def test_three_loggers_at_once_store_the_same(run_verb: Callable[..., Any], workplace: Path) -> None:
    outcome = run_verb("train", *TINY, *LENGTH, "logger=[csv,tensorboard,wandb]")
    assert outcome.code == 0, outcome
    assert "failed" not in outcome.out
    (run_dir,) = (workplace / "runs" / "scifi-tiny").iterdir()
    (wandb_run,) = runs_of(run_dir)
    csv, tensorboard, wandb = in_csv(run_dir), in_tensorboard(run_dir), in_wandb(wandb_run)
    assert csv.scalars.keys() == tensorboard.scalars.keys() == wandb.scalars.keys()
    stages = {f"{stage}/{key}" for stage in ("train", "val") for key in ("loss", "perplexity", "bits_per_byte")}
    assert csv.scalars.keys() >= stages | {"lr", "grad_norm", "tokens_per_second", "tokens", "epoch"}
    assert wandb.scalars == csv.scalars
    for key, values in csv.scalars.items():
        assert tensorboard.scalars[key] == [(step, pytest.approx(value)) for step, value in values]
    samples = (run_dir / "samples.md").read_text(encoding="utf-8")
    assert len(tensorboard.texts["samples"]) == len(wandb.texts["samples"]) == 3
    for text in wandb.texts["samples"]:
        assert html.unescape(text.removeprefix("<pre>").removesuffix("</pre>")).strip() in samples
    assert wandb.pictures == tensorboard.pictures == {"loss"}
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert wandb.config == config | {"git": None}
    assert yaml.safe_load(tensorboard.config) == wandb.config
    assert wandb.exit_code == 0
    assert wandb.about.display_name == f"scifi-tiny/{run_dir.name}"
    assert (wandb.about.project, wandb.about.run_group) == ("gpt2-lightning", "")


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_jobs_of_a_sweep_are_runs_of_one_group(run_verb: Callable[..., Any], workplace: Path) -> None:
    rates = "optimizer.lr=1e-3,3e-3"
    steps = ["trainer.max_steps=2", "callbacks.samples=null", "logger.wandb.tags=[a]"]
    assert run_verb("train", "-m", *TINY[:3], *steps, rates, "logger=[csv,wandb]").code == 0
    (sweep,) = (workplace / "runs" / "sweeps").iterdir()
    jobs = [in_wandb(*runs_of(sweep / job)) for job in ("0", "1")]
    assert [job.about.run_group for job in jobs] == [sweep.name] * 2
    assert [job.about.display_name for job in jobs] == ["scifi-tiny/0", "scifi-tiny/1"]
    assert [job.config["optimizer"]["lr"] for job in jobs] == [1e-3, 3e-3]
    assert [job.exit_code for job in jobs] == [0, 0]
    assert [list(job.about.tags) for job in jobs] == [["a"]] * 2
    assert jobs[0].about.run_id != jobs[1].about.run_id


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_resumed_run_is_the_same_run(run_verb: Callable[..., Any], workplace: Path) -> None:
    settings = [*TINY[:3], "callbacks.samples=null", "logger=wandb", "run_dir=here"]
    assert run_verb("train", *settings, "trainer.max_steps=2").code == 0
    outcome = run_verb("train", *settings, "trainer.max_steps=5", "resume=here")
    assert outcome.code == 0, outcome
    first, second = sorted((in_wandb(run) for run in runs_of(workplace / "here")), key=lambda s: s.scalars["val/loss"])
    assert first.about.run_id == second.about.run_id == (workplace / "here" / "wandb.id").read_text()
    assert sorted(step for s in (first, second) for step, _ in s.scalars["val/loss"]) == [2, 5]


@pytest.mark.usefixtures("offline")
def test_a_run_that_fails_is_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError), recording(guard([WandbLogger(tmp_path, "a", None, group="g")]), {}):
        raise UserError("diverged")
    stored = in_wandb(*runs_of(tmp_path))
    assert stored.exit_code == 1
    assert (stored.about.display_name, stored.about.run_group) == ("a", "g")


def test_a_run_is_kept_where_the_service_cannot_be_reached(run_verb: Callable[..., Any], workplace: Path) -> None:
    start = time.monotonic()
    settings = [*TINY[:3], "callbacks.samples=null", "trainer.max_steps=2", "run_dir=here", "logger=wandb"]
    outcome = run_verb("train", *settings)
    assert time.monotonic() - start < 15
    assert outcome.code == 0, outcome
    (run,) = runs_of(workplace / "here")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("wandb")]
    assert line == (
        f"wandb: http://127.0.0.1:9 does not answer, so the run is kept here; later: wandb sync here/wandb/{run.name}"
    )
    assert [step for step, _ in in_wandb(run).scalars["val/loss"]] == [2]


def has_namespaces() -> bool:
    """Whether a process may be cut off from the network."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not has_namespaces(), reason="this user cannot cut a process off from the network")
def test_training_ends_where_the_network_is_cut(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a login, and without any network, not even with itself."""
    monkeypatch.delenv("WANDB_BASE_URL")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    settings = [*TINY[:3], "callbacks.samples=null", "trainer.max_steps=2", "logger=[csv,tensorboard,wandb]"]
    with running("train", *settings, "run_dir=here", output=workplace / "said", enter=leave_network) as program:
        code = program.wait(timeout=300)
    said = program.output()
    assert code == 0, said
    assert "failed" not in said
    assert re.search(r"^wandb: https://\S+ does not answer, so the run is kept here", said, re.MULTILINE)
    expected = in_csv(workplace / "here").scalars["val/loss"]
    (run,) = runs_of(workplace / "here")
    assert in_wandb(run).scalars["val/loss"] == expected
    assert in_tensorboard(workplace / "here").scalars["val/loss"] == [(2, pytest.approx(expected[0][1]))]


def test_without_a_login_the_run_is_kept(
    run_verb: Callable[..., Any], workplace: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server)
    settings = [*TINY[:3], "callbacks.samples=null", "trainer.max_steps=2", "run_dir=here", "logger=wandb"]
    outcome = run_verb("train", *settings)
    assert outcome.code == 0, outcome
    assert "there is no login (wandb login), so the run is kept here" in outcome.out
    assert len(runs_of(workplace / "here")) == 1


@pytest.fixture
def server() -> Iterator[str]:
    """A server with a page, and nothing else."""

    class Page(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Page) as found:
        thread = Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_any_answer_counts(server: str) -> None:
    assert answers(server)


def test_a_silent_server_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.3)
        assert time.monotonic() - start < 2
