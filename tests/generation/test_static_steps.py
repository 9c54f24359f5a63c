"""Steps that are one function of tensors choose the tokens of eager steps, as they are and replayed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Decoder, Sampling, decoder, filters, static_steps
from gpt2_lightning.generation.history import History
from gpt2_lightning.generation.sampling import Sampler
from gpt2_lightning.generation.static_steps import StaticSteps, StepState, static_step
from gpt2_lightning.model import GPT2, KVCache
from gpt2_lightning.model.inference import compiled, cuda_graph
from tests.generation.random_model import BLOCK, CONFIG, make_model
from tests.generation.replayed import Replayed, refuse_reads, tensors
from tests.generation.sampled_texts import END, PROMPTS, SETTINGS, sampling, tokens_of

CAPTURES: dict[str, Callable[[Any], Any] | None] = {"as it is": None, "replayed": Replayed}


@pytest.fixture(scope="module")
def model() -> GPT2:
    return make_model(CONFIG)


def static(tokens: Decoder, capture: Callable[[Any], Any] | None) -> Decoder:
    """A decoder that chooses tokens by static steps."""
    steps = StaticSteps(tokens._reader, tokens._sampler, capture)
    tokens._chosen = lambda logits: steps.run(logits, tokens.sampling.max_new_tokens, tokens._ended)  # type: ignore[method-assign]
    return tokens


@pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES)
@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_equal_those_of_eager_steps(model: GPT2, name: str, capture: Callable[[Any], Any] | None) -> None:
    """Two samples each of ragged prompts, which end at different steps, past the context."""
    settings = sampling(name)
    expected = tokens_of(Decoder(model, PROMPTS, settings, samples=2, end_of_text=END))
    found = tokens_of(static(Decoder(model, PROMPTS, settings, samples=2, end_of_text=END), capture))
    assert found.keys() == expected.keys()
    for row, text in expected.items():
        assert [(token.id, token.finished) for token in found[row]] == [(token.id, token.finished) for token in text]
        for token, other in zip(found[row], text, strict=True):
            assert token.log_probability == pytest.approx(other.log_probability, abs=1e-5)
            assert [pair[0] for pair in token.likeliest] == [pair[0] for pair in other.likeliest]


def test_texts_of_the_comparison_end_at_different_steps(model: GPT2) -> None:
    lengths = [len(text) for text in tokens_of(Decoder(model, PROMPTS, sampling(), 2, END)).values()]
    assert len(set(lengths)) > 3
    assert max(lengths) == 3 * BLOCK


def position_of_row_1_off_by_one(*arguments: Any) -> Tensor:
    model, ids, positions, cache = arguments
    return compiled.decode_static(model, ids, positions + (torch.arange(len(ids)) == 1), cache)


def position_of_the_host(*arguments: Any) -> Tensor:
    model, ids, _, cache = arguments
    return compiled.decode_static(model, ids, torch.tensor(cache.lengths), cache)


@pytest.mark.parametrize(
    ("planted", "capture", "shows"),
    [
        (position_of_row_1_off_by_one, None, True),
        (position_of_the_host, None, False),
        (position_of_the_host, Replayed, True),
    ],
)
def test_a_planted_error_changes_the_texts(
    model: GPT2, monkeypatch: pytest.MonkeyPatch, planted: Any, capture: Any, shows: bool
) -> None:
    """A position that the host computes is right as the code runs, and stale as it is replayed."""
    settings = sampling("greedy", 8)
    prompts = PROMPTS[:2]
    expected = tokens_of(Decoder(model, prompts, settings))
    monkeypatch.setattr(static_steps, "decode_static", planted)
    assert (tokens_of(static(Decoder(model, prompts, settings), capture)) != expected) == shows


def test_the_next_step_is_launched_before_a_token_is_awaited(model: GPT2) -> None:
    launched: list[int] = []

    def capture(step: Any) -> Any:
        def launch() -> Any:
            launched.append(len(launched))
            return step()

        return launch

    settings = sampling("greedy", 5)
    counts = [len(launched) for _ in static(Decoder(model, PROMPTS[:1], settings), capture)]
    assert counts == [1, 2, 3, 4, 4], "the last token is not read"


def test_a_batch_is_captured_anew_when_half_of_it_has_finished(model: GPT2) -> None:
    rows: list[int] = []

    def capture(step: Any) -> Any:
        rows.append(len(step.args[-1].ids))
        return step

    texts = static(Decoder(model, [PROMPTS[0]] * 5, sampling("greedy", 9)), capture)
    seen = []
    for number, step in enumerate(texts):
        seen.append([token.row for token in step])
        for row in {0: [4], 2: [1, 0], 3: [2]}.get(number, []):
            texts.stop(row)
    assert seen == [[0, 1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2, 3], [2, 3], *[[3]] * 5]
    assert rows == [5, 2, 1]


@pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES)
def test_a_window_that_slides_is_told_once_and_only_for_texts_that_go_on(model: GPT2, capture: Any) -> None:
    told: list[str] = []

    def texts(max_new_tokens: int, end: int | None = None) -> list[int]:
        slid = Decoder(
            model, PROMPTS[:1], sampling("greedy", max_new_tokens), 1, end, on_slide=lambda: told.append("slid")
        )
        return [token.id for step in static(slid, capture) for token in step]

    room = BLOCK - len(PROMPTS[0])
    found = texts(room + 1)
    assert told == []
    if found[-1] not in found[:-1]:
        texts(3 * BLOCK, found[-1])
        assert told == [], "the text ended with the token that was not read"
    texts(3 * BLOCK)
    assert told == ["slid"]


@pytest.mark.parametrize("block_size", [1, 2, 3, 4])
@pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES)
def test_the_smallest_contexts_work(block_size: int, capture: Any) -> None:
    model = make_model(dataclasses.replace(CONFIG, block_size=block_size))
    settings = sampling("drawn", 9)
    assert tokens_of(static(Decoder(model, PROMPTS, settings, 1, END), capture)) == tokens_of(
        Decoder(model, PROMPTS, settings, 1, END)
    )


@pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES)
def test_a_text_without_a_next_token_is_an_error(model: GPT2, capture: Any) -> None:
    settings = dataclasses.replace(sampling("greedy", 40), no_repeat_ngram_size=1)
    with pytest.raises(UserError, match="no_repeat_ngram_size=1 leaves no token"):
        list(static(Decoder(model, PROMPTS[:1], settings), capture))


class WithoutHost(TorchDispatchMode):
    """Fails at operations that touch a tensor on the host, or read one there."""

    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        refuse_reads(func, args)
        result = func(*args, **(kwargs or {}))
        for tensor in tensors((args, kwargs, result)):
            assert tensor.is_meta, f"{func} reads or writes a tensor on the host"
        self.operations += 1
        return result


def refuse_numbers(*_: Any, **__: Any) -> None:
    raise AssertionError("a tensor is made of numbers of the host, which are copied")


def step_without_values(settings: Sampling) -> int:
    """Run a step on tensors without values, and count its operations; where the host needs a value, it fails."""
    with torch.device("meta"), torch.inference_mode():
        ids = torch.zeros(3, dtype=torch.int64)
        cache = KVCache(CONFIG, 3, ids.device, torch.float32)
        cache.lengths = [4, 1, 7]
        history = History([ids.new_zeros(5)] * 3)
        history.make_room()
        reader: Any = SimpleNamespace(model=GPT2(CONFIG).eval(), cache=cache, history=history)
        sampler = Sampler(settings, 3, "cpu", ends=[END])
        noise = None if settings.temperature == 0 else torch.empty(3, CONFIG.vocab_size)
        state = StepState(ids, torch.zeros_like(ids), noise)
        static_step(reader, sampler, state)  # the warm-up, in which the ids of settings get to the device
        with WithoutHost() as mode, pytest.MonkeyPatch.context() as patch:
            for function in ("tensor", "as_tensor", "from_numpy"):
                patch.setattr(torch, function, refuse_numbers)
            chosen, logits = static_step(reader, sampler, state)
    assert chosen.ids.shape == (3,)
    assert logits.shape == (3, CONFIG.vocab_size)
    return mode.operations


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_reads_no_value_on_the_host_and_copies_none_to_the_device(name: str) -> None:
    assert step_without_values(sampling(name)) > 30


@pytest.mark.parametrize(
    "planted",
    [
        lambda logits, k: logits.masked_fill(logits < logits.max().item() - k, float("-inf")),
        lambda logits, k: logits + torch.tensor([float(k)], device=logits.device),
        lambda logits, k: logits.index_put((logits > k,), torch.zeros((), device=logits.device)),
        lambda logits, k: logits if (logits > k).any() else -logits,
    ],
    ids=["reads a maximum", "copies a number", "writes by a mask", "branches"],
)
def test_a_filter_that_could_not_be_captured_is_found(monkeypatch: pytest.MonkeyPatch, planted: Any) -> None:
    monkeypatch.setitem(filters.FILTERS, "top_k", planted)
    with pytest.raises((RuntimeError, AssertionError), match=r"meta tensors|on the host|of the host"):
        step_without_values(sampling("top_k"))


def test_steps_are_static_on_a_gpu_and_compiled_and_eager_with_choices(
    model: GPT2, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []

    class Used(StaticSteps):
        def __init__(self, reader: Any, sampler: Any, capture: Any) -> None:
            used.append(capture)
            super().__init__(reader, sampler, capture)

    monkeypatch.setattr(decoder, "StaticSteps", Used)
    drawn, choices = sampling(), dataclasses.replace(sampling(), choices_ids=[[1, 2]])
    plain = tokens_of(Decoder(model, PROMPTS, drawn))
    assert used == []
    monkeypatch.setattr(torch, "compile", lambda step: step)
    with compiled.compiled(model):
        assert tokens_of(Decoder(model, PROMPTS, drawn)) == plain
        assert used == [None], "compiled code is not captured on a CPU"
        list(Decoder(model, PROMPTS, choices))
        assert used == [None]


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """torch.cuda without a GPU: what was done with streams and graphs, in order."""
    done: list[str] = []
    cuda_graph._capture_stream.cache_clear()

    class Context:
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            self.name = settings.get("capture_error_mode", "stream")

        def __enter__(self) -> None:
            done.append(f"enter {self.name}")

        def __exit__(self, *_: object) -> None:
            done.append(f"leave {self.name}")

    def stream(*_: object) -> Any:
        return SimpleNamespace(wait_stream=lambda other: done.append("wait"))

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", Context)
    monkeypatch.setattr(torch.cuda, "graph", Context)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: done.append("replay")))
    return done


def test_a_function_is_warmed_up_then_captured_then_replayed(fake_cuda: list[str]) -> None:
    def run() -> int:
        fake_cuda.append("run")
        return len(fake_cuda)

    function = cuda_graph.CUDAGraphFunction(run, torch.device("cuda"))
    function()
    assert fake_cuda == ["wait", "enter stream", "run", "leave stream", "wait"]
    fake_cuda.clear()
    captured = function()
    within = ["enter stream", "enter thread_local", "run", "leave thread_local", "leave stream"]
    assert fake_cuda == [*within, "replay"], "a capture runs nothing: it is followed by a replay"
    fake_cuda.clear()
    assert [function(), function()] == [captured, captured], "results stay where they are"
    assert fake_cuda == ["replay", "replay"]


def test_what_cannot_be_captured_runs_as_it_is(
    fake_cuda: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    capturing = False

    @contextlib.contextmanager
    def graph(*_: Any, **__: Any) -> Iterator[None]:
        nonlocal capturing
        capturing = True
        try:
            yield
        except RuntimeError:
            capturing = False
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904  # as in torch

    def run() -> None:
        if capturing:
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with TORCH_USE_CUDA_DSA")
        fake_cuda.append("run")

    monkeypatch.setattr(torch.cuda, "graph", graph)
    function = cuda_graph.CUDAGraphFunction(run, torch.device("cuda"))
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            function()
    assert fake_cuda.count("run") == 4
    assert "replay" not in fake_cuda
    assert [record.getMessage() for record in caplog.records] == [
        "decoding runs without a CUDA graph, since its step cannot be captured: "
        "operation not permitted when stream is capturing"
    ]


def test_nothing_is_captured_under_autocast(fake_cuda: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    function = cuda_graph.CUDAGraphFunction(lambda: fake_cuda.append("run"), torch.device("cuda"))
    for _ in range(3):
        function()
    assert fake_cuda == ["run"] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures a CUDA graph, which needs an NVIDIA GPU")
@pytest.mark.parametrize("name", SETTINGS)
def test_captured_tokens_equal_eager_ones_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = make_model(CONFIG).cuda(), sampling(name)
    found = tokens_of(Decoder(model, PROMPTS, settings, 2, END))
    monkeypatch.setattr(decoder, "_WORTH_CAPTURING", 10**9)
    expected = tokens_of(Decoder(model, PROMPTS, settings, 2, END))
    assert {row: [token.id for token in text] for row, text in found.items()} == {
        row: [token.id for token in text] for row, text in expected.items()
    }
