"""What a run will take, before it begins."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2_lightning.app.run.estimates.counts import ASSUMED_MFU, Device, Figures, OnDevices, measured
from gpt2_lightning.app.run.estimates.report import sections
from gpt2_lightning.training.performance.memory_estimate import Held
from gpt2_lightning.training.performance.probe import Probe

Run = Callable[..., Any]
TINY = ["model=tiny", "trainer=cpu", "batch_size=12", "micro_batch_size=3", "trainer.max_steps=50"]

FIGURES = Figures(
    parameters=1000,
    trained=400,
    flops_per_token=6000,
    steps=100,
    batch_size=24,
    micro_batch_size=3,
    devices=2,
    width=10.0,
    longest=10,
    targets=24_000,
    epochs=1.5,
    held=Held(4_000_000_000, 2_000_000_000, 3_000_000_000),
    activations=1_000_000_000,
    shardable=True,
    sharded=False,
    by_devices=(OnDevices(1, 3, 10**10, 10**10), OnDevices(2, 3, 10**10, 6 * 10**9), OnDevices(7, 0, 0, 0)),
    precision="bf16",
    compiled=True,
    device=Device("NVIDIA Example", 8_000_000_000, 1e6),
)


def page(figures: Figures, probe: Probe | None = None, price: float | None = None) -> dict[str, str]:
    """Cells by the name of their row, and the sentences together."""
    found = {}
    parts = sections(figures, None if probe is None else measured(figures, probe), price)
    for section in parts:
        for row in section.table.rows if section.table else ():
            found[f"{section.title.split()[0]} {row[0]}"] = " | ".join(row[1:])
    return found | {"said": " ".join(line for section in parts for line in section.after)}


def test_time_and_cost_by_hand() -> None:
    """100 steps x 24 samples x 10 tokens x 6,000 FLOPs are 144 million: 180 s for two devices at 40 % of 1 MFLOP/s."""
    assert ASSUMED_MFU == 0.4
    found = page(FIGURES, price=3.0)
    assert FIGURES.flops == 144e6
    assert found["Time time"].startswith("3 min on NVIDIA Example, if training, compiled, reaches 40% of")
    assert "which is assumed" in found["Time time"]
    assert found["Time cost"] == "0.30: 0.10 device hours at 3.0"


def test_less_is_assumed_of_training_that_is_not_compiled() -> None:
    """144 million FLOPs take two devices 288 s at 25 % of 1 MFLOP/s."""
    found = page(dataclasses.replace(FIGURES, compiled=False))
    assert found["Time time"].startswith("5 min on NVIDIA Example, if training, not compiled, reaches 25% of")


def test_a_measured_time_by_hand() -> None:
    """A step is four micro-batches of three on each of two devices: 3 x 0.2 + 0.4 s."""
    found = page(FIGURES, Probe(seconds_to_add=0.2, seconds_to_step=0.4, peak_memory=5_000_000_000), price=36.0)
    assert found["Time, a step"] == "1 s"
    assert found["Time, time"] == "2 min"
    assert found["Time, tokens per second"] == "240"
    assert found["Time, MFU"] == f"{144e6 / 100 / (1.0 * 1e6 * 2):.1%}"
    assert found["Time, cost"] == "2.00: 0.06 device hours at 36.0"
    assert found["Time, peak memory"] == "5.00 GB of this process"


def test_a_device_without_a_known_peak_has_no_expected_time() -> None:
    found = page(dataclasses.replace(FIGURES, device=Device("CPU", None, None)), price=1.0)
    assert found["Time time"] == "unknown: no peak is listed for CPU in bf16; plan=probe measures"
    assert found["Time cost"] == "unknown, as the time"
    assert "free" not in found["said"]


def test_what_does_not_fit_is_said_with_both_numbers() -> None:
    assert "8.00 GB are free for a process (NVIDIA Example): 10.00 GB do not fit;" in page(FIGURES)["said"]
    sharded = page(dataclasses.replace(FIGURES, sharded=True))["said"]
    assert "8.00 GB are free for a process (NVIDIA Example)." in sharded, "6 GB a device do"


def test_a_batch_that_some_devices_cannot_share_is_marked() -> None:
    found = page(FIGURES)
    assert found["Memory 2"] == "3 | 10.00 GB | 6.00 GB"
    assert found["Memory 7"].startswith("does not divide")
    assert found["Work parameters"] == "1,000: 400 trained, 600 frozen"
    assert found["Work a step"] == "4 micro-batches of 3 on each of 2 devices"


def test_what_fsdp_does_not_take_is_not_counted_for_it() -> None:
    found = page(dataclasses.replace(FIGURES, shardable=False))
    assert found["Memory 2"] == "3 | 10.00 GB"
    assert "fsdp" not in found["said"]


def test_a_plan_trains_nothing_and_leaves_nothing(run_verb: Run, small_text: Path, workplace: Path) -> None:
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "plan=true")
    assert outcome.code == 0, outcome
    words = " ".join(outcome.out.split())
    assert "steps 50 of 12 samples of up to 32 tokens" in words
    assert "a step 4 micro-batches of 3" in words
    assert f"tokens {50 * 12 * 32:,} to learn from" in words
    parameters = int(re.search(r"parameters ([\d,]+)", words)[1].replace(",", ""))  # type: ignore[index]
    assert f"weights {4 * parameters / 1e6:,.1f} MB gradients {4 * parameters / 1e6:,.1f} MB" in words
    assert "step 50 of 50" not in outcome.out
    assert not (workplace / "runs").exists()


def test_a_probe_measures_and_leaves_nothing(run_verb: Run, small_text: Path, workplace: Path) -> None:
    outcome = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "plan=probe", "price=2")
    assert outcome.code == 0, outcome
    words = " ".join(outcome.out.split())
    assert "Time, measured in a few steps" in words
    assert "MFU unknown: no peak is listed for CPU" in words
    assert float(re.search(r"tokens per second ([\d,]+)", words)[1].replace(",", "")) > 0  # type: ignore[index]
    assert re.search(r"cost \d+\.\d\d: \d+\.\d\d device hours at 2", words)
    assert "validation loss" not in outcome.out
    assert not (workplace / "runs").exists()


def test_a_plan_of_several_processes_starts_none(run_verb: Run, small_text: Path) -> None:
    settings = ["model=tiny", "data=text", f"data.path={small_text}", "batch_size=12", "trainer=fsdp_cpu"]
    outcome = run_verb("train", *settings, "trainer.devices=3", "trainer.max_steps=5", "plan=true")
    assert outcome.code == 0, outcome
    words = " ".join(outcome.out.split())
    assert "one micro-batch of 4 on each of 3 devices" in words
    rows = re.findall(r"(?<= )([1238]) (?:(\d+) ([\d.]+) MB ([\d.]+) MB|does not divide)", words)
    assert [row[:2] for row in rows] == [("1", "12"), ("2", "6"), ("3", "4"), ("8", "")]
    assert float(rows[2][3]) < float(rows[2][2]), "fsdp takes less"


def test_fine_tuning_is_planned_with_what_is_frozen(run_verb: Run, tmp_path: Path, workplace: Path) -> None:
    file = tmp_path / "rows.jsonl"
    texts = ["good " * (i % 5 + 1) if i % 2 else "bad " * (i % 7 + 1) for i in range(60)]
    file.write_text("".join(json.dumps({"text": t.strip(), "label": t[:3]}) + "\n" for t in texts))
    data = ["data=table", f"data.path={file}", "data.text_column=text", "data.label_column=label"]
    model = ["init_from=scratch", "model=tiny", "freeze=first_n_blocks", "freeze_blocks=1", "trainer=cpu"]
    for plan in ("true", "probe"):
        outcome = run_verb("finetune", "task=classify", *data, *model, "batch_size=4", f"plan={plan}")
        assert outcome.code == 0, outcome
        assert " frozen" in outcome.out
        assert "of up to 7 tokens, with padding" in " ".join(outcome.out.split())
    assert not (workplace / "runs").exists()
