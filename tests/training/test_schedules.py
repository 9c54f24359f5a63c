import itertools
import math

import pytest

from gpt2_lightning.training.schedules import Constant, Cosine, Linear, Schedule, WarmupStableDecay

ALL = [Constant, Cosine, Linear, WarmupStableDecay]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(warmup_steps=10), {0: 1 / 11, 4: 5 / 11, 9: 10 / 11, 10: 1, 60: 1, 110: 1}),
        (Cosine(10, 0.1), {0: 1 / 11, 10: 1, 35: 0.1 + 0.45 * (1 + math.sqrt(0.5)), 60: 0.55, 110: 0.1}),
        (Linear(10, 0.1), {0: 1 / 11, 10: 1, 35: 0.775, 60: 0.55, 85: 0.325, 110: 0.1}),
        (WarmupStableDecay(10, 0.1, 0.2), {0: 1 / 11, 10: 1, 60: 1, 90: 1, 100: 0.55, 105: 0.325, 110: 0.1}),
        (WarmupStableDecay(10, 0.0, 1.0), {10: 1, 60: 0.5, 110: 0}),
        (Cosine(0, 0.0), {0: 1, 55: 0.5, 110: 0}),
    ],
    ids=["constant", "cosine", "linear", "wsd", "wsd that always decays", "no warm-up"],
)
def test_factors_by_hand(schedule: Schedule, expected: dict[int, float]) -> None:
    assert {step: schedule.factor(step, 110) for step in expected} == pytest.approx(expected)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("warmup_steps", [0, 1, 7, 50])
def test_warm_up_rises_evenly_to_the_peak(kind: type[Constant], warmup_steps: int) -> None:
    factors = [kind(warmup_steps=warmup_steps).factor(step, 100) for step in range(warmup_steps + 1)]
    assert factors[-1] == 1
    assert factors[0] > 0
    rises = [after - before for before, after in itertools.pairwise(factors)]
    assert rises == pytest.approx([1 / (warmup_steps + 1)] * warmup_steps)


@pytest.mark.parametrize("kind", ALL)
def test_the_rate_never_rises_nor_jumps_after_the_peak(kind: type[Constant]) -> None:
    factors = [kind(warmup_steps=10).factor(step, 1010) for step in range(10, 1011)]
    falls = [before - after for before, after in itertools.pairwise(factors)]
    assert min(falls) >= -1e-12
    assert max(falls) < 0.005, "the steepest of them falls by 0.9 in 200 steps"


@pytest.mark.parametrize("kind", [Cosine, Linear, WarmupStableDecay])
@pytest.mark.parametrize("final_fraction", [0.0, 0.1, 1.0])
def test_the_end_is_the_final_fraction_and_stays(kind: type[Cosine], final_fraction: float) -> None:
    schedule = kind(warmup_steps=5, final_fraction=final_fraction)
    assert [schedule.factor(step, 50) for step in (50, 51, 1000)] == pytest.approx([final_fraction] * 3)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("max_steps", [1, 5, 10])
def test_a_run_shorter_than_the_warm_up_only_warms_up(kind: type[Constant], max_steps: int) -> None:
    factors = [kind(warmup_steps=10).factor(step, max_steps) for step in range(max_steps)]
    assert factors == pytest.approx([(step + 1) / 11 for step in range(max_steps)])


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *((kind, "warmup_steps", -1) for kind in ALL),
        *((kind, "final_fraction", value) for kind in ALL[1:] for value in (-0.1, 1.1, float("nan"))),
        *((WarmupStableDecay, "decay_fraction", value) for value in (0.0, 1.1, float("nan"))),
    ],
)
def test_settings_out_of_range_are_named(kind: type[Constant], field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}: {value} is out of range"):
        kind(**{field: value})
