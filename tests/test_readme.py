"""README's commands, one after the other, as a newcomer would type them: with a real novel, and with a made-up book.

Runs are made short by the settings of `SHORT`; what a newcomer has and a test has not is replaced by `STAND_INS`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.app.tiny_runs import newest_run
from tests.outcomes import Outcome

Run = Callable[..., Outcome]
README = Path(__file__).parent.parent / "README.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN = {
    "make train": "installs; its command is the first of those below",
    "make test": "installs, and runs this test",
    "make serve": "installs, and serves until it is stopped: tests/serving",
    "python -m gpt2_lightning serve checkpoint=RUN": "serves until it is stopped: tests/serving",
    "python -m gpt2_lightning prepare data=openwebtext": "downloads 13 GB",
    "python -m gpt2_lightning prepare data=openwebtext data.shard=3 data.num_shards=64": "downloads 13 GB",
    "python -m benchmarks.gpu program train profile ranks": "needs a GPU",
    "python -m benchmarks.gpu without attention": "needs a GPU",
    "python -m benchmarks.gpu decoding documents muon precision saving search": "needs a GPU",
    "python -m benchmarks.gpu": "needs a GPU",
}
STEPS = ["trainer.max_steps=2", "callbacks.samples.max_new_tokens=4"]
TINY = ["model.n_layer=1", "model.n_head=1", "model.n_embd=8", "model.block_size=16", "batch_size=2"]
TUNED = [*STEPS, "batch_size=4"]
FEW = ["max_new_tokens=4"]
SHORT: dict[str, list[str]] = {
    "python train.py": STEPS,
    "python train.py data=text data.path=book.txt": STEPS,
    "python train.py model=gpt2_124m": [*STEPS, *TINY],
    "python train.py tokenizer=bpe tokenizer.vocab_size=1024": STEPS,
    "python train.py trainer.max_tokens=1e6 schedule=wsd optimizer.weight_decay=0.05": STEPS[1:],
    "python train.py callbacks=early_stopping": STEPS,
    "python train.py monitor=train/eval_loss trainer.eval_train_batches=20": STEPS,
    "python train.py callbacks=spike_guard": STEPS,
    "python train.py callbacks=ema": STEPS,
    "python train.py logger=[csv,wandb]": STEPS,
    "python -m gpt2_lightning merge checkpoints=[RUN,OTHER_RUN] output=merged.ckpt": [],
    "python train.py -m optimizer.lr=1e-3,4e-3": STEPS,
    "python -m gpt2_lightning sweep trials=20 optimizer.lr=tag(log,interval(1e-4,1e-2))": STEPS,
    "python train.py optimizer=muon precision=bf16 compile=true activation_checkpointing=true": STEPS,
    "python train.py model=gpt2_124m trainer=ddp compile=true": [*STEPS, *TINY],
    "python train.py model=gpt2_124m plan=true price=2.5": [],
    "python train.py batch_tokens=16384 micro_batch_size=auto": STEPS,
    "python train.py resume=auto": STEPS,
    "python train.py replay=RUN seed=2": STEPS,
    "python train.py debug=overfit": ["callbacks.overfit.loss=9"],
    "python train.py --help": [],
    "python train.py optimizer=muon --help": [],
    "python train.py --cfg job": [],
    "python -m gpt2_lightning prepare data=text data.path=big.jsonl output=shards": [],
    "python train.py data=text data.path=books data.limit=100": STEPS,
    "python train.py data=tokens data.path=train.bin model=gpt2_124m": [*STEPS, *TINY],
    "python train.py data=text data.path=books tokenizer=gpt2 data.documents=masked": [*STEPS, *TINY],
    "python -m gpt2_lightning tokenizer data=scifi tokenizer=bpe tokenizer.vocab_size=1000 text=The airlock opened. "
    "output=mine": [],
    "python generate.py prompt=The airlock": FEW,
    "python generate.py checkpoint=RUN temperature=0.6 top_k=20 seed=7": FEW,
    "python generate.py prompts=questions.txt output=answers.jsonl batch_size=8": FEW,
    "python generate.py prompts=drafts.txt output=edited.jsonl speculate=lookup": FEW,
    "python generate.py interactive=true": FEW,
    "python generate.py prompt=The probabilities=true": FEW,
    "python generate.py checkpoint=hf:gpt2@REVISION prompt=The airlock n_beams=4 temperature=0": FEW,
    "python finetune.py task=classify data=table data.path=reviews.csv init_from=RUN": TUNED,
    "python finetune.py task=instruct data=instructions data.path=rows.json init_from=hf:gpt2@REVISION "
    "lora=attention": [
        *TUNED,
        "task.answers=2",
        "task.max_new_tokens=4",
    ],
    "python finetune.py task=pretrain data=text data.path=book.txt init_from=RUN freeze=first_n_blocks "
    "freeze_blocks=2": TUNED,
    "python -m gpt2_lightning predict checkpoint=CLASSIFIER texts=new.txt output=labels.jsonl": [],
    "python -m gpt2_lightning explain checkpoint=CLASSIFIER text=You have won a prize": [],
    "python -m gpt2_lightning evaluate checkpoint=hf:gpt2@REVISION benchmarks=[lambada,hellaswag] "
    "data_dir=benchmark_data": [],
    "python -m gpt2_lightning evaluate checkpoint=RUN compare_with=hf:gpt2@REVISION benchmarks=lambada "
    "data_dir=benchmark_data": [],
    "python -m gpt2_lightning evaluate --help benchmarks=hellaswag": [],
    "python -m gpt2_lightning convert source=RUN target=my_gpt2": [],
    "python -m gpt2_lightning convert source=hf:gpt2@REVISION target=gpt2.ckpt": [],
    "python -m gpt2_lightning convert source=LORA_RUN target=adapter to=peft": [],
    "python -m gpt2_lightning compare checkpoint=RUN with=my_gpt2 prompt=The airlock": [],
    "python -m gpt2_lightning attention checkpoint=RUN prompt=The airlock opened.": [],
    "python -m gpt2_lightning params checkpoint=RUN": [],
    "python -m gpt2_lightning params model=gpt2_124m diagram=network.svg": [],
    "python -m gpt2_lightning plot runs=runs/*/* output=curves.html": [],
}
"""Settings that are added to each command; those that must be shorter than a newcomer's run."""
STAND_INS = {
    "trials=20": "trials=2",
    "trainer.max_tokens=1e6": "trainer.max_tokens=2048",
    "logger=[csv,wandb]": "logger=[csv,tensorboard]",  # an account, or a service
    "compile=true": "compile=false",  # a compiler
    "trainer=ddp": "trainer=cpu",  # GPUs
    "batch_tokens=16384": "batch_tokens=256",
    "hf:gpt2@REVISION": "hf_gpt2",  # a network; the folder is an export of the first run
}
"""Arguments, or parts of one, that stand for what a test has not."""


