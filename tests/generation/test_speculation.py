"""Speculation changes the speed of a text and not the text: whatever is drafted, by the same seed and settings."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Decoder, Sampling, Token, decoder
from gpt2_lightning.generation.reader import Reader
from gpt2_lightning.generation.sampling import Sampler
from gpt2_lightning.generation.speculation import draft_length, model_draft, verify
from gpt2_lightning.generation.speculation.outcome import Acceptance, DraftOutcome
from gpt2_lightning.model import GPT2
from tests.generation.random_model import BLOCK, CONFIG, make_model
from tests.generation.sampled_texts import END, PROMPTS, SETTINGS, sampling, tokens_of

LONG = dataclasses.replace(CONFIG, block_size=90)
"""A context that the texts do not exceed."""


@pytest.fixture(scope="module")
def model() -> GPT2:
    return make_model(LONG)


@pytest.fixture(scope="module")
def other() -> GPT2:
    """Likes what `model` likes, to some degree."""
    similar, dice = make_model(LONG), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in similar.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=dice))
    return similar


@pytest.fixture
def drafts_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for cost in ("_PASS", "_PASS_OF_BATCH", "_TOKEN"):
        monkeypatch.setattr(draft_length, cost, 0)
    monkeypatch.setattr(model_draft, "best_length", lambda *_: 6)


class Oracle:
    """Drafts the rest of the known texts, with mistakes: ragged, of all lengths, accepted and rejected."""

    mistakes = 0.2

    def __init__(self, rows: int, texts: Sequence[Sequence[int]]) -> None:
        self._texts, self._dice = list(texts), random.Random(3)
        self.lengths: list[int] = []

    def propose(self, texts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        drafts = []
        for text, known, limit in zip(texts, self._texts, limits, strict=True):
            assert text == known[: len(text)]
            draft = list(known[len(text) : len(text) + self._dice.randrange(7)])[: max(0, limit)]
            drafts.append([self._dice.randrange(29) if self._dice.random() < self.mistakes else i for i in draft])
        self.lengths += map(len, drafts)
        return drafts

    def keep(self, rows: Sequence[int]) -> None:
        self._texts = [self._texts[row] for row in rows]


def ids_of(tokens: dict[int, list[Token]], prompts: Sequence[torch.Tensor]) -> list[list[int]]:
    """Prompt and text of each row."""
    samples = len(tokens) // len(prompts)
    return [[*prompts[row // samples].tolist(), *(token.id for token in tokens[row])] for row in sorted(tokens)]


def with_oracle(
    monkeypatch: pytest.MonkeyPatch, expected: dict[int, list[Token]], prompts: Sequence[torch.Tensor] = PROMPTS
) -> None:
    texts = ids_of(expected, prompts)
    monkeypatch.setattr(decoder, "drafter", lambda draft, reader, sampler: Oracle(len(texts), texts))


def acceptance(tokens: dict[int, list[Token]]) -> Acceptance:
    return Acceptance.of(token.outcome for text in tokens.values() for token in text)


def require_same(found: dict[int, list[Token]], expected: dict[int, list[Token]]) -> None:
    assert found.keys() == expected.keys()
    for row, text in expected.items():
        assert [(token.id, token.finished) for token in found[row]] == [(token.id, token.finished) for token in text]
        for token, plain in zip(found[row], text, strict=True):
            assert token.log_probability == pytest.approx(plain.log_probability, abs=1e-5)
            assert [pair[0] for pair in token.likeliest] == [pair[0] for pair in plain.likeliest]


@pytest.mark.parametrize("block_size", [BLOCK, LONG.block_size])
@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_equal_those_without_a_draft(monkeypatch: pytest.MonkeyPatch, name: str, block_size: int) -> None:
    """Two samples each of ragged prompts, which end at different steps; past the context, and within it."""
    model, settings = make_model(dataclasses.replace(CONFIG, block_size=block_size)), sampling(name)
    expected = tokens_of(Decoder(model, PROMPTS, settings, samples=2, end_of_text=END))
    with_oracle(monkeypatch, expected)
    found = tokens_of(Decoder(model, PROMPTS, settings, samples=2, end_of_text=END, draft="lookup"))
    require_same(found, expected)
    counts = acceptance(found)
    assert counts.accepted > 10
    assert counts.drafted > counts.accepted


@pytest.mark.usefixtures("drafts_cost_nothing")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["lookup", "itself", "another", "of a small context"])
def test_real_drafts_change_no_token(model: GPT2, other: GPT2, kind: str, name: str) -> None:
    small = make_model(dataclasses.replace(LONG, block_size=9))
    draft: Any = {"lookup": "lookup", "itself": model, "another": other, "of a small context": small}[kind]
    settings = sampling(name, 50)
    expected = tokens_of(Decoder(model, PROMPTS, settings, samples=2, end_of_text=END))
    found = tokens_of(Decoder(model, PROMPTS, settings, samples=2, end_of_text=END, draft=draft))
    require_same(found, expected)
    counts = acceptance(found)
    assert counts.drafted > 0
    if kind == "itself":
        assert counts.rate == 1, "the same choices, by the same random numbers"
        assert counts.tokens_per_step > 4
    if kind == "another":
        assert 0.1 < counts.rate < 1


def test_greedy_tokens_of_many_prompts_are_those_without_a_draft(monkeypatch: pytest.MonkeyPatch, model: GPT2) -> None:
    """Logits of several tokens in one pass differ in the last digits from those of one: 100 prompts, 8,000 tokens."""
    dice = torch.Generator().manual_seed(7)
    prompts = [torch.randint(29, (1 + number % 9,), generator=dice) for number in range(100)]
    settings = Sampling(max_new_tokens=80, temperature=0)
    expected = tokens_of(Decoder(model, prompts, settings))
    with_oracle(monkeypatch, expected, prompts)
    found = tokens_of(Decoder(model, prompts, settings, draft="lookup"))
    assert ids_of(found, prompts) == ids_of(expected, prompts)
    assert acceptance(found).tokens_per_step > 1.5


def test_a_text_does_not_depend_on_its_neighbours(model: GPT2, other: GPT2) -> None:
    for draft in ("lookup", other):
        together = tokens_of(Decoder(model, PROMPTS, sampling(), end_of_text=END, draft=draft))
        for row, prompt in enumerate(PROMPTS):
            alone = Decoder(model, [prompt], sampling(), end_of_text=END, first_row=row, draft=draft)
            assert [token.id for (token,) in alone] == [token.id for token in together[row]]


@pytest.mark.parametrize("name", ["drawn", "top_p", "presence and frequency"])
def test_texts_have_the_distribution_of_the_model(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert p_value(monkeypatch, name) > 1e-3


def take_the_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a drafted token that is nearly as likely is taken."""
    select = Sampler.select

    def lenient(self: Sampler, logits: Any, noise: Any, *history: Any) -> Any:
        return select(self, logits, None if noise is None else noise.clamp(min=0.2), *history)

    monkeypatch.setattr(Sampler, "select", lenient)


