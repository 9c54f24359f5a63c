"""All loggers get the same, and none can fail a run."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.callbacks import Samples
from gpt2_lightning.training.loggers import TensorBoardLogger, guard, recording
from gpt2_lightning.training.loggers.csv_logger import CSVLogger
from gpt2_lightning.training.loggers.git_state import git_state
from gpt2_lightning.training.loggers.run_logger import flat, require_package
from tests.training.kept_logger import Kept
from tests.training.logged import in_csv, in_tensorboard
from tests.training.short_run import Plan, Run

METHODS = ["log_hyperparams", "log_metrics", "log_text", "log_picture", "finalize"]


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """What the package says."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("gpt2_lightning")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


@pytest.mark.parametrize("method", METHODS)
def test_a_raising_logger_is_told_once_and_the_run_goes_on(
    method: str, tokens: Any, tmp_path: Path, messages: list[str]
) -> None:
    bad, good = Kept({method}), Kept()
    run = Run(Plan(tmp_path, callbacks=[Samples(tmp_path, max_new_tokens=5)]), tokens)
    loggers = guard([bad, CSVLogger(tmp_path), good])
    run.trainer.loggers = loggers
    with recording(loggers, {"seed": 1}):
        run.fit()
        for logger in loggers:
            logger.log_picture("loss", tmp_path / "loss.png", 12)
    assert run.trainer.global_step == 12
    complaints = [message for message in messages if "failed" in message]
    assert complaints == [
        "Kept failed and gets nothing more of this run, which goes on: [Errno 28] No space left on device"
    ]
    assert [heard for heard, _ in bad.told].count(method) == 1
    assert bad.told[-1] == ("finalize", "success"), "it is closed nevertheless"
    assert [step for kind, (step, *_) in good.told[1:-1] if kind == "log_metrics"] == [2, 4, 4, 6, 8, 8, 10, 12, 12]
    assert {heard for heard, _ in good.told} == set(METHODS)
    assert [step for step, _ in in_csv(tmp_path).scalars["val/loss"]] == [4, 8, 12]


@pytest.mark.parametrize(
    ("end", "status"), [(UserError("diverged"), "failed"), (SystemExit(143), "interrupted"), (None, "success")]
)
def test_every_end_of_a_run_is_told(end: BaseException | None, status: str) -> None:
    loggers = [Kept({"log_hyperparams"}), Kept()]

    def run() -> None:
        with recording(guard(loggers), {}):
            if end:
                raise end

    if end:
        with pytest.raises(type(end)):
            run()
    else:
        run()
    assert [logger.told[-1] for logger in loggers] == [("finalize", status)] * 2


def test_lightnings_own_end_of_fit_closes_nothing() -> None:
    kept = Kept()
    (logger,) = guard([kept])
    logger.finalize("success")
    assert kept.told == []


def test_a_metrics_file_that_cannot_be_written_does_not_end_a_run(tmp_path: Path, messages: list[str]) -> None:
    with recording(guard([CSVLogger(tmp_path / "gone")]), {}) as _:
        pass
    (logger,) = guard([CSVLogger(tmp_path / "gone")])
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.log_metrics({"train/loss": 1.0}, 2)
    (message,) = messages
    assert "metrics.csv cannot be written" in message
    logger.end("success")
    _, message = messages
    assert "CSVLogger failed" in message
    assert "metrics.csv cannot be written" in message
    assert "2 rows are lost" in message


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    require_package(kept)
    kept.package = "nowhere_to_be_found"
    with pytest.raises(UserError, match=r"pip install 'gpt2-lightning\[nowhere_to_be_found\]'"):
        guard([kept])
    (tmp_path / "nowhere_to_be_found").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="pip install"):
        require_package(kept)


