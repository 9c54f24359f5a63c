import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt2_lightning.checkpoints import folder
from gpt2_lightning.data.sampling import base_datamodule
from gpt2_lightning.data.sampling.read_ahead import ReadAheadLoader
from gpt2_lightning.training import random_state
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.schedules import Cosine, Linear
from tests.training.short_run import CONFIG, Plan, Run, same_tensors

Train = Callable[..., Run]

WITH_DROPOUT = dataclasses.replace(CONFIG, embd_pdrop=0.1, attn_pdrop=0.1, resid_pdrop=0.1)
CPU = torch.device("cpu")
LAST = "step-000012.ckpt"
COSINE = Cosine(warmup_steps=3)


def plan_of(run_dir: Path, micro_batch_size: int) -> Plan:
    """A run whose 72 samples go beyond its first epoch of 50."""
    return Plan(
        run_dir,
        model=WITH_DROPOUT,
        schedule=COSINE,
        micro_batch_size=micro_batch_size,
        checkpointing={"every_n_steps": 1},
    )


@pytest.fixture(scope="module")
def whole_runs(train: Train, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Run]:
    """Uninterrupted runs by size of the micro-batch, with a checkpoint of every step."""
    return {size: train(plan_of(tmp_path_factory.mktemp(f"whole-{size}"), size)) for size in (6, 2)}


def kill_after(run: Run, step: int, run_dir: Path) -> Path:
    """What a run that was killed soon after a step leaves: its checkpoint, and rows that are to be written again."""
    (run_dir / "checkpoints").mkdir(parents=True)
    checkpoint = run_dir / "checkpoints" / f"step-{step:06d}.ckpt"
    shutil.copy(run.run_dir / "checkpoints" / checkpoint.name, checkpoint)
    header, *lines = (run.run_dir / "metrics.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if int(line.split(",")[0]) <= step]
    later = [f"{step + steps}{',99' * header.count(',')}\n" for steps in (2, 4)]
    (run_dir / "metrics.csv").write_text("".join([header, *kept, *later]), encoding="utf-8")
    return checkpoint


@pytest.mark.parametrize("step", [6, 8, 10], ids=["not validated", "validated", "into another epoch"])
@pytest.mark.parametrize("micro_batch_size", [6, 2])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    train: Train, whole_runs: dict[int, Run], tmp_path: Path, step: int, micro_batch_size: int
) -> None:
    whole = whole_runs[micro_batch_size]
    checkpoint = kill_after(whole, step, tmp_path)
    resumed = train(plan_of(tmp_path, micro_batch_size), resume=checkpoint)
    ours, theirs = resumed.checkpoint(LAST), whole.checkpoint(LAST)
    for part in ("state_dict", "optimizer_states", "random_states", "TokenDataModule", "global_step"):
        assert same_tensors(ours[part], theirs[part]), part
    assert resumed.rows() == whole.rows()
    assert same_tensors(resumed.checkpoint("best.ckpt")["state_dict"], whole.checkpoint("best.ckpt")["state_dict"])


