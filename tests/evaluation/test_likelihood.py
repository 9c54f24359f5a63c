"""Log-likelihoods, compared with a forward pass of transformers for each continuation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.likelihood.request import Likelihood, Request
from gpt2_lightning.evaluation.likelihood.scorer import Scorer
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.huggingface import config_to_huggingface, to_huggingface
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.positions import POSITIONS
from gpt2_lightning.tokenizers import GPT2Tokenizer
from tests.model.rotary import Rotary

VOCAB, BLOCK = 101, 23


def tiny(**settings: Any) -> GPT2:
    """A network whose weights are large enough for errors to show."""
    torch.manual_seed(0)
    config = GPT2Config(VOCAB, BLOCK, n_layer=2, n_head=2, n_embd=20, initializer_range=0.5, **settings)
    return GPT2(config).eval()


def score(
    model: GPT2, requests: Sequence[Sequence[Request]], tokens_per_batch: int = 64
) -> list[list[list[Likelihood]]]:
    scorer = Scorer(Subject(model, GPT2Tokenizer(), "tiny", tokens_per_batch=tokens_per_batch))
    found = list(scorer.score(requests))
    assert sorted(index for index, _ in found) == list(range(len(requests)))
    return [likelihoods for _, likelihoods in sorted(found, key=lambda pair: pair[0])]


def request(seed: int, context: int, *continuations: int) -> Request:
    """Random ids of these lengths."""
    random = np.random.default_rng(seed)
    ids = [random.integers(VOCAB, size=length).astype(np.uint16) for length in (context, *continuations)]
    return Request(ids[0], tuple(ids[1:]))


def alone(logits_of: Any, request: Request, index: int) -> tuple[float, bool]:
    """The log-likelihood of one continuation by a forward pass of its own, and whether it is greedy."""
    continuation = request.continuations[index]
    whole = torch.from_numpy(np.concatenate([request.context, continuation]).astype(np.int64))[-(BLOCK + 1) :]
    with torch.no_grad():
        log_probs: Tensor = logits_of(whole[None, :-1])[0, -len(continuation) :].double().log_softmax(-1)
    targets = whole[-len(continuation) :]
    return float(log_probs.gather(1, targets[:, None]).sum()), bool((log_probs.argmax(-1) == targets).all())


def check(model: GPT2, logits_of: Any, requests: Sequence[Sequence[Request]], **settings: int) -> None:
    for of_item, likelihoods in zip(requests, score(model, requests, **settings), strict=True):
        for one, of_request in zip(of_item, likelihoods, strict=True):
            assert len(of_request) == len(one.continuations)
            for index, likelihood in enumerate(of_request):
                total, greedy = alone(logits_of, one, index)
                tokens = len(one.continuations[index])
                assert likelihood.log_likelihood == pytest.approx(total, abs=1e-4)
                assert likelihood.is_greedy == greedy
                assert likelihood.tokens == tokens
                assert likelihood.cut == max(0, len(one.context) + tokens - BLOCK - 1)


def greedy_request(model: GPT2, seed: int, context: int, count: int) -> Request:
    """A request with the continuation that the model would generate, and one that differs in its last token."""
    ids = request(seed, context, 1).context.astype(np.int64)
    with torch.no_grad():
        for _ in range(count):
            ids = np.append(ids, int(model(torch.from_numpy(ids)[None])[0, -1].argmax()))
    other = ids[context:].copy()
    other[-1] = (other[-1] + 1) % VOCAB
    return Request(ids[:context], (ids[context:], other))


def mixture(model: GPT2) -> list[list[Request]]:
    """Items of all kinds: several requests, shared beginnings, cut contexts, more continuations than a row holds."""
    begins = np.array([7, 8, 9, 10])
    return [
        [request(0, 5, 1, 3, 4, 2), request(1, 1, 6)],
        [Request(np.array([3]), (begins, begins[:2], np.append(begins[:3], 50)))],
        [Request(np.array([3, 4]), (begins, begins))],
        [request(2, 30, 2, 2, 3, BLOCK), request(3, BLOCK, 1, 1, 2)],
        [request(4, 12, *[5] * 9)],
        [greedy_request(model, 5, 6, 4), greedy_request(model, 6, 6, 1)],
        [],
        [request(7, 9, 9)],
    ]


def test_likelihoods_equal_transformers() -> None:
    from transformers import GPT2Config as TheirConfig
    from transformers import GPT2LMHeadModel

    model = tiny()
    theirs = GPT2LMHeadModel(TheirConfig(**config_to_huggingface(model.config))).eval()
    theirs.load_state_dict(to_huggingface(model), strict=False)
    check(model, lambda ids: theirs(ids).logits, mixture(model))


@pytest.mark.parametrize(
    ("positions", "settings"), [("learned", {"pad_vocab_to_multiple_of": 64}), ("sinusoidal", {}), ("rotary", {})]
)
@pytest.mark.parametrize("tokens_per_batch", [1, 50, 8192])
def test_continuations_in_one_row_do_not_see_each_other(
    positions: str, settings: dict[str, int], tokens_per_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POSITIONS, "rotary", Rotary)
    model = tiny(positions=positions, **settings)
    check(model, model, mixture(model), tokens_per_batch=tokens_per_batch)
    kernels = tiny(positions=positions, kernels="explicit", **settings)
    check(kernels, model, mixture(model), tokens_per_batch=tokens_per_batch)


def test_greedy_continuations_are_known() -> None:
    model = tiny()
    flags = [[one.is_greedy for one in of_request] for of_request in score(model, [mixture(model)[5]])[0]]
    assert flags == [[True, False], [True, False]]


def test_shifted_targets_fail() -> None:
    model = tiny()
    found = score(model, [[request(0, 5, 3)]])
    shifted = request(0, 5, 3)
    shifted.continuations[0][:] = np.roll(shifted.continuations[0], 1)
    assert found[0][0][0].log_likelihood != pytest.approx(alone(model, shifted, 0)[0], abs=1e-2)


def test_further_devices_compute_the_same() -> None:
    model = tiny()
    subject = Subject(model, GPT2Tokenizer(), "tiny", tokens_per_batch=20, devices=(torch.device("cpu"),) * 2)
    assert dict(Scorer(subject).score(mixture(model))) == dict(enumerate(score(model, mixture(model), 20)))


def test_nan_logits_name_the_item() -> None:
    model = tiny()
    with torch.no_grad():
        model.wte.weight[7] = float("nan")
        model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCAB, 20))
    items = [[Request(np.array([3]), (np.array([4, 5]),))], [Request(np.array([3, 7]), (np.array([4]),))]]
    with pytest.raises(UserError, match="item 1: the logits are NaN"):
        score(model, items)


def test_continuation_longer_than_the_context_names_the_item() -> None:
    with pytest.raises(UserError, match=f"item 1: a continuation of {BLOCK + 1} tokens .* block_size is {BLOCK}"):
        score(tiny(), [[request(0, 5, 1)], [request(0, 5, 1, BLOCK + 1)]])


@pytest.mark.parametrize("sizes", [(0, 1), (1,), (1, 2, 0)])
def test_empty_ids_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="request 0 of item 0 has an empty context or continuation"):
        score(tiny(), [[request(0, *sizes)]])
