"""Training GPT-2 124M on a GPU, eager and compiled: tokens per second, MFU and memory.

    python -m benchmarks.gpu

The run uses the Trainer, bf16 and a padded vocabulary, on the embedded stories with GPT-2's tokenizer. MFU is the
FLOP/s by `flops_per_token` as a fraction of the device's peak (Chowdhery et al. 2022, appendix B).
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch

from benchmarks.results import report
from gpt2_lightning import memory
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.shards.prepared import Tokens, open_prepared
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.size import flops_per_token
from gpt2_lightning.tokenizers.gpt2 import GPT2Tokenizer
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.performance import peak_flops
from gpt2_lightning.training.performance.compilation import compile_blocks
from gpt2_lightning.training.schedules import Cosine
from gpt2_lightning.training.trainer import TrainerSpec

_BATCH_SIZE, _WARM_UP, _STEPS = 32, 20, 100


class Clock(L.Callback):
    """Measure the time of the steps after warm-up, with the GPU synchronized at the start and the end."""

    started = seconds = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step in (_WARM_UP, _WARM_UP + _STEPS):
            torch.cuda.synchronize()
            self.started, self.seconds = time.perf_counter(), time.perf_counter() - self.started


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("python -m benchmarks.gpu needs an NVIDIA GPU, and a torch built for it; there is none")
    log_to_terminal()
    device = torch.device("cuda")
    config = GPT2Config(pad_vocab_to_multiple_of=64)
    peak = peak_flops.peak_flops(device, "bf16")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens = _tokens(Path(folder))
        for name, compiled in (("eager", False), ("compiled", True)):
            memory.reset_peak(device)
            tokens_per_second = _BATCH_SIZE * config.block_size * _STEPS / _train(config, tokens, compiled)
            figures[f"tokens per second {name}"] = round(tokens_per_second)
            if peak is not None:
                figures[f"MFU {name}"] = round(tokens_per_second * flops_per_token(config) / peak, 3)
            figures[f"gigabytes at most {name}"] = round((memory.peak(device) or 0) / 1e9, 2)
    ratio = figures["tokens per second compiled"] / figures["tokens per second eager"]
    figures["speed of compiled over eager"] = round(ratio, 2)
    report("gpu", figures)


def _tokens(folder: Path) -> Tokens:
    corpus, tokenizer = TextCorpus(path="embedded:scifi"), GPT2Tokenizer()
    prepare(corpus, tokenizer, folder / "shards", folder)
    return open_prepared(folder / "shards", tokenizer, folder)


def _train(config: GPT2Config, tokens: Tokens, compiled: bool) -> float:
    """Return the seconds of the steps after warm-up."""
    data = TokenDataModule([tokens], config.block_size, _BATCH_SIZE, _BATCH_SIZE, seed=0)
    torch.manual_seed(0)
    description = Description(config, GPT2Tokenizer(), {})
    module = LanguageModeling(GPT2(config), AdamW(lr=6e-4), Cosine(), description)
    compile_blocks(module.model, compiled)
    clock = Clock()
    spec = TrainerSpec(val_check_interval=10**9, accelerator="cuda", precision="bf16")
    spec.build(_WARM_UP + _STEPS, 1, [clock], []).fit(module, datamodule=data)
    return clock.seconds


if __name__ == "__main__":
    main()
