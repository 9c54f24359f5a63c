"""What two processes do together, over gloo, under ddp and fsdp, against what one does."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import lightning as L
import pytest
import torch

from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling, generate
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks import Benchmarks, Samples
from gpt2_lightning.training.interrupts import Interrupted
from gpt2_lightning.training.metrics.monitor import Monitor
from gpt2_lightning.training.optimizers import AdamW, Muon, orthogonalization
from tests.app.letter_benchmark import Letters
from tests.training.attention_runs import measuring, scores_of
from tests.training.raised_signals import RaiseSignal
from tests.training.short_run import CONFIG, InBackground, Plan, Run, same_tensors
from tests.training.two_processes import on_two_processes

pytestmark = pytest.mark.slow
Train = Callable[..., Run]
HALFWAY, LAST = "step-000006.ckpt", "step-000012.ckpt"
BENCHMARK = "benchmarks/letters/log_likelihood"
WITH_DROPOUT = dataclasses.replace(CONFIG, embd_pdrop=0.1, attn_pdrop=0.1, resid_pdrop=0.1)


def plan_of(folder: Path, micro_batch_size: int) -> Plan:
    return dataclasses.replace(alone(folder), micro_batch_size=micro_batch_size)


def alone(folder: Path) -> Plan:
    """A run of one process. A large eps keeps Adam from making steps of the rounding of gradients that are zero."""
    return Plan(folder, optimizer=AdamW(lr=0.1, eps=0.01))


def with_muon(folder: Path, micro_batch_size: int) -> Plan:
    """The same by Muon."""
    return dataclasses.replace(plan_of(folder, micro_batch_size), optimizer=Muon(lr=0.01, muon_lr=0.05, eps=0.01))


def sharded(folder: Path, micro_batch_size: int, **trainer: Any) -> Plan:
    """The same under fsdp, by two."""
    return dataclasses.replace(plan_of(folder, micro_batch_size), trainer={"strategy": "fsdp", **trainer})


def judged(folder: Path, micro_batch_size: int, strategy: str) -> Plan:
    """A run that a benchmark judges, whose data are beside it."""
    benchmarks = Benchmarks({"letters": Letters()}, str(folder.parent), every_n_steps=2)
    plan = dataclasses.replace(plan_of(folder, micro_batch_size), max_steps=6, trainer={"strategy": strategy})
    return dataclasses.replace(plan, monitor=Monitor(BENCHMARK, "max"), callbacks=[benchmarks])


class Seen(L.Callback):
    """What a process has trained on, by step: each row's tokens."""

    def __init__(self) -> None:
        self.rows: dict[int, list[list[int]]] = {}

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self.rows.setdefault(trainer.global_step, []).extend(batch[0].tolist())


def long(folder: Path, micro_batch_size: int, strategy: str, seen: Seen) -> Plan:
    """Fifty steps."""
    plan = dataclasses.replace(plan_of(folder, micro_batch_size), max_steps=50, trainer={"strategy": strategy})
    return dataclasses.replace(plan, checkpointing={"every_n_steps": 50}, callbacks=[seen])


def newton_schulz_in_float32() -> AbstractContextManager[Any]:
    """Let Muon iterate in float32.

    In bfloat16, gradients that were summed in another order round to other values, by an amount that depends on the
    instructions of the CPU; the momentum carries these on.
    """
    return mock.patch.object(orthogonalization, "DTYPE", torch.float32)