def draw_again_after_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a rejected choice is drawn once more, as if the residual distribution were that of the model."""
    choose = Sampler.choose

    def twice(self: Sampler, logits: Any, *history: Any) -> Any:
        first, second = choose(self, logits, *history), choose(self, logits, *history)
        agrees = first.ids == 1  # what the drafter below proposes
        return dataclasses.replace(first, ids=torch.where(agrees, first.ids, second.ids))

    monkeypatch.setattr(Sampler, "choose", twice)


@pytest.mark.parametrize("planted", [take_the_draft, draw_again_after_a_rejection])
def test_a_planted_bias_is_found(monkeypatch: pytest.MonkeyPatch, planted: Callable[[Any], None]) -> None:
    planted(monkeypatch)
    assert p_value(monkeypatch, "drawn") < 1e-6


def p_value(monkeypatch: pytest.MonkeyPatch, name: str) -> float:
    """Chi-square test of 4,000 texts of three tokens out of four, against the exact probability of each text."""

    class Ones(Oracle):
        def propose(self, texts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
            return [[1] * max(0, limit) for limit in limits]

    monkeypatch.setattr(decoder, "drafter", lambda draft, reader, sampler: Ones(0, [[]] * len(reader.cache.lengths)))
    model = make_model(dataclasses.replace(CONFIG, vocab_size=4, n_layer=1))
    with torch.no_grad():
        model.lm_head.weight *= 0.3  # no text is impossible
    prompt, settings = [3, 1], Sampling(**{"max_new_tokens": 3, "seed": 11, **SETTINGS[name]})
    chances = {}
    for text in itertools.product(range(4), repeat=3):
        chances[text] = 1.0
        for place in range(3):
            so_far = torch.tensor([[*prompt, *text[:place]]])
            with torch.no_grad():
                logits = model(so_far)[:, -1]
            scores = Sampler(settings, 1, "cpu")
            scores.select(logits, None, so_far, torch.tensor([so_far.size(1)]), torch.tensor([2]))
            assert scores._process is not None
            processed = scores._process(logits, so_far, torch.tensor([so_far.size(1)]), torch.tensor([2]))
            chances[text] *= float(settings.filtered(processed).softmax(-1)[0, text[place]])
    count = 4000
    tokens = tokens_of(Decoder(model, [torch.tensor(prompt)], settings, count, draft="lookup"))
    found = [tuple(token.id for token in text) for text in tokens.values()]
    assert acceptance(tokens).accepted > count / 10
    likely = [text for text, chance in chances.items() if chance * count >= 5]
    rest = 1 - sum(chances[text] for text in likely)
    observed = [found.count(text) for text in likely]
    expected = [count * chances[text] for text in likely]
    if rest * count > 5:
        observed.append(count - sum(observed))
        expected.append(rest * count)
    statistic = sum((one - other) ** 2 / other for one, other in zip(observed, expected, strict=True))
    freedom = torch.tensor(len(observed) - 1.0, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom / 2, torch.tensor(statistic / 2, dtype=torch.float64)))


def keep_rejected_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a rejected token stays in the cache."""
    read, passes = verify.SpeculativeSteps._read, []

    def unmoved(self: Any, last: Any, drafts: Any) -> Any:
        passes.append(last)
        if len(passes) == 2:
            self._reader.cache.advance(1)
        return read(self, last, drafts)

    monkeypatch.setattr(verify.SpeculativeSteps, "_read", unmoved)


