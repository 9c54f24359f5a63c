import math

import pytest
import torch

from gpt2_lightning.inspection.attention.reading import read
from gpt2_lightning.inspection.attention.scores import SCORES, head_scores, repeated_sequence
from tests.inspection.planted import CONTEXT, VOCABULARY, planted_network

# Tokens a b a b b: worked by hand below.
IDS = torch.tensor([3, 8, 3, 8, 8])
WEIGHTS = torch.tensor(
    [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0.5, 0.5, 0.0, 0.0, 0.0],
        [0.25, 0.5, 0.25, 0.0, 0.0],
        [0.0, 0.75, 0.0, 0.25, 0.0],
        [0.125, 0.125, 0.25, 0.375, 0.125],
    ]
)
LN2 = math.log(2)
ENTROPIES = [
    LN2,
    1.5 * LN2,
    2 * LN2 - 0.75 * math.log(3),
    (3 * 3 + 2 * 2) / 8 * LN2 + 0.375 * math.log(8 / 3),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("entropy", sum(ENTROPIES) / 4),
        ("relative_entropy", sum(h / math.log(n) for h, n in zip(ENTROPIES, range(2, 6), strict=True)) / 4),
        ("distance", (0.5 + (0.25 * 2 + 0.5) + 0.75 * 2 + (0.125 * 4 + 0.125 * 3 + 0.25 * 2 + 0.375)) / 4),
        ("first_token", (0.5 + 0.25 + 0.0 + 0.125) / 4),
        ("previous_token", (0.5 + 0.5 + 0.0 + 0.375) / 4),
        # The third looks at the first, the fourth at the second, the fifth at the second and the fourth.
        ("duplicate_token", (0.25 + 0.75 + (0.125 + 0.375)) / 3),
        # After the first a came token 1; after the first b token 2; the second b was followed by the fifth itself.
        ("induction", (0.5 + 0.0 + 0.25) / 3),
    ],
)
def test_scores_are_those_worked_by_hand(name: str, expected: float) -> None:
    assert head_scores(WEIGHTS, IDS)[name].item() == pytest.approx(expected, abs=1e-6)


def test_each_head_is_scored_alone() -> None:
    torch.manual_seed(0)
    weights = torch.rand(2, 3, 5, 5).tril()
    weights = weights / weights.sum(dim=-1, keepdim=True)
    for name, together in head_scores(weights, IDS).items():
        assert together.shape == (2, 3)
        torch.testing.assert_close(together[1, 2], SCORES[name](weights[1, 2], IDS))


def test_a_planted_previous_token_head_and_a_planted_induction_head_score_one() -> None:
    ids, _ = repeated_sequence(VOCABULARY, CONTEXT)
    scores = head_scores(read(planted_network(), ids).weights, ids)
    assert scores["previous_token"][0, 0] > 0.999
    assert scores["induction"][1, 0] > 0.999
    assert scores["induction"][0, 0] < 0.001
    assert scores["previous_token"][1, 0] < 0.1
    assert scores["entropy"][0, 0] < 0.01


def test_a_text_without_repetition_has_no_scores_of_repetition() -> None:
    scores = head_scores(WEIGHTS, torch.arange(5))
    assert scores["duplicate_token"].isnan()
    assert scores["induction"].isnan()
    assert scores["previous_token"].isfinite()


def test_one_token_has_no_scores() -> None:
    assert all(score.isnan() for score in head_scores(torch.ones(1, 1), torch.tensor([3])).values())


@pytest.mark.parametrize(
    ("vocabulary", "context", "length", "repeats"),
    [(50257, 1024, 25, 4), (50257, 64, 25, 2), (13, 52, 13, 4), (3, 11, 3, 3), (101, 7, 3, 2)],
)
def test_the_standard_text_is_distinct_tokens_repeated_as_often_as_fits(
    vocabulary: int, context: int, length: int, repeats: int
) -> None:
    ids, description = repeated_sequence(vocabulary, context)
    assert len(ids) == length * repeats <= context
    assert torch.equal(ids, ids[:length].repeat(repeats))
    assert len(set(ids[:length].tolist())) == length
    assert max(ids) < vocabulary
    assert description == f"{length} distinct random tokens, repeated {repeats} times"
    assert torch.equal(ids, repeated_sequence(vocabulary, context)[0])


@pytest.mark.parametrize(("vocabulary", "context"), [(1, 100), (100, 3)])
def test_there_is_no_standard_text_where_nothing_can_repeat(vocabulary: int, context: int) -> None:
    ids, description = repeated_sequence(vocabulary, context)
    assert len(ids) == 0
    assert description.startswith("none")
