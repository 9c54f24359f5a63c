"""Precision and speed as a user sets them: what is refused, and what a run says and leaves behind."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.app.tiny_runs import TINY, newest_run

Run = Callable[..., object]
SHORT = ["data=text", "trainer.max_steps=4", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1"]


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        (["precision=tf32"], ["trainer.precision: tf32 is for NVIDIA GPUs", "use fp32 or bf16"]),
        (["precision=bf17"], ["there is no option 'bf17'", "bf16"]),
        (["trainer.precision=bf16-mixed"], ["trainer.precision: 'bf16-mixed'", "'bf16_true'"]),
        (["compile=fast"], ["compile: 'fast'", "'max-autotune'"]),
        (["compile=reduce-overhead"], ["compile: 'reduce-overhead'", "'default'", "'max-autotune'"]),
        (["compile=true"], ["compile: there is no C++ compiler 'g++-of-nowhere'", "CXX", "compile=false"]),
        (["activation_checkpointing=some"], ["activation_checkpointing: 'some'"]),
        (["model.pad_vocab_to_multiple_of=0"], ["model.pad_vocab_to_multiple_of: 0 is out of range, 1 or more"]),
    ],
)
def test_fault_in_the_settings_of_speed(
    run_verb: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], fragments: list[str]
) -> None:
    monkeypatch.setenv("CXX", "g++-of-nowhere")
    outcome = run_verb("train", *TINY, *overrides)
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err + outcome.out
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err
    assert not list(workplace.iterdir()), "nothing was written"


def test_fp16_with_a_padded_vocabulary_and_recomputation_trains_generates_and_is_exported(
    run_verb: Run, workplace: Path, small_text: Path
) -> None:
    settings = ["precision=fp16", "activation_checkpointing=true", "model.pad_vocab_to_multiple_of=64"]
    outcome = run_verb("train", *TINY, *SHORT, f"data.path={small_text}", *settings)
    assert outcome.code == 0, outcome
    run = newest_run(workplace / "runs" / "text-tiny")
    with (run / "metrics.csv").open() as file:
        skipped = [row["skipped_steps"] for row in csv.DictReader(file) if row["train/loss"]]
    assert skipped == ["0"] * 4
    (checkpoint,) = (run / "checkpoints").glob("step-*.ckpt")
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert weights["wte.weight"].shape[0] == weights["lm_head.weight"].shape[0] == 64
    assert run_verb("generate", f"checkpoint={run}", "prompt=star", "max_new_tokens=20").code == 0
    exported = run_verb("convert", f"source={run}", "target=theirs")
    assert exported.code == 0, exported
    again = run_verb("convert", "source=theirs", "target=again.ckpt", "to=gpt2_lightning")
    assert again.code == 0, again
    ours = torch.load("again.ckpt", weights_only=True)["state_dict"]["wte.weight"]
    assert torch.equal(ours, weights["wte.weight"][: len(ours)])
    assert len(ours) < 64


def test_the_default_precision_is_that_of_fp32_on_a_cpu(run_verb: Run, workplace: Path, small_text: Path) -> None:
    losses = []
    for name in ([], ["precision=fp32"], ["precision=bf16"]):
        outcome = run_verb("train", *TINY, *SHORT, f"data.path={small_text}", *name, f"run_dir=run{len(losses)}")
        assert outcome.code == 0, outcome
        assert ("precision:" in outcome.out) <= bool(name), "nothing is said of the default"
        with (workplace / f"run{len(losses)}" / "metrics.csv").open() as file:
            losses.append([row["train/loss"] for row in csv.DictReader(file)])
    assert losses[0] == losses[1] != losses[2]
