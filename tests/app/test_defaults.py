"""Defaults of targets in the configuration of a run."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt2_lightning.app.config.defaults import with_defaults
from gpt2_lightning.app.config.preflight import preflight
from gpt2_lightning.app.run.resume import log_changes
from tests.app.compositions import composed, named, schema_of
from tests.outcomes import Outcome


def stated_defaults(node: Any) -> list[tuple[str, Any, Any]]:
    """Name, stated value and default in Python of each optional parameter of the targets of this package."""
    if not isinstance(node, dict):
        return []
    found = [entry for child in node.values() for entry in stated_defaults(child)]
    module, _, name = node.get("_target_", ".").rpartition(".")
    if module.startswith("gpt2_lightning"):
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        optional = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
        found += [(f"{module}.{name}.{n}", node.get(n, "missing"), default) for n, default in optional.items()]
    return found


@pytest.mark.parametrize(
    ("verb", "settings"),
    [
        ("train", ["tokenizer=bpe"]),
        ("train", ["optimizer=muon", "schedule=wsd", "callbacks=[attention,early_stopping]", "logger=mlflow"]),
        ("finetune", ["task=instruct", "data=instructions", "lora=attention"]),
        ("finetune", ["task=classify", "data=table"]),
    ],
)
def test_every_default_of_a_target_is_stated(verb: str, settings: list[str]) -> None:
    plain, _ = preflight(named(composed(verb, *settings)), schema_of(verb))
    complete = with_defaults(plain)
    checked = 0
    before = stated_defaults(plain)
    for (name, value, default), (_, stated, _) in zip(stated_defaults(complete), before, strict=True):
        if stated != "missing":
            assert value == stated, name
            continue
        if name == "gpt2_lightning.model.GPT2Config.vocab_size":
            assert value == "missing", "it follows the tokenizer"
            continue
        is_factory = type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS"
        expected = [*default] if isinstance(default, tuple) else default
        assert value == expected or (is_factory and value in ({}, [])), name
        checked += 1
    assert checked > 15
    assert with_defaults(complete) == complete
    assert preflight(composed(verb, *settings), schema_of(verb))[1] == [] or verb == "finetune"


def test_what_was_stated_stays() -> None:
    plain, _ = preflight(named(composed("train", "+optimizer.weight_decay=0.3")), schema_of("train"))
    assert with_defaults(plain)["optimizer"]["weight_decay"] == 0.3
    assert with_defaults(plain)["optimizer"]["betas"] == [0.9, 0.99]


def test_the_configuration_of_a_run_is_complete(tiny_run: Path) -> None:
    config = yaml.safe_load((tiny_run / "config.yaml").read_text(encoding="utf-8"))
    assert with_defaults(config) == config
    assert config["optimizer"]["weight_decay"] == 0.1
    assert config["trainer"]["gradient_clip_val"] == 1.0
    assert config["model"]["resid_pdrop"] == 0.0
    assert config["schedule"]["warmup_steps"] == 100


def test_defaults_that_an_earlier_version_did_not_state_are_no_change(caplog: pytest.LogCaptureFixture) -> None:
    plain, _ = preflight(named(composed("train")), schema_of("train"))
    log_changes(plain, with_defaults(plain))
    assert "changed since the checkpoint" not in caplog.text


def test_a_run_is_replayed_from_its_own_complete_configuration(
    run_verb: Callable[..., Outcome], tiny_run: Path, workplace: Path
) -> None:
    """All of its keys are known to the version that wrote them, and the replay states the same."""
    outcome = run_verb("train", f"replay={tiny_run}", "runs_dir=again")
    assert outcome.code == 0, outcome.err
    (replayed,) = (workplace / "again" / "text-tiny").iterdir()
    first, second = (yaml.safe_load((run / "config.yaml").read_text("utf-8")) for run in (tiny_run, replayed))
    places = {key for key in first if first[key] != second[key]}
    assert places <= {"run_dir", "runs_dir", "replay"}
