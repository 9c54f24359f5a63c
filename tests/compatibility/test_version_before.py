"""Folders and configurations of the version before: see fixtures/README.md."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from safetensors.torch import load_file

from gpt2_lightning.app.config.preflight import preflight
from gpt2_lightning.checkpoints import files
from tests.app.compositions import composed, named, schema_of
from tests.compatibility.commands import ANSWERS, MAKE, RESUME

Run = Callable[..., Any]
FIXTURES = Path(__file__).parent / "fixtures"
OPTIONS = yaml.safe_load((FIXTURES / "options.yaml").read_text())
GAINED = {"pad_token", "pad_token_id"}
"""Entries that JSON files of exports have gained: without a padding token, transformers refuses batches of texts."""


@pytest.fixture
def fixtures(workplace: Path) -> Path:
    """The working folder, with a copy of the fixtures in it."""
    shutil.copytree(FIXTURES, workplace, dirs_exist_ok=True)
    return workplace


def rows(file: Path) -> list[dict[str, Any]]:
    """JSON objects without the digest of the settings, which newer settings change."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "settings"} for row in found]


def assert_close(found: Any, expected: Any) -> None:
    """Equal, but for floats, which another CPU rounds otherwise."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), [expected[key] for key in found]
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    else:
        assert found == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return files.read(checkpoint)["state_dict"]


def losses(run: Path) -> list[tuple[str, float]]:
    """Steps and losses in metrics.csv."""
    with (run / "metrics.csv").open(newline="") as file:
        return [
            (row["step"], float(row[key]))
            for row in csv.DictReader(file)
            for key in ("train/loss", "val/loss")
            if row[key]
        ]


@pytest.mark.parametrize("name", ANSWERS)
def test_models_answer_the_same(name: str, run_verb: Run, fixtures: Path) -> None:
    outcome = run_verb(*ANSWERS[name].split(), "output=answers.jsonl")
    assert outcome.code == 0, outcome.err
    assert_close(rows(fixtures / "answers.jsonl"), rows(FIXTURES / "expected" / f"{name}.jsonl"))


@pytest.mark.parametrize("run", ["interrupted", "again"])
def test_a_run_ends_with_the_same_weights_and_losses(run: str, run_verb: Run, fixtures: Path) -> None:
    command = RESUME if run == "interrupted" else f"{MAKE['chars']} run_dir=again"
    outcome = run_verb(*command.split())
    assert outcome.code == 0, outcome.err
    last = "checkpoints/step-000050.ckpt"
    torch.testing.assert_close(weights(fixtures / run / last), weights(FIXTURES / "chars" / last), rtol=1e-4, atol=1e-5)
    assert_close(losses(fixtures / run), losses(FIXTURES / "chars"))


@pytest.mark.parametrize("export", ["huggingface", "peft"])
def test_exports_are_equal(export: str, run_verb: Run, fixtures: Path) -> None:
    shutil.rmtree(fixtures / export)
    outcome = run_verb(*MAKE[export].split())
    assert outcome.code == 0, outcome.err
    names = {file.name for file in (FIXTURES / export).iterdir()}
    assert {file.name for file in (fixtures / export).iterdir()} >= names
    for name in names - {"README.md"}:
        if name.endswith(".safetensors"):
            torch.testing.assert_close(load_file(fixtures / export / name), load_file(FIXTURES / export / name))
        elif name.endswith(".json"):  # no entry may be lost or changed, and none but these gained
            found, expected = (json.loads((folder / export / name).read_text()) for folder in (fixtures, FIXTURES))
            assert {key: found[key] for key in found if key in expected or key not in GAINED} == expected
        else:
            assert (fixtures / export / name).read_text() == (FIXTURES / export / name).read_text()


def test_an_export_is_read_back(run_verb: Run, fixtures: Path) -> None:
    assert run_verb("convert", "source=huggingface", "target=back.ckpt").code == 0
    torch.testing.assert_close(
        weights(fixtures / "back.ckpt"), weights(fixtures / "bpe" / "checkpoints" / "best.ckpt"), rtol=0, atol=0
    )


def test_shards_are_complete_and_train(run_verb: Run, fixtures: Path) -> None:
    written = {file: file.stat().st_mtime_ns for file in (fixtures / "shards").rglob("*.bin")}
    assert run_verb(*MAKE["shards"].split()).code == 0
    assert {file: file.stat().st_mtime_ns for file in (fixtures / "shards").rglob("*.bin")} == written
    training = [setting for setting in MAKE["bpe"].split() if not setting.startswith(("data", "tokenizer", "run_dir"))]
    saved = ["tokenizer=saved", "tokenizer.path=shards"]
    outcome = run_verb(*training, "data=tokens", "data.path=shards", *saved, "run_dir=here")
    assert outcome.code == 0, outcome.err
    assert_close(losses(fixtures / "here"), losses(FIXTURES / "bpe"))


@pytest.mark.slow
@pytest.mark.parametrize("sweep", ["sweep", "study"])
def test_a_sweep_that_has_ended_has_nothing_to_do(sweep: str, run_verb: Run, fixtures: Path) -> None:
    before = {file: file.read_text() for file in fixtures.glob("*/*/status.json")}
    outcome = run_verb(*MAKE[sweep].split())
    assert outcome.code == 0, outcome.err
    assert {file: file.read_text() for file in fixtures.glob("*/*/status.json")} == before


@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_a_user_name_targets_that_have_moved(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group, name = option.split("/")
    verb = "finetune" if group in {"lora", "task", "template"} else "train"
    config = composed(verb, f"{group}={name}")
    OmegaConf.set_struct(config, False)  # an option states only what differs from the defaults in code
    config[group] = OmegaConf.merge(config[group], OPTIONS[option])
    assert preflight(named(config), schema_of(verb))[1] == []


def test_a_run_with_moved_targets(run_verb: Run, fixtures: Path) -> None:
    chosen = {"task": "classify", "data": "imdb", "lora": "all_linear", "template": "alpaca"}
    for group, name in chosen.items():
        (fixtures / "mine" / group).mkdir(parents=True)
        option = OPTIONS[f"{group}/{name}"]
        option = {"_target_": option["_target_"], "path": "rows.csv"} if group == "data" else option
        (fixtures / "mine" / group / "mine.yaml").write_text(yaml.safe_dump(option))
    verb, *settings = MAKE["single"].split()
    settings = [setting for setting in settings if setting.partition("=")[0] not in chosen]
    mine = [f"{group}=mine" for group in chosen]
    outcome = run_verb(verb, "--config-dir", "mine", *mine, *settings, "trainer.max_steps=1", "run_dir=here")
    assert outcome.code == 0, outcome.err
