"""Every shipped YAML composes, passes preflight and tells the truth about itself."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt2_lightning.app.commands.training import finetune, train
from gpt2_lightning.app.config.help import help_text
from gpt2_lightning.app.config.overrides import CommandLine
from gpt2_lightning.app.config.preflight import preflight
from gpt2_lightning.app.config.schema import settings_of, settings_of_verb
from gpt2_lightning.app.verbs import PURPOSES
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.size import count_parameters, flops_per_token, training_bytes
from tests.app.compositions import CONF, RECIPES, composed, named, schema_of

OPTIONS = sorted(str(f.relative_to(CONF).with_suffix("")) for f in CONF.glob("*/*.yaml") if f.parent != RECIPES)
FINETUNING = {"lora", "task", "template"}
"""Groups of the verb `finetune` alone."""
NEEDED = {
    "predict": ["text=something"],
    "explain": ["text=something"],
    "evaluate": ["benchmarks=lambada"],
    "merge": ["++checkpoints=[one,other]"],
}
"""What a verb cannot do without, where its YAML leaves the choice."""
WITH = {
    "benchmarks": ["callbacks=benchmarks"],
    "benchmarks/choices": ["callbacks=benchmarks", "++benchmarks.choices.path=questions.jsonl"],
    "callbacks/benchmarks": ["benchmarks=lambada"],
}
"""What an option or the options of a group cannot do without."""
SIZES = sorted(file.stem for file in (CONF / "model").glob("*.yaml"))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_passes_preflight(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # which some trainers ask for
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 0))  # which some precisions ask for
    group, name = option.split("/")
    verb = finetune if group in FINETUNING else train
    more = WITH.get(option) or WITH.get(group, [])
    config = composed(verb.__name__.rpartition(".")[2], f"{group}={name}", *more)
    assert preflight(named(config), verb.Config)[1] == []


@pytest.mark.parametrize("verb", sorted(set(PURPOSES) - {"train", "finetune"}))
def test_every_verb_passes_preflight(verb: str) -> None:
    assert preflight(named(composed(verb, *NEEDED.get(verb, []))), schema_of(verb))[1] == []


def test_every_verb_has_a_root_configuration() -> None:
    assert sorted(PURPOSES) == sorted(file.stem for file in CONF.glob("*.yaml"))


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=str)
def test_every_yaml_opens_with_the_command_that_runs_it(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    verb, script = re.match(r"# python (?:-m gpt2_lightning (\w+)|(\w+)\.py)", lines[0]).groups()
    assert verb in PURPOSES or (CONF.parent / f"{script}.py").exists()


@pytest.mark.parametrize("option", [*sorted(set(PURPOSES) - {"sweep"}), *OPTIONS])
def test_the_command_that_a_yaml_opens_with_lacks_nothing(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 0))
    lines = [line for line in (CONF / f"{option}.yaml").read_text().splitlines() if not line.startswith("# @package")]
    verb, settings = re.match(r"# python (?:-m gpt2_lightning )?(\w+)(?:\.py)?(.*)", lines[0]).groups()
    command_line = CommandLine.read(shlex.split(settings), CONF)
    config = composed(verb, *command_line.arguments)
    assert [*command_line.faults, *preflight(config, schema_of(verb))[1]] == []


@pytest.mark.parametrize("size", SIZES)
def test_sizes_state_what_they_cost(size: str) -> None:
    text = (CONF / "model" / f"{size}.yaml").read_text()
    fields = {k: v for k, v in yaml.safe_load(text).items() if k not in ("_target_", "defaults")}
    config = GPT2Config(vocab_size=50257 if size.startswith("gpt2") else 76, **fields)
    assert re.search(r"# Parameters.*?: ([\d,]+)\.", text)[1] == f"{count_parameters(config):,}"
    assert re.search(r"activations: ([\d,.]+) MB", text)[1] == f"{training_bytes(config) / 1e6:,.1f}"
    assert re.search(r"train: ([\d,.]+) MFLOPs", text)[1] == f"{flops_per_token(config) / 1e6:,.1f}"


@pytest.mark.parametrize("size", [size for size in SIZES if size.startswith("gpt2")])
def test_gpt2_sizes_bring_their_tokenizer_unless_told_otherwise(size: str) -> None:
    assert composed("train", f"model={size}").tokenizer._target_.endswith("gpt2.from_corpus")
    assert composed("train", f"model={size}", "tokenizer=char").tokenizer._target_.endswith("char.from_corpus")


@pytest.mark.parametrize("verb", ["train", "prepare"])
def test_token_files_bring_gpt2s_tokenizer_unless_told_otherwise(verb: str) -> None:
    assert composed(verb, "data=tokens").tokenizer._target_.endswith("gpt2.from_corpus")
    assert composed(verb, "data=tokens", "tokenizer=bpe").tokenizer._target_.endswith("bpe.from_corpus")


def test_a_size_and_token_files_agree_on_the_tokenizer() -> None:
    assert composed("train", "model=gpt2_124m", "data=tokens").tokenizer._target_.endswith("gpt2.from_corpus")


def test_options_from_a_folder_of_the_users(run_verb: Callable[..., object], workplace: Path) -> None:
    folder = workplace / "mine" / "model"
    folder.mkdir(parents=True)
    (folder / "wide.yaml").write_text("defaults: [tiny]\nn_embd: 48\n")
    outcome = run_verb("train", "--config-dir", "mine", "model=wide", "--cfg", "job", "--package", "model")
    assert outcome.code == 0
    assert yaml.safe_load(outcome.out.split("\n", 1)[1])["n_embd"] == 48
    assert yaml.safe_load(outcome.out.split("\n", 1)[1])["n_head"] == 2


@pytest.mark.parametrize("verb", sorted(PURPOSES))
def test_help_shows_every_setting_with_its_default_and_description(run_verb: Callable[..., object], verb: str) -> None:
    outcome = run_verb(verb, "--help")
    assert outcome.code == 0
    assert "python" in outcome.out
    fields = {field.name: field for field in dataclasses.fields(schema_of(verb))}
    source = settings_of_verb(verb)
    assert sorted(name.removesuffix("_") for name in fields) == sorted(source)
    for name, setting in source.items():
        field = fields.get(name) or fields[f"{name}_"]
        if setting.is_group:
            continue
        assert f"\n  {name}: " in outcome.out
        assert setting.description, f"{name} has no docstring"
        if field.default_factory is not dataclasses.MISSING:
            assert setting.default == field.default_factory()
        elif field.default is not dataclasses.MISSING:
            assert setting.default == field.default
        else:
            assert setting.is_required


def test_help_shows_groups_ranges_and_settings_of_options(run_verb: Callable[..., object]) -> None:
    shown = run_verb("train", "--help").out
    assert "\n    cosine    Warm-up, then half a cosine wave down to a tenth\n" in shown
    assert "\n  seed: int = 1337  (0 up to (not including) 2**63)\n      Fixes the initial weights" in shown
    assert "\n  model.n_layer: int = 4  (1 or more)\n" in shown
    assert "\n  model.positions: learned | sinusoidal = learned\n" in shown
    assert "\n  callbacks.checkpoint.every_n_steps: int = 500  (1 or more)\n" in shown
    assert "\n  optimizer.lr: float = ${divide:0.5,${model.n_embd}}  (a finite number above 0)\n" in shown


def stated_defaults(path: str, node: Any) -> list[str]:
    """Keys of a YAML whose values are the defaults of their target."""
    if not isinstance(node, dict):
        return []
    known = settings_of(node["_target_"]) if "_target_" in node else {}
    own = [f"{path}{key}" for key, value in node.items() if key in known and known[key].default == value]
    return own + [key for name, child in node.items() for key in stated_defaults(f"{path}{name}.", child)]


@pytest.mark.parametrize("option", [one for one in OPTIONS if not one.startswith("model/")])  # sizes state their shape
def test_no_option_states_a_default_of_the_code(option: str) -> None:
    assert stated_defaults("", yaml.safe_load((CONF / f"{option}.yaml").read_text())) == []


@pytest.mark.parametrize("verb", sorted(PURPOSES))
def test_no_verb_states_a_default_of_the_code(verb: str) -> None:
    stated = yaml.safe_load((CONF / f"{verb}.yaml").read_text())
    settings = settings_of_verb(verb)
    assert [key for key in stated if key in settings and not settings[key].is_required] == []


def test_showing_the_configuration_imports_neither_torch_nor_lightning(root: Path) -> None:
    program = (
        "import sys\nsys.argv = ['train.py', '--cfg', 'job']\nfrom gpt2_lightning.app.main import main\n"
        "try:\n    main('train')\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'lightning', 'matplotlib', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("verb", "groups"),
    [("prepare", "tokenizer data"), ("tokenizer", "tokenizer data"), ("params", "data tokenizer model")],
)
def test_the_help_of_a_verb_without_training_lists_only_what_it_uses(verb: str, groups: str) -> None:
    text = help_text(verb, [CONF])
    listed, settings = text.split("Groups, each")[1].split("Settings: KEY=VALUE")
    assert re.findall(r"^  (\w+)", listed, re.MULTILINE) == groups.split()
    assert {key.partition(".")[0] for key in re.findall(r"^  ([\w.]+):", settings, re.MULTILINE)} <= {
        *groups.split(),
        *settings_of_verb(verb),
    }
    for foreign in ("trainer", "lora", "logger", "optimizer", "callbacks"):
        assert not re.search(rf"^  {foreign}\b", text, re.MULTILINE)


def test_the_help_lists_the_settings_of_the_options_that_are_selected() -> None:
    text = help_text("train", [CONF], ["optimizer=muon", "callbacks=[attention,early_stopping]", "batch_size=4"])
    found = dict(re.findall(r"^Settings of (\w+)=(\w+)$", text, re.MULTILINE))
    assert (found["optimizer"], found["schedule"]) == ("muon", "cosine")
    assert "Settings of callbacks=attention" in text
    assert "Settings of callbacks=early_stopping" in text
    assert "  optimizer (adamw by default)" in text
    assert "optimizer.muon_lr" in text
