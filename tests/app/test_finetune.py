"""The verb `finetune`: what all tasks share, seen in continued pre-training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY
from gpt2_lightning.pretrained.load import load_pretrained
from tests.app.tiny_runs import newest_run

Run = Callable[..., Any]
SHORT = [
    "trainer=cpu",
    "trainer.max_epochs=null",
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "batch_size=4",
]
QUIET = ["callbacks.samples.max_new_tokens=5", "callbacks.checkpoint.every_n_steps=3"]


@pytest.fixture
def finetune(run_verb: Run, small_text: Path, tiny_run: Path, tmp_path: Path) -> Run:
    """Continue the tiny run on the small text; more settings may follow."""
    places = [f"data.path={small_text}", f"cache_dir={tmp_path / 'cache'}", "runs_dir=runs", "name=tuned"]
    start = ["task=pretrain", "data=text", f"init_from={tiny_run}"]
    return lambda *settings: run_verb("finetune", *start, *places, *SHORT, *QUIET, *settings)


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    return files.read(checkpoint)["state_dict"]


def test_all_weights_train_from_where_they_were(finetune: Run, tiny_run: Path, workplace: Path) -> None:
    outcome = finetune("freeze=none")
    assert outcome.code == 0, outcome.err
    before = tensors(tiny_run / "checkpoints" / "best.ckpt")
    after = tensors(newest_run(workplace / "runs" / "tuned") / "checkpoints" / "step-000006.ckpt")
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[key], after[key]) for key in before)
    assert all((before[key] - after[key]).abs().max() < 0.01 for key in before), "six small steps"
    assert "(100.00 %)" in outcome.out


@pytest.mark.parametrize("lora", ["none", "attention"])
def test_all_ends_of_a_text_of_the_base_are_kept(finetune: Run, tiny_run: Path, workplace: Path, lora: str) -> None:
    content = files.read(tiny_run / "checkpoints" / "best.ckpt")
    content[KEY]["eos_token_ids"] = [5, 3]
    files.write(content, workplace / "base.ckpt")
    outcome = finetune("init_from=base.ckpt", f"lora={lora}", "lora.rank=2" if lora != "none" else "freeze=none")
    assert outcome.code == 0, outcome.err
    tuned = load_pretrained(str(newest_run(workplace / "runs" / "tuned")))
    end = tuned.tokenizer.end_of_text if tuned.tokenizer else None
    assert tuned.ends_of_text() == [*([] if end is None else [end]), 5, 3]


@pytest.mark.parametrize(
    ("freezing", "moving"),
    [
        (["freeze=first_n_blocks", "freeze_blocks=1"], ("h.1.", "ln_f.")),
        (["freeze=last_n_blocks", "freeze_blocks=0"], ("ln_f.",)),
        (["freeze=all_but_head"], ("wte.", "lm_head.")),
    ],
)
def test_frozen_weights_stay_bit_for_bit_and_have_no_optimizer_state(
    finetune: Run, tiny_run: Path, workplace: Path, freezing: list[str], moving: tuple[str, ...]
) -> None:
    assert finetune(*freezing).code == 0
    checkpoint = newest_run(workplace / "runs" / "tuned") / "checkpoints" / "step-000006.ckpt"
    before, after = tensors(tiny_run / "checkpoints" / "best.ckpt"), tensors(checkpoint)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {key for key in before if key.startswith(moving)}
    state = files.read(checkpoint)["optimizer_states"][0]["state"]
    assert sum(entry["exp_avg"].numel() for entry in state.values()) == sum(
        before[key].numel() for key in moved if key != "lm_head.weight"
    )


def test_an_adapter_is_saved_alone_and_used_by_all(
    finetune: Run, run_verb: Run, tiny_run: Path, workplace: Path
) -> None:
    assert finetune("lora=attention", "optimizer.lr=0.01").code == 0
    run = newest_run(workplace / "runs" / "tuned")
    saved = files.read(run / "checkpoints" / "step-000006.ckpt")
    assert all(".adapters.default.lora_" in key for key in saved["state_dict"])
    assert saved[KEY]["task"]["adapter"]["spec"]["targets"] == ["qkv", "attn_out"]
    merged, base = load_pretrained(str(run)).model, load_pretrained(str(tiny_run)).model
    changed = {key for key, tensor in base.state_dict().items() if not torch.equal(tensor, merged.state_dict()[key])}
    assert changed == {f"h.{i}.attn.{layer}.weight" for i in (0, 1) for layer in ("c_attn", "c_proj")}
    a, b = (saved["state_dict"][f"h.0.attn.c_proj.adapters.default.lora_{m}.attn_out"] for m in "AB")
    expected = base.h[0].attn.c_proj.weight + 16 / 8 * b @ a  # Hu et al. 2021, equation 3
    torch.testing.assert_close(merged.h[0].attn.c_proj.weight, expected)
    outcome = run_verb("generate", f"checkpoint={run}", "prompt=the ship", "max_new_tokens=5")
    assert outcome.code == 0
    assert "adapter is merged" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("lora", ["none", "attention"])
def test_a_resumed_run_ends_like_one_that_was_not_stopped(finetune: Run, workplace: Path, lora: str) -> None:
    assert finetune(f"lora={lora}", "schedule=constant").code == 0
    whole = newest_run(workplace / "runs" / "tuned")
    assert finetune(f"lora={lora}", "name=parts", "trainer.max_steps=3", "schedule=constant").code == 0
    stopped = newest_run(workplace / "runs" / "parts")
    outcome = finetune(f"lora={lora}", "name=parts", "schedule=constant", f"resume={stopped}")
    assert outcome.code == 0, outcome.err
    assert "resuming from step-000003" in outcome.out
    one, other = (tensors(run / "checkpoints" / "step-000006.ckpt") for run in (whole, stopped))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_scratch_makes_a_model_of_the_settings(finetune: Run, workplace: Path) -> None:
    outcome = finetune("init_from=scratch", "model=tiny", "tokenizer=gpt2")
    assert outcome.code == 0, outcome.err
    found = load_pretrained(str(newest_run(workplace / "runs" / "tuned")))
    assert found.model.config.n_embd == 32
    assert found.model.config.vocab_size == 50257


def test_dropout_takes_the_place_of_the_models_own(finetune: Run, tiny_run: Path, workplace: Path) -> None:
    assert finetune("dropout=0.3").code == 0
    assert finetune("name=own").code == 0
    dropping, own = (newest_run(workplace / "runs" / name) for name in ("tuned", "own"))
    config = load_pretrained(str(dropping)).model.config
    assert (config.embd_pdrop, config.attn_pdrop, config.resid_pdrop) == (0.3, 0.3, 0.3)
    assert load_pretrained(str(own)).model.config == load_pretrained(str(tiny_run)).model.config
    one, other = (tensors(run / "checkpoints" / "step-000006.ckpt") for run in (dropping, own))
    assert not all(torch.equal(one[key], other[key]) for key in one), "it is there while the model learns"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["init_from=nowhere"], "nowhere"),
        (["lora=attention", "freeze=all_but_head"], "freeze: all_but_head and lora exclude each other"),
        (["init_from=scratch", "lora=attention"], "an adapter needs a trained model"),
        (["lora=attention", "lora.rank=0"], "lora.rank: 0 is out of range"),
        (["lora=attention", "lora.targets=[query]"], "query"),
        (["freeze=last_n_blocks", "freeze_blocks=3"], "the model has 2 blocks"),
        (["freeze=som"], "freeze: 'som' does not fit"),
        (["dropout=1"], "dropout: 1 is out of range"),
    ],
)
def test_mistakes_are_told_without_a_trace(finetune: Run, settings: list[str], message: str) -> None:
    outcome = finetune(*settings)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