def draw_for_rejected_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: random numbers are drawn for the whole draft at once."""
    read = verify.SpeculativeSteps._read

    def drawing(self: Any, last: Any, drafts: Any) -> Any:
        logits = read(self, last, drafts)
        for place in range(1, logits.size(1)):
            self._sampler.draw(torch.empty_like(logits[:, place]))
        return logits

    monkeypatch.setattr(verify.SpeculativeSteps, "_read", drawing)


@pytest.mark.parametrize("planted", [keep_rejected_tokens, draw_for_rejected_tokens])
def test_a_planted_error_changes_the_texts(
    monkeypatch: pytest.MonkeyPatch, model: GPT2, planted: Callable[[Any], None]
) -> None:
    settings, prompt = sampling("drawn", 40), PROMPTS[:1]
    expected = tokens_of(Decoder(model, prompt, settings))
    texts = ids_of(expected, prompt)

    class Wrong(Oracle):
        def propose(self, texts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
            return [[2, 3, 4][: max(0, limit)] for limit in limits]

    monkeypatch.setattr(decoder, "drafter", lambda draft, reader, sampler: Wrong(1, texts))
    assert ids_of(tokens_of(Decoder(model, prompt, settings, draft="lookup")), prompt) == texts
    planted(monkeypatch)
    assert ids_of(tokens_of(Decoder(model, prompt, settings, draft="lookup")), prompt) != texts


def test_a_stopped_text_gets_no_further_token_of_its_draft(monkeypatch: pytest.MonkeyPatch, model: GPT2) -> None:
    settings = sampling("greedy", 20)
    expected = tokens_of(Decoder(model, PROMPTS, settings))
    monkeypatch.setattr(Oracle, "mistakes", 0)
    with_oracle(monkeypatch, expected)
    counts = dict.fromkeys(range(4), 0)
    texts = Decoder(model, PROMPTS, settings, draft="lookup")
    for step in texts:
        for token in step:
            counts[token.row] += 1
            if counts[token.row] == 7 and token.row in (0, 2):
                texts.stop(token.row)
    assert counts == {0: 7, 1: 20, 2: 7, 3: 20}


@pytest.mark.usefixtures("drafts_cost_nothing")
@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 5])
def test_the_smallest_contexts_work_and_slide_at_the_same_tokens(block_size: int) -> None:
    slid: list[str] = []
    model = make_model(dataclasses.replace(CONFIG, block_size=block_size))
    settings = sampling("drawn", 9)
    expected = tokens_of(Decoder(model, PROMPTS, settings, 1, END))
    for draft in ("lookup", model):
        found = Decoder(model, PROMPTS, settings, 1, END, on_slide=lambda: slid.append("slid"), draft=draft)
        require_same(tokens_of(found), expected)
    assert slid == ["slid"] * 2


def test_a_place_without_a_next_token_is_an_error_only_where_the_text_gets_there(
    monkeypatch: pytest.MonkeyPatch, model: GPT2
) -> None:
    settings = dataclasses.replace(sampling("greedy", 40), no_repeat_ngram_size=1)
    with pytest.raises(UserError, match="no_repeat_ngram_size=1 leaves no token"):
        list(Decoder(model, PROMPTS[:1], settings, draft="lookup"))
    few = dataclasses.replace(settings, max_new_tokens=26)
    expected = tokens_of(Decoder(model, PROMPTS[:1], few))
    monkeypatch.setattr(Oracle, "mistakes", 0.5)
    monkeypatch.setattr(
        decoder, "drafter", lambda draft, reader, sampler: Oracle(1, [[*ids_of(expected, PROMPTS[:1])[0], *range(29)]])
    )
    require_same(tokens_of(Decoder(model, PROMPTS[:1], few, draft="lookup")), expected)


def test_choices_have_no_draft(model: GPT2) -> None:
    with pytest.raises(ValueError, match="choices_ids"):
        Decoder(model, PROMPTS[:1], dataclasses.replace(sampling(), choices_ids=[[1, 2]]), draft="lookup")


def test_a_draft_model_reads_each_token_once_and_its_own_window(
    monkeypatch: pytest.MonkeyPatch, model: GPT2, other: GPT2
) -> None:
    """Its logits are those of the text's end without a cache, in whatever rows leave and drafts are rejected."""
    monkeypatch.setattr(model_draft, "best_length", lambda *_: 3)
    read = []

    class Watched(model_draft.ModelDraft):
        def _catch_up(self, texts: Any, length: int) -> Any:
            logits = super()._catch_up(texts, length)
            for row, text in enumerate(texts):
                with torch.no_grad():
                    plain = self._model(torch.tensor([text[self._starts[row] :]]))[0, -1]
                torch.testing.assert_close(logits[row], plain, rtol=0, atol=1e-4)
                read.append(len(text))
            return logits

    monkeypatch.setattr(decoder, "drafter", lambda draft, reader, sampler: Watched(draft, reader, sampler))
    for draft in (other, make_model(dataclasses.replace(LONG, block_size=9))):
        ended = tokens_of(Decoder(model, PROMPTS, sampling("drawn", 40), 2, END, draft=draft))
        assert len({len(text) for text in ended.values()}) > 2
    assert len(read) > 100


def test_outcomes_are_added_up() -> None:
    outcomes = [
        None,
        DraftOutcome(accepted=True),
        DraftOutcome(accepted=True),
        DraftOutcome(accepted=False, rejected=2),
    ]
    counts = Acceptance.of(outcomes)
    assert (counts.tokens, counts.accepted, counts.drafted) == (4, 2, 4)
    assert (counts.rate, counts.tokens_per_step) == (0.5, 2)
    assert str(counts) == "speculation: 2.00 tokens a step, 2 of 4 drafted tokens accepted (50%)"
    assert Acceptance.of([]).tokens_per_step == 0


def test_passes_of_one_token_are_those_without_speculation(monkeypatch: pytest.MonkeyPatch, model: GPT2) -> None:
    """Where nothing is drafted, no pass reads more than a token."""
    widths = []
    features = model.features

    def watched(ids: Any, **cached: Any) -> Any:
        widths.append(ids.size(1))
        return features(ids, **cached)

    monkeypatch.setattr(model, "features", watched)
    list(Decoder(model, [torch.arange(20)], sampling("drawn", 8), draft="lookup"))
    assert widths == [20, *[1] * 7]
    assert isinstance(Reader(model, PROMPTS, 4, 1), Reader)
