"""Every recipe composes and passes preflight, and the small ones run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gpt2_lightning.app.commands.training import finetune, train
from gpt2_lightning.app.config.preflight import preflight
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY
from tests.app.compositions import RECIPES, composed, named
from tests.app.tiny_runs import newest_run

Run = Callable[..., Any]
FILES = sorted(RECIPES.glob("*.yaml"))
VERBS = {"train": train, "finetune": finetune}
SMALL = ["tokenizer.vocab_size=300", "model.n_embd=12", "model.n_head=2", "model.n_layer=1"]
SHORT = ["trainer.max_epochs=null", "trainer.max_steps=3", "trainer.val_check_interval=3", "trainer.accelerator=cpu"]


@pytest.fixture
def base(run_verb: Run, workplace: Path) -> Path:
    """A run of the pre-training recipe, cut short."""
    outcome = run_verb("train", "experiment=small_base_cpu", "callbacks.samples=null", *SMALL, *SHORT)
    assert outcome.code == 0, outcome.err
    return newest_run(workplace / "runs" / "small_base_cpu")


def verb_of(recipe: Path) -> str:
    """The verb of the command that a recipe opens with."""
    return re.search(rf"^# python (\w+)\.py experiment={recipe.stem}\b", recipe.read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("recipe", FILES, ids=lambda file: file.stem)
def test_every_recipe_passes_preflight_under_its_verb(recipe: Path) -> None:
    verb = verb_of(recipe)
    config = composed(verb, f"experiment={recipe.stem}")
    assert preflight(named(config), VERBS[verb].Config)[1] == []


@pytest.mark.parametrize("recipe", FILES, ids=lambda file: file.stem)
def test_what_a_recipe_says_rules_over_the_root(recipe: Path) -> None:
    own, whole = OmegaConf.load(recipe), composed(verb_of(recipe), f"experiment={recipe.stem}")
    stated = {key: value for key, value in OmegaConf.to_container(own).items() if key not in ("defaults", "name")}
    assert _part(OmegaConf.to_container(whole), stated) == stated


def _part(found: Any, stated: Any) -> Any:
    """Of what was found, what was stated."""
    return {key: _part(found[key], value) for key, value in stated.items()} if isinstance(stated, dict) else found


def test_the_spam_recipe_runs_on_the_base(run_verb: Run, base: Path, workplace: Path) -> None:
    lines = [f"spam\tWIN {i} pounds now, call {i}\nham\tsee you at {i}" for i in range(30)]
    (workplace / "messages").write_text("\n".join(lines))
    columns = ["data.revision=null", "data.format=tsv", "data.columns=[label,sms]", "data.quote=null"]
    settings = [f"init_from={base}", "data.path=messages", *columns, *SHORT]
    outcome = run_verb("finetune", "experiment=spam_cpu", *settings)
    assert outcome.code == 0, outcome.err
    assert re.search(r"the best weights on the test part of 12 texts:\n  accuracy +[01]\.\d{4} \(", outcome.out)


def test_the_reviews_recipe_runs_on_tokens_of_the_reviews(run_verb: Run, workplace: Path) -> None:
    reviews = [f" a {('dull', 'fine')[i % 2]} film , number {i}" for i in range(30)]
    (workplace / "reviews.txt").write_text("\n".join(reviews))
    learned = ["data=text", "data.path=reviews.txt", "tokenizer.vocab_size=300", "output=reviews_tokenizer"]
    assert run_verb("tokenizer", *learned).code == 0
    rows = [f"{text.strip()}\t{i % 2}" for i, text in enumerate(reviews)]
    for part in ("train", "dev", "test"):
        (workplace / f"{part}.tsv").write_text("\n".join(rows))
    settings = [f"data.path={workplace}", "tokenizer.path=reviews_tokenizer", *SHORT]
    outcome = run_verb("finetune", "experiment=sst2_cpu", *settings)
    assert outcome.code == 0, outcome.err
    assert re.search(r"the best weights on the test part of 30 texts:\n  accuracy +[01]\.\d{4} \(", outcome.out)
    task = files.read(newest_run(workplace / "runs" / "sst2_cpu") / "checkpoints" / "best.ckpt")[KEY]["task"]
    assert (task["add_prefix_space"], task["reads"]) == (True, "mean")


def test_the_instruction_recipe_tells_what_answers_cost_before_and_after(
    run_verb: Run, base: Path, workplace: Path
) -> None:
    rows = [{"instruction": f"Add one to {i}.", "input": "", "output": f"{i + 1}"} for i in range(40)]
    (workplace / "rows.json").write_text(json.dumps(rows))
    settings = [f"init_from={base}", "data.path=rows.json", "task.max_new_tokens=3", "optimizer.lr=0.05", *SHORT]
    outcome = run_verb("finetune", "experiment=instruct_cpu", *settings, "schedule.warmup_steps=0")
    assert outcome.code == 0, outcome.err
    before, after = map(float, re.search(r"response loss +([\d.]+) before, ([\d.]+) after", outcome.out).groups())
    assert before > 5.0, "near the logarithm of 300 equally likely tokens, 5.7"
    assert after < before - 0.2
    assert re.search(r"ended by itself +[\d.]+ % before, [\d.]+ % after", outcome.out)
