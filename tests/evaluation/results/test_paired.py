"""Paired comparisons, against scipy, values worked by hand, and models whose difference is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.results.intervals import function_of_sums, mean, perplexity, ratio, share
from gpt2_lightning.evaluation.results.item_log import Header, ItemRecord
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.evaluation.results.paired import Contingency, Difference, differences, require_same_items

HEADER = Header("hellaswag", {"limit": None}, "data", "weights", "tokenizer", "float32")
RECORDS: list[ItemRecord] = [{"id": "0"}, {"id": "1"}]


def only(this: Metric, other: Metric) -> Difference:
    (found,), not_comparable = differences([this], [other])
    assert not_comparable == []
    return found


def test_mcnemar_of_two_and_eight() -> None:
    """2 (C(10,0) + C(10,1) + C(10,2)) / 2^10 = 112 / 1024."""
    assert Contingency(5, 2, 8, 5).p_value == 112 / 1024
    assert Contingency(5, 8, 2, 5).p_value == 112 / 1024


@pytest.mark.parametrize(("one", "two"), [(0, 0), (0, 1), (3, 3), (0, 12), (40, 61), (700, 811), (2000, 2400)])
def test_mcnemar_is_the_exact_binomial_test_of_scipy(one: int, two: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(one, one + two).pvalue if one + two else 1.0
    assert Contingency(9, one, two, 9).p_value == pytest.approx(theirs, rel=1e-9)


def test_mcnemar_rejects_equal_models_in_fewer_than_one_of_twenty_cases() -> None:
    dice = np.random.default_rng(0)
    counts = dice.binomial(60, 0.5, 2000)
    assert np.mean([Contingency(0, int(count), 60 - int(count), 0).p_value < 0.05 for count in counts]) < 0.05


def test_paired_difference_of_shares_is_that_of_theory() -> None:
    """Differences are 1, -1 and 0: the standard error follows from the discordant items alone."""
    this, other = np.array([1] * 30 + [1] * 15 + [0] * 5 + [0] * 50), np.array([1] * 30 + [0] * 15 + [1] * 5 + [0] * 50)
    found = only(share("acc", this), share("acc", other))
    variance = (20 - 10**2 / 100) / 99
    assert found.difference.value == pytest.approx(0.1)
    assert found.difference.stderr == pytest.approx(math.sqrt(variance / 100))
    assert found.difference.low == pytest.approx(0.1 - 1.959964 * math.sqrt(variance / 100))
    assert found.contingency == Contingency(30, 15, 5, 50)
    assert found.difference.is_share


def test_paired_difference_is_smaller_than_that_of_independent_items() -> None:
    dice = np.random.default_rng(2)
    difficulty = dice.normal(4, 1, 2000)
    found = only(
        perplexity("perplexity", -difficulty), perplexity("perplexity", -(difficulty + dice.normal(0.02, 0.1, 2000)))
    )
    assert found.this.high is not None
    assert found.other.low is not None
    assert found.difference.high is not None
    assert found.this.high > found.other.low
    assert found.difference.high < 0
    assert found.contingency is None


def test_bootstrap_of_a_difference_is_near_its_normal_approximation() -> None:
    dice = np.random.default_rng(3)
    this, other, tokens = dice.normal(3, 1, 4000), dice.normal(3.1, 1, 4000), np.full(4000, 7.0)
    found = only(ratio("loss", 7 * this, tokens), ratio("loss", 7 * other, tokens)).difference
    error = float(np.std(this - other, ddof=1)) / math.sqrt(4000)
    assert found.value == pytest.approx(float(np.mean(this - other)))
    assert found.stderr == pytest.approx(error, rel=0.08)
    # The standard error of this quantile over 1,000 draws is sqrt(0.025 * 0.975 / 1000) / 0.058 = 0.085 errors.
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.3 * error)


def test_a_model_does_not_differ_from_itself() -> None:
    values = np.random.default_rng(0).random(50)
    for metric in (share("acc", values < 0.5), mean("rouge", values, is_share=True), perplexity("perplexity", -values)):
        found = only(metric, metric)
        assert (found.difference.value, found.difference.stderr) == (0, 0)
    assert only(share("acc", values < 0.5), share("acc", values < 0.5)).contingency == Contingency(
        int((values < 0.5).sum()), 0, 0, int((values >= 0.5).sum())
    )
    assert only(mean("rouge", values, is_share=True), mean("rouge", values, is_share=True)).contingency is None


def test_losses_per_token_of_different_tokenizers_are_not_compared() -> None:
    loss, right = [3.0, 4.0], [True, False]
    this = [share("acc", right), ratio("loss", loss, [2, 3]), ratio("bits_per_byte", loss, [9, 9]), Metric("ece", 0.1)]
    other = [share("acc", right), ratio("loss", loss, [4, 7]), ratio("bits_per_byte", loss, [9, 9]), Metric("ece", 0.2)]
    found, not_comparable = differences(this, other)
    assert [difference.name for difference in found] == ["acc", "bits_per_byte"]
    assert not_comparable == ["loss", "ece"]


def test_other_functions_of_sums_are_compared() -> None:
    columns = np.array([[1.0, 1], [0, 1], [1, 0]])
    this = function_of_sums("f1", columns, lambda sums: sums[:, 0] / sums.sum(axis=1), True)
    other = function_of_sums("f1", columns * [2, 1], lambda sums: sums[:, 0] / sums.sum(axis=1), True)
    assert only(this, other).difference.value == pytest.approx(2 / 4 - 4 / 6)


def test_the_same_items_with_other_weights_are_accepted() -> None:
    require_same_items(HEADER, RECORDS, dataclasses.replace(HEADER, weights="w", tokenizer="t"), RECORDS)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"data": "other"}, "data: 'other' there, 'data' now"),
        ({"settings": {"limit": 5}}, "settings.limit: 5 there, None now"),
        ({"benchmark": "piqa"}, "benchmark: 'piqa' there, 'hellaswag' now"),
    ],
)
def test_other_data_is_refused_with_both_values(change: dict[str, object], line: str) -> None:
    with pytest.raises(UserError, match="hellaswag: the models were not measured on the same items") as error:
        require_same_items(HEADER, RECORDS, dataclasses.replace(HEADER, **change), RECORDS)  # type: ignore[arg-type]  # by the parameters
    assert str(error.value).splitlines()[1:] == [f"  {line}"]


def test_other_items_are_refused_with_their_ids() -> None:
    other = dataclasses.replace(HEADER, tokenizer="characters")
    with pytest.raises(UserError, match="items: 3 there, 2 now") as error:
        require_same_items(HEADER, RECORDS, other, [{"id": "1"}, {"id": "2"}, {"id": "3"}])
    assert "only now: '0'\n" in str(error.value)
    assert "only there: '2', '3'\n" in str(error.value)
    assert "tokenizer: 'characters' there, 'tokenizer' now" in str(error.value)
