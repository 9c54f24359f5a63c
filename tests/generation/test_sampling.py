import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.sampling import Chosen, Sampler, Sampling

VOCABULARY = 13


@pytest.fixture(scope="module")
def logits() -> Tensor:
    return 2 * torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(0))


def choose(sampler: Sampler, logits: Tensor) -> Chosen:
    """The next tokens after texts of one token, which is 0."""
    ones = torch.ones(len(logits), dtype=torch.int64)
    return sampler.choose(logits, torch.zeros(len(logits), 1, dtype=torch.int64), ones, ones)


def draws(sampler: Sampler, logits: Tensor, count: int) -> Tensor:
    """(count, R)."""
    return torch.stack([choose(sampler, logits).ids for _ in range(count)])


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 1.0}, {"top_k": 4}, {"top_p": 0.8, "min_p": 0.05}, {"temperature": 1.7, "typical_p": 0.7}],
)
@pytest.mark.parametrize("vocab_size", [VOCABULARY, 5003])
def test_row_0_draws_what_multinomial_draws(settings: dict[str, float], vocab_size: int) -> None:
    logits = 2 * torch.randn(1, vocab_size, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(seed=3, **settings)
    probabilities = sampling.filtered(logits).softmax(dim=-1)
    torch.manual_seed(3)
    expected = torch.cat([torch.multinomial(probabilities, 1) for _ in range(300)])
    found = draws(Sampler(sampling, 1, "cpu"), logits, 300)
    assert torch.equal(found, expected)
    assert not torch.equal(draws(Sampler(dataclasses.replace(sampling, seed=4), 1, "cpu"), logits, 300), expected)


def test_other_rows_have_the_same_distribution(logits: Tensor) -> None:
    rows = 4000
    sampling = Sampling(temperature=1.3, top_k=9)
    expected = sampling.filtered(logits)[0].softmax(dim=-1)
    counts = draws(Sampler(sampling, rows, "cpu"), logits.expand(rows, -1), 3).flatten().bincount(minlength=VOCABULARY)
    sigma = (expected * (1 - expected) / (3 * rows)).sqrt()
    assert ((counts / (3 * rows) - expected).abs() <= 4 * sigma).all()
    hotter = dataclasses.replace(sampling, temperature=1.5).filtered(logits)[0].softmax(dim=-1)
    assert ((counts / (3 * rows) - hotter).abs() > 4 * sigma).any(), "the bound notices another temperature"


def test_a_row_repeats_whatever_its_batch() -> None:
    sampling = Sampling(temperature=1.3, top_p=0.9, seed=8)
    logits = torch.randn(5, 211, generator=torch.Generator().manual_seed(0))
    together = draws(Sampler(sampling, 5, "cpu"), logits, 40)
    for row in range(5):
        assert torch.equal(
            draws(Sampler(sampling, 1, "cpu", first_row=row), logits[row : row + 1], 40)[:, 0], together[:, row]
        )
    assert torch.equal(draws(Sampler(sampling, 3, "cpu", first_row=2), logits[2:], 40), together[:, 2:])


def test_rows_and_seeds_nearby_are_unrelated(logits: Tensor) -> None:
    seen = {
        tuple(draws(Sampler(Sampling(seed=seed, temperature=1.5), 1, "cpu", first_row=row), logits, 20)[:, 0].tolist())
        for seed in range(5)
        for row in range(5)
    }
    assert len(seen) == 25


def test_rows_that_stay_go_on_as_if_none_had_left() -> None:
    sampling = Sampling(temperature=1.3, seed=8)
    logits = torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(0))
    whole = draws(Sampler(sampling, 4, "cpu"), logits, 30)
    sampler = Sampler(sampling, 4, "cpu")
    kept = [3, 1]
    draws(sampler, logits, 10)
    sampler.keep(kept)
    assert torch.equal(draws(sampler, logits[kept], 20), whole[10:, kept])


def test_every_row_is_drawn_by_its_own_logits() -> None:
    logits = torch.full((3, 5), -1e9)
    logits[0, 4], logits[1, 0], logits[2, 3] = 0, 0, 0
    for sampling in (Sampling(), Sampling(top_k=2), Sampling(top_p=0.5), Sampling(temperature=0)):
        assert choose(Sampler(sampling, 3, "cpu"), logits).ids.tolist() == [4, 0, 3]