def do_all(tokens: Tokens, folder: Path) -> tuple[str, int]:
    """All runs of two processes, since each start of them takes seconds; returns how the last one ended."""
    distributed.join(on_cuda=False, timeout=timedelta(seconds=60))
    first = distributed.is_rank_zero()
    plain = Run(plan_of(folder / "plain", 3), tokens).fit()
    torch.save(plain.model.state_dict(), folder / f"plain-{distributed.rank()}.pt")
    for name, strategy in (("long", "ddp"), ("long-sharded", "fsdp")):
        seen = Seen()
        Run(long(folder / name, 3, strategy, seen), tokens).fit()
        torch.save(seen.rows, folder / f"{name}-{distributed.rank()}.pt")
    Run(plan_of(folder / "in-parts", 1), tokens).fit()
    with newton_schulz_in_float32():
        muon = Run(with_muon(folder / "muon", 3), tokens).fit()
    torch.save(muon.model.state_dict(), folder / f"muon-{distributed.rank()}.pt")

    def dropping_out(name: str, resume: Path | None = None) -> None:
        plan = dataclasses.replace(plan_of(folder / name, 1), model=WITH_DROPOUT, trainer={"log_every_n_steps": 4})
        run = Run(plan, tokens)
        torch.manual_seed(distributed.rank())
        run.fit(resume)

    dropping_out("whole")
    checkpoint = folder / "resumed" / "checkpoints" / "step-000006.ckpt"
    if first:
        checkpoint.parent.mkdir(parents=True)
        shutil.copy(folder / "whole" / "checkpoints" / checkpoint.name, checkpoint)
        metrics = (folder / "whole" / "metrics.csv").read_text(encoding="utf-8")
        (folder / "resumed" / "metrics.csv").write_text(metrics, encoding="utf-8")
    distributed.barrier()
    dropping_out("resumed", checkpoint)
    share_out(tokens, folder)
    Run(measuring(folder / "measured"), tokens).fit()
    if first:
        (folder / "letters").mkdir()
        (folder / "letters" / "letters.txt").write_text("abcd\ncab\nddab\n", encoding="utf-8")
    distributed.barrier()
    for strategy in ("ddp", "fsdp"):
        Run(judged(folder / f"judged-{strategy}", 3, strategy), tokens).fit()
    stopping = dataclasses.replace(
        plan_of(folder / "stopped", 3),
        checkpointing={"every_n_steps": 500},
        callbacks=[] if first else [RaiseSignal(3, signal.SIGTERM)],
    )
    try:
        Run(stopping, tokens).fit()
    except Interrupted as stop:
        return str(stop), stop.exit_code
    finally:
        distributed.leave_together()
    return "not stopped", 0


def share_out(tokens: Tokens, folder: Path) -> None:
    """The runs under fsdp."""
    samples = Samples(folder / "sharded", prompt="abc", max_new_tokens=5)
    plan = dataclasses.replace(sharded(folder / "sharded", 3), callbacks=[samples])
    run = Run(plan, tokens).fit()
    share = sum(parameter.to_local().numel() for parameter in run.model.parameters())
    texts = distributed.all_gather(samples.latest)
    run.module.unshard()
    if distributed.is_rank_zero():
        torch.save({"shares": share, "texts": texts, "whole": run.model.state_dict()}, folder / "sharded.pt")
    Run(sharded(folder / "sharded-in-parts", 1), tokens).fit()
    Run(sharded(folder / "sharded-bf16", 3, precision="bf16"), tokens).fit()
    halfway = folder / "sharded" / "checkpoints" / HALFWAY
    resumed = dataclasses.replace(sharded(folder / "sharded-resumed", 3), callbacks=[InBackground()])
    Run(resumed, tokens).fit(halfway)
    Run(sharded(folder / "sharded-from-ddp", 3), tokens).fit(folder / "plain" / "checkpoints" / HALFWAY)
    Run(plan_of(folder / "ddp-from-sharded", 3), tokens).fit(halfway)


@pytest.fixture(scope="module")
def ends(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, tuple[str, int]]]:
    """The folder of the runs, and how the last one ended in each process."""
    folder = tmp_path_factory.mktemp("two")
    return folder, on_two_processes(do_all, folder / "log", tokens, folder)


@pytest.fixture(scope="module")
def two(ends: tuple[Path, dict[int, tuple[str, int]]]) -> Path:
    """The folder of the runs."""
    return ends[0]


