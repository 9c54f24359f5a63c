"""Averages of the weights, against means of recorded weights in float64."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.conversion.model_card import card_of
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.pretrained.load import load_pretrained
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks import EMAWeightAveraging, UniformWeightAveraging
from gpt2_lightning.training.callbacks.averaging import WeightAveraging
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.metrics.monitor import Monitor
from gpt2_lightning.training.optimizers import AdamW, Muon
from gpt2_lightning.training.performance.probe import probe_steps
from gpt2_lightning.training.schedules import Constant
from gpt2_lightning.training.spikes import RollBack
from gpt2_lightning.training.trainer import TrainerSpec
from gpt2_lightning.training.weight_average import WeightAverage
from tests.training.short_run import BLOCK, CONFIG, Plan, Run, same_tensors
from tests.training.two_processes import on_two_processes

Train = Callable[..., Run]
Averaging = Callable[[], WeightAveraging]
LAST = "step-000012.ckpt"
WITH_DROPOUT = dataclasses.replace(CONFIG, embd_pdrop=0.1, attn_pdrop=0.1, resid_pdrop=0.1)
ALL_PARTS = ("state_dict", "weight_average", "optimizer_states", "random_states", "TokenDataModule", "global_step")
METHODS: dict[str, Averaging] = {
    "ema": lambda: EMAWeightAveraging(decay=0.6),
    "average": lambda: UniformWeightAveraging(last_fraction=0.5),
}
each_method = pytest.mark.parametrize("averaging", METHODS.values(), ids=METHODS.keys())


class Recorded(L.Callback):
    """The weights after each step, by name in the plain model, in float64."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._record(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._record(trainer, pl_module)

    def _record(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == len(self.steps):
            own = pl_module.state_dict()
            self.steps.append({name.removeprefix("model."): value.double().clone() for name, value in own.items()})


def plan_of(run_dir: Path, *callbacks: L.Callback, **more: Any) -> Plan:
    given = {"model": WITH_DROPOUT, "checkpointing": {"every_n_steps": 1}, "callbacks": callbacks, **more}
    return Plan(run_dir, **given)


def assert_average(content: dict[str, Any], expected: dict[str, Tensor]) -> None:
    found = {name: tensor.double() for name, tensor in content["state_dict"].items()}
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("optimizer", "micro_batch_size"), [(AdamW(lr=1e-2), 6), (Muon(lr=1e-2), 2)], ids=["adamw", "muon"]
)
def test_ema_is_the_recursion_over_the_weights_of_all_steps(
    train: Train, tmp_path: Path, optimizer: AdamW, micro_batch_size: int
) -> None:
    recorded = Recorded()
    run = train(
        plan_of(
            tmp_path,
            EMAWeightAveraging(decay=0.6),
            recorded,
            optimizer=optimizer,
            micro_batch_size=micro_batch_size,
        )
    )
    assert len(recorded.steps) == 13
    mean = recorded.steps[0]
    for updates, weights in enumerate(recorded.steps[1:]):
        decay = min(0.6, (1 + updates) / (10 + updates))
        mean = {name: decay * mean[name] + (1 - decay) * weights[name] for name in mean}
        if updates == 5:
            assert_average(run.checkpoint("step-000006.ckpt"), mean)
    assert_average(run.checkpoint(LAST), mean)
    assert same_tensors(run.model.state_dict(), run.checkpoint(LAST)["state_dict"]), "the module ends with the average"


@pytest.mark.parametrize(
    ("averaging", "first"),
    [(UniformWeightAveraging(last_fraction=0.25), 10), (UniformWeightAveraging(start_step=5), 5)],
    ids=["fraction", "step"],
)
def test_the_uniform_average_is_the_mean_of_the_last_steps(
    train: Train, tmp_path: Path, averaging: WeightAveraging, first: int
) -> None:
    recorded = Recorded()
    run = train(plan_of(tmp_path, averaging, recorded))
    last = recorded.steps[first:]
    assert_average(run.checkpoint(LAST), {name: sum(w[name] for w in last) / len(last) for name in last[0]})  # type: ignore[misc]  # sum of tensors
    before = run.checkpoint(f"step-{first - 1:06d}.ckpt")
    assert "weight_average" not in before
    assert_average(before, recorded.steps[first - 1])