def test_a_missing_package_is_told_before_there_is_a_folder(
    run_verb: Callable[..., Any], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    outcome = run_verb("train", "model=tiny", "trainer.max_steps=1", "logger=[csv,mlflow]")
    assert outcome.code == 2
    assert "pip install 'gpt2-lightning[mlflow]'" in outcome.err
    assert not (workplace / "runs").exists()


def test_what_lightnings_own_loggers_need_is_named(run_verb: Callable[..., Any], workplace: Path) -> None:
    comet = "logger.comet={_target_: lightning.pytorch.loggers.CometLogger}"
    outcome = run_verb("train", "model=tiny", "trainer.max_steps=1", comet)
    assert outcome.code == 2
    assert "error: logger: " in outcome.err
    assert "comet" in outcome.err
    assert not (workplace / "runs").exists()


def test_the_runs_folder_keeps_the_state_of_the_code(tmp_path: Path) -> None:
    CSVLogger(tmp_path).log_hyperparams({"seed": 1, "git": None})
    assert list(tmp_path.iterdir()) == []
    git = {"commit": "abc", "dirty": True}
    CSVLogger(tmp_path).log_hyperparams({"seed": 1, "git": git})
    assert yaml.safe_load((tmp_path / "git.yaml").read_text(encoding="utf-8")) == git


def test_tensorboard_reads_what_was_logged(tmp_path: Path, picture: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"optimizer": {"lr": 0.5}, "git": {"commit": "abc", "dirty": True}})
    logger.log_metrics({"train/loss": 2.5, "lr": 0.25}, 10)
    logger.log_metrics({"val/loss": 3.5}, 10)
    logger.log_text("samples", "A *star*\n  rose", 10)
    logger.log_picture("loss", picture, 10)
    logger.finalize("success")
    stored = in_tensorboard(tmp_path)
    assert stored.scalars == {"train/loss": [(10, 2.5)], "lr": [(10, 0.25)], "val/loss": [(10, 3.5)]}
    assert stored.texts == {"samples": ["    A *star*\n      rose\n"]}
    assert stored.pictures == {"loss"}
    assert "lr: 0.5" in stored.config
    assert "commit: abc" in stored.config


def test_a_resumed_run_hides_what_tensorboard_had_after_its_first_step(tmp_path: Path) -> None:
    for start, loss in ((10, 4.0), (30, 1.0)):
        logger = TensorBoardLogger(tmp_path)
        for step in (start, start + 10, start + 20):
            logger.log_metrics({"train/loss": loss + step / 1000}, step)
        logger.finalize("interrupted")
    losses = in_tensorboard(tmp_path).scalars["train/loss"]
    assert losses == [(s, pytest.approx(v)) for s, v in ((10, 4.01), (20, 4.02), (30, 1.03), (40, 1.04), (50, 1.05))]


def test_nothing_is_opened_before_a_run_begins(tmp_path: Path) -> None:
    TensorBoardLogger(tmp_path).finalize("failed")
    assert list(tmp_path.iterdir()) == []


def test_settings_under_dotted_names() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_git_state_of_a_folder(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_state(tmp_path) is None
    git("init")
    assert git_state(tmp_path) is None, "there is no commit yet"
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-m", "one")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "new").write_text("not tracked")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "a.py").write_text("2")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": True}
    assert git_state(tmp_path / "nowhere") is None


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small PNG."""
    from matplotlib.image import imsave

    file = tmp_path / "picture.png"
    imsave(file, torch.rand(7, 5, 3, generator=torch.Generator().manual_seed(0)).numpy())
    return file


def test_tensorboard_shows_the_settings_of_a_run_beside_its_validation_loss(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"seed": 3, "optimizer": {"lr": 0.01, "betas": [0.9, 0.99]}, "compile": False, "git": None})
    logger.log_metrics({"val/loss": 2.0}, step=1)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    stored = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(stored).session_start_info.hparams
    assert found["seed"].number_value == 3
    assert found["optimizer.lr"].number_value == 0.01
    assert found["optimizer.betas"].string_value == "[0.9, 0.99]"
    assert found["compile"].bool_value is False
    assert "git" not in found
    columns = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/experiment").plugin_data.content)
    assert [info.name.tag for info in columns.experiment.metric_infos] == ["val/loss"]
