import math

import pytest

from gpt2_lightning.evaluation.language_metrics import bits_per_byte, perplexity


@pytest.mark.parametrize(
    ("loss", "expected"), [(0.0, 1.0), (math.log(2), 2.0), (math.log(65), 65.0), (3.0, 20.0855369)]
)
def test_perplexity_by_hand(loss: float, expected: float) -> None:
    assert perplexity(loss) == pytest.approx(expected, rel=1e-8)


def test_perplexity_of_a_diverged_run_is_a_number() -> None:
    assert math.isfinite(perplexity(1e6))
    assert math.isnan(perplexity(math.nan))


@pytest.mark.parametrize(
    ("loss", "bytes_per_token", "expected"),
    [(math.log(2), 1.0, 1.0), (math.log(256), 1.0, 8.0), (math.log(16), 2.0, 2.0), (3.3, 4.0, 1.1902234)],
    ids=["a coin a byte", "any byte", "four bits in two bytes", "a subword"],
)
def test_bits_per_byte_by_hand(loss: float, bytes_per_token: float, expected: float) -> None:
    assert bits_per_byte(loss, bytes_per_token) == pytest.approx(expected, rel=1e-6)


def test_bits_per_byte_do_not_depend_on_the_tokenizer() -> None:
    """One text of 60 bytes that costs 90 bits, cut into 60, 20 or 15 tokens."""
    losses = {tokens: 90 * math.log(2) / tokens for tokens in (60, 20, 15)}
    assert {round(bits_per_byte(loss, 60 / tokens), 9) for tokens, loss in losses.items()} == {1.5}