@each_method
def test_averaging_changes_nothing_in_training(train: Train, tmp_path: Path, averaging: Averaging) -> None:
    plain, run = train(plan_of(tmp_path / "plain")), train(plan_of(tmp_path / "averaged", averaging()))
    content = run.checkpoint(LAST)
    trained = {name.removeprefix("model."): tensor for name, tensor in content["weight_average"]["trained"].items()}
    assert same_tensors(trained, plain.checkpoint(LAST)["state_dict"])
    for part in ("optimizer_states", "random_states"):
        assert same_tensors(content[part], plain.checkpoint(LAST)[part]), part
    assert run.column("train/loss") == plain.column("train/loss")
    assert run.column("val/raw_loss") == plain.column("val/loss")


@each_method
def test_the_validation_loss_is_that_of_the_checkpoint_of_the_step(
    train: Train, tmp_path: Path, averaging: Averaging
) -> None:
    run = train(plan_of(tmp_path, averaging()))
    losses, raw = run.column("val/loss"), run.column("val/raw_loss")
    for step in (4, 8, 12):
        model, _ = load_model(tmp_path / "checkpoints" / f"step-{step:06d}.ckpt", torch.device("cpu"))
        ids = torch.from_numpy(run.data.corpora[0].val.slice(0, 60))[None]
        starts = range(0, 59, BLOCK)
        with torch.no_grad():
            total = sum(float(model(ids[:, i : i + BLOCK][:, : 59 - i], ids[:, i + 1 : i + 1 + BLOCK])) for i in starts)
        assert losses[step] == pytest.approx(total / 59, abs=1e-5)
    assert losses[12] != raw[12]
    best = min(losses, key=lambda step: losses[step])
    assert run.checkpoint("best.ckpt")["global_step"] == best


def test_the_loss_without_averaging_may_judge_a_run(train: Train, tmp_path: Path) -> None:
    rising = plan_of(tmp_path, EMAWeightAveraging(decay=0.99), monitor=Monitor("val/raw_loss"))
    run = train(rising)
    raw = run.column("val/raw_loss")
    assert run.metrics.best == pytest.approx(min(raw.values()))


@each_method
def test_without_a_second_validation_only_the_average_is_measured(
    train: Train, tmp_path: Path, averaging: Averaging
) -> None:
    quick = averaging()
    quick.validate_raw = False
    run, whole = train(plan_of(tmp_path / "quick", quick)), train(plan_of(tmp_path / "whole", averaging()))
    assert "val/raw_loss" not in run.rows()[0]
    assert run.column("val/loss") == whole.column("val/loss")


def kill_after(run: Run, step: int, run_dir: Path) -> Path:
    """Copy what a run that was killed after a step leaves."""
    (run_dir / "checkpoints").mkdir(parents=True)
    checkpoint = run_dir / "checkpoints" / f"step-{step:06d}.ckpt"
    shutil.copy(run.run_dir / "checkpoints" / checkpoint.name, checkpoint)
    with (run.run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with (run_dir / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *(row for row in rows if int(row[0]) <= step)])
    return checkpoint


@each_method
@pytest.mark.parametrize(("micro_batch_size", "precision"), [(6, "fp32"), (2, "bf16_true")])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    train: Train, tmp_path: Path, averaging: Averaging, micro_batch_size: int, precision: str
) -> None:
    """From before the first averaged step of the uniform mean, from the step of a validation, and from another."""
    more = {"micro_batch_size": micro_batch_size, "trainer": {"precision": precision}}
    whole = train(plan_of(tmp_path / "whole", averaging(), **more))
    for step in (5, 8, 9):
        checkpoint = kill_after(whole, step, tmp_path / f"from-{step}")
        resumed = train(plan_of(tmp_path / f"from-{step}", averaging(), **more), resume=checkpoint)
        for part in ALL_PARTS:
            assert same_tensors(resumed.checkpoint(LAST)[part], whole.checkpoint(LAST)[part]), (step, part)
        assert resumed.rows() == whole.rows()
    dtypes = {tensor.dtype for tensor in whole.checkpoint(LAST)["state_dict"].values()}
    assert dtypes == {torch.float32 if precision == "fp32" else torch.bfloat16}


