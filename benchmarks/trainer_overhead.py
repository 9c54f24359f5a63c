"""Overhead of the Trainer, relative to a plain training loop with the same module, data and optimizer.

    python -m benchmarks.trainer_overhead

Both train the same model from the same weights on the same batches, in alternation. The Trainer includes the callbacks
of a run: metrics every 10 steps, the progress bar, checkpointing. Validation and saving of checkpoints, which a plain
loop needs as well, are excluded from both.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import rich
import torch
from rich.console import Console

from benchmarks.results import report
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.shards.prepared import Tokens, open_prepared
from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.tokenizers import Tokenizer, char
from gpt2_lightning.training.callbacks import Checkpointing, Metrics, ProgressBar
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.loggers.csv_logger import CSVLogger
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.schedules import Cosine
from gpt2_lightning.training.trainer import TrainerSpec

# block_size, n_layer, n_head, n_embd, batch size, steps per repetition
SIZES = {"char": (64, 4, 4, 128, 12, 200), "char_10m": (256, 6, 6, 384, 4, 12)}
TURNS = 11
WARM_UP = 5


class Clock(L.Callback):
    """Time the steps after warm-up. It is the first callback, so that the time includes the other callbacks."""

    def __init__(self, steps: int) -> None:
        self.steps, self.seen, self.started, self.seconds = steps, 0, 0.0, 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        if self.seen == WARM_UP:
            self.started = time.perf_counter()
        if self.seen == self.steps + WARM_UP:
            self.seconds = time.perf_counter() - self.started
        self.seen += 1


def main() -> None:
    log_to_terminal()
    ratios = {}
    for name, (block_size, n_layer, n_head, n_embd, batch_size, steps) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            tokenizer, tokens = stories(Path(folder))
            config = GPT2Config(tokenizer.vocab_size, block_size, n_layer, n_head, n_embd)
            turns = []
            for turn in range(TURNS):
                pair = {}
                for run in (_bare, _trainer) if turn % 2 else (_trainer, _bare):
                    data = TokenDataModule([tokens], block_size, batch_size, batch_size, seed=0)
                    torch.manual_seed(0)
                    module = LanguageModeling(
                        GPT2(config), AdamW(lr=1e-3), Cosine(), Description(config, tokenizer, {})
                    )
                    pair[run] = run(module, data, steps, Path(folder))
                turns.append((pair[_bare], pair[_trainer]))
        bare, trainer = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
        ratio = statistics.median(t / b for b, t in turns)
        ratios[f"{name}: Trainer over bare loop"] = round(ratio, 3)
        print(f"{name}: {bare / steps * 1e3:.2f} ms a step bare, {trainer / steps * 1e3:.2f} ms with the Trainer")
    report("trainer_overhead", ratios)


def stories(folder: Path) -> tuple[Tokenizer, Tokens]:
    """Return the embedded corpus with a character tokenizer."""
    corpus = TextCorpus(path="embedded:scifi")
    tokenizer = char.from_corpus(corpus.training_text(), corpus.several_documents)
    prepare(corpus, tokenizer, folder / "shards", folder)
    return tokenizer, open_prepared(folder / "shards", tokenizer, folder)


def _bare(module: LanguageModeling, data: TokenDataModule, steps: int, folder: Path) -> float:
    model, spec, schedule = module.model.train(), module.optimizer_spec, module.schedule
    optimizer = spec.build(model)
    batches = iter(data.train_dataloader())
    started = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            started = time.perf_counter()
        batch = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = spec.lr * schedule.factor(step, steps)
        loss = cross_entropy(model(batch.inputs), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 9:
            loss.item()
    return time.perf_counter() - started


def _trainer(module: LanguageModeling, data: TokenDataModule, steps: int, folder: Path) -> float:
    rich.get_console().__dict__.update(Console(file=io.StringIO(), force_terminal=True).__dict__)
    clock, metrics = Clock(steps), Metrics(10)
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    spec = TrainerSpec(max_steps=WARM_UP + steps + 1, val_check_interval=10**9, accelerator="cpu")
    callbacks = [clock, metrics, ProgressBar(metrics), Checkpointing(run_dir, every_n_steps=10**9)]
    trainer = spec.build(WARM_UP + steps + 1, 1, callbacks, [CSVLogger(run_dir)])
    trainer.fit(module, datamodule=data)
    return clock.seconds


if __name__ == "__main__":
    main()
