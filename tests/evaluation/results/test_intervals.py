"""Standard errors and intervals of metrics, against lm-evaluation-harness, scipy and values worked by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gpt2_lightning.evaluation.results.intervals import (
    function_of_sums,
    mean,
    perplexity,
    ratio,
    share,
    stderr_of_mean,
    wilson,
)


def test_standard_error_is_that_of_the_harness() -> None:
    theirs = pytest.importorskip("lm_eval.api.metrics")
    values = np.random.default_rng(0).random(50)
    assert stderr_of_mean(values) == pytest.approx(theirs.mean_stderr(values.tolist()), rel=1e-12)
    right = (values < 0.3).tolist()
    assert share("acc", right).stderr == pytest.approx(theirs.mean_stderr(right), rel=1e-12)
    assert share("acc", right).value == pytest.approx(theirs.mean(right), rel=1e-12)


def test_standard_error_worked_by_hand() -> None:
    """Of 1, 2, 3, 4: variance 5/3, divided by 4."""
    assert stderr_of_mean(np.array([1.0, 2, 3, 4])) == pytest.approx(math.sqrt(5 / 12))


def test_wilson_interval_of_seven_in_ten() -> None:
    """Center (0.7 + 3.8415 / 20) / 1.38415; half width 1.95996 / 1.38415 sqrt(0.021 + 3.8415 / 400)."""
    assert wilson(0.7, 10) == pytest.approx((0.396778, 0.892209), abs=1e-6)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 7), (3142, 10042)])
def test_wilson_interval_is_that_of_scipy(right: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    assert wilson(right / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_interval_of_none_and_of_all_contains_the_value() -> None:
    assert all(wilson(0.0, n)[0] == 0.0 and wilson(1.0, n)[1] == 1.0 for n in range(1, 400))


def test_wilson_interval_contains_a_rare_share_where_the_normal_one_does_not() -> None:
    dice = np.random.default_rng(1)
    counts = dice.binomial(30, 0.04, 2000)
    inside = [low <= 0.04 <= high for low, high in (wilson(count / 30, 30) for count in counts)]
    assert np.mean(inside) > 0.93
    normal = [abs(count / 30 - 0.04) <= 1.96 * math.sqrt(count / 30 * (1 - count / 30) / 30) for count in counts]
    assert np.mean(normal) < 0.75


def test_mean_has_the_normal_interval() -> None:
    found = mean("loss", [1.0, 2, 3, 4], higher_is_better=False)
    assert (found.value, found.stderr) == (2.5, pytest.approx(math.sqrt(5 / 12)))
    assert (found.low, found.high) == pytest.approx((2.5 - 1.265156, 2.5 + 1.265156), abs=1e-5)
    assert not found.higher_is_better


def test_mean_of_shares_is_between_zero_and_one() -> None:
    found = mean("rouge", [0.9, 1, 1], is_share=True)
    assert found.low is not None
    assert (found.low < 0.97, found.high) == (True, 1.0)


def test_perplexity_of_items_is_that_of_the_harness() -> None:
    theirs = pytest.importorskip("lm_eval.api.metrics")
    log_likelihoods = -np.random.default_rng(0).exponential(3, 40)
    assert perplexity("perplexity", log_likelihoods).value == pytest.approx(theirs.perplexity(log_likelihoods.tolist()))
    words = np.arange(1, 41)
    weighted = list(zip(log_likelihoods.tolist(), words.tolist(), strict=True))
    assert perplexity("word_perplexity", log_likelihoods, words).value == pytest.approx(
        theirs.weighted_perplexity(weighted)
    )
    bits = ratio("bits_per_byte", -log_likelihoods / math.log(2), words)
    assert bits.value == pytest.approx(theirs.bits_per_byte(weighted))


def test_bootstrap_of_a_perplexity_is_near_its_normal_approximation() -> None:
    """Delta method: the standard error of exp(mean) is exp(mean) times that of the mean."""
    losses = np.random.default_rng(3).normal(3, 1.5, 3000)
    found = perplexity("perplexity", -losses)
    error = 1.5 / math.sqrt(3000)
    assert found.stderr == pytest.approx(found.value * error, rel=0.08)
    assert found.low == pytest.approx(found.value * math.exp(-1.96 * error), rel=0.006)
    assert found.high == pytest.approx(found.value * math.exp(1.96 * error), rel=0.006)


def test_bootstrap_weighs_items_by_their_tokens() -> None:
    """All tokens have the same loss, in documents of any length: the perplexity is certain."""
    tokens = np.arange(1, 100)
    found = perplexity("perplexity", -2.0 * tokens, tokens)
    assert (found.value, found.low, found.high) == pytest.approx((math.exp(2),) * 3)
    assert found.stderr == pytest.approx(0, abs=1e-12)


def test_bootstrap_is_reproducible() -> None:
    losses = np.random.default_rng(3).normal(3, 1, 200)
    assert perplexity("perplexity", -losses) == perplexity("perplexity", -losses)


def test_any_function_of_sums_is_a_metric() -> None:
    """F1 of 3 correct among 4 predicted and 5 true: 6 / 9."""
    columns = np.array([[1, 1, 1]] * 3 + [[0, 1, 0]] + [[0, 0, 1]] * 2)
    found = function_of_sums("f1", columns, lambda s: 2 * s[:, 0] / (s[:, 1] + s[:, 2]).clip(1), True, is_share=True)
    assert found.value == pytest.approx(2 / 3)
    assert found.low is not None
    assert found.low < found.value


def test_one_item_has_no_standard_error() -> None:
    assert share("acc", [True]).stderr is None
    assert (share("acc", [True]).low, share("acc", [True]).high) == pytest.approx((1 / (1 + 1.959964**2), 1), abs=1e-6)
    for found in (mean("loss", [2.0]), perplexity("perplexity", [-2.0])):
        assert (found.stderr, found.low, found.high) == (None, None, None)


def test_perplexity_beyond_all_numbers_is_valid_json() -> None:
    found = perplexity("perplexity", [-1e9, -1e9, -5.0])
    assert found.value == pytest.approx(math.exp(700))
    json.dumps([found.value, found.stderr, found.low, found.high], allow_nan=False)