def test_temperature_0_takes_the_likeliest_after_penalties() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    for settings, expected in (({}, 0), ({"repetition_penalty": 2.0}, 1), ({"no_repeat_ngram_size": 1}, 1)):
        assert choose(Sampler(Sampling(temperature=0, **settings), 1, "cpu"), logits).ids.item() == expected


def test_of_equals_temperature_0_takes_the_first() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0]])
    assert choose(Sampler(Sampling(temperature=0), 1, "cpu"), logits).ids.item() == 1


def test_low_temperatures_approach_the_likeliest(logits: Tensor) -> None:
    found = draws(Sampler(Sampling(temperature=1e-3), 1, "cpu"), logits, 100)
    assert set(found.flatten().tolist()) == {int(logits.argmax())}


def test_half_precision_logits_are_drawn_in_float32(logits: Tensor) -> None:
    rounded, sampling = logits.bfloat16(), Sampling(temperature=0.7, top_k=6)
    found = draws(Sampler(sampling, 1, "cpu"), rounded, 200)
    assert torch.equal(found, draws(Sampler(sampling, 1, "cpu"), rounded.float(), 200))


def test_presence_and_frequency_leave_the_prompt_alone() -> None:
    logits = torch.tensor([[1.0, 0.9, 0.0]])
    history = torch.tensor([[0, 0, 1, 1]])
    for length, expected in ((2, 0), (3, 0), (4, 0)):
        for name in ("presence_penalty", "frequency_penalty"):
            sampler = Sampler(Sampling(temperature=0, **{name: 0.5}), 1, "cpu")
            assert sampler.choose(logits, history, torch.tensor([length]), torch.tensor([2])).ids.item() == expected
    sampler = Sampler(Sampling(temperature=0, frequency_penalty=0.5), 1, "cpu")
    assert sampler.choose(logits, history, torch.tensor([2]), torch.tensor([1])).ids.item() == 1


def test_without_penalties_the_history_is_not_looked_at(logits: Tensor) -> None:
    sampler = Sampler(Sampling(temperature=0), 1, "cpu")
    nothing = torch.empty(0)
    assert sampler.choose(logits, nothing, nothing, nothing).ids.item() == logits.argmax().item()


@pytest.mark.parametrize(
    ("settings", "reads"),
    [
        ({"top_k": 3, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.5}, False),
        ({"repetition_penalty": 1.1}, True),
        ({"presence_penalty": 0.1}, True),
        ({"frequency_penalty": -0.1}, True),
        ({"no_repeat_ngram_size": 3}, True),
    ],
)
def test_settings_tell_whether_they_read_the_history(settings: dict[str, float], reads: bool) -> None:
    assert Sampling(**settings).reads_history is reads


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.5, "top_k": 1}, {"temperature": 0.0, "repetition_penalty": 9.0}]
)
def test_log_probabilities_are_the_models_own(settings: dict[str, float]) -> None:
    logits = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(2))
    chosen = choose(Sampler(Sampling(log_probabilities=4, **settings), 3, "cpu"), logits)
    for row in range(3):
        values = logits[row].double()
        expected = values - values.exp().sum().log()
        best = sorted(range(VOCABULARY), key=lambda token: -float(expected[token]))[:4]
        assert chosen.log_probabilities[row].item() == pytest.approx(expected[chosen.ids[row]].item(), abs=1e-5)
        assert chosen.top_ids[row].tolist() == best
        assert chosen.top_log_probabilities[row].tolist() == pytest.approx(expected[best].tolist(), abs=1e-5)


def test_log_probabilities_come_where_they_are_asked_for(logits: Tensor) -> None:
    chosen = choose(Sampler(Sampling(), 1, "cpu"), logits)
    assert (chosen.log_probabilities, chosen.top_ids, chosen.top_log_probabilities) == (None, None, None)
    assert choose(Sampler(Sampling(log_probabilities=0), 1, "cpu"), logits).top_ids.shape == (1, 0)
    assert choose(Sampler(Sampling(log_probabilities=99), 1, "cpu"), logits).top_ids.shape == (1, VOCABULARY)


