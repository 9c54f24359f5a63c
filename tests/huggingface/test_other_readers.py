"""Exported folders in other people's programs, where they are installed."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2_lightning.generation import Sampling, generate
from gpt2_lightning.huggingface import folder
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer
from gpt2_lightning.tokenizers.char import Unknown
from tests.huggingface.networks import lively

CONFIG = GPT2Config(vocab_size=50257, block_size=29, n_layer=2, n_head=3, n_embd=24)
QUESTIONS = [
    {"question": "The ship goes", "choices": ["home", "down", "over the old sea"], "label": 0},
    {"question": "The keeper of the lamp", "choices": ["sleeps", "is a star"], "label": 1},
    {"question": "A star", "choices": ["falls", "sings", "waits"], "label": 2},
    {"question": "One two three", "choices": ["four", "five"], "label": 0},
]


@pytest.fixture(scope="module")
def model() -> GPT2:
    return lively(CONFIG)


@pytest.fixture(scope="module")
def exported(model: GPT2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model"
    folder.write(model, GPT2Tokenizer(), path, "# A card\n", 10**9)
    return path


@pytest.fixture
def their_warnings() -> Iterator[None]:
    """Other programs may warn of what they please."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("their_warnings")
def test_ctranslate2_converts_it_and_gives_the_same_logits(model: GPT2, exported: Path, tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed")
    ctranslate2.converters.TransformersConverter(str(exported)).convert(str(tmp_path / "ct2"))
    generator = ctranslate2.Generator(str(tmp_path / "ct2"), device="cpu", compute_type="float32")
    ids = GPT2Tokenizer().encode("The keeper goes over the old sea").tolist()
    found = np.array(generator.forward_batch([ids]))
    with torch.no_grad():
        expected = model(torch.tensor([ids]))
    assert expected.std() > 0.3
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("their_warnings")
@pytest.mark.parametrize("unknown", ["substitute", "skip", "replace"])
def test_ctranslate2_generates_with_a_model_of_characters(tmp_path: Path, unknown: Unknown) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed")
    tokenizer = CharTokenizer("abcdefghij \n", unknown, end_of_text=True)
    model = lively(dataclasses.replace(CONFIG, vocab_size=tokenizer.vocab_size, tied_head=False))
    folder.write(model, tokenizer, tmp_path / "model", "# A card\n", 10**9)
    ctranslate2.converters.TransformersConverter(str(tmp_path / "model")).convert(str(tmp_path / "ct2"))
    generator = ctranslate2.Generator(str(tmp_path / "ct2"), device="cpu", compute_type="float32")
    written = []
    for text in ("bad egg", "jig", "ace", "hi ", "\n"):
        (result,) = generator.generate_batch([list(text)], max_length=12, include_prompt_in_result=False)
        prompt = torch.from_numpy(tokenizer.encode(text).astype(np.int64))
        expected = list(generate(model, prompt, Sampling(12, temperature=0), tokenizer.end_of_text))
        assert result.sequences_ids[0] == expected
        written += expected
    assert len(set(written)) > 2


def log_likelihood(model: GPT2, question: str, choice: str) -> float:
    tokenizer = GPT2Tokenizer()
    prompt, answer = (tokenizer.encode(text).tolist() for text in (question, f" {choice}"))
    with torch.no_grad():
        scores = model(torch.tensor([prompt + answer]))[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(scores[range(len(answer)), answer].sum())


@pytest.mark.slow
@pytest.mark.usefixtures("their_warnings")
def test_lm_evaluation_harness_scores_it_as_our_model_does(
    model: GPT2, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    task = ConfigurableTask(
        config={
            "task": "toy",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"validation": str(tmp_path / "questions.jsonl")}},
            "validation_split": "validation",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "label",
            "metric_list": [{"metric": "acc"}],
        }
    )
    harness = HFLM(pretrained=str(exported), device="cpu", dtype="float32", batch_size=2)
    results = lm_eval.simple_evaluate(model=harness, tasks=[task], log_samples=True, bootstrap_iters=0)
    hits = 0
    for row, sample in zip(QUESTIONS, results["samples"]["toy"], strict=True):
        ours = [log_likelihood(model, row["question"], choice) for choice in row["choices"]]
        found = [float(answer[0]) for answer in sample["filtered_resps"]]
        assert found == pytest.approx(ours, abs=1e-3)
        hits += int(np.argmax(ours)) == row["label"]
    assert results["results"]["toy"]["acc,none"] == pytest.approx(hits / len(QUESTIONS))
