"""Every mistake that a user may make: a message that says what, where and what to do; exit code 2; nothing lost."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt2_lightning.tokenizers import gpt2
from tests.app.tiny_runs import TINY
from tests.outcomes import refused

Run = Callable[..., object]


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("optimizer.lrr=1e-3", ["optimizer.lrr: unknown key", "did you mean optimizer.lr?"]),
        ("lr=1e-3", ["lr: unknown key", "did you mean optimizer.lr?"]),
        ("modle=char", ["modle: unknown key", "did you mean model?"]),
        ("model=chat", ["there is no option 'chat'", "did you mean char?", "gpt2_1558m"]),
        ("model.n_layer=three", ["model.n_layer: 'three'", "integer"]),
        ("model.n_layer=true", ["model.n_layer: True", "integer"]),
        ("model.n_layer=2.5", ["model.n_layer: 2.5", "integer"]),
        ("optimizer.betas=[0.9]", ["optimizer.betas: [0.9]"]),
        ("optimizer.lr=-1", ["optimizer.lr: -1", "above 0"]),
        ("optimizer.lr=inf", ["optimizer.lr: inf", "finite"]),
        ("model.n_embd=33", ["n_embd: 33 is not divisible by n_head=2", "n_embd=32 or 34", "n_head=1 or 3"]),
        ("model.positions=rotray", ["model.positions: 'rotray' is not one of learned, sinusoidal"]),
        ("trainer.accelerator=tpu", ["trainer.accelerator: 'tpu'", "'cpu'", "'cuda'"]),
        ("data.val_fraction=some", ["data.val_fraction: 'some'", "number"]),
        ("callbacks.samples=3", ["callbacks.samples: 3 is not a group of settings"]),
        ("callbacks.checkpoint.keep=0", ["callbacks.checkpoint.keep: 0 is out of range, 1 or more"]),
        ("optimizer._target_=os.system", ["'os.system' is refused", "gpt2_lightning"]),
        ("optimizer._target_=gpt2_lightning.training.optimizers.Adamm", ["Adamm' cannot be imported"]),
        ("micro_batch_size=3", ["micro_batch_size: 3 does not divide batch_size=4", "2 and 4"]),
        ("name=${nothing}", ["name", "nothing"]),
    ],
)
def test_fault_in_the_configuration(run_verb: Run, workplace: Path, override: str, fragments: list[str]) -> None:
    refused(run_verb("train", *TINY, override), *fragments)
    assert not list(workplace.iterdir()), "nothing was written"


def test_file_in_place_of_the_runs_folder(run_verb: Run, workplace: Path, small_text: Path) -> None:
    (workplace / "taken").write_text("mine")
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "run_dir=taken")
    refused(outcome, "taken is there already and is no folder")
    assert (workplace / "taken").read_text() == "mine"


def test_model_that_no_memory_holds(run_verb: Run, small_text: Path) -> None:
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "model.n_embd=8000000")
    refused(outcome, "there is not enough memory", "choose a smaller model")


def test_dangling_link_for_a_folder(run_verb: Run, workplace: Path, small_text: Path) -> None:
    (workplace / "runs").symlink_to(workplace / "unmounted")
    refused(run_verb("train", *TINY, "data=text", f"data.path={small_text}"), "cannot be made", "set run_dir")


def test_what_follows_from_a_fault_is_not_told_as_another(run_verb: Run) -> None:
    outcome = run_verb("train", *TINY, "model.n_embd=abc", "optimizer.lrr=1", "batch_size=0")
    refused(outcome, "3 faults", "model.n_embd: 'abc'", "optimizer.lrr", "batch_size: 0")


@pytest.mark.parametrize("override", ["logger=null", "optimizer=null", "model=[tiny,chaar]"])
def test_no_option_of_a_group(run_verb: Run, override: str) -> None:
    refused(run_verb("train", override), "there is no option")


def test_broken_yaml_of_the_users(run_verb: Run, workplace: Path) -> None:
    (workplace / "mine" / "model").mkdir(parents=True)
    (workplace / "mine" / "model" / "odd.yaml").write_text("n_layer: [1\n")
    refused(run_verb("train", "--config-dir", "mine", "model=odd"), "the configuration cannot be composed", "odd.yaml")


@pytest.mark.parametrize("verb", ["train", "generate"])
def test_seed_that_no_generator_takes(run_verb: Run, verb: str) -> None:
    refused(run_verb(verb, "seed=99999999999999999999999"), "seed", "2**63")


def test_diverging_run(run_verb: Run, small_text: Path, workplace: Path) -> None:
    length = ["trainer.max_steps=60", "schedule.warmup_steps=0", "callbacks.checkpoint.every_n_steps=1"]
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "optimizer.lr=1e30", *length)
    refused(outcome, "the run has diverged", "lower optimizer.lr")
    (log,) = workplace.glob("runs/*/*/train.log")
    assert "the run has diverged" in log.read_text()


def test_prompt_of_the_samples_is_checked_before_the_first_step(run_verb: Run, small_text: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "callbacks.samples.prompt=Zürich", "tokenizer.unknown=error"]
    outcome = run_verb("train", *TINY, *settings)
    refused(outcome, "in the prompt", "'Z' (U+005A) at character 0")
    assert "step" not in outcome.out.split("folder:")[1]


def test_resuming_with_another_alphabet_of_the_same_size(
    run_verb: Run, tiny_run: Path, small_text: Path, workplace: Path
) -> None:
    (workplace / "other.txt").write_text(small_text.read_text().replace("t", "T"))
    settings = ["data=text", "data.path=other.txt", "trainer.max_steps=20", f"resume={tiny_run}"]
    refused(run_verb("train", *TINY, *settings), "trained with another tokenizer", "ids mean something else")


def test_resuming_the_jobs_of_a_sweep(run_verb: Run) -> None:
    refused(run_verb("train", "-m", *TINY, "resume=auto", "seed=1,2"), "cannot distinguish the jobs of a sweep")


def test_all_faults_come_in_one_message(run_verb: Run) -> None:
    faults = ["schedule=cosin", "optimizer.lrr=1", "model.n_embd=33", "trainer.max_steps=abc", "batch_size=0"]
    outcome = run_verb("train", *TINY, *faults)
    refused(outcome, "5 faults", "'cosin'", "optimizer.lrr", "n_embd: 33", "'abc'", "batch_size: 0")


def test_misspelt_option_is_found_before_the_configuration_is_shown(run_verb: Run) -> None:
    refused(run_verb("train", "model=gtp2_124m", "--cfg", "job"), "did you mean gpt2_124m?")


def test_sweep_over_a_misspelt_option(run_verb: Run) -> None:
    refused(run_verb("train", "-m", "model=tiny,tinny"), "there is no option 'tinny'", "did you mean tiny?")


def test_values_of_a_sweep_without_the_sweep(run_verb: Run) -> None:
    refused(run_verb("train", "optimizer.lr=1e-3,3e-3"), "--multirun")


def test_two_limits(run_verb: Run) -> None:
    outcome = run_verb("train", *TINY, "trainer.max_steps=10", "trainer.max_tokens=1000")
    refused(outcome, "max_steps=10 and max_tokens=1000 exclude each other")


def test_missing_value(run_verb: Run) -> None:
    refused(run_verb("train", *TINY, "data=text"), "data.path: missing; add data.path=VALUE")


def test_missing_text(run_verb: Run, workplace: Path) -> None:
    refused(run_verb("train", *TINY, "data=text", "data.path=none.txt"), f"no file or folder {workplace / 'none.txt'}")


def test_empty_text(run_verb: Run, workplace: Path) -> None:
    (workplace / "empty.txt").write_text(" \n")
    refused(run_verb("train", *TINY, "data=text", "data.path=empty.txt"), "empty.txt is empty")


def test_text_that_is_not_utf8(run_verb: Run, workplace: Path) -> None:
    (workplace / "latin.txt").write_bytes(b"caf\xe9 and more")
    refused(run_verb("train", *TINY, "data=text", "data.path=latin.txt"), "not UTF-8", "0xe9 at byte offset 3", "iconv")


def test_text_shorter_than_a_block(run_verb: Run, workplace: Path) -> None:
    (workplace / "short.txt").write_text("ab" * 15)
    refused(run_verb("train", *TINY, "data=text", "data.path=short.txt"), "it has 27 tokens and needs 33")


def test_missing_vocabulary(run_verb: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpt2, "MERGES", tmp_path / "vocab.bpe.xz")
    gpt2._encoding.cache_clear()
    refused(run_verb("train", *TINY, "tokenizer=gpt2"), "GPT-2's vocabulary is missing", "install the package again")
    gpt2._encoding.cache_clear()


def test_folder_that_cannot_be_written(run_verb: Run, workplace: Path, small_text: Path) -> None:
    (workplace / "blocked").write_text("a file, where a folder would have to be")
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "runs_dir=blocked")
    refused(outcome, "blocked", "cannot be made", "set run_dir or runs_dir")
    assert (workplace / "blocked").read_text() == "a file, where a folder would have to be"


def test_stated_vocabulary_that_is_not_the_tokenizers(run_verb: Run, small_text: Path) -> None:
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "model.vocab_size=50304")
    refused(outcome, "model.vocab_size is 50304", "the tokenizer has 17 tokens")


def test_prompt_with_unknown_characters(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("generate", f"checkpoint={tiny_run}", "prompt=the €, it's: {odd}", "max_new_tokens=2")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("are not in the tokenizer's alphabet and were replaced by ' '") == 1
    assert all(character in outcome.err for character in ("'€'", "'{'"))


@pytest.mark.parametrize("setting", ["temperature=-1", "temperature=1e-320", "max_new_tokens=0", "top_k=0"])
def test_sampling_out_of_range(run_verb: Run, tiny_run: Path, setting: str) -> None:
    refused(run_verb("generate", f"checkpoint={tiny_run}", setting), setting.split("=")[0], "out of range")


def test_truncated_checkpoint(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    whole = (tiny_run / "checkpoints" / "best.ckpt").read_bytes()
    (workplace / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    refused(run_verb("generate", "checkpoint=cut.ckpt"), "cut.ckpt", "damaged or cut off")


def test_checkpoint_of_another_program(run_verb: Run, workplace: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, workplace / "other.ckpt")
    outcome = run_verb("generate", "checkpoint=other.ckpt")
    refused(outcome, "other.ckpt is a checkpoint of neither GPT-2 Lightning", "check the path")


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


class Bomb:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.file,))


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


def test_nothing_to_resume(run_verb: Run, small_text: Path) -> None:
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "resume=must")
    refused(outcome, "resume=must", "resume=PATH")


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


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("trainer.max_tokens=1e308", ["trainer.max_tokens: 1e+308 is out of range"]),
        ("trainer.max_epochs=1e308", ["trainer.max_epochs: 1e+308 is out of range"]),
        (f"trainer.max_steps={10**30}", ["trainer.max_steps: ", "2**63"]),
        (f"batch_size={10**30}", ["batch_size: ", "2**63"]),
        ("batch_size=1099511627776", ["batch_size: 1099511627776 is out of range"]),
        ("optimizer.weight_decay=inf", ["optimizer.weight_decay: inf", "finite"]),
        ("optimizer.betas=[nan,0.9]", ["optimizer.betas: nan", "finite"]),
        ("=5", ["'=5' has no key; write KEY=VALUE"]),
        ("trainer.max_steps", ["'trainer.max_steps' has no value; write KEY=VALUE"]),
        ("model.n_layer=[1,2", ["model.n_layer: [1,2 cannot be read, it has an unpaired []"]),
        ("optimizer.groups={wte: {lr_scale: 1}", ["optimizer.groups: ", "an unpaired {}"]),
    ],
)
def test_a_value_that_no_computation_takes_is_named(run_verb: Run, override: str, fragments: list[str]) -> None:
    refused(run_verb("train", *TINY, override), *fragments)


def test_a_sweep_without_values_is_refused(run_verb: Run, workplace: Path) -> None:
    refused(run_verb("train", "-m", *TINY, "seed=range(5,0)"), "seed: range(5,0) has no values")
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("verb", "override", "fragment"),
    [
        ("train", "model=gpt2", "did you mean gpt2_124m?"),
        ("train", "trainer.foo=1", "trainer.foo: unknown key; trainer has accelerator, "),
        ("train", "learning_rate=1", "learning_rate: unknown key; here it is optimizer.lr"),
        (
            "train",
            "optimizer._target_=torch.optim.SGD",
            "and makes a gpt2_lightning.training.optimizers",
        ),
        ("generate", "num_return_sequences=3", "here it is num_samples"),
        ("generate", "stop_strings=a", "here it is stop"),
        ("generate", "do_sample=false", "here it is temperature: 0 is greedy decoding"),
    ],
)
def test_a_name_of_another_library_leads_to_ours(run_verb: Run, verb: str, override: str, fragment: str) -> None:
    refused(run_verb(verb, override), fragment)


def test_a_yaml_without_a_target_is_named(run_verb: Run, workplace: Path) -> None:
    folder = workplace / "mine" / "optimizer"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text("lr: 3\n")
    refused(run_verb("train", "--config-dir", "mine", "optimizer=odd"), "optimizer: it has no _target_")


def test_the_version_is_that_of_this_program(run_verb: Run) -> None:
    from gpt2_lightning import __version__

    assert run_verb("train", "--version").out == f"{__version__}\n"