def test_a_resumed_run_that_reads_ahead_equals_an_uninterrupted_one_that_does_not(
    train: Train, whole_runs: dict[int, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_datamodule, "DataLoader", ReadAheadLoader)
    checkpoint = kill_after(whole_runs[2], 6, tmp_path)
    resumed = train(plan_of(tmp_path, 2), resume=checkpoint)
    assert isinstance(resumed.data.train_dataloader(), ReadAheadLoader)
    assert same_tensors(resumed.checkpoint(LAST)["state_dict"], whole_runs[2].checkpoint(LAST)["state_dict"])
    assert resumed.rows() == whole_runs[2].rows()


def test_dropout_would_tell_another_random_state(train: Train, whole_runs: dict[int, Run], tmp_path: Path) -> None:
    """The equality above has power: with the random state of another step the weights differ."""
    checkpoint = kill_after(whole_runs[6], 6, tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content["random_states"] = whole_runs[6].checkpoint("step-000005.ckpt")["random_states"]
    torch.save(content, checkpoint)
    resumed = train(plan_of(tmp_path, 6), resume=checkpoint)
    assert not same_tensors(resumed.checkpoint(LAST)["state_dict"], whole_runs[6].checkpoint(LAST)["state_dict"])


@pytest.mark.parametrize("step", [5, 7])
def test_a_row_after_a_resume_covers_all_its_steps(
    train: Train, whole_runs: dict[int, Run], tmp_path: Path, step: int
) -> None:
    """The checkpoint lies between two rows: the mean of the next one has steps from before and after it."""
    checkpoint = kill_after(whole_runs[6], step, tmp_path)
    resumed = train(plan_of(tmp_path, 6), resume=checkpoint)
    assert resumed.rows() == whole_runs[6].rows()


def test_a_resumed_run_counts_on(train: Train, whole_runs: dict[int, Run], tmp_path: Path) -> None:
    resumed = train(plan_of(tmp_path, 6), resume=kill_after(whole_runs[6], 6, tmp_path))
    assert resumed.trainer.global_step == 12
    assert resumed.data.samples_seen == 72
    assert resumed.data.state_dict() == {"samples_seen": 72, "step": 12, "skipped": []}


def test_a_finished_run_can_be_made_longer(train: Train, whole_runs: dict[int, Run], tmp_path: Path) -> None:
    longer = dataclasses.replace(plan_of(tmp_path, 6), max_steps=15)
    resumed = train(longer, resume=kill_after(whole_runs[6], 12, tmp_path))
    assert list(resumed.column("train/loss")) == [2, 4, 6, 8, 10, 12, 14]
    assert list(resumed.column("val/loss")) == [4, 8, 12, 15]
    assert resumed.checkpoint("step-000015.ckpt")["global_step"] == 15


def test_a_worse_validation_after_a_resume_leaves_the_best_alone(
    train: Train, whole_runs: dict[int, Run], tmp_path: Path
) -> None:
    checkpoint = kill_after(whole_runs[6], 8, tmp_path)
    hopeless = dataclasses.replace(plan_of(tmp_path, 6), optimizer=AdamW(lr=100.0))
    resumed = train(hopeless, resume=checkpoint)
    losses = resumed.column("val/loss")
    assert losses[12] > losses[8]
    assert "best.ckpt" not in resumed.checkpoint_names()


def test_a_run_taken_up_at_its_best_keeps_what_it_saves(train: Train, tmp_path: Path) -> None:
    """The last checkpoint of the first attempt has a higher step than the first of the second."""
    run_dir = tmp_path / "run"
    plan = Plan(run_dir, checkpointing={"every_n_steps": 500, "keep": 1})
    train(plan)
    best = train(dataclasses.replace(plan, run_dir=tmp_path / "shorter", max_steps=4)).run_dir / "checkpoints/best.ckpt"
    shutil.copy(best, run_dir / "checkpoints")
    again = dataclasses.replace(plan, checkpointing={"every_n_steps": 6, "keep": 1}, max_steps=7)
    train(again, resume=run_dir / "checkpoints" / "best.ckpt")
    newest = folder.newest(run_dir)
    assert newest is not None
    assert torch.load(newest, weights_only=True)["global_step"] == 7


def test_the_present_configuration_overrules_the_checkpoints(
    train: Train, whole_runs: dict[int, Run], tmp_path: Path
) -> None:
    settings = AdamW(lr=0.5, betas=(0.5, 0.6), eps=1e-3, weight_decay=0.7)
    schedule = Linear(warmup_steps=0, final_fraction=0)
    changed = dataclasses.replace(plan_of(tmp_path, 6), optimizer=settings, schedule=schedule)
    resumed = train(changed, resume=kill_after(whole_runs[6], 8, tmp_path))
    decaying, others = resumed.trainer.optimizers[0].param_groups
    for group in (decaying, others):
        assert (group["betas"], group["eps"]) == ((0.5, 0.6), 1e-3)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.7, 0.0)
    rates = resumed.column("lr")
    assert {step: rates[step] for step in (10, 12)} == pytest.approx({10: 0.5 * 3 / 12, 12: 0.5 * 1 / 12})


@pytest.mark.parametrize(("before", "after"), [(6, 2), (2, 6), (3, 2)])
def test_another_micro_batch_size_goes_on_with_the_same_samples(
    train: Train, tmp_path: Path, before: int, after: int
) -> None:
    """Whoever runs out of memory resumes with a smaller one; only rounding may tell."""
    optimizer = AdamW(lr=0.1, eps=0.01)
    plan = Plan(tmp_path / "whole", optimizer=optimizer, micro_batch_size=before, checkpointing={"every_n_steps": 1})
    whole = train(plan)
    for step in (5, 8):
        run_dir = tmp_path / f"from-{step}"
        changed = dataclasses.replace(plan, run_dir=run_dir, micro_batch_size=after)
        resumed = train(changed, resume=kill_after(whole, step, run_dir))
        assert resumed.data.samples_seen == 72
        assert resumed.column("val/loss") == pytest.approx(whole.column("val/loss"), abs=1e-4)
        for name, weight in whole.model.state_dict().items():
            torch.testing.assert_close(resumed.model.state_dict()[name], weight, atol=2e-5, rtol=0, msg=name)


def test_a_random_state_goes_on_where_it_was_taken() -> None:
    torch.manual_seed(5)
    torch.rand(3)
    state = random_state.capture(CPU)
    expected = torch.rand(4)
    torch.manual_seed(6)
    random_state.restore(state, CPU)
    assert torch.equal(torch.rand(4), expected)


def test_the_random_state_of_another_kind_of_device_is_passed_over() -> None:
    state = random_state.capture(CPU)
    random_state.restore({**state, "cuda": torch.zeros(16, dtype=torch.uint8)}, CPU)
    assert torch.equal(torch.get_rng_state(), state["cpu"])
