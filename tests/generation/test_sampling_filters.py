"""Filters and penalties against Hugging Face's logits processors, to the last bit."""

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LogitsProcessor

from gpt2_lightning.generation import filters, processors
from gpt2_lightning.generation.filters import keep_epsilon, keep_eta, keep_min_p, keep_top_k, keep_top_p, keep_typical
from gpt2_lightning.generation.penalties import ban_repeated_ngrams, penalize_generated, penalize_repetition
from gpt2_lightning.generation.sampling import Sampling

ROWS, VOCABULARY = 7, 101
REMOVED = float("-inf")
NO_IDS = torch.zeros(ROWS, 1, dtype=torch.int64)
Filter = Callable[[Tensor], Tensor]


def random_logits(kind: str, seed: int = 0, vocab_size: int = VOCABULARY) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(ROWS, vocab_size, generator=generator)
    if kind == "ties":
        return logits.round()
    if kind == "all equal":
        return torch.zeros_like(logits)
    if kind == "some removed":
        return logits.masked_fill(torch.rand(logits.shape, generator=generator) < 0.7, REMOVED)
    if kind == "few left":
        return keep_top_k(logits.round(), 3)
    if kind == "one left":
        return torch.full_like(logits, REMOVED).scatter(1, torch.arange(ROWS).unsqueeze(1) * 13, -2.5)
    if kind == "extreme":
        return 1e30 * logits
    if kind == "nearly certain":
        return 30 * logits
    return logits


KINDS = ["plain", "ties", "all equal", "some removed", "few left", "one left", "extreme", "nearly certain"]