def test_a_run_that_resumes_without_averaging_continues_from_the_trained_weights(train: Train, tmp_path: Path) -> None:
    plain, averaged = train(plan_of(tmp_path / "plain")), train(plan_of(tmp_path / "ema", EMAWeightAveraging()))
    checkpoint = kill_after(averaged, 6, tmp_path / "resumed")
    resumed = train(plan_of(tmp_path / "resumed"), resume=checkpoint)
    assert same_tensors(resumed.checkpoint(LAST)["state_dict"], plain.checkpoint(LAST)["state_dict"])
    assert "weight_average" not in resumed.checkpoint(LAST)


def test_an_average_begins_anew_in_a_run_that_resumes_without_one_or_with_another_method(
    train: Train, tmp_path: Path
) -> None:
    runs = {"plain": (), "ema": (EMAWeightAveraging(),)}
    for name, before in runs.items():
        checkpoint = kill_after(train(plan_of(tmp_path / name, *before)), 6, tmp_path / f"from-{name}")
        recorded = Recorded()
        again = train(plan_of(checkpoint.parents[1], UniformWeightAveraging(start_step=9), recorded), resume=checkpoint)
        assert again.checkpoint(LAST)["weight_average"]["updates"] == 4


class Adapted(L.Callback):
    """Freezes the network but for an adapter, before the optimizer is made."""

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        torch.manual_seed(1)
        add_lora(pl_module.model, LoRASpec(rank=2))


def test_only_trainable_weights_are_averaged(train: Train, tmp_path: Path) -> None:
    run = train(plan_of(tmp_path, Adapted(), EMAWeightAveraging()))
    content = run.checkpoint(LAST)
    names = {name.removeprefix("model.") for name in content["weight_average"]["average"]}
    assert names == {name for name in content["state_dict"] if ".adapters." in name}
    frozen = content["state_dict"]["wte.weight"]
    assert same_tensors(frozen, run.checkpoint("step-000001.ckpt")["state_dict"]["wte.weight"])


def test_two_averages_are_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="callbacks: ema and average exclude each other"):
        train(plan_of(tmp_path, EMAWeightAveraging(), UniformWeightAveraging()))


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay: .* is out of range, above 0 and below 1 is allowed"):
        EMAWeightAveraging(decay)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda saved: saved.pop("average"), "weight_average: it does not hold"),
        (lambda saved: saved.update(updates=-1), "weight_average: it does not hold"),
        (lambda saved: saved["average"].update({"model.ln_f.weight": torch.ones(3)}), r"weight_average.average: model"),
        (lambda saved: saved["trained"].update({"model.ln_f.weight": torch.ones(3)}), r"has shape \[3\], needs \[10\]"),
    ],
)
def test_a_malformed_average_is_refused(
    train: Train, tmp_path: Path, change: Callable[[dict[str, Any]], Any], fault: str
) -> None:
    checkpoint = kill_after(train(plan_of(tmp_path / "run", EMAWeightAveraging(), max_steps=2)), 2, tmp_path / "again")
    content = torch.load(checkpoint, weights_only=True)
    change(content["weight_average"])
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match=fault):
        train(plan_of(tmp_path / "again", EMAWeightAveraging()), resume=checkpoint)


def with_two(folder: Path, strategy: str, micro_batch_size: int = 3, decay: float = 0.6) -> Plan:
    """A large eps keeps Adam from making steps of the rounding of gradients that are zero."""
    return Plan(
        folder,
        optimizer=AdamW(lr=0.1, eps=0.01),
        micro_batch_size=micro_batch_size,
        trainer={"strategy": strategy},
        callbacks=[EMAWeightAveraging(decay)],
    )


