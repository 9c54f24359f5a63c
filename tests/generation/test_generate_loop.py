import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpt2_lightning.generation import Sampling, generate
from gpt2_lightning.model import GPT2
from tests.generation.random_model import BLOCK, CONFIG, make_model

GREEDY = Sampling(max_new_tokens=BLOCK * 3, temperature=0)


@pytest.fixture(scope="module", params=["learned", "sinusoidal"])
def model(request: pytest.FixtureRequest) -> GPT2:
    return make_model(dataclasses.replace(CONFIG, positions=request.param))


def without_cache(model: GPT2, prompt: Tensor, tokens: int, pick: Callable[[Tensor], Tensor]) -> list[int]:
    """Read the whole window again for each token; when it is full, its last three quarters and the new token stay."""
    ids = prompt.unsqueeze(0)
    start = max(0, len(prompt) - BLOCK)
    for _ in range(tokens):
        if ids.size(1) - start > BLOCK:
            start = ids.size(1) - 1 - 3 * BLOCK // 4
        with torch.no_grad():
            logits = model(ids[:, start:])[:, -1]
        ids = torch.cat((ids, pick(logits)), dim=1)
    return ids[0, len(prompt) :].tolist()


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1, keepdim=True)


@pytest.mark.parametrize("length", [1, 2, BLOCK - 1])
def test_greedy_equals_an_uncached_loop_within_the_context(model: GPT2, length: int) -> None:
    prompt = torch.arange(length)
    sampling = dataclasses.replace(GREEDY, max_new_tokens=BLOCK - length)
    assert list(generate(model, prompt, sampling)) == without_cache(model, prompt, BLOCK - length, likeliest)


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_greedy_slides_past_the_context(model: GPT2, length: int) -> None:
    prompt = torch.arange(length) % 29
    found = list(generate(model, prompt, GREEDY))
    assert found == without_cache(model, prompt, BLOCK * 3, likeliest)
    assert len(set(found)) > 2, "a text of one token would hide an error"


def test_sampling_slides_past_the_context(model: GPT2) -> None:
    sampling = Sampling(max_new_tokens=BLOCK * 3, temperature=1.3, top_k=7, seed=5)
    generator = torch.Generator().manual_seed(5)

    def draw(logits: Tensor) -> Tensor:
        scaled = logits / 1.3
        kept = scaled >= scaled.sort(descending=True).values[:, 6:7]
        return torch.multinomial(scaled.where(kept, -torch.inf).softmax(-1), 1, generator=generator)

    prompt = torch.tensor([3, 1, 4])
    assert list(generate(model, prompt, sampling)) == without_cache(model, prompt, BLOCK * 3, draw)


def test_a_context_of_one_token_works() -> None:
    model = make_model(dataclasses.replace(CONFIG, block_size=1))
    found = list(generate(model, torch.tensor([2, 5]), Sampling(max_new_tokens=5, temperature=0)))
    expected, last = [], torch.tensor([[5]])
    for _ in range(5):
        last = model(last)[:, -1].argmax(-1, keepdim=True)
        expected.append(int(last))
    assert found == expected


def test_the_end_of_text_stops_and_is_not_yielded(model: GPT2) -> None:
    prompt = torch.tensor([3, 1, 4])
    whole = list(generate(model, prompt, GREEDY))
    end = whole[9]
    assert list(generate(model, prompt, GREEDY, end_of_text=end)) == whole[: whole.index(end)]
    absent = next(token for token in range(29) if token not in whole)
    assert list(generate(model, prompt, GREEDY, end_of_text=absent)) == whole


def test_an_end_of_text_in_the_prompt_does_not_stop(model: GPT2) -> None:
    prompt = torch.tensor([3, 1, 4])
    end = next(token for token in (3, 1, 4) if token not in list(generate(model, prompt, GREEDY)))
    assert len(list(generate(model, prompt, GREEDY, end_of_text=end))) == GREEDY.max_new_tokens


def test_a_seed_fixes_the_text(model: GPT2) -> None:
    texts = {}
    for seed in (0, 1, 2):
        sampling = Sampling(max_new_tokens=20, temperature=2.0, seed=seed)
        first, second = (list(generate(model, torch.tensor([0]), sampling)) for _ in range(2))
        assert first == second
        texts[tuple(first)] = seed
    assert len(texts) == 3


def test_generating_leaves_the_global_generator_alone(model: GPT2) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(generate(model, torch.tensor([0]), Sampling(max_new_tokens=5)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("count", [1, 2, BLOCK, BLOCK + 1, 40])
def test_max_new_tokens_is_the_length(model: GPT2, count: int) -> None:
    assert len(list(generate(model, torch.tensor([0, 1]), Sampling(max_new_tokens=count)))) == count


def test_tokens_come_one_by_one(model: GPT2) -> None:
    tokens = generate(model, torch.tensor([0]), Sampling(max_new_tokens=10**9, temperature=0))
    first = [next(tokens) for _ in range(3)]
    assert first == list(generate(model, torch.tensor([0]), Sampling(max_new_tokens=3, temperature=0)))
    tokens.close()


def test_the_prompt_is_left_as_it_was(model: GPT2) -> None:
    prompt = torch.arange(4)
    list(generate(model, prompt, Sampling(max_new_tokens=3)))
    assert prompt.tolist() == [0, 1, 2, 3]