FILTERS: dict[str, tuple[Filter, LogitsProcessor]] = {
    **{f"top_k={k}": (lambda x, k=k: keep_top_k(x, k), transformers.TopKLogitsWarper(k)) for k in (1, 2, 10, 101, 999)},
    **{
        f"top_p={p}": (lambda x, p=p: keep_top_p(x, p), transformers.TopPLogitsWarper(p))
        for p in (1e-6, 0.1, 0.5, 0.9, 0.95, 0.9999)
    },
    **{
        f"min_p={p}": (lambda x, p=p: keep_min_p(x, p), transformers.MinPLogitsWarper(p))
        for p in (1e-6, 0.05, 0.3, 0.999, 1.0)
    },
    **{
        f"typical_p={p}": (lambda x, p=p: keep_typical(x, p), transformers.TypicalLogitsWarper(p))
        for p in (1e-6, 0.2, 0.5, 0.9, 0.9999)
    },
    **{
        f"epsilon_cutoff={p}": (lambda x, p=p: keep_epsilon(x, p), transformers.EpsilonLogitsWarper(p))
        for p in (1e-6, 3e-4, 0.05, 0.5, 0.999)
    },
    **{
        f"eta_cutoff={p}": (lambda x, p=p: keep_eta(x, p), transformers.EtaLogitsWarper(p))
        for p in (1e-6, 3e-4, 0.05, 0.5, 0.999)
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_equals_huggingfaces(name: str, kind: str) -> None:
    ours, theirs = FILTERS[name]
    for seed in range(8):
        logits = random_logits(kind, seed)
        given = logits.clone()
        assert torch.equal(ours(logits), theirs(NO_IDS, logits.clone()))
        assert torch.equal(logits, given), "what was given is left as it was"


def top_p_without_the_crossing_token(logits: Tensor, p: float) -> Tensor:
    descending, order = logits.sort(descending=True)
    removed = descending.softmax(-1).cumsum(-1) > p
    removed[:, 0] = False
    return logits.masked_fill(removed.scatter(1, order, removed), REMOVED)


def top_k_without_ties(logits: Tensor, k: int) -> Tensor:
    return torch.full_like(logits, REMOVED).scatter(1, logits.topk(k).indices, logits)


def typical_without_the_crossing_token(logits: Tensor, p: float) -> Tensor:
    surprise = -logits.log_softmax(-1)
    distance = (surprise - (surprise * logits.softmax(-1)).sum(-1, keepdim=True)).abs()
    order = distance.argsort()
    removed = logits.softmax(-1).gather(1, order).cumsum(-1) > p
    removed[:, 0] = False
    return logits.masked_fill(removed.scatter(1, order, removed), REMOVED)


PLANTED: dict[str, Filter] = {
    "top_p=0.9": lambda x: top_p_without_the_crossing_token(x, 0.9),
    "top_k=10": lambda x: top_k_without_ties(x, 10),
    "min_p=0.05": lambda x: x.masked_fill(x.softmax(-1) < 0.05, REMOVED),
    "typical_p=0.5": lambda x: typical_without_the_crossing_token(x, 0.5),
    "typical_p=0.9": lambda x: keep_top_p(x, 0.9),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_differs_from_huggingfaces(name: str) -> None:
    theirs = FILTERS[name][1]
    logits = random_logits("ties")
    assert not torch.equal(PLANTED[name](logits), theirs(NO_IDS, logits.clone()))


def test_top_p_keeps_the_token_that_crosses() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert keep_top_p(logits, 0.9).isfinite().tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
def test_top_p_of_a_large_vocabulary_equals_huggingfaces(p: float, scale: float) -> None:
    logits = scale * torch.randn(3, 5003, generator=torch.Generator().manual_seed(1))
    for given in (logits, logits.round(), keep_top_k(logits, 40), keep_top_k(logits.round(), 40)):
        expected = transformers.TopPLogitsWarper(p)(NO_IDS, given.clone())
        assert torch.equal(keep_top_p(given, p), expected)


def test_top_p_sorts_rows_whose_border_is_unclear(monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_rows = []
    by_sorting = filters._unlikely_by_sorting
    monkeypatch.setattr(
        filters, "_unlikely_by_sorting", lambda rows, p: sorted_rows.append(len(rows)) or by_sorting(rows, p)
    )
    clear = 5 * torch.randn(1, 5003, generator=torch.Generator().manual_seed(1))
    keep_top_p(clear, 0.9)
    assert sorted_rows == []
    equals_at_the_border, border_far_down = torch.zeros(1, 5003), clear / 50
    logits = torch.cat((clear, equals_at_the_border, clear, border_far_down))
    expected = transformers.TopPLogitsWarper(0.9)(NO_IDS, logits.clone())
    assert torch.equal(keep_top_p(logits, 0.9), expected)
    assert sorted_rows == [2]


@pytest.mark.parametrize("p", [0.4, 0.7, 0.9, 0.7 - 1e-7, 0.7 + 1e-7])
def test_top_p_at_a_cumulative_probability_equals_huggingfaces(p: float) -> None:
    logits = torch.full((1, 5003), -50.0)
    logits[0, :4] = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert not filters._unlikely_by_likeliest(logits, p)[1].item()
    assert torch.equal(keep_top_p(logits, p), transformers.TopPLogitsWarper(p)(NO_IDS, logits.clone()))


# Penalties: rows of their own lengths, padded with ids that would count if they were read.

LENGTHS = [1, 2, 5, 13, 40, 40, 7]
PROMPT_LENGTHS = [1, 1, 3, 13, 10, 39, 2]
LONGEST = 43


def random_history(seed: int, distinct: int) -> tuple[Tensor, Tensor, Tensor]:
    history = torch.randint(distinct, (ROWS, LONGEST), generator=torch.Generator().manual_seed(seed))
    return history, torch.tensor(LENGTHS), torch.tensor(PROMPT_LENGTHS)


def row_by_row(processor: LogitsProcessor, history: Tensor, scores: Tensor) -> Tensor:
    """Theirs, of each row without padding."""
    rows = zip(history, LENGTHS, scores, strict=True)
    return torch.cat([processor(ids[:length].unsqueeze(0), row.unsqueeze(0).clone()) for ids, length, row in rows])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3, 1e9])
def test_the_repetition_penalty_equals_huggingfaces(penalty: float, kind: str) -> None:
    theirs = transformers.RepetitionPenaltyLogitsProcessor(penalty)
    for seed in range(5):
        scores, (history, lengths, _) = random_logits(kind, seed), random_history(seed, VOCABULARY)
        assert torch.equal(penalize_repetition(scores, history, lengths, penalty), row_by_row(theirs, history, scores))


def test_a_penalty_that_divides_negative_scores_differs_from_huggingfaces() -> None:
    theirs = transformers.RepetitionPenaltyLogitsProcessor(1.3)
    scores, (history, _, _) = random_logits("plain"), random_history(0, VOCABULARY)
    planted = [
        row.clone().index_put((ids[:length],), row[ids[:length]] / 1.3)
        for row, ids, length in zip(scores, history, LENGTHS, strict=True)
    ]
    assert not torch.equal(torch.stack(planted), row_by_row(theirs, history, scores))


@pytest.mark.parametrize("kind", ["plain", "some removed"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 40, 41, LONGEST, LONGEST + 1])
def test_banned_ngrams_equal_huggingfaces(size: int, kind: str) -> None:
    theirs = transformers.NoRepeatNGramLogitsProcessor(size)
    for seed in range(5):
        scores, (history, lengths, _) = random_logits(kind, seed), random_history(seed, distinct=3)
        assert torch.equal(ban_repeated_ngrams(scores, history, lengths, size), row_by_row(theirs, history, scores))


def test_padding_would_change_the_penalties() -> None:
    scores, (history, lengths, _) = random_logits("plain"), random_history(0, distinct=3)
    whole = torch.full_like(lengths, LONGEST)
    for apply in (
        lambda n: penalize_repetition(scores, history, n, 1.3),
        lambda n: ban_repeated_ngrams(scores, history, n, 2),
    ):
        assert not torch.equal(apply(lengths), apply(whole))


def test_presence_and_frequency_count_what_was_generated() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0, REMOVED], [1.0, 2.0, 3.0, 4.0, 5.0]])
    history = torch.tensor([[0, 1, 1, 2, 4, 3], [3, 3, 3, 3, 0, 0]])
    found = penalize_generated(scores, history, torch.tensor([1, 2]), torch.tensor([5, 4]), 0.5, 0.25)
    assert found.tolist() == [[1.0, 2.0 - 1.0, 3.0 - 0.75, 4.0, REMOVED], [1.0, 2.0, 3.0, 4.0 - 1.0, 5.0]]