def commands() -> list[str]:
    """README's commands in order, without comments and quotes."""
    lines = [line for block in _BLOCK.findall(README.read_text(encoding="utf-8")) for line in block.splitlines()]
    return [" ".join(words) for line in lines if (words := shlex.split(line, comments=True))]


def test_every_command_is_known_here() -> None:
    assert sorted(commands()) == sorted([*NOT_RUN, *SHORT]), "tell this test how to run a new command"


def made_up_book() -> str:
    """A book with curly quotes, dashes and accents, some of which occur only at its end."""
    sentence = "“It’s naïve,” said Zoë — “to expect a café on Mars.” The airlock opened.\n"
    return sentence * 300 + "‘Fin⸻’ … 1 000 €.\n"


@pytest.fixture
def book(request: pytest.FixtureRequest) -> str:
    """A real novel, or where there is none, a made-up book."""
    try:
        folder: Path = request.getfixturevalue("shared_data")
    except pytest.skip.Exception:
        return made_up_book()
    return (folder / "scifi" / "edwin-a-abbott_flatland.txt").read_text(encoding="utf-8")


def furnish(folder: Path, book: str) -> None:
    """Write the files that a newcomer brings, made from a book."""
    (folder / "book.txt").write_text(book, encoding="utf-8")
    (folder / "books").mkdir()
    for number, part in enumerate((book[: len(book) // 2], book[len(book) // 2 :])):
        (folder / "books" / f"{number}.txt").write_text(part, encoding="utf-8")
    passages = [book[start : start + 200] for start in range(0, 8000, 200)]
    (folder / "big.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in passages))
    np.random.default_rng(0).integers(0, 50257, 20_000).astype("<u2").tofile(folder / "train.bin")
    (folder / "val.bin").write_bytes((folder / "train.bin").read_bytes()[:4000])
    (folder / "questions.txt").write_text("The airlock — “open”?\nThe café\n", encoding="utf-8")
    (folder / "drafts.txt").write_text("The airlock opened. The airlock opened.\n", encoding="utf-8")
    with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, "ab"[n % 2]) for n, text in enumerate(passages))])
    examples = [{"instruction": text[:40], "input": "", "output": text[40:80]} for text in passages]
    (folder / "rows.json").write_text(json.dumps(examples))
    questions = {"lambada": [{"text": text.strip()} for text in passages], "hellaswag": list(map(_question, passages))}
    for name, rows in questions.items():
        (folder / "benchmark_data" / name).mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "benchmark_data" / name / "val.jsonl").write_text(lines, encoding="utf-8")
    (folder / "new.txt").write_text("A “great” film — really\nDreadful #1\n", encoding="utf-8")


