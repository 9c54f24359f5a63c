"""MLflow and Aim, where they are installed, and MLflow's server where it is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.loggers import MLflowLogger
from tests.training.logged import in_csv

# What these packages use of others is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
RUN = ["model=tiny", "batch_size=4", "trainer=cpu", "callbacks.samples.max_new_tokens=20", "run_dir=here"]
INTERVALS = ["trainer.val_check_interval=3", "trainer.log_every_n_steps=2"]


def run_and_resume(run_verb: Callable[..., Any], logger: str) -> None:
    """Five steps, and two more after a resume."""
    for more in (["trainer.max_steps=5"], ["trainer.max_steps=7", "resume=here"]):
        outcome = run_verb("train", *RUN, *INTERVALS, *more, f"logger=[csv,{logger}]")
        assert outcome.code == 0, outcome
        assert "failed" not in outcome.out


def test_mlflow_stores_the_same_as_the_csv(run_verb: Callable[..., Any], workplace: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    run_and_resume(run_verb, "mlflow")
    client = mlflow.MlflowClient("sqlite:///runs/mlflow.db")
    experiment = client.get_experiment_by_name("gpt2-lightning")
    (run,) = client.search_runs([experiment.experiment_id])
    run_id = run.info.run_id
    assert run_id == (workplace / "here" / "mlflow.id").read_text()
    assert (run.info.run_name, run.info.status) == ("scifi-tiny/here", "FINISHED")
    expected = in_csv(workplace / "here").scalars
    assert run.data.metrics.keys() == expected.keys()
    for key, values in expected.items():
        history = sorted((m.step, m.value) for m in client.get_metric_history(run_id, key))
        assert history == sorted((step, pytest.approx(value)) for step, value in values)
    assert run.data.params["model.n_layer"] == "2"
    config = yaml.safe_load(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config.yaml"))
    assert config["trainer"]["max_steps"] == 7
    assert config["git"] is None
    samples = [Path(file.path).name for file in client.list_artifacts(run_id, "samples")]
    assert samples == [f"step-00000{step}.txt" for step in (3, 5, 6, 7)]
    assert [file.path for file in client.list_artifacts(run_id, "loss")] == ["loss/loss.png"]


def test_aim_stores_the_same_as_the_csv(run_verb: Callable[..., Any], workplace: Path) -> None:
    aim = pytest.importorskip("aim")
    run_and_resume(run_verb, "aim")
    tool = Path(sys.executable).with_name("aim")
    reindex = [str(tool), "storage", "--repo", "runs", "reindex", "--yes"]
    subprocess.run(reindex, check=True, capture_output=True, timeout=60)
    run_id = (workplace / "here" / "aim.id").read_text()
    repo = aim.Repo("runs")
    assert repo.list_all_runs() == [run_id]
    run = repo.get_run(run_id)
    assert (run.name, run.experiment) == ("scifi-tiny/here", "gpt2-lightning")
    expected = in_csv(workplace / "here").scalars
    # Both rows of a validated step state the tokens, and Aim keeps one value a step.
    stored = {metric.name: sorted(metric.values.sparse_list()[1]) for metric in run.metrics()}
    assert stored == {key: pytest.approx(sorted(dict(rows).values())) for key, rows in expected.items()}
    assert run.get("trainer")["max_steps"] == 7
    assert run.get("status") == "success"


def test_an_mlflow_server_that_is_gone_is_named_within_seconds(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9 does not answer"):
        MLflowLogger(tmp_path, "a", None, "http://127.0.0.1:9").log_hyperparams({})
    assert time.monotonic() - start < 5


def test_a_run_ends_where_an_mlflow_server_is_gone(run_verb: Callable[..., Any], workplace: Path) -> None:
    pytest.importorskip("mlflow")
    gone = "logger.mlflow.tracking_uri=http://127.0.0.1:9"
    outcome = run_verb("train", *RUN, "trainer.max_steps=2", "logger=[csv,mlflow]", gone)
    assert outcome.code == 0, outcome
    said = (
        "MLflowLogger failed and gets nothing more of this run, which goes on: the server http://127.0.0.1:9 does not"
    )
    assert outcome.out.count(said) == 1
    assert [step for step, _ in in_csv(workplace / "here").scalars["val/loss"]] == [2]


def test_aims_server_is_refused(run_verb: Callable[..., Any], workplace: Path) -> None:
    outcome = run_verb("train", *RUN, "logger=[csv,aim]", "logger.aim.repo=aim://127.0.0.1:53800")
    assert outcome.code == 2
    assert "logger.aim.repo: 'aim://127.0.0.1:53800' is a server, for which Aim waits without end" in outcome.err
    assert not list(workplace.iterdir())
