import dataclasses

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper

from gpt2_lightning.generation.sampling import Sampling, choose

VOCABULARY = 13
DRAWS = 40_000


@pytest.fixture(scope="module")
def logits() -> Tensor:
    torch.manual_seed(0)
    return 2 * torch.randn(1, VOCABULARY)


def huggingface_probabilities(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k is not None:
        warpers.append(TopKLogitsWarper(top_k))
    return warpers(torch.zeros(1, 1, dtype=torch.int64), logits.clone()).softmax(dim=-1)


def draw(logits: Tensor, sampling: Sampling, rows: int = DRAWS) -> Tensor:
    return choose(logits.expand(rows, -1), sampling, torch.Generator().manual_seed(sampling.seed))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [None, 1, 5, VOCABULARY, 1000])
def test_draws_have_huggingfaces_distribution(logits: Tensor, temperature: float, top_k: int | None) -> None:
    expected = huggingface_probabilities(logits, temperature, top_k)[0]
    counts = draw(logits, Sampling(temperature=temperature, top_k=top_k)).bincount(minlength=VOCABULARY)
    assert (counts[expected == 0] == 0).all()
    four_sigma = 4 * (expected * (1 - expected) / DRAWS).sqrt()
    assert ((counts / DRAWS - expected).abs() <= four_sigma + 1e-9).all()


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("top_k", [None, 4])
def test_the_same_generator_draws_huggingfaces_tokens(logits: Tensor, temperature: float, top_k: int | None) -> None:
    probabilities = huggingface_probabilities(logits, temperature, top_k).expand(DRAWS, -1)
    expected = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(3)).squeeze(1)
    assert torch.equal(draw(logits, Sampling(temperature=temperature, top_k=top_k, seed=3)), expected)


def test_the_four_sigma_bound_notices_another_temperature(logits: Tensor) -> None:
    expected = huggingface_probabilities(logits, 1.0, None)[0]
    counts = draw(logits, Sampling(temperature=1.1)).bincount(minlength=VOCABULARY)
    assert ((counts / DRAWS - expected).abs() > 4 * (expected * (1 - expected) / DRAWS).sqrt()).any()


@pytest.mark.parametrize(("top_k", "kept"), [(1, {2}), (2, {1, 2, 4}), (3, {1, 2, 4}), (4, {0, 1, 2, 4})])
def test_ties_with_the_kth_stay_as_in_huggingface(top_k: int, kept: set[int]) -> None:
    logits = torch.tensor([[0.5, 1.0, 2.0, 0.0, 1.0]])
    assert set(draw(logits, Sampling(temperature=1.0, top_k=top_k)).tolist()) == kept
    assert set(huggingface_probabilities(logits, 1.0, top_k)[0].nonzero().flatten().tolist()) == kept


def test_every_row_is_drawn_by_its_own_logits() -> None:
    logits = torch.full((3, 5), -1e9)
    logits[0, 4], logits[1, 0], logits[2, 3] = 0, 0, 0
    for sampling in (Sampling(), Sampling(top_k=2), Sampling(temperature=0)):
        assert choose(logits, sampling, torch.Generator()).tolist() == [4, 0, 3]


def test_every_row_keeps_its_own_top_k() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [102.0, 101.0, 100.0]]).repeat_interleave(2000, dim=0)
    drawn = choose(logits, Sampling(temperature=1.0, top_k=2), torch.Generator().manual_seed(0))
    assert set(drawn[:2000].tolist()) == {1, 2}
    assert set(drawn[2000:].tolist()) == {0, 1}


def test_temperature_0_takes_the_likeliest_and_draws_nothing(logits: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert choose(logits, Sampling(temperature=0, top_k=3), generator).item() == logits.argmax().item()
    assert torch.equal(generator.get_state(), before)


def test_low_temperatures_approach_the_likeliest(logits: Tensor) -> None:
    assert set(draw(logits, Sampling(temperature=1e-3), 1000).tolist()) == {int(logits.argmax())}


def test_half_precision_logits_are_drawn_in_float32(logits: Tensor) -> None:
    rounded = logits.bfloat16()
    sampling = Sampling(temperature=0.7, top_k=6)
    assert torch.equal(draw(rounded, sampling), draw(rounded.float(), sampling))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", 0),
    ],
)
def test_settings_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}: {value} is out of range"):
        Sampling(**{field: value})


def test_all_faults_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"max_new_tokens.*\n.*temperature.*\n.*top_k"):
        Sampling(max_new_tokens=-1, temperature=-1, top_k=-1)


def test_the_smallest_settings_are_allowed() -> None:
    assert dataclasses.astuple(Sampling(1, 0.0, 1, 0)) == (1, 0.0, 1, 0)
