"""A search for the best settings: what it draws from, and a study that is killed, resumed and pruned."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from gpt2_lightning.app.config.registration import register_with_hydra
from gpt2_lightning.app.finetuning.settings import FinetuneSettings
from gpt2_lightning.app.sweeping.settings import SweepSettings
from gpt2_lightning.app.sweeping.space import Space
from gpt2_lightning.app.sweeping.status import Status
from gpt2_lightning.app.sweeping.table import tabulate
from gpt2_lightning.config_folder import config_folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.metrics.monitor import Monitor
from tests.app.tiny_runs import TINY
from tests.programs import running

optuna = pytest.importorskip("optuna")
Run = Callable[..., Any]


def space(*overrides: str) -> Space:
    GlobalHydra.instance().clear()
    register_with_hydra("train", "finetune", "sweep")
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return Space.read(list(overrides), GlobalHydra.instance().config_loader())


def test_ranges_become_distributions() -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    read = space(
        "++optimizer.lr=tag(log,interval(1e-4,1e-2))",
        "++seed=int(interval(1,5))",
        "++model.n_layer=range(2,9,2)",
        "++model.attn_pdrop=range(0.0,0.3,0.1)",
        "model=tiny,char",
        "++batch_size=4",
    )
    assert read.fixed == ["++batch_size=4"]
    assert read.swept == {
        "++optimizer.lr": FloatDistribution(1e-4, 1e-2, log=True),
        "++seed": IntDistribution(1, 5),
        "++model.n_layer": IntDistribution(2, 8, step=2),
        "++model.attn_pdrop": FloatDistribution(0.0, 0.2, step=0.1),
        "model": CategoricalDistribution(["tiny", "char"]),
    }
    assert len(list(read.corners())) == 6, "the first value of all, and one more run for each other end"
    assert read.typed({"++optimizer.lr": 1e-3, "model": "char"}) == {"optimizer.lr": "0.001", "model": "char"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("++optimizer.lr=interval(1e-2,1e-4)", "optimizer.lr: the interval from 0.01 to 0.0001 is empty"),
        ("++optimizer.lr=tag(log,interval(0,1))", "optimizer.lr: the interval begins at 0.0, and a logarithm"),
        ("++seed=range(3,1)", "seed: the range from 3 to 1 holds no value"),
        ("++seed=tag(logg,interval(1,2))", "seed: the tag logg means nothing here"),
        ("++seed=tag(log,choice(1,2))", "seed: choices have no scale"),
        ("++seed=tag(log,range(1,5))", "seed: a range has equal steps"),
        ("++seed=1", "there is nothing to search"),
    ],
)
def test_what_cannot_be_searched_is_refused(override: str, expected: str) -> None:
    with pytest.raises(UserError) as refusal:
        space(override)
    assert expected in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["optimizer.lrr=interval(1,2)"], "optimizer.lrr: unknown key; did you mean optimizer.lr?"),
        (["model.attn_pdrop=interval(0.5,1.5)"], "attn_pdrop: 1.5"),
        (["seed=interval(1,2)"], "seed: 1.0 does not fit; it must be a valid integer"),
        (["model=tiny,tinny"], "did you mean tiny?"),
        (["seed=1,2", "trials=0", "workers=0"], "workers: 0 is out of range"),
        (["model=tiny"], "there is nothing to search"),
        (["seed=1,2", "verb=generate"], "verb: 'generate' does not fit"),
        (["seed=1,2", "trails=3"], "trails: unknown key; did you mean trials?"),
        (["seed=1,2", "hydra/launcher=joblib"], "hydra/launcher: a search starts its trials by itself, workers=2"),
        (["seed=1,2", "monitor=val/loss,train/loss"], "monitor: the trials of a search have one objective"),
        (
            ["seed=1,2", "monitor=val/speed"],
            "monitor_mode: auto does not know whether",
        ),
        (["seed=1,2", "run_dir=here"], "run_dir: each run has its own in the sweep's folder"),
    ],
)
def test_faults_are_told_before_the_first_trial(
    run_verb: Run, workplace: Path, arguments: list[str], expected: str
) -> None:
    outcome = run_verb("sweep", *arguments)
    assert outcome.code == 2
    assert expected in outcome.err
    assert not (workplace / "runs").exists()


def test_keys_of_the_search_are_none_of_a_run() -> None:
    settings = FinetuneSettings.__dataclass_fields__.keys()
    assert not settings & SweepSettings.__dataclass_fields__.keys()
    of_runs = [*settings, *(folder.name for folder in config_folder().iterdir())]
    SweepSettings(overrides=[f"{key}=1" for key in of_runs])  # none is taken for one misspelt


def test_optuna_that_is_not_installed_is_named(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'gpt2-lightning[sweep]'" in run_verb("sweep", "seed=1,2").err


@pytest.mark.slow
def test_trials_that_fail_leave_the_others(run_verb: Run, small_text: Path, workplace: Path) -> None:
    (workplace / "good.txt").write_text(small_text.read_text())
    settings = [*TINY, "trainer.max_steps=2", "callbacks.samples=null", "data=text", "seed=1,2"]
    mixed = run_verb("sweep", "trials=4", *settings, "data.path=good.txt,bad.txt", "study_dir=mixed")
    assert mixed.code == 0, mixed
    states = {Status.read(workplace / "mixed" / str(number)).state for number in range(4)}
    assert states == {"done", "failed"}
    assert "failed: data.path: there is no file or folder" in mixed.out
    assert re.search(r"^best: trial \d, validation loss", mixed.out, re.MULTILINE)
    bad = run_verb("sweep", "trials=2", *settings, "data.path=bad.txt", "study_dir=bad")
    assert bad.code == 1
    assert "no trial has ended well; status.json in the folder of each says why" in bad.out


def test_runs_are_compared_by_the_monitored_metric(tmp_path: Path) -> None:
    accuracies = {"0": (0.5, 0.75), "1": (0.25, 1.0), "2": (0.5, 0.5)}
    for name, (first, last) in accuracies.items():
        (tmp_path / name).mkdir()
        rows = f"step,val/loss,val/accuracy\n1,1.0,{first}\n2,2.0,{last}\n"
        (tmp_path / name / "metrics.csv").write_text(rows)
        Status({"seed": name}, "", "done").write(tmp_path / name)
    tabulate(tmp_path, [tmp_path / name for name in accuracies], Monitor("val/accuracy", "max"))
    with (tmp_path / "sweep.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["run"] for row in table] == ["1", "0", "2"]
    assert [row["best val/accuracy"] for row in table] == ["1", "0.75", "0.5"]
    assert [row["best_step"] for row in table] == ["2", "2", "1"]
    assert {row["best_val_loss"] for row in table} == {"1"}


@pytest.mark.slow
def test_a_search_maximizes_an_accuracy(run_verb: Run, small_text: Path, workplace: Path) -> None:
    length = ["trainer.max_steps=6", "trainer.val_check_interval=2", "callbacks.samples=null"]
    settings = [*TINY, *length, "metrics=top5", "monitor=val/top5_accuracy", "data=text", f"data.path={small_text}"]
    outcome = run_verb("sweep", "trials=2", "optimizer.lr=1e-2,1e-9", "study_dir=study", *settings)
    assert outcome.code == 0, outcome
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{workplace / 'study' / 'study.db'}")
    assert study.direction.name == "MAXIMIZE"
    for trial in study.trials:
        with (workplace / "study" / str(trial.number) / "metrics.csv").open() as file:
            found = [float(row["val/top5_accuracy"]) for row in csv.DictReader(file) if row["val/top5_accuracy"]]
        assert trial.value == pytest.approx(max(found), rel=1e-5)
    best = max(trial.value for trial in study.trials)
    assert f"best: trial {study.best_trial.number}, val/top5_accuracy {best:.4f}" in outcome.out


def killed_in_its_third_trial(settings: list[str], workplace: Path) -> Path:
    """The folder of a study whose program was killed when the third trial had saved."""
    sweeps = workplace / "runs" / "sweeps"
    with running("sweep", *settings, output=workplace / "said") as program:
        program.wait_until(lambda: list(sweeps.glob("*/2/checkpoints/step-*.ckpt")), timeout=400)
        program.kill()
    (study_dir,) = sweeps.iterdir()
    return study_dir


@pytest.mark.slow
def test_a_killed_study_goes_on_prunes_and_draws(run_verb: Run, small_text: Path, workplace: Path, root: Path) -> None:
    length = ["trainer.max_steps=12", "trainer.val_check_interval=3", "callbacks.checkpoint.every_n_steps=3"]
    search = ["trials=8", "startup_trials=2", "optimizer.lr=tag(log,interval(1e-6,3e-1))", "model.n_layer=1,2"]
    settings = [*search, *TINY, *length, "callbacks.samples=null", "data=text", f"data.path={small_text}"]
    study_dir = killed_in_its_third_trial(settings, workplace)

    outcome = run_verb("sweep", *settings)
    assert outcome.code == 0, outcome
    assert list((workplace / "runs" / "sweeps").iterdir()) == [study_dir]
    assert "2 of 8 trials done before" in outcome.out
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{study_dir / 'study.db'}")
    found = [trial.state.name for trial in study.trials]
    assert len(found) == 8
    assert set(found) == {"COMPLETE", "PRUNED"}
    assert (study_dir / "2" / "train.log").read_text().count("folder: ") == 2, "stopped in the middle, and gone on with"
    for trial in study.trials:
        with (study_dir / str(trial.number) / "metrics.csv").open() as file:
            losses = {int(row["step"]): float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]}
        status = Status.read(study_dir / str(trial.number))
        assert trial.intermediate_values == pytest.approx(losses, rel=1e-5)
        if trial.state.name == "PRUNED":
            assert max(losses) < 12
            assert status.state == "pruned"
        else:
            assert max(losses) == 12
            assert trial.value == pytest.approx(min(losses.values()), rel=1e-5)
    for picture in ("history.png", "importances.png", "sweep.png"):
        assert (study_dir / picture).read_bytes().startswith(b"\x89PNG")
    best = study.best_trial
    assert f"best: trial {best.number}, validation loss {best.value:.4f}" in outcome.out
    assert f"optimizer.lr={best.params['optimizer.lr']}" in outcome.out
    again = run_verb("sweep", *settings)
    assert again.code == 0
    assert "trial 8" not in again.out