@pytest.fixture(scope="module")
def one(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process."""
    return train(alone(tmp_path_factory.mktemp("one")))


def checkpoint_of(run_dir: Path, name: str = LAST) -> dict[str, Any]:
    content = torch.load(run_dir / "checkpoints" / name, weights_only=True)
    assert isinstance(content, dict)
    return content


def column(run_dir: Path, name: str) -> dict[int, float]:
    header, *rows = [line.split(",") for line in (run_dir / "metrics.csv").read_text(encoding="utf-8").splitlines()]
    place = header.index(name)
    return {int(row[0]): float(row[place]) for row in rows if row[place]}


@pytest.mark.parametrize("name", ["plain", "in-parts", "sharded", "sharded-in-parts"])
def test_two_processes_learn_the_same_as_one(two: Path, one: Run, name: str) -> None:
    for figure in ("train/loss", "val/loss", "grad_norm", "tokens", "lr"):
        assert column(two / name, figure) == pytest.approx(column(one.run_dir, figure), abs=1e-5), figure
    found = checkpoint_of(two / name)["state_dict"]
    torch.testing.assert_close(found, dict(one.model.state_dict()), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["long", "long-sharded"])
def test_two_processes_train_on_the_same_rows_for_fifty_steps(
    two: Path, train: Train, tmp_path: Path, name: str
) -> None:
    seen = Seen()
    alone = train(long(tmp_path, 6, "single", seen))
    zero, one = (torch.load(two / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert list(seen.rows) == list(range(50))
    for step, rows in seen.rows.items():
        assert len(zero[step]) == len(one[step]) == 3
        assert sorted(zero[step] + one[step]) == sorted(rows), step
    for figure in ("train/loss", "val/loss"):
        assert column(two / name, figure) == pytest.approx(column(alone.run_dir, figure), abs=1e-5), figure


@pytest.mark.parametrize("name", ["sharded-resumed", "sharded-from-ddp", "ddp-from-sharded"])
def test_a_run_goes_on_under_the_other_strategy_as_under_its_own(two: Path, one: Run, name: str) -> None:
    """The first six steps were those of ddp or of fsdp."""
    for figure in ("train/loss", "val/loss", "grad_norm"):
        rest = {step: value for step, value in column(one.run_dir, figure).items() if step > 6}
        assert column(two / name, figure) == pytest.approx(rest, abs=1e-5), figure


def test_a_resumed_run_under_fsdp_equals_an_uninterrupted_one_bit_for_bit(two: Path) -> None:
    ours, theirs = (checkpoint_of(two / name) for name in ("sharded-resumed", "sharded"))
    for part in ("state_dict", "optimizer_states", "random_states", "TokenDataModule", "global_step"):
        assert same_tensors(ours[part], theirs[part]), part


def test_a_checkpoint_of_fsdp_is_one_of_a_single_process(two: Path, one: Run, train: Train, tmp_path: Path) -> None:
    """It has the same entries, is as large but for the random state, generates, and one process goes on with it."""
    checkpoint = two / "sharded" / "checkpoints" / HALFWAY
    ours, theirs = checkpoint_of(two / "sharded", HALFWAY), one.checkpoint(HALFWAY)
    states = [content["optimizer_states"][0] for content in (ours, theirs)]
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert states[0]["state"].keys() == states[1]["state"].keys()
    sizes = [file.stat().st_size for file in (checkpoint, one.run_dir / "checkpoints" / HALFWAY)]
    assert sizes[0] - sizes[1] == pytest.approx(ours["random_states"][0]["cpu"].nbytes, abs=1000)
    model, description = load_model(checkpoint, torch.device("cpu"))
    prompt = prompt_ids("abc", description.tokenizer)
    assert len(list(generate(model, prompt, Sampling(max_new_tokens=5)))) == 5
    run = train(alone(tmp_path), resume=checkpoint)
    torch.testing.assert_close(dict(run.model.state_dict()), dict(one.model.state_dict()), atol=2e-5, rtol=0)


def test_each_process_holds_half_and_the_first_has_the_whole_in_the_end(two: Path, one: Run) -> None:
    left = torch.load(two / "sharded.pt", weights_only=True)
    whole = sum(parameter.numel() for parameter in one.model.parameters())
    assert left["shares"] == pytest.approx(whole / 2, rel=0.05)
    assert same_tensors(left["whole"], checkpoint_of(two / "sharded")["state_dict"])


def test_under_fsdp_the_first_process_writes_the_samples(two: Path) -> None:
    text, nothing = torch.load(two / "sharded.pt", weights_only=True)["texts"]
    assert nothing == ""
    model, description = load_model(two / "sharded" / "checkpoints" / LAST, torch.device("cpu"))
    prompt = prompt_ids("abc", description.tokenizer)
    ids = generate(model, prompt, Sampling(max_new_tokens=5, temperature=0.8, seed=0))
    assert text == "abc" + description.tokenizer.decode(list(ids))


def test_fsdp_computes_in_bfloat16_and_keeps_float32(two: Path) -> None:
    ours, exact = (column(two / name, "train/loss") for name in ("sharded-bf16", "sharded"))
    assert ours != exact
    assert ours == pytest.approx(exact, rel=0.03)
    kept = checkpoint_of(two / "sharded-bf16")["state_dict"]
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}
    assert any((tensor != tensor.bfloat16()).any() for tensor in kept.values())


def test_the_first_process_measures_heads_and_none_waits(two: Path, train: Train, tmp_path: Path) -> None:
    train(measuring(tmp_path, micro_batch_size=6))
    by_two, by_one = scores_of(two / "measured"), scores_of(tmp_path)
    assert list(by_two) == [(step, text) for step in (2, 4, 6) for text in ("repeated", "validation")]
    for place, of_heads in by_one.items():
        for head, scores in of_heads.items():
            assert by_two[place][head] == pytest.approx(scores, abs=1e-3, nan_ok=True)
    assert len(list((two / "measured" / "attention").iterdir())) == 4


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_benchmark_judges_a_run_of_two_as_one_of_one(two: Path, train: Train, strategy: str) -> None:
    """The first process measures, and both know which step is the best."""
    run_dir = two / f"judged-{strategy}"
    alone = train(judged(two / f"judged-alone-{strategy}", 6, "single"))
    assert list(column(run_dir, BENCHMARK)) == [2, 4, 6]
    assert column(run_dir, BENCHMARK) == pytest.approx(column(alone.run_dir, BENCHMARK), abs=1e-4)
    assert checkpoint_of(run_dir, "best.ckpt")["global_step"] == alone.metrics.best_step


def test_all_processes_have_the_same_weights(two: Path) -> None:
    weights = [torch.load(two / f"plain-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert same_tensors(*weights)


def test_two_processes_learn_the_same_by_muon_as_one(two: Path, train: Train, tmp_path: Path) -> None:
    zero, one = (torch.load(two / f"muon-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert same_tensors(zero, one)
    with newton_schulz_in_float32():
        expected = train(with_muon(tmp_path, 6)).model.state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(zero[name], tensor, atol=1e-5, rtol=0, msg=name)


def test_a_resumed_run_of_two_equals_an_uninterrupted_one_bit_for_bit(two: Path) -> None:
    """With dropout, and with losses since the last row in the checkpoint."""
    ours, theirs = (checkpoint_of(two / name) for name in ("resumed", "whole"))
    for part in ("state_dict", "optimizer_states", "random_states", "TokenDataModule", "global_step"):
        assert same_tensors(ours[part], theirs[part]), part
    for figure in ("train/loss", "val/loss", "grad_norm"):
        assert column(two / "resumed", figure) == column(two / "whole", figure)


def test_each_process_drops_out_other_values(two: Path) -> None:
    states = checkpoint_of(two / "whole")["random_states"]
    assert isinstance(states, list)
    assert len(states) == 2
    assert not same_tensors(states[0], states[1])


def test_losses_of_all_processes_are_kept(two: Path) -> None:
    """Six micro-batches a step, two steps after the last row."""
    losses = checkpoint_of(two / "whole", "step-000006.ckpt")["train_losses"]
    assert isinstance(losses, list)
    assert len(losses) == 2 * 6


def test_one_process_goes_on_from_two_and_says_so(
    two: Path, one: Run, train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = two / "plain" / "checkpoints" / "step-000006.ckpt"
    with caplog.at_level(logging.INFO, "gpt2_lightning"):
        run = train(alone(tmp_path), resume=checkpoint)
    assert "the checkpoint is of 2 processes and this run has 1" in caplog.text
    torch.testing.assert_close(dict(run.model.state_dict()), dict(one.model.state_dict()), atol=2e-5, rtol=0)


def test_a_signal_to_one_stops_all_after_the_same_step(ends: tuple[Path, dict[int, tuple[str, int]]]) -> None:
    folder, how = ends
    assert how == {0: ("SIGTERM", 143), 1: ("SIGTERM", 143)}
    assert {file.name for file in (folder / "stopped" / "checkpoints").iterdir()} == {"step-000003.ckpt"}
    assert checkpoint_of(folder / "stopped", "step-000003.ckpt")["global_step"] == 3


def test_more_processes_than_rows_to_validate_are_refused(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Run(Plan(tmp_path), tokens).data
    monkeypatch.setattr(data, "place", lambda: (0, 5))
    assert data.val_batch_size(rows=11) == 2
    assert data.val_batch_size(rows=500) == 6
    with pytest.raises(UserError, match="4 rows, fewer than the 5 processes"):
        data.val_batch_size(rows=4)
