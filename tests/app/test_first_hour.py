"""What follows a first run: texts beyond its alphabet and its context, recipes, and lengths that are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.app.run.replay import check
from gpt2_lightning.checkpoints.runs import CONFIG
from gpt2_lightning.pretrained.load import load_pretrained
from tests.app.tiny_runs import TINY, newest_run
from tests.outcomes import Outcome

Run = Callable[..., Outcome]
SHORT = ["trainer=cpu", "trainer.max_steps=2", "batch_size=4", "callbacks.samples.max_new_tokens=5", "name=tuned"]
BEYOND = "café — “naïve” `x` 🚀 #"
TASKS = {
    "classify": ["task=classify", "data=table", "data.path=rows.jsonl"],
    "instruct": [
        "task=instruct",
        "data=instructions",
        "data.path=rows.jsonl",
        "task.answers=2",
        "task.max_new_tokens=4",
    ],
    "pretrain": ["task=pretrain", "data=text", "data.path=book.txt"],
}


@pytest.fixture
def rows(workplace: Path) -> Path:
    """Rows for every task, with characters beyond every small alphabet, and longer than a context of 32."""
    contents = [
        {
            "text": f"{BEYOND} {number} {'long ' * 20}",
            "label": "ab"[number % 2],
            "instruction": f"Say {BEYOND}",
            "input": "",
            "output": f"{BEYOND} {number}",
        }
        for number in range(40)
    ]
    (workplace / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in contents), encoding="utf-8")
    (workplace / "book.txt").write_text(f"{BEYOND}. A sentence of a book. " * 40, encoding="utf-8")
    return workplace


@pytest.fixture
def base(run_verb: Run, rows: Path) -> Path:
    """A character run on the embedded stories, as `make train` leaves one, but tiny."""
    outcome = run_verb("train", *TINY, "trainer.max_steps=2", "callbacks.samples=null", "name=base")
    assert outcome.code == 0, outcome.err
    return newest_run(rows / "runs" / "base")


@pytest.mark.parametrize("task", TASKS)
def test_a_first_run_is_tuned_on_texts_beyond_its_alphabet_and_context(run_verb: Run, base: Path, task: str) -> None:
    outcome = run_verb("finetune", *TASKS[task], f"init_from={base}", *SHORT)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("are not in the tokenizer's alphabet and were replaced by '?'") == 1
    assert ("than the context of 32 tokens" in outcome.out) == (task == "instruct")
    tuned = newest_run(Path("runs") / "tuned")
    if task == "classify":
        told = run_verb("predict", f"checkpoint={tuned}", f"text={BEYOND}")
    else:
        told = run_verb("generate", f"checkpoint={tuned}", f"prompt={BEYOND}", "max_new_tokens=2")
    assert told.code == 0, told.err
    assert told.err.count("are not in the tokenizer's alphabet and were replaced by '?'") == 1


@pytest.mark.slow
def test_unknown_characters_of_later_texts_can_be_refused(run_verb: Run, base: Path) -> None:
    outcome = run_verb("finetune", *TASKS["pretrain"], f"init_from={base}", *SHORT, "tokenizer.unknown=error")
    assert outcome.code == 2
    assert "in the training part of the text: the tokenizer's alphabet, made from its corpus, lacks 'é'" in outcome.err
    outcome = run_verb("finetune", *TASKS["pretrain"], f"init_from={base}", *SHORT, "tokenizer.unknown=replace")
    assert outcome.code == 2
    assert "replace adds U+FFFD to the alphabet, and the model has no embedding for it" in outcome.err


@pytest.mark.parametrize("given", ["tokenizer.unknow=skip", "tokenizer.vocab_size=500"])
def test_settings_of_a_tokenizer_that_is_not_used_are_refused(run_verb: Run, tiny_run: Path, given: str) -> None:
    Path("book.txt").write_text("a book " * 100)
    outcome = run_verb("finetune", *TASKS["pretrain"], f"init_from={tiny_run}", *SHORT, given)
    assert outcome.code == 2
    assert f"{given.partition('=')[0]}: unknown key" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_from_random_weights_a_tokenizer_is_trained_on_the_texts_of_the_task(
    run_verb: Run, rows: Path, task: str
) -> None:
    settings = ["init_from=scratch", "model=tiny", "tokenizer=bpe", "tokenizer.vocab_size=270"]
    outcome = run_verb("finetune", *TASKS[task], *settings, *SHORT)
    assert outcome.code == 0, outcome.err
    tokenizer = load_pretrained(str(newest_run(rows / "runs" / "tuned"))).tokenizer
    assert tokenizer is not None
    assert tokenizer.vocab_size == 270
    assert len(tokenizer.encode(BEYOND)) < len(BEYOND.encode()), "its merges are of these texts"


@pytest.mark.slow
def test_a_recipe_with_a_tokenizer_of_its_own_takes_that_of_the_pretrained_model(run_verb: Run, base: Path) -> None:
    recipe = ["experiment=sst2_cpu", "data=table", "data.path=rows.jsonl", "task.add_prefix_space=false"]
    outcome = run_verb("finetune", *recipe, f"init_from={base}", *SHORT)
    assert outcome.code == 0, outcome.err
    assert "from_pretrained" in (newest_run(Path("runs") / "tuned") / CONFIG).read_text(encoding="utf-8")


def test_ucis_own_file_of_messages_needs_its_path_alone(run_verb: Run, workplace: Path, shared_data: Path) -> None:
    data = ["data=sms_spam_uci", f"data.path={shared_data / 'sms-spam' / 'SMSSpamCollection'}"]
    model = ["init_from=scratch", "model=tiny", "tokenizer=char"]
    outcome = run_verb("finetune", "task=classify", *data, *model, *SHORT)
    assert outcome.code == 0, outcome.err
    assert "1,045 to train on, 149 to validate, 300 to test" in outcome.out


def test_an_alphabet_comes_from_the_validation_text_as_well(run_verb: Run, workplace: Path) -> None:
    (workplace / "book.txt").write_text("plain words of a book. " * 60 + "The end⸻“née”.", encoding="utf-8")
    outcome = run_verb("train", "data=text", "data.path=book.txt", *TINY, "trainer.max_steps=2")
    assert outcome.code == 0, outcome.err
    assert "alphabet" not in outcome.out


@pytest.mark.parametrize("field", ["tokenizer=char", "tokenizer=bpe", "tokenizer=gpt2"])
def test_rows_without_the_field_are_named_with_any_tokenizer(run_verb: Run, workplace: Path, field: str) -> None:
    (workplace / "rows.jsonl").write_text('{"content": "a text"}\n' * 12)
    outcome = run_verb("train", "data=text", "data.path=rows.jsonl", field, *TINY)
    assert outcome.code == 2
    assert "12 rows are no documents; mend them, leave them out or name another data.field:" in outcome.err
    assert "rows.jsonl, row 10: no field 'text'; it has content" in outcome.err


def test_halves_of_characters_in_rows_train_a_run_that_can_be_read(run_verb: Run, workplace: Path) -> None:
    row = '{"text": "broken \\\\ud83d and \\\\ude00 halves, and more words"}\n'.replace("\\\\", "\\")
    (workplace / "rows.jsonl").write_text(row * 60)
    outcome = run_verb("train", "data=text", "data.path=rows.jsonl", *TINY, "trainer.max_steps=2", "name=halves")
    assert outcome.code == 0, outcome.err
    told = run_verb("generate", f"checkpoint={newest_run(workplace / 'runs' / 'halves')}", "max_new_tokens=3")
    assert told.code == 0, told.err


def test_a_nul_byte_is_named_with_what_replacing_it_means(run_verb: Run, workplace: Path) -> None:
    (workplace / "book.txt").write_bytes(b"words\0" * 100)
    outcome = run_verb("train", "data=text", "data.path=book.txt", *TINY)
    assert outcome.code == 2
    assert "a zero byte at byte offset 5" in outcome.err
    assert "data.errors=replace, which reads it as U+FFFD" in outcome.err


@pytest.mark.parametrize(
    ("verb", "given", "length"),
    [
        ("finetune", ["trainer.max_steps=20"], {"max_steps": 20}),
        ("finetune", ["experiment=spam_cpu", "trainer.max_tokens=1e5"], {"max_tokens": 1e5}),
        ("train", ["experiment=shakespeare_char_cpu", "trainer.max_epochs=2"], {"max_epochs": 2}),
        ("train", ["debug=fast", "trainer.max_tokens=1e4"], {"max_tokens": 1e4}),
    ],
)
def test_a_length_that_is_typed_takes_the_place_of_a_recipes(
    run_verb: Run, monkeypatch: pytest.MonkeyPatch, verb: str, given: list[str], length: dict[str, Any]
) -> None:
    seen: list[dict[str, Any]] = []

    def record(*arguments: Any) -> Any:
        plain, faults = check(*arguments)
        seen.append(plain)
        return plain, [*faults, "enough is known"]

    monkeypatch.setattr("gpt2_lightning.app.run.replay.check", record)
    rest = ["data=table", "data.path=rows.csv", "init_from=scratch"] if verb == "finetune" else ["data=scifi"]
    outcome = run_verb(verb, *rest, *given)
    limits = {name: seen[0]["trainer"].get(name) for name in ("max_steps", "max_tokens", "max_epochs")}
    assert {name: value for name, value in limits.items() if value is not None} == length
    assert "exclude" not in outcome.err


def test_a_batch_in_tokens_takes_the_place_of_a_recipes_in_samples(run_verb: Run) -> None:
    outcome = run_verb("train", "experiment=shakespeare_char_cpu", "data=scifi", "batch_tokens=640", "seed=x")
    assert "batch_tokens" not in outcome.err


def test_two_lengths_that_are_typed_exclude_each_other(run_verb: Run) -> None:
    outcome = run_verb("train", "trainer.max_steps=20", "trainer.max_epochs=1")
    assert outcome.code == 2
    assert "trainer.max_steps: max_steps=20 and max_epochs=1 exclude each other" in outcome.err


def test_a_recipe_of_another_verb_is_named_with_its_command(run_verb: Run) -> None:
    outcome = run_verb("train", "experiment=spam_cpu")
    assert outcome.code == 2
    assert "experiment: 'spam_cpu' is a recipe of finetune: python finetune.py experiment=spam_cpu" in outcome.err
    outcome = run_verb("finetune", "experiment=small_base_cpu", "init_from=scratch")
    assert "'small_base_cpu' is a recipe of train: python train.py experiment=small_base_cpu" in outcome.err


def test_a_misspelled_recipe_is_answered_with_those_of_the_verb(run_verb: Run) -> None:
    outcome = run_verb("train", "experiment=spam_gpu")
    assert "there is no option 'spam_gpu'" in outcome.err
    assert "shakespeare_char_cpu" in outcome.err
    assert "spam_cpu" not in outcome.err


def test_the_help_of_a_verb_lists_its_recipes(run_verb: Run) -> None:
    assert "shakespeare_char_cpu" in (shown := run_verb("train", "--help").out)
    assert "lora_spam_124m" not in shown


def test_a_recipe_of_ones_own_without_a_command_suits_every_verb(run_verb: Run, workplace: Path) -> None:
    (workplace / "conf" / "experiment").mkdir(parents=True)
    (workplace / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    for verb in ("train", "finetune"):
        shown = run_verb(verb, "--config-dir", "conf", "experiment=mine", "--cfg", "job")
        assert (shown.code, "seed: 7" in shown.out) == (0, True), shown.err
