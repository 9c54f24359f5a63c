"""LAMBADA and HellaSwag by three ways: `evaluate`, the model `gpt2-lightning` of the harness, and its `hf` backend."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.evaluation.benchmarks import Lambada, MultipleChoice
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.tokenizers import GPT2Tokenizer
from tests.huggingface.networks import lively

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed; pip install gpt2-lightning[eval]")
pytest.importorskip("accelerate", reason="accelerate, which its hf backend needs, is not installed")

from tests.evaluation.harness_tasks import (
    assert_benchmark_agrees,
    assert_same_results,
    on_checkpoint,
    on_export,
    results,
    task,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # other programs may warn of what they please

TINY = GPT2Config(vocab_size=50257, block_size=256, n_layer=2, n_head=2, n_embd=32)
CHAR_10M = GPT2Config(vocab_size=50257, block_size=256, n_layer=6, n_head=6, n_embd=384)


def rows_of(path: Path, every: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()[::every]]


@pytest.mark.parametrize(("config", "every"), [(TINY, 8), (CHAR_10M, 40)], ids=["tiny", "char_10m"])
def test_likelihoods_and_metrics_are_those_of_the_export(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: GPT2Config, every: int
) -> None:
    """Every eighth or fortieth row, since the harness takes minutes for all; all of them with `ALL_ROWS=1`."""
    every = 1 if "ALL_ROWS" in os.environ else every
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")  # the harness starts processes for bootstraps
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hellaswag = rows_of(shared_data / "hellaswag" / "hellaswag_val_1000.jsonl", every)
    lambada = rows_of(shared_data / "lambada" / "lambada_openai.jsonl", every)
    texts = [{"text": f"{row['context']} {row['continuation']}"} for row in lambada]
    tasks = [task("hellaswag", hellaswag), task("lambada_openai", texts)]
    model = LanguageModel(lively(config), GPT2Tokenizer())
    expected = results(on_export(model.save(tmp_path / "export")), tasks)
    found = results(on_checkpoint(model.save(tmp_path / "model.ckpt")), tasks)
    assert [len(found["samples"][name]) for name in ("hellaswag", "lambada_openai")] == [len(hellaswag), len(texts)]
    assert_same_results(found, expected)
    for name, rows in (("hellaswag", hellaswag), ("lambada_openai", texts)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    choices = MultipleChoice(path=str(tmp_path / "hellaswag.jsonl"), row_format="hellaswag")
    assert_benchmark_agrees(choices, model, expected, "hellaswag")
    assert_benchmark_agrees(Lambada(path=str(tmp_path / "lambada_openai.jsonl")), model, expected, "lambada_openai")
