"""The verb `generate`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer

Run = Callable[..., object]


def greedy(model: GPT2, tokenizer: Tokenizer, prompt: str, count: int) -> str:
    """The likeliest text, without a cache."""
    ids = torch.tensor([tokenizer.encode(prompt).tolist()])
    for _ in range(count):
        logits = model(ids[:, -model.config.block_size :])[:, -1]
        ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), dim=1)
    return tokenizer.decode(ids[0].tolist())


def test_greedy_text_is_the_likeliest(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("generate", f"checkpoint={tiny_run}", "prompt=the ship", "temperature=0", "max_new_tokens=50")
    model, description = load_model(tiny_run / "checkpoints" / "best.ckpt", torch.device("cpu"))
    assert outcome.code == 0
    assert outcome.out == greedy(model, description.tokenizer, "the ship", 50) + "\n"


def test_seed_fixes_the_text(run_verb: Run, tiny_run: Path) -> None:
    texts = [run_verb("generate", f"checkpoint={tiny_run}", "top_k=5", f"seed={seed}").out for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_checkpoint_file_may_be_named(run_verb: Run, tiny_run: Path) -> None:
    file = tiny_run / "checkpoints" / "step-000012.ckpt"
    outcome = run_verb("generate", f"checkpoint={file}", "max_new_tokens=1")
    assert outcome.code == 0
    assert f"from {file}" in outcome.err


def test_latest_run_is_the_default(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("generate", f"runs_dir={tiny_run.parent.parent}", "max_new_tokens=1")
    assert f"from {tiny_run / 'checkpoints' / 'best.ckpt'}" in outcome.err


def test_reader_may_leave_early(tiny_run: Path, root: Path, workplace: Path) -> None:
    command = f"{sys.executable} {root / 'generate.py'} checkpoint={tiny_run} max_new_tokens=2000 | head -c 5"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "Error" not in done.stderr


def test_long_prompt_is_read_from_its_end(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("generate", f"checkpoint={tiny_run}", f"prompt={'star ' * 10}", "max_new_tokens=3")
    assert outcome.code == 0
    assert "50 tokens and the context 32: the last 32 are read" in outcome.err