def test_reporting_log_probabilities_changes_no_draw(logits: Tensor) -> None:
    silent, telling = (Sampler(Sampling(log_probabilities=count), 1, "cpu") for count in (None, 3))
    assert torch.equal(draws(silent, logits, 50), draws(telling, logits, 50))


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_logits_that_are_not_numbers_are_an_error(temperature: float) -> None:
    logits = torch.zeros(2, VOCABULARY)
    logits[1, 5] = torch.nan
    with pytest.raises(UserError, match="not numbers"):
        choose(Sampler(Sampling(temperature=temperature), 2, "cpu"), logits)


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_ngrams_that_leave_no_token_are_an_error(temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature, no_repeat_ngram_size=1), 1, "cpu")
    history = torch.arange(3).unsqueeze(0)
    lengths = torch.tensor([3])
    with pytest.raises(UserError, match="no_repeat_ngram_size=1 leaves no token"):
        sampler.choose(torch.zeros(1, 3), history, lengths, lengths)


def test_choosing_leaves_the_global_generator_and_the_logits_alone(logits: Tensor) -> None:
    given, before = logits.clone(), torch.get_rng_state()
    everything = Sampling(top_k=9, top_p=0.9, min_p=0.01, typical_p=0.9, repetition_penalty=1.2, presence_penalty=0.1)
    draws(Sampler(everything, 1, "cpu"), logits, 3)
    assert torch.equal(logits, given)
    assert torch.equal(torch.get_rng_state(), before)


def out_of_range() -> Iterator[tuple[str, object]]:
    nan, inf = float("nan"), float("inf")
    values: dict[str, list[object]] = {
        "max_new_tokens": [0],
        "temperature": [-0.1, nan],
        "top_k": [0],
        "seed": [-1, 2**63],
        "top_p": [0, 1.1, nan],
        "min_p": [-0.1, 1.1, nan],
        "typical_p": [0, 1.1, nan],
        "epsilon_cutoff": [-0.1, 1, nan],
        "eta_cutoff": [-0.1, 1, nan],
        "repetition_penalty": [0, -1, nan, inf],
        "presence_penalty": [-2.1, 2.1, nan],
        "frequency_penalty": [-2.1, 2.1, nan],
        "no_repeat_ngram_size": [0],
        "min_new_tokens": [-1],
        "log_probabilities": [-1],
        "n_beams": [0],
        "length_penalty": [11, nan, inf],
        "early_stopping": ["always"],
    }
    of_ids = {"eos_token_id", "suppress_tokens", "logit_bias", "bad_words_ids", "choices_ids"}  # see test_constraints
    assert values.keys() | of_ids == {field.name for field in dataclasses.fields(Sampling)}
    return ((name, value) for name, faults in values.items() for value in faults)


@pytest.mark.parametrize(("field", "value"), list(out_of_range()))
def test_settings_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(
        ValueError, match=f"^{field}: '?{value}'? is (out of range, .* is allowed|not one of True, False, never)$"
    ):
        Sampling(**{field: value})


def test_all_faults_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"top_k.*\n.*top_p.*\n.*max_new_tokens.*\n.*temperature"):
        Sampling(max_new_tokens=-1, temperature=-1, top_k=-1, top_p=2)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [({"temperature": 0.8}, "set temperature=0"), ({"temperature": 0, "log_probabilities": 2}, "log_probabilities")],
)
def test_settings_that_beam_search_has_no_use_for_are_named(settings: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Sampling(n_beams=3, **settings)


def test_the_extreme_settings_are_allowed() -> None:
    Sampling(
        1, 0.0, top_k=1, seed=0, top_p=1e-9, min_p=1, typical_p=1e-9, repetition_penalty=1e-9, no_repeat_ngram_size=1
    )
    Sampling(seed=2**63 - 1, top_p=1, min_p=0, typical_p=1, presence_penalty=-2, frequency_penalty=2)
    Sampling(temperature=0, n_beams=7, length_penalty=-10, early_stopping="never")
