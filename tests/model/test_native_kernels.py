"""The kernels in C: against torch in float64, with a planted error, and where torch's functions take their place."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.kernels import native

needs_compiler = pytest.mark.skipif(native.library() is None, reason="there is no C compiler with OpenMP")
CONFIG = GPT2Config(vocab_size=11, block_size=16, n_layer=2, n_head=2, n_embd=12, kernels="native")


@pytest.fixture
def compiled_again() -> Iterator[None]:
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def inputs(*shape: int) -> Tensor:
    """Numbers from where GELU is 0 to where it is the identity, and around 0."""
    x = torch.linspace(-12, 12, shape[0] * shape[1]).view(shape)
    return x.requires_grad_()


def errors(x: Tensor) -> tuple[float, float]:
    """Return the largest errors of output and gradient, relative to torch's in float64."""
    of_y = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    y = native.gelu(x, approximate="tanh")
    assert "TanhGELU" in type(y.grad_fn).__name__
    (of_x,) = torch.autograd.grad(y, x, of_y)
    exact = x.detach().double().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    (expected_of_x,) = torch.autograd.grad(expected, exact, of_y.double())
    return float((y - expected).detach().abs().max()), float((of_x - expected_of_x).abs().max())


@needs_compiler
@pytest.mark.parametrize("shape", [(3, 7), (300, 200)], ids=["one thread", "several threads"])
def test_gelu_and_its_gradient_are_those_of_float64(shape: tuple[int, int]) -> None:
    of_output, of_gradient = errors(inputs(*shape))
    assert of_output < 2e-6
    assert of_gradient < 2e-5


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    """Bit for bit, as a resumed run repeats them."""
    x, threads, found = inputs(300, 200), torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            y = native.gelu(x, approximate="tanh")
            found.append((y.detach(), *torch.autograd.grad(y, x, x.detach())))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))


@needs_compiler
def test_a_planted_error_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled_again: None) -> None:
    """With a coefficient of 0.0447 instead of 0.044715, GELU differs in the fifth digit."""
    planted = tmp_path / "planted.c"
    planted.write_text(native._SOURCE.read_text().replace("0.07135481627260025f", "0.0713308743f"))
    monkeypatch.setattr(native, "_SOURCE", planted)
    assert errors(inputs(30, 20))[0] > 2e-6


@needs_compiler
def test_strided_inputs_and_gradients() -> None:
    x = inputs(30, 20)
    y = native.gelu(x.t()[::2], approximate="tanh")
    assert y.shape == (10, 30)
    (of_x,) = torch.autograd.grad(y.t()[:, ::5].sum(), x)
    (expected,) = torch.autograd.grad(F.gelu(x.t()[::2], approximate="tanh").t()[:, ::5].sum(), x)
    torch.testing.assert_close(of_x, expected, rtol=0, atol=2e-5)


@needs_compiler
def test_values_that_are_not_finite_stay_visible() -> None:
    x = torch.tensor([[float("nan"), float("inf"), 1e30, -1e4, -0.0]], requires_grad=True)
    y = native.gelu(x, approximate="tanh")
    assert y[0].isnan().tolist() == [True, False, False, False, False]
    assert y[0, 1:].tolist() == pytest.approx([float("inf"), 1e30, 0.0, 0.0], rel=1e-6, abs=1e-30)
    assert torch.autograd.grad(y.sum(), x)[0].isnan()[0, 0]


@needs_compiler
@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients_of_a_network_are_those_of_torch(checkpointing: bool) -> None:
    ids = torch.randint(11, (3, 16), generator=torch.Generator().manual_seed(0))
    found = []
    for kernels in ("native", "fused"):
        torch.manual_seed(0)
        model = GPT2(GPT2Config(**{**vars(CONFIG), "kernels": kernels}))
        model.gradient_checkpointing = checkpointing
        loss = model(ids, ids)
        loss.backward()
        found.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_elsewhere_it_is_torch() -> None:
    """Without a gradient, in other dtypes, exact, without values, and traced by torch.compile."""
    x = inputs(3, 7)
    for given, approximate in ((x.detach(), "tanh"), (x.double(), "tanh"), (x.bfloat16(), "tanh"), (x, "none")):
        y = native.gelu(given, approximate=approximate)
        assert "TanhGELU" not in type(y.grad_fn).__name__
        assert torch.equal(y, F.gelu(given, approximate=approximate))
    with FakeTensorMode():
        y = native.gelu(torch.ones(3, 7, requires_grad=True), approximate="tanh")
        assert (y.shape, type(y.grad_fn).__name__) == ((3, 7), "GeluBackward0")
    captured = []

    def record(graph: torch.fx.GraphModule, _: object) -> object:
        captured.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch.compile(lambda x: native.gelu(x, approximate="tanh"), backend=record, fullgraph=True)(x)  # type: ignore[arg-type]  # a backend
    assert any("gelu" in target for target in captured)


def test_without_a_compiler_it_is_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compiled_again: None
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    x = inputs(3, 7)
    with caplog.at_level(logging.INFO):
        y = native.gelu(x, approximate="tanh")
    assert type(y.grad_fn).__name__ == "GeluBackward0"
    assert "no-such-compiler" in caplog.text
