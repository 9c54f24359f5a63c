"""Texts of a batch: each as if it were alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Decoder, Sampling, Token, generate, search
from gpt2_lightning.generation.reader import Reader
from gpt2_lightning.generation.sampling import row_seed
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.kernels import KERNELS
from tests.generation.random_model import BLOCK, CONFIG, make_model

PROMPTS = [torch.tensor([3, 1, 4]), torch.tensor([5]), torch.arange(2 * BLOCK) % 29, torch.arange(7) + 20]
"""Of different lengths; one is longer than the context."""
DRAWN = Sampling(max_new_tokens=3 * BLOCK, temperature=1.3, top_k=7, seed=5)
GREEDY = dataclasses.replace(DRAWN, temperature=0)


@pytest.fixture(scope="module", params=KERNELS)
def model(request: pytest.FixtureRequest) -> GPT2:
    return make_model(dataclasses.replace(CONFIG, kernels=request.param))


def texts(decoder: Decoder) -> dict[int, list[int]]:
    """Ids of each row, with its end of text."""
    found: dict[int, list[int]] = {}
    for step in decoder:
        for token in step:
            found.setdefault(token.row, []).append(token.id)
    return found


def window_logits(model: GPT2, text: Sequence[int], prompt: int) -> Tensor:
    """Logits after a text, without a cache, by the definition of the sliding window."""
    start = max(0, prompt - BLOCK)
    for end in range(prompt, len(text) + 1):
        if end - start > BLOCK:
            start = end - 1 - 3 * BLOCK // 4
    with torch.no_grad():
        return model(torch.tensor([text[start:]]))[0, -1]


def test_logits_of_a_ragged_batch_equal_uncached_ones_at_every_step(model: GPT2) -> None:
    """Also when rows leave, change places or multiply, and when their windows slide at different steps."""
    dice = torch.Generator().manual_seed(0)
    reader = Reader(model, PROMPTS, rows=6, max_new_tokens=40)
    known = [(prompt.tolist(), len(prompt)) for prompt in PROMPTS]
    with torch.inference_mode():
        logits = reader.start()
        for step in range(40):
            for row, (text, prompt) in enumerate(known):
                torch.testing.assert_close(logits[row], window_logits(model, text, prompt), rtol=0, atol=1e-5)
            rows = {5: [1, 1, 0, 3, 2, 3], 11: [4, 0, 2], 23: [2, 1]}.get(step)
            if rows is not None:
                reader.keep(rows)
                known = [known[row] for row in rows]
            ids = torch.randint(29, (len(known),), generator=dice)
            known = [([*text, token], prompt) for (text, prompt), token in zip(known, ids.tolist(), strict=True)]
            logits = reader.read(ids)


def test_padding_that_is_seen_shows(model: GPT2) -> None:
    """Planted: what follows the padded prompt, and not its last token."""
    reader = Reader(model, PROMPTS[:2], rows=2, max_new_tokens=1)
    with torch.inference_mode():
        right = reader.start()[1]
        wrong = model(torch.tensor([[5, 0, 0]]))[0, -1]
    assert (right - wrong).abs().max() > 1e-2


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_text_does_not_depend_on_its_neighbours(model: GPT2, sampling: Sampling) -> None:
    together = texts(Decoder(model, PROMPTS, sampling))
    for row, prompt in enumerate(PROMPTS):
        assert together[row] == texts(Decoder(model, [prompt], sampling, first_row=row))[0]
    assert len({tuple(text) for text in together.values()}) == len(PROMPTS)


def test_samples_of_a_prompt_share_its_reading_and_equal_single_rows(model: GPT2) -> None:
    calls: list[tuple[int, ...]] = []
    hook = model.h[0].register_forward_pre_hook(lambda _module, inputs: calls.append(tuple(inputs[0].shape[:2])))
    short = [PROMPTS[0], PROMPTS[3]]
    sampling = dataclasses.replace(DRAWN, max_new_tokens=4)
    together = texts(Decoder(model, short, sampling, samples=3))
    hook.remove()
    assert calls == [(2, 7), (6, 1), (6, 1), (6, 1)]
    for row in range(6):
        alone = dataclasses.replace(sampling, seed=row_seed(sampling.seed, row))
        assert together[row] == list(generate(model, short[row // 3], alone))
    assert len({tuple(together[row]) for row in range(3)}) == 3


def test_texts_leave_the_batch_when_they_end(model: GPT2) -> None:
    whole = texts(Decoder(model, PROMPTS, GREEDY))
    end = whole[1][4]
    expected = {row: text[: text.index(end) + 1] if end in text else text for row, text in whole.items()}
    assert len({len(text) for text in expected.values()}) > 2
    rows: list[int] = []
    hook = model.h[0].register_forward_pre_hook(lambda _module, inputs: rows.append(len(inputs[0])))
    tokens = [token for step in Decoder(model, PROMPTS, GREEDY, end_of_text=end) for token in step]
    hook.remove()
    found = {row: [token for token in tokens if token.row == row] for row in expected}
    assert {row: [token.id for token in row_tokens] for row, row_tokens in found.items()} == expected
    for row_tokens in found.values():
        assert [token.finished for token in row_tokens[:-1]] == [None] * (len(row_tokens) - 1)
        assert row_tokens[-1].finished == ("end_of_text" if row_tokens[-1].id == end else "length")
    assert rows[0] == 4
    longest = max(len(text) for text in expected.values())
    assert rows[-1] == sum(len(text) == longest for text in expected.values())


def test_a_text_can_be_stopped_from_outside(model: GPT2) -> None:
    decoder = Decoder(model, PROMPTS, GREEDY)
    found: list[list[Token]] = []
    for number, step in enumerate(decoder):
        found.append(step)
        if number == 2:
            decoder.stop(2)
    assert [token.row for token in found[2]] == [0, 1, 2, 3]
    assert [token.row for token in found[3]] == [0, 1, 3]
    whole = texts(Decoder(model, PROMPTS, GREEDY))
    assert [step[-1].id for step in found] == whole[3]


def test_log_probabilities_are_those_of_the_model(model: GPT2) -> None:
    sampling = dataclasses.replace(DRAWN, max_new_tokens=5, log_probabilities=3)
    prompt = [3, 1, 4]
    for (token,) in Decoder(model, [torch.tensor(prompt)], sampling):
        expected = window_logits(model, prompt, 3).log_softmax(-1)
        assert token.log_probability == pytest.approx(expected[token.id].item(), abs=1e-5)
        best = expected.topk(3)
        assert [pair[0] for pair in token.likeliest] == best.indices.tolist()
        assert [pair[1] for pair in token.likeliest] == pytest.approx(best.values.tolist(), abs=1e-5)
        prompt.append(token.id)
    (token,) = next(iter(Decoder(model, [torch.tensor(prompt)], DRAWN)))
    assert token.log_probability is None
    assert token.likeliest == ()


def test_a_sliding_window_is_told_once(model: GPT2) -> None:
    told: list[str] = []
    decoder = Decoder(model, PROMPTS, GREEDY, on_slide=lambda: told.append("slid"))
    steps = iter(decoder)
    next(steps)
    assert told == []
    next(steps)
    assert told == ["slid"], "the third prompt is longer than the context"
    list(steps)
    assert told == ["slid"]
    within = dataclasses.replace(GREEDY, max_new_tokens=BLOCK - 3)
    list(Decoder(model, PROMPTS[:1], within, on_slide=lambda: told.append("too early")))
    assert told == ["slid"]


@pytest.mark.parametrize("block_size", [1, 2, 3, 4])
def test_the_smallest_contexts_work(block_size: int) -> None:
    model = make_model(dataclasses.replace(CONFIG, block_size=block_size))
    found = texts(Decoder(model, PROMPTS, GREEDY))
    assert [len(found[row]) for row in range(4)] == [GREEDY.max_new_tokens] * 4


def test_beams_of_one_prompt_start_with_the_greedy_token(model: GPT2) -> None:
    """One beam is greedy decoding, past the context too; more find texts at least as likely."""
    prompt = PROMPTS[0]
    one = dataclasses.replace(GREEDY, length_penalty=0.0)
    (greedy,) = search(model, prompt, one)
    assert list(greedy.ids) == list(generate(model, prompt, GREEDY))
    beams = search(model, prompt, dataclasses.replace(one, n_beams=5, max_new_tokens=6))
    (shorter,) = search(model, prompt, dataclasses.replace(one, max_new_tokens=6))
    assert beams[0].score >= shorter.score
    assert len({beam.ids for beam in beams}) == 5
    for beam in beams:
        logits = model(torch.tensor([[*prompt.tolist(), *beam.ids]]))[0, 2:-1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor([beam.ids]).T).sum().item()
        assert beam.score == pytest.approx(expected, abs=1e-4)


def test_half_precision_equals_single_rows() -> None:
    """bfloat16 weights, with float32 attention in the cache."""
    model = make_model(CONFIG).bfloat16()
    together = Reader(model, PROMPTS, rows=4, max_new_tokens=3)
    alone = [Reader(model, [prompt], rows=1, max_new_tokens=3) for prompt in PROMPTS]
    with torch.inference_mode():
        logits, single = together.start(), [reader.start() for reader in alone]
        for _ in range(3):
            torch.testing.assert_close(logits, torch.cat(single), rtol=0, atol=0.1)
            ids = logits.argmax(-1)
            logits = together.read(ids)
            single = [reader.read(ids[row : row + 1]) for row, reader in enumerate(alone)]
    assert logits.dtype == torch.bfloat16


def test_large_weights_are_multiplied_alike_with_and_without_a_cache() -> None:
    """The shape of the smallest GPT-2 with one layer: its weights are large enough for oneDNN."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(n_layer=1)).eval()
    prompts = [torch.randint(50257, (length,)) for length in (5, 1)]
    known = [prompt.tolist() for prompt in prompts]
    reader = Reader(model, prompts, rows=2, max_new_tokens=4)
    with torch.inference_mode():
        logits = reader.start()
        for _ in range(4):
            for row, text in enumerate(known):
                with torch.inference_mode(False):
                    plain = model(torch.tensor([text]))[0, -1].detach()
                torch.testing.assert_close(logits[row], plain, rtol=0, atol=1e-5)
            ids = logits.argmax(-1)
            known = [[*text, token] for text, token in zip(known, ids.tolist(), strict=True)]
            logits = reader.read(ids)


def test_prompts_that_cannot_be_read_are_named(model: GPT2) -> None:
    with pytest.raises(UserError, match=r"^prompt 2 has no tokens"):
        Decoder(model, [torch.tensor([1]), torch.tensor([], dtype=torch.int64)], GREEDY)
    with pytest.raises(UserError, match=r"^prompt 1 .*29.* 0 to 28"):
        Decoder(model, [torch.tensor([1, 29])], GREEDY)
    with pytest.raises(UserError, match="the id -1"):
        Decoder(model, [torch.tensor([-1])], GREEDY)
    with pytest.raises(ValueError, match="n_beams: 2 is for beam search"):
        Decoder(model, PROMPTS, dataclasses.replace(GREEDY, n_beams=2))
