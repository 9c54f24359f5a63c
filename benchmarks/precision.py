"""Training char_10m in bfloat16 and in float32 on the CPU: time per step, and final loss.

    python -m benchmarks.precision            # ten minutes on 2 cores
    python -m benchmarks.precision quick      # some minutes; prints the results without saving them

Both runs train the same model on the embedded stories, from the same weights on the same batches. To measure time, they
alternate every few steps, and the ratio is the median over the repetitions, so that other load on the machine affects
both alike. To measure the loss on the whole validation split, both are then trained for longer.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import warnings
from pathlib import Path

import lightning as L
import torch

from benchmarks.results import report
from benchmarks.trainer_overhead import SIZES, WARM_UP, Clock, stories
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import Tokenizer
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.precision import Precision
from gpt2_lightning.training.schedules import Cosine
from gpt2_lightning.training.trainer import TrainerSpec

_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
_BATCH_SIZE = 8
_LEARNING_RATE = 0.5 / 384  # value of conf/optimizer/adamw.yaml for this width


def main() -> None:
    log_to_terminal()
    quick = sys.argv[1:] == ["quick"]
    turns, steps_of_a_turn, steps_to_the_loss = (2, 2, 5) if quick else (7, 8, 200)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer, tokens = stories(Path(folder))
        times = [
            {precision: _seconds(tokenizer, tokens, precision, steps_of_a_turn) for precision in _PRECISIONS}
            for _ in range(turns)
        ]
        losses = {precision: _loss(tokenizer, tokens, precision, steps_to_the_loss) for precision in _PRECISIONS}
    seconds = {precision: statistics.median(turn[precision] for turn in times) for precision in _PRECISIONS}
    figures = {f"seconds of a step in {precision}": round(seconds[precision], 3) for precision in _PRECISIONS}
    figures["speed of bf16 over fp32"] = round(statistics.median(turn["fp32"] / turn["bf16"] for turn in times), 2)
    figures |= {f"validation loss in {precision}": round(losses[precision], 4) for precision in _PRECISIONS}
    figures["validation loss in bf16 over fp32"] = round(losses["bf16"] / losses["fp32"], 4)
    if quick:
        print(figures)
    else:
        report("precision", figures)


def _seconds(tokenizer: Tokenizer, tokens: Tokens, precision: Precision, steps: int) -> float:
    """Return the seconds per step after warm-up."""
    clock = Clock(steps)
    _train(tokenizer, tokens, precision, WARM_UP + steps + 1, [clock])
    return clock.seconds / steps


def _loss(tokenizer: Tokenizer, tokens: Tokens, precision: Precision, steps: int) -> float:
    """Return the validation loss after `steps` steps."""
    return float(_train(tokenizer, tokens, precision, steps, []).callback_metrics["val_loss"])


def _train(
    tokenizer: Tokenizer, tokens: Tokens, precision: Precision, steps: int, callbacks: list[L.Callback]
) -> L.Trainer:
    block_size, n_layer, n_head, n_embd, *_ = SIZES["char_10m"]
    config = GPT2Config(tokenizer.vocab_size, block_size, n_layer, n_head, n_embd)
    data = TokenDataModule([tokens], block_size, _BATCH_SIZE, _BATCH_SIZE, seed=0)
    torch.manual_seed(0)
    description = Description(config, tokenizer, {})
    module = LanguageModeling(GPT2(config), AdamW(lr=_LEARNING_RATE), Cosine(), description)
    spec = TrainerSpec(val_check_interval=10**9, accelerator="cpu", precision=precision)
    trainer = spec.build(steps, 1, callbacks, [])
    trainer.fit(module, datamodule=data)
    return trainer


if __name__ == "__main__":
    main()
