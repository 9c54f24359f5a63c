"""Benchmarks while a model learns."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Subject
from gpt2_lightning.evaluation.evaluate import evaluate
from gpt2_lightning.tokenizers import CharTokenizer
from gpt2_lightning.training.callbacks import Benchmarks, EarlyStopping
from gpt2_lightning.training.metrics.monitor import Monitor
from tests.app.letter_benchmark import Letters
from tests.training.short_run import ALPHABET, CONFIG, Plan, Run, same_tensors

Train = Callable[..., Run]
WITH_DROPOUT = dataclasses.replace(CONFIG, embd_pdrop=0.3, attn_pdrop=0.3, resid_pdrop=0.3)
WORST = "benchmarks/letters/worst"
MEAN = "benchmarks/letters/log_likelihood"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten lines of two to seven letters."""
    dice = random.Random(0)
    folder = tmp_path_factory.mktemp("data")
    (folder / "letters").mkdir()
    lines = ["".join(dice.choices(ALPHABET[:-1], k=dice.randint(2, 7))) for _ in range(10)]
    (folder / "letters" / "letters.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def callback(data_dir: Path, every: int = 5, **settings: Any) -> Benchmarks:
    return Benchmarks({"letters": Letters()}, str(data_dir), every, **settings)


@pytest.fixture(scope="module")
def run(train: Train, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Measured at steps 5, 10 and 12, of which 12 is validated."""
    plan = Plan(tmp_path_factory.mktemp("run"), model=WITH_DROPOUT, callbacks=[callback(data_dir, sample=8)])
    return train(dataclasses.replace(plan, checkpointing={"every_n_steps": 1}))


def test_metrics_equal_those_of_evaluate_on_the_checkpoint_of_the_step(run: Run, data_dir: Path) -> None:
    assert set(run.column(MEAN)) == set(run.column(WORST)) == {5, 10, 12}
    for step in (5, 10, 12):
        model, _ = load_model(run.run_dir / "checkpoints" / f"step-{step:06d}.ckpt", torch.device("cpu"))
        subject = Subject(model.eval(), CharTokenizer(ALPHABET, "error"), "checkpoint")
        (result,) = evaluate({"letters": Letters(limit=8)}, subject, data_dir)
        assert run.column(MEAN)[step] == pytest.approx(result["log_likelihood"].value, rel=1e-6)
        assert run.column(WORST)[step] == pytest.approx(result["worst"].value, rel=1e-6)


def test_training_is_the_same_without_it(train: Train, run: Run, tmp_path: Path) -> None:
    without = train(Plan(tmp_path, model=WITH_DROPOUT))
    assert same_tensors(dict(without.model.state_dict()), dict(run.model.state_dict()))
    for column in ("train/loss", "val/loss", "lr"):
        assert without.column(column) == run.column(column)


def test_a_benchmark_judges_the_run_between_validations(train: Train, data_dir: Path, tmp_path: Path) -> None:
    """Random lines become less likely: an early measurement is the best, at a step without validation."""
    stop = EarlyStopping(patience=2)
    settings = {"model": WITH_DROPOUT, "monitor": Monitor(MEAN, "max"), "max_steps": 40}
    run = train(Plan(tmp_path, callbacks=[stop, callback(data_dir, every=3)], **settings))
    found = run.column(MEAN)
    best = max(found, key=found.__getitem__)
    assert run.checkpoint("best.ckpt")["global_step"] == best == run.metrics.best_step
    assert run.metrics.best == pytest.approx(found[best])
    assert run.trainer.global_step == best + 6 == max(found)
    assert max(run.column("val/loss")) == best + 6, "the step that ends the run is validated"


def test_a_resumed_run_has_each_measurement_once(train: Train, run: Run, data_dir: Path, tmp_path: Path) -> None:
    def plan(steps: int) -> Plan:
        more = {"checkpointing": {"every_n_steps": 1}, "model": WITH_DROPOUT}
        return Plan(tmp_path, steps, callbacks=[callback(data_dir, sample=8)], **more)

    train(plan(11))
    train(plan(12), resume=tmp_path / "checkpoints" / "step-000004.ckpt")
    assert [row["step"] for row in run.rows() if row[MEAN]] == ["5", "10", "12"]
    resumed = Run(plan(12), run.data.corpora[0])
    assert resumed.rows() == run.rows()


def test_it_measures_again_where_training_ends_early(train: Train, data_dir: Path, tmp_path: Path) -> None:
    stop = EarlyStopping(patience=1, min_delta=99)
    run = train(Plan(tmp_path, max_steps=40, callbacks=[stop, callback(data_dir, every=100)]))
    assert run.trainer.global_step == 8
    assert set(run.column(MEAN)) == {8}


def test_absent_data_is_refused_before_the_first_step(tokens: Tokens, tmp_path: Path) -> None:
    run = Run(Plan(tmp_path, callbacks=[callback(tmp_path)]), tokens)
    with pytest.raises(UserError, match=r"letters: there is no .*letters\.txt"):
        run.fit()
    assert run.trainer.global_step == 0


@pytest.mark.parametrize(
    ("metric", "steps", "message"),
    [
        ("benchmarks/leters/worst", 0, r"benchmarks/leters/worst is none of .*; did you mean benchmarks/letters/"),
        ("benchmarks/letters/wurst", 5, r"/wurst is none of .*; did you mean benchmarks/letters/worst\?"),
    ],
)
def test_an_unknown_metric_is_refused_as_soon_as_it_is_known(
    metric: str, steps: int, message: str, tokens: Tokens, data_dir: Path, tmp_path: Path
) -> None:
    run = Run(Plan(tmp_path, monitor=Monitor(metric, "max"), callbacks=[callback(data_dir)]), tokens)
    with pytest.raises(UserError, match=message):
        run.fit()
    assert run.trainer.global_step == steps


def test_a_limit_of_a_benchmark_is_kept() -> None:
    found = Benchmarks({"one": Letters(limit=3), "two": Letters()}, sample=5).benchmarks
    assert found == {"one": Letters(limit=3), "two": Letters(limit=5)}