def test_presence_and_frequency_are_openais_formula() -> None:
    scores, (history, lengths, prompt_lengths) = random_logits("plain"), random_history(0, distinct=11)
    found = penalize_generated(scores, history, prompt_lengths, lengths, 0.7, -0.3)
    for row in range(ROWS):
        generated = history[row, PROMPT_LENGTHS[row] : LENGTHS[row]].tolist()
        for token in range(VOCABULARY):
            count = generated.count(token)
            expected = float(scores[row, token]) - count * -0.3 - float(count > 0) * 0.7
            assert float(found[row, token]) == pytest.approx(expected, abs=1e-5)


# Combinations, against the list of processors that their `generate` makes.

COMBINATIONS = [
    {"temperature": 0.7, "top_k": 20, "top_p": 0.9},
    {"temperature": 1.7, "top_p": 0.8, "min_p": 0.05},
    {"temperature": 1.0, "min_p": 0.1, "typical_p": 0.7},
    {"temperature": 0.5, "top_k": 30, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.9},
    {"temperature": 1.3, "repetition_penalty": 1.4, "top_k": 15},
    {"temperature": 0.9, "repetition_penalty": 0.8, "no_repeat_ngram_size": 2, "typical_p": 0.6},
    {"temperature": 1.2, "repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "top_k": 50, "top_p": 0.7, "min_p": 0.1},
]


@pytest.fixture(scope="module")
def their_model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=4, n_embd=4, n_layer=1, n_head=1))


def their_processors(model: GPT2LMHeadModel, settings: dict[str, float]) -> LogitsProcessor:
    config = GenerationConfig(do_sample=True, **{"top_k": 0, "eos_token_id": None, **settings})
    config._eos_token_tensor = None
    return model._get_logits_processor(config, input_ids_seq_length=3)


@pytest.mark.parametrize("settings", COMBINATIONS, ids=lambda settings: ",".join(settings))
@pytest.mark.parametrize("kind", ["plain", "ties"])
def test_a_combination_equals_huggingfaces(their_model: GPT2LMHeadModel, settings: dict[str, float], kind: str) -> None:
    theirs, sampling = their_processors(their_model, settings), Sampling(**settings)
    process = processors.LogitsProcessor(sampling, (), random_logits(kind, 0).size(-1), torch.device("cpu"))
    for seed in range(8):
        scores, (history, lengths, prompt_lengths) = random_logits(kind, seed), random_history(seed, distinct=5)
        found = sampling.filtered(process(scores, history, lengths, prompt_lengths))
        assert torch.equal(found, row_by_row(theirs, history, scores))


@pytest.mark.parametrize(
    "wrong_order",
    [
        lambda x: keep_top_k(keep_top_p(x / 0.7, 0.9), 20),
        lambda x: keep_top_k(keep_top_p(x, 0.9) / 0.7, 20),
        lambda x: keep_top_p(keep_top_k(x, 20), 0.9) / 0.7,
    ],
    ids=["top-p before top-k", "top-p before all", "temperature last"],
)
def test_another_order_differs_from_huggingfaces(their_model: GPT2LMHeadModel, wrong_order: Filter) -> None:
    theirs = their_processors(their_model, COMBINATIONS[0])
    assert any(
        not torch.equal(wrong_order(x), theirs(NO_IDS, x.clone()))
        for x in (random_logits("plain", seed) for seed in range(5))
    )
