"""Mistakes that need more than a command of `bad_input.txt`: exit code 2, a message that says what to do."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt2_lightning.tokenizers import gpt2
from tests.app.bad_input_files import Bomb
from tests.app.tiny_runs import TINY
from tests.outcomes import refused

Run = Callable[..., object]


def test_model_that_no_memory_holds(run_verb: Run, small_text: Path) -> None:
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "model.n_embd=8000000")
    refused(outcome, "there is not enough memory", "choose a smaller model")


def test_dangling_link_for_a_folder(run_verb: Run, workplace: Path, small_text: Path) -> None:
    (workplace / "runs").symlink_to(workplace / "unmounted")
    refused(run_verb("train", *TINY, "data=text", f"data.path={small_text}"), "cannot be made", "set run_dir")


def test_what_follows_from_a_fault_is_not_told_as_another(run_verb: Run) -> None:
    outcome = run_verb("train", *TINY, "model.n_embd=abc", "optimizer.lrr=1", "batch_size=0")
    refused(outcome, "3 faults", "model.n_embd: 'abc'", "optimizer.lrr", "batch_size: 0")


def test_diverging_run(run_verb: Run, small_text: Path, workplace: Path) -> None:
    length = ["trainer.max_steps=60", "schedule.warmup_steps=0", "callbacks.checkpoint.every_n_steps=1"]
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "optimizer.lr=1e30", *length)
    refused(outcome, "the run has diverged", "lower optimizer.lr")
    (log,) = workplace.glob("runs/*/*/train.log")
    assert "the run has diverged" in log.read_text()


def test_resuming_with_another_alphabet_of_the_same_size(
    run_verb: Run, tiny_run: Path, small_text: Path, workplace: Path
) -> None:
    (workplace / "other.txt").write_text(small_text.read_text().replace("t", "T"))
    settings = ["data=text", "data.path=other.txt", "trainer.max_steps=20", f"resume={tiny_run}"]
    refused(run_verb("train", *TINY, *settings), "trained with another tokenizer", "ids mean something else")


def test_all_faults_come_in_one_message(run_verb: Run) -> None:
    faults = ["schedule=cosin", "optimizer.lrr=1", "model.n_embd=33", "trainer.max_steps=abc", "batch_size=0"]
    outcome = run_verb("train", *TINY, *faults)
    refused(outcome, "5 faults", "'cosin'", "optimizer.lrr", "n_embd: 33", "'abc'", "batch_size: 0")


def test_misspelt_option_is_found_before_the_configuration_is_shown(run_verb: Run) -> None:
    refused(run_verb("train", "model=gtp2_124m", "--cfg", "job"), "did you mean gpt2_124m?")


def test_missing_vocabulary(run_verb: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpt2, "MERGES", tmp_path / "vocab.bpe.xz")
    gpt2._encoding.cache_clear()
    refused(run_verb("train", *TINY, "tokenizer=gpt2"), "GPT-2's vocabulary is missing", "install the package again")
    gpt2._encoding.cache_clear()


def test_checkpoint_of_another_architecture(run_verb: Run, tiny_run: Path, small_text: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "model.n_layer=3", "model.qkv_bias=false"]
    before = sorted((file, file.stat().st_mtime_ns) for file in tiny_run.rglob("*"))
    outcome = run_verb("train", *TINY, *settings, f"resume={tiny_run}")
    refused(
        outcome,
        "another architecture",
        "n_layer: the configuration has 3, the checkpoint 2",
        "qkv_bias: the configuration has False, the checkpoint True",
    )
    assert sorted((file, file.stat().st_mtime_ns) for file in tiny_run.rglob("*")) == before


@pytest.mark.parametrize(
    "save",
    [
        lambda bomb, file: torch.save({"state_dict": bomb}, file),
        lambda bomb, file: file.write_bytes(pickle.dumps(bomb)),
    ],
)
def test_pickle_that_runs_code(run_verb: Run, workplace: Path, save: Callable[[Bomb, Path], None]) -> None:
    save(Bomb(workplace / "exploded"), workplace / "bomb.ckpt")
    refused(run_verb("generate", "checkpoint=bomb.ckpt"), "bomb.ckpt", "could run code", "refused")
    assert not (workplace / "exploded").exists()
    pickle.loads(pickle.dumps(Bomb(workplace / "exploded")))
    assert (workplace / "exploded").exists(), "the planted code does run where nothing stops it"


def test_resuming_a_finished_run(run_verb: Run, tiny_run: Path, small_text: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "trainer.max_steps=12", f"resume={tiny_run}"]
    refused(run_verb("train", *TINY, *settings), "is at step 12", "raise trainer.max_steps")


def test_no_run_to_generate_from(run_verb: Run) -> None:
    refused(run_verb("generate"), "no run with a checkpoint", "python train.py")


def test_unknown_verb() -> None:
    command = [sys.executable, "-m", "gpt2_lightning", "trian"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean train?" in done.stderr


def test_too_new_python_is_named_in_one_line(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    outcome = run_verb("train")
    refused(outcome, "Python 3.11 to 3.13, this is 3.14.0")
    assert len(outcome.err.splitlines()) == 1


def test_prompt_with_unknown_characters(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("generate", f"checkpoint={tiny_run}", "prompt=the €, it's: {odd}", "max_new_tokens=2")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("are not in the tokenizer's alphabet and were replaced by ' '") == 1
    assert all(character in outcome.err for character in ("'€'", "'{'"))


def test_the_version_is_that_of_this_program(run_verb: Run) -> None:
    from gpt2_lightning import __version__

    assert run_verb("train", "--version").out == f"{__version__}\n"
