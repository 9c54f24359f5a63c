"""Commands that are disturbed, and the files that they leave."""

from __future__ import annotations

import csv
import json
import shutil
import string
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_STORIES = ROOT / "gpt2_lightning" / "data" / "scifi"
INPUTS = "inputs"
"""Folder of inputs, beside that of the program's files."""
RUN = "run"


@dataclass(frozen=True)
class Scenario:
    """A command that can be repeated until it completes.

    Args:
        name: for the table.
        verb: of the program.
        arguments: its command line.
        results: files or folders that the command makes; a pattern, relative to its working folder.
        weight: relative frequency, lower for slow starts.
        needs_base: whether it starts from the base run.
        processes: whether it starts processes of its own.
    """

    name: str
    verb: str
    arguments: tuple[str, ...]
    results: str = "runs/soak/*"
    weight: float = 1.0
    needs_base: bool = True
    processes: bool = False

    def prepare(self, place: Path, inputs: Path) -> None:
        """Make the working folder of one disturbed run, with its own copy of the inputs."""
        place.mkdir(parents=True)
        shutil.copytree(inputs, place / INPUTS)
        if not self.needs_base:
            shutil.rmtree(place / INPUTS / "base", ignore_errors=True)


def make_inputs(folder: Path) -> None:
    """Write texts, tables and prompts, from the embedded stories."""
    stories = sorted(_STORIES.glob("*.txt"))
    texts = [file.read_text(encoding="utf-8") for file in stories]
    (folder / "books").mkdir(parents=True)
    for number in range(4 * len(texts)):
        (folder / "books" / f"{number}.txt").write_text(texts[number % len(texts)], encoding="utf-8")
    (folder / "small").mkdir()
    printable = "".join(sorted(set(string.printable) - set("\r\x0b\x0c")))
    for number, text in enumerate(texts[:3]):
        small = printable + "".join(letter for letter in text[:12_000] if letter in printable)
        (folder / "small" / f"{number}.txt").write_text(small, encoding="utf-8")
    lines = [line[:60] for line in texts[0].splitlines() + texts[1].splitlines() if len(line) > 20]
    lines = ["".join(letter for letter in line if letter in printable) for line in lines]
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([line, "even" if len(line.split()) % 2 == 0 else "odd"] for line in lines)
    instructions = [{"instruction": "Repeat.", "input": line[:20], "output": line[:20]} for line in lines]
    (folder / "rows.json").write_text(json.dumps(instructions), encoding="utf-8")
    (folder / "prompts.txt").write_text("".join(f"{line[:15]}\n" for line in lines[:24]), encoding="utf-8")


_CPU = ("trainer=cpu", "cache_dir=cache")
_STEPS = ("trainer.log_every_n_steps=5", "trainer.val_check_interval=10", "callbacks.checkpoint.every_n_steps=5")
_AUTO = ("name=soak", "runs_dir=runs", "resume=auto")
_TRAIN = ("data=text", f"data.path={INPUTS}/small", "model=tiny", "cache_dir=cache", "trainer.max_steps=40", *_STEPS)
_SHORT = ("trainer.max_steps=30", "~trainer.max_epochs", "batch_size=4")
_FINETUNE = (*_CPU, *_STEPS, *_SHORT, f"init_from={INPUTS}/base", *_AUTO)
_BASE_MODEL = ("model=tiny", "model.block_size=128", "model.n_layer=1")
_BASE_STEPS = ("trainer.max_steps=20", "trainer.val_check_interval=10", "batch_size=4")

BASE = Scenario(
    "base",
    "train",
    (*_CPU, "data=text", f"data.path={INPUTS}/small", *_BASE_MODEL, *_BASE_STEPS, "run_dir=run"),
    results="run",
    needs_base=False,
)
"""The run that others start from."""


def _trained(name: str, *more: str, weight: float = 1.0, processes: bool = False) -> Scenario:
    return Scenario(name, "train", (*_TRAIN, *more, *_AUTO), "runs/soak/*", weight, False, processes)


SCENARIOS = [
    _trained("train, AdamW", "trainer=cpu"),
    _trained("train, Muon", "trainer=cpu", "optimizer=muon"),
    _trained("train, bf16", "trainer=cpu", "precision=bf16"),
    _trained("train, dropout", "trainer=cpu", "model.embd_pdrop=0.1", "model.attn_pdrop=0.1", "model.resid_pdrop=0.1"),
    Scenario(
        "train, resume=here",
        "train",
        (*_TRAIN, "trainer=cpu", "callbacks.checkpoint.keep=2", "run_dir=run", "resume=here"),
        results="run",
        needs_base=False,
    ),
    _trained("train, ddp_cpu", "trainer=ddp_cpu", weight=0.5, processes=True),
    Scenario(
        "finetune, classes", "finetune", ("task=classify", "data=table", f"data.path={INPUTS}/rows.csv", *_FINETUNE)
    ),
    Scenario(
        "finetune, instructions",
        "finetune",
        ("task=instruct", "template=chatml", "data=instructions", f"data.path={INPUTS}/rows.json", *_FINETUNE),
    ),
    Scenario(
        "finetune, LoRA",
        "finetune",
        ("task=pretrain", "data=text", f"data.path={INPUTS}/small", "lora=attention", *_FINETUNE),
    ),
    Scenario(
        "sweep",
        "train",
        (*_TRAIN, "trainer=cpu", "hydra.sweep.dir=sweep", "-m", "optimizer.lr=1e-3,4e-3"),
        results="sweep",
        weight=0.35,
        needs_base=False,
        processes=True,
    ),
    Scenario(
        "prepare",
        "prepare",
        ("data=text", f"data.path={INPUTS}/books", "output=shards", "workers=2", "cache_dir=cache"),
        results="shards",
        needs_base=False,
        processes=True,
    ),
    Scenario("convert", "convert", (f"source={INPUTS}/base", "target=hf", "overwrite=true"), results="hf"),
    Scenario(
        "generate",
        "generate",
        (
            *(f"checkpoint={INPUTS}/base", f"prompts={INPUTS}/prompts.txt", "output=answers.jsonl"),
            *("batch_size=4", "max_new_tokens=20", "seed=7"),
        ),
        results="answers.jsonl",
    ),
]