def _in_two_processes(folder: Path, tokens: Tokens) -> None:
    distributed.join(on_cuda=False, timeout=timedelta(seconds=60))
    for strategy in ("ddp", "fsdp"):
        Run(with_two(folder / strategy, strategy), tokens).fit()
        halfway = folder / strategy / "checkpoints" / "step-000006.ckpt"
        Run(with_two(folder / f"{strategy}-resumed", strategy), tokens).fit(halfway)
    distributed.leave_together()


@pytest.mark.slow
def test_ranks_average_what_one_process_does(train: Train, tokens: Tokens, tmp_path: Path) -> None:
    on_two_processes(_in_two_processes, tmp_path / "logs", tmp_path, tokens)
    alone = train(with_two(tmp_path / "alone", "single", micro_batch_size=6))
    for strategy in ("ddp", "fsdp"):
        found = torch.load(tmp_path / strategy / "checkpoints" / LAST, weights_only=True)
        for part in ("average", "trained"):
            expected = alone.checkpoint(LAST)["weight_average"][part]
            torch.testing.assert_close(found["weight_average"][part], expected, atol=2e-5, rtol=0)
        torch.testing.assert_close(found["state_dict"], alone.checkpoint(LAST)["state_dict"], atol=2e-5, rtol=0)
        resumed = torch.load(tmp_path / f"{strategy}-resumed" / "checkpoints" / LAST, weights_only=True)
        for part in ("state_dict", "weight_average", "optimizer_states"):
            assert same_tensors(resumed[part], found[part]), (strategy, part)
        with (tmp_path / strategy / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["val/loss"]]
        for name in ("val/loss", "val/raw_loss"):
            assert [float(row[name]) for row in rows] == pytest.approx([*alone.column(name).values()], abs=1e-4)


def test_other_programs_get_the_average_and_its_origin(train: Train, tmp_path: Path) -> None:
    run = train(plan_of(tmp_path, UniformWeightAveraging(last_fraction=0.5)))
    loaded = load_pretrained(str(tmp_path / "checkpoints" / LAST))
    assert same_tensors(loaded.model.state_dict(), run.checkpoint(LAST)["state_dict"])
    assert loaded.notes == ("its weights are the mean of those of 6 steps, as its run validated them",)
    card = card_of(loaded, "mine", None).text(loaded.model, loaded.tokenizer)
    assert "| weight_average.method | average |\n| weight_average.updates | 6 |" in card
    assert load_pretrained(str(tmp_path / "checkpoints" / "step-000006.ckpt")).notes == ()


@each_method
def test_a_rollback_goes_back_to_the_average_of_the_checkpoint(
    train: Train, tokens: Tokens, tmp_path: Path, averaging: Averaging
) -> None:
    """As in `fit`: a new Trainer continues from the earlier checkpoint, and reads all samples again here."""
    whole = train(plan_of(tmp_path / "whole", averaging()))
    checkpoint = kill_after(whole, 6, tmp_path / "again")
    again = Run(plan_of(tmp_path / "again", averaging()), tokens)
    RollBack(checkpoint, "TokenDataModule", [], 1).preload(again.checkpoint_io)
    again.fit(checkpoint)
    assert same_tensors(again.checkpoint(LAST)["weight_average"], whole.checkpoint(LAST)["weight_average"])


@pytest.mark.parametrize("averages", [True, False])
def test_a_trial_of_memory_averages_as_the_run_does(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch, averages: bool
) -> None:
    def make() -> LanguageModeling:
        module = LanguageModeling(GPT2(CONFIG), AdamW(lr=1e-2), Constant())
        module.averages_weights = averages
        return module

    steps: list[int] = []
    monkeypatch.setattr(WeightAverage, "add", lambda average, update: steps.append(1))
    data = TokenDataModule([tokens], BLOCK, 6, 6, seed=0)
    probe_steps(make, data, TrainerSpec(accelerator="cpu"), parts=1, steps=2)
    assert len(steps) == (2 if averages else 0)
