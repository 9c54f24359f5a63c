"""Runs that are trained again from their configuration."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gpt2_lightning.checkpoints.content import load_model, weights_hash

Run = Callable[..., Any]


def printed_hash(text: str) -> str:
    (found,) = re.findall(r"weights: SHA-256 ([0-9a-f]{64})", text)
    return str(found)


def changed(run: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A folder with the run's configuration, after a change."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_a_replay_has_the_same_weights_in_a_new_folder(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    outcome = run_verb("train", f"replay={tiny_run}", "runs_dir=again")
    assert outcome.code == 0, outcome
    expected = printed_hash((tiny_run / "train.log").read_text())
    assert printed_hash(outcome.out) == expected
    (replayed,) = (workplace / "again" / "text-tiny").iterdir()
    model, _ = load_model(replayed / "checkpoints" / "step-000012.ckpt", torch.device("cpu"))
    assert weights_hash(model, "sha256") == expected
    before, after = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (tiny_run, replayed))
    assert {key for key in before if before[key] != after[key]} == {"run_dir", "runs_dir", "replay"}


def test_overrides_lie_on_top_of_a_replay(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    settings = [
        "schedule=constant",
        "trainer.max_steps=3",
        "optimizer.lr=1e-3",
        "callbacks.samples=null",
        "trainer=cpu",
    ]
    outcome = run_verb("train", f"replay={tiny_run}", *settings, "runs_dir=again", "precision=bf16")
    assert outcome.code == 0, outcome
    assert printed_hash(outcome.out) != printed_hash((tiny_run / "train.log").read_text())
    (replayed,) = (workplace / "again" / "text-tiny").iterdir()
    config = yaml.safe_load((replayed / "config.yaml").read_text())
    assert config["schedule"] == {"_target_": "gpt2_lightning.training.schedules.Constant", "warmup_steps": 100}
    assert (config["optimizer"]["lr"], config["callbacks"]["samples"]) == (1e-3, None)
    trainer = config["trainer"]
    assert (trainer["max_steps"], trainer["val_check_interval"], trainer["precision"]) == (3, 5, "bf16")
    assert config["model"] == yaml.safe_load((tiny_run / "config.yaml").read_text())["model"]


def test_keys_of_another_version_are_named_in_one_message(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    def age(config: dict[str, Any]) -> None:
        config["gone"] = 1
        config["model"]["lost"] = 2
        del config["price"]

    old = changed(tiny_run, workplace / "old", age)
    outcome = run_verb("train", f"replay={old}", "optimizer.lr=-1")
    assert outcome.code == 2
    assert "3 faults" in outcome.err
    for fault in (r"gone: unknown key.*old/config\.yaml", r"model\.lost: unknown key.*old/config\.yaml"):
        assert re.search(fault, outcome.err), outcome.err
    assert "config.yaml" not in next(line for line in outcome.err.splitlines() if "optimizer.lr: -1" in line)
    assert not (workplace / "runs").exists()


def test_text_with_a_dollar_is_no_reference(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    def ask(config: dict[str, Any]) -> None:
        config["name"] = "costs-${price}"

    old = changed(tiny_run, workplace / "old", ask)
    assert run_verb("train", f"replay={old}", "trainer.max_steps=1", "runs_dir=again").code == 0
    assert [folder.name for folder in (workplace / "again").iterdir()] == ["costs-${price}"]


@pytest.mark.parametrize(
    ("verb", "settings", "named"),
    [
        ("train", ["replay=nowhere"], "replay: nowhere"),
        ("finetune", ["replay=RUN"], "is a run of train, not of finetune"),
        ("train", ["replay=RUN", "experiment=shakespeare_char_cpu"], "experiment=shakespeare_char_cpu"),
    ],
)
def test_what_cannot_be_replayed_is_named(
    run_verb: Run, tiny_run: Path, verb: str, settings: list[str], named: str
) -> None:
    outcome = run_verb(verb, *(setting.replace("RUN", str(tiny_run)) for setting in settings))
    assert outcome.code == 2
    assert named in outcome.err
