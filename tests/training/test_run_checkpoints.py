import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from gpt2_lightning.checkpoints import files, folder
from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2
from gpt2_lightning.training.callbacks import Checkpointing
from tests.training.short_run import ALPHABET, CONFIG, Plan, Run, same_tensors

Train = Callable[..., Run]


@pytest.fixture(scope="module")
def run(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(Plan(tmp_path_factory.mktemp("run")))


def kinds(value: Any) -> set[type]:
    """The types of all values and keys inside a nested value."""
    if isinstance(value, dict):
        return {type(value)}.union(*(kinds(part) for pair in value.items() for part in pair))
    if isinstance(value, list | tuple):
        return {type(value)}.union(*map(kinds, value))
    return {type(value)}


@pytest.mark.parametrize(
    ("checkpointing", "names"),
    [
        ({"every_n_steps": 2, "keep": 2}, ["best.ckpt", "step-000006.ckpt", "step-000007.ckpt"]),
        ({"every_n_steps": 3, "keep": 9}, ["best.ckpt", "step-000003.ckpt", "step-000006.ckpt", "step-000007.ckpt"]),
        ({"every_n_steps": 500, "keep": 1}, ["best.ckpt", "step-000007.ckpt"]),
        ({"every_n_steps": 1, "keep": 1}, ["best.ckpt", "step-000007.ckpt"]),
    ],
)
@pytest.mark.parametrize("micro_batch_size", [6, 2])
def test_every_nth_and_the_last_step_are_saved_and_the_newest_kept(
    train: Train, tmp_path: Path, checkpointing: dict[str, int], names: list[str], micro_batch_size: int
) -> None:
    run = train(Plan(tmp_path, max_steps=7, checkpointing=checkpointing, micro_batch_size=micro_batch_size))
    assert run.checkpoint_names() == names


def test_a_checkpoint_is_of_the_step_in_its_name(run: Run) -> None:
    for step in (2, 4, 6, 8, 10, 12):
        assert run.checkpoint(f"step-{step:06d}.ckpt")["global_step"] == step


def test_the_best_checkpoint_has_the_lowest_validation_loss(train: Train, tmp_path: Path) -> None:
    """A rate that is far too high in the end makes the last validation the worst."""

    class Spoil(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step >= 8:
                for weight in trainer.lightning_module.parameters():
                    weight.data.mul_(1.5)

    run = train(Plan(tmp_path, callbacks=[Spoil()]))
    losses = run.column("val/loss")
    assert min(losses, key=lambda step: losses[step]) == 8
    assert max(losses, key=lambda step: losses[step]) == 12
    assert same_tensors(run.checkpoint("best.ckpt")["state_dict"], run.checkpoint("step-000008.ckpt")["state_dict"])


def test_a_run_that_is_killed_between_its_two_checkpoints_of_a_step_has_the_best_one(
    train: Train, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    right = files.link

    def kill(existing: Path, path: Path) -> None:
        if folder.step_name(12) in (existing.name, path.name):
            raise Killed
        right(existing, path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "link", kill)
        with pytest.raises(Killed):
            train(Plan(tmp_path))
    newest = folder.newest(tmp_path)
    assert newest is not None
    again = train(Plan(tmp_path), resume=newest)
    for name in run.checkpoint_names():
        assert same_tensors(again.checkpoint(name)["state_dict"], run.checkpoint(name)["state_dict"]), name


def test_a_checkpoint_that_a_killed_run_did_not_remove_is_removed_by_its_resume(train: Train, tmp_path: Path) -> None:
    whole = train(Plan(tmp_path, checkpointing={"keep": 1}))
    last = tmp_path / "checkpoints" / folder.step_name(12)
    files.link(last, last.with_name(folder.step_name(10)))
    train(Plan(tmp_path, checkpointing={"keep": 1}), resume=last)
    assert whole.checkpoint_names() == ["best.ckpt", last.name]


def test_the_last_checkpoint_is_restored_from_the_best_of_the_same_step(train: Train, tmp_path: Path) -> None:
    """As after a kill between the two, and damage to the one before."""
    whole = train(Plan(tmp_path))
    best, last = (tmp_path / "checkpoints" / name for name in ("best.ckpt", folder.step_name(12)))
    assert same_tensors(files.read(best)["state_dict"], (saved := files.read(last))["state_dict"])
    for checkpoint in folder.by_step(tmp_path):
        checkpoint.unlink()
    train(Plan(tmp_path), resume=best)
    assert whole.checkpoint_names() == ["best.ckpt", last.name]
    assert same_tensors(files.read(last)["state_dict"], saved["state_dict"])


def test_keys_are_those_of_the_plain_model(run: Run) -> None:
    saved = run.checkpoint("step-000012.ckpt")["state_dict"]
    assert list(saved) == list(GPT2(CONFIG).state_dict())
    assert same_tensors(saved, dict(run.model.state_dict()))


def test_a_checkpoint_holds_tensors_and_plain_values_only(run: Run) -> None:
    plain = {dict, OrderedDict, list, tuple, str, int, float, bool, type(None), torch.Tensor}
    assert kinds(run.checkpoint("step-000012.ckpt")) <= plain


def test_a_checkpoint_with_other_callbacks_loads_without_code(train: Train, tmp_path: Path) -> None:
    run = train(Plan(tmp_path, max_steps=4, callbacks=[EarlyStopping("val/loss")]))
    assert run.checkpoint("step-000004.ckpt")["global_step"] == 4


def test_a_checkpoint_is_enough_to_generate_from(run: Run) -> None:
    model, description = load_model(run.run_dir / "checkpoints" / "best.ckpt", torch.device("cpu"))
    ids = torch.arange(7)[None]
    assert torch.equal(model(ids), run.model.eval()(ids)), "the last validation was the best"
    assert description.model == CONFIG
    assert description.tokenizer.decode([0, 1]) == "".join(sorted(ALPHABET))[:2]
    assert description.run_config == {"seed": 0}


def test_early_stopping_validates_and_saves_the_last_step(train: Train, tmp_path: Path) -> None:
    stop = EarlyStopping("val/loss", patience=1, min_delta=100)
    run = train(Plan(tmp_path, max_steps=40, callbacks=[stop], checkpointing={"every_n_steps": 500}))
    assert list(run.column("val/loss")) == [4, 8], "the second has not improved by 100"
    assert run.checkpoint_names() == ["best.ckpt", "step-000008.ckpt"]


def test_a_validation_loss_that_is_no_number_is_not_the_mean_of_the_rest(train: Train, tmp_path: Path) -> None:
    """Only batches with the last character are lost: the loss of the others would look like progress."""

    class LoseOneCharacter(L.Callback):
        def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            module.model.wte.weight.data[-1] = float("nan")

    config = dataclasses.replace(CONFIG, tied_head=False)
    with pytest.raises(UserError, match="validation loss is nan at step 4"):
        train(Plan(tmp_path, 4, micro_batch_size=1, model=config, callbacks=[LoseOneCharacter()]))
    assert [file.name for file in tmp_path.glob("checkpoints/*")] == ["step-000002.ckpt"], "the state before is kept"


@pytest.mark.parametrize("field", ["every_n_steps", "keep"])
def test_settings_out_of_range_are_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: 0 is out of range, 1 or more is allowed"):
        Checkpointing(tmp_path, **{field: 0})