def _question(text: str) -> dict[str, object]:
    endings = [text[start : start + 9].strip() + "." for start in range(40, 80, 10)]
    return {"activity_label": "Reading", "ctx_a": text[:40], "ctx_b": "", "endings": endings, "label": 1}


def arguments(command: str, run_verb: Run) -> tuple[str, list[str]]:
    """The verb of a command, and its arguments with everything that it needs in place."""
    words = command_words(command)
    verb = words[1].removesuffix(".py") if words[1] != "-m" else words[3]
    given = words[2:] if words[1] != "-m" else words[4:]
    runs = Path("runs")
    if "RUN" in command and not Path("hf_gpt2").exists():
        outcome = run_verb("convert", f"source={first_run()}", "target=hf_gpt2")
        assert outcome.code == 0, outcome.err
    done = []
    for word in given:
        for name, stand_in in STAND_INS.items():
            word = word.replace(name, stand_in)
        if "LORA_RUN" in word:
            word = word.replace("LORA_RUN", str(newest_run(runs / "instruct-instructions")))
        if "CLASSIFIER" in word:
            word = word.replace("CLASSIFIER", str(newest_run(runs / "classify-table")))
        if "OTHER_RUN" in word:
            word = word.replace("OTHER_RUN", str(first_run()))
        if "=RUN" in word or "[RUN" in word:
            word = word.replace("RUN", str(first_run()))
        done.append(word)
    return verb, [*done, *SHORT[command]]


def command_words(command: str) -> list[str]:
    """The words of a command of README, by its text without quotes."""
    blocks = "".join(_BLOCK.findall(README.read_text(encoding="utf-8")))
    return next(words for line in blocks.splitlines() if " ".join(words := shlex.split(line, comments=True)) == command)


def first_run() -> Path:
    return min((Path("runs") / "scifi-char").iterdir())


@pytest.mark.slow
def test_each_command_works(run_verb: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, book: str) -> None:
    furnish(workplace, book)
    shutil.rmtree(workplace / "runs", ignore_errors=True)
    failed = []
    for command in commands():
        if command in NOT_RUN:
            continue
        verb, given = arguments(command, run_verb)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The airlock\n")))
        outcome = run_verb(verb, *given)
        if outcome.code != 0:
            failed.append(f"{command}\n  {verb} {given}: {outcome.code}\n  {outcome.err[-1500:]}")
        if command == "python train.py":
            assert outcome.code == 0, outcome.err
    assert not failed, "\n".join(failed)
