"""The loss for GPUs, computed here on a CPU: as it is written, compiled to C++, and traced on fake CUDA tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from gpt2_lightning.model import fused_loss, loss
from gpt2_lightning.model.gpt2 import Linear
from gpt2_lightning.model.lora.layers import LoRALinear, LoRASpec, LowRank
from gpt2_lightning.model.loss import IGNORED, chunked_cross_entropy

V, PADDING, C = 31, 9, 6
BATCH, TOKENS = 3, 17


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel as it is written, on slices of two rows; the chunks have eight."""
    monkeypatch.setattr(fused_loss, "_kernel", fused_loss._in_slices)
    monkeypatch.setattr(fused_loss, "LARGEST_LOGITS", 8 * (V + PADDING))
    monkeypatch.setattr(fused_loss, "_EAGER_LOGITS", 2 * (V + PADDING))


def head_of(dtype: torch.dtype = torch.float32, padding: int = PADDING) -> Linear:
    """Rows of padding are large, and would win if they took part."""
    torch.manual_seed(0)
    head = Linear(C, V, bias=False, padding=padding).to(dtype)
    nn.init.constant_(head.weight.detach()[V:], 100.0)
    return head


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(1)
    targets = torch.randint(V, (BATCH, TOKENS), generator=dice)
    targets[0, ::3] = IGNORED
    targets[2] = IGNORED
    return torch.randn(BATCH, TOKENS, C, generator=dice).mul_(5).to(dtype).requires_grad_(), targets


def expected(head: Linear, features: Tensor, targets: Tensor) -> list[Tensor]:
    """Loss and gradients by torch in float64, from all logits at once."""
    x, weight = (tensor.detach().double().requires_grad_() for tensor in (features, head.weight))
    logits = F.linear(x, weight)[..., :V]
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return [total.detach(), *torch.autograd.grad(total / 7, (x, weight))]


def found(head: Linear, features: Tensor, targets: Tensor) -> list[Tensor]:
    total = loss._fused_cross_entropy(V, head.weight, features, targets)
    return [total.detach(), *torch.autograd.grad(total / 7, (features, head.weight))]


def check(ours: list[Tensor], exact: list[Tensor], rtol: float, atol: float) -> None:
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("padding", [0, PADDING])
def test_loss_and_gradients_are_those_of_torch_in_float64(padding: int) -> None:
    head, (features, targets) = head_of(padding=padding), batch()
    ours, exact = found(head, features, targets), expected(head, features, targets)
    check(ours, exact, rtol=1e-5, atol=1e-5)
    assert all(tensor.abs().max() > 0.1 for tensor in exact)
    assert not ours[2][V:].any(), "padding has no gradient"


def test_a_planted_error_is_seen() -> None:
    head, (features, targets) = head_of(), batch()
    ours = found(head, features, targets)
    targets[1, 3] = (targets[1, 3] + 1) % V
    with pytest.raises(AssertionError):
        check(ours, expected(head, features, targets), rtol=1e-5, atol=1e-5)


def test_autocast_rounds_the_logits_and_not_the_results() -> None:
    head, (features, targets) = head_of(), batch()
    exact = expected(head, features, targets)
    with torch.autocast("cpu", torch.bfloat16):
        ours = found(head, features, targets)
    assert [tensor.dtype for tensor in ours] == [torch.float32] * 3
    check(ours, exact, rtol=2e-2, atol=5e-2)
    assert not torch.allclose(ours[0].double(), exact[0], rtol=1e-6), "bfloat16 was in use"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_lower_precision_get_gradients_of_their_dtype(dtype: torch.dtype) -> None:
    head, (features, targets) = head_of(dtype), batch(dtype)
    ours = found(head, features, targets)
    assert [tensor.dtype for tensor in ours] == [torch.float32, dtype, dtype]
    check(ours, expected(head, features, targets), rtol=2e-2, atol=5e-2)


def test_gradients_are_computed_only_where_they_are_required() -> None:
    head, (features, targets) = head_of(), batch()
    total, of_features, of_weight = expected(head, features, targets)
    head.weight.requires_grad_(False)
    (loss._fused_cross_entropy(V, head.weight, features, targets) / 7).backward()
    torch.testing.assert_close(features.grad.double(), of_features, rtol=1e-5, atol=1e-5)  # type: ignore[union-attr]
    head.weight.requires_grad_(True)
    (loss._fused_cross_entropy(V, head.weight, features.detach(), targets) / 7).backward()
    torch.testing.assert_close(head.weight.grad.double(), of_weight, rtol=1e-5, atol=1e-5)  # type: ignore[union-attr]
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            without = loss._fused_cross_entropy(V, head.weight, features, targets)
        assert without.item() == pytest.approx(total.item(), rel=1e-6)
        assert not without.requires_grad


def test_chunks_hold_no_more_logits_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def kernel(logits: Tensor, targets: Tensor, n_classes: int) -> Tensor:
        shapes.append(tuple(logits.shape))
        return fused_loss._in_slices(logits, targets, n_classes)

    monkeypatch.setattr(fused_loss, "_kernel", kernel)
    found(head_of(), *batch())
    assert shapes == [(8, V + PADDING)] * 6 + [(3, V + PADDING)]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_every_operation_exists_for_cuda(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """By fake tensors, which have shapes and dtypes and no values."""
    monkeypatch.setattr(fused_loss, "_kernel", lambda logits, targets, n_classes: logits.float().sum(1))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: precision)
    called: list[torch.dtype] = []
    monkeypatch.setattr(torch, "addmm", lambda *_, out_dtype, out: called.append(out_dtype))
    with FakeTensorMode():
        weight = torch.empty(V + PADDING, C, device="cuda", requires_grad=True)
        features = torch.empty(BATCH * TOKENS, C, device="cuda", requires_grad=True)
        targets = torch.empty(BATCH * TOKENS, device="cuda", dtype=torch.int64)
        with torch.no_grad():
            total, gradients = fused_loss.fused_loss_and_gradients(V, targets, features, weight)
    assert total.device.type == "cuda"
    for gradient, of in zip(gradients, (features, weight), strict=True):
        assert gradient is not None
        assert (gradient.shape, gradient.dtype, gradient.device) == (of.shape, torch.float32, of.device)
    assert called == ([] if precision is torch.float32 else [torch.float32] * 7)


def test_a_product_is_added_in_float32_by_an_operation_that_is_for_cuda_alone() -> None:
    """So this is all that a CPU shows of it: torch understands the call, and has no kernel for a CPU."""
    total, factor = torch.zeros(4, 4), torch.zeros(4, 4, dtype=torch.bfloat16)
    with pytest.raises(NotImplementedError, match=r"aten::addmm.dtype_out.*CPU"):
        torch.addmm(total, factor, factor, out_dtype=torch.float32, out=total)
    fused_loss._add_product(total, factor + 2, factor + 3)
    assert (total == 24).all()


def test_a_head_on_cuda_has_the_fused_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    head, (features, targets) = head_of(), batch()
    monkeypatch.setattr(loss, "_fused_cross_entropy", lambda *_: "fused")
    assert chunked_cross_entropy(head, features, targets) != "fused"
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_cuda = torch.empty(features.shape, device="cuda")
    assert chunked_cross_entropy(head, on_cuda, targets) == "fused"


def test_heads_with_an_adapter_or_a_bias_have_the_loss_of_any_module() -> None:
    adapted = LoRALinear(head_of())
    adapted.adapters["default"] = LowRank(adapted.weight[:V], LoRASpec(rank=2), ["head"])
    assert loss._is_matrix(head_of())
    assert not loss._is_matrix(adapted)
    assert not loss._is_matrix(nn.Linear(C, V))
    assert not loss._is_matrix(nn.Sequential(head_of()))


def kernel_with(backend: Callable[..., object]) -> fused_loss._Kernel:
    kernel = fused_loss._Kernel()
    kernel._call = torch.compile(fused_loss.loss_in_place, backend=backend)
    return kernel


def logits_and_targets(rows: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(rows)
    targets = torch.randint(V, (rows,), generator=dice)
    targets[::5] = IGNORED
    return torch.randn(rows, V + PADDING, generator=dice).mul_(3).to(dtype), targets


def test_a_compiler_that_fails_is_reported_once_and_the_loss_is_right(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> object:
        raise OSError("there is no C compiler")

    monkeypatch.setattr(fused_loss, "_kernel", kernel_with(fails))
    head, (features, targets) = head_of(), batch()
    with caplog.at_level(logging.WARNING):
        ours = found(head, features, targets)
    check(ours, expected(head, features, targets), rtol=1e-5, atol=1e-5)
    (message,) = caplog.messages
    assert "the loss is not compiled" in message
    assert "there is no C compiler" in message


def test_other_errors_are_not_taken_for_the_compilers() -> None:
    kernel = fused_loss._Kernel()
    kernel._call = partial(_out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        kernel(*logits_and_targets(4), V)
    assert not issubclass(torch.OutOfMemoryError, BackendCompilerFailed)


def _out_of_memory(*_: object) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.filterwarnings("ignore")
def test_one_graph_serves_every_number_of_rows() -> None:
    torch._dynamo.reset()
    counters.clear()
    kernel = kernel_with("aot_eager")  # type: ignore[arg-type]  # torch's name of a backend
    for rows in (37, 50, 8):
        logits, targets = logits_and_targets(rows)
        values = fused_loss._in_slices(logits.clone(), targets, V)
        torch.testing.assert_close(kernel(logits, targets, V), values)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_the_compiled_kernel_is_that_of_torch_in_float64(dtype: torch.dtype, atol: float) -> None:
    """Made by inductor's C++ backend. A bfloat16 gradient is rounded once, to 8 bits of at most 1."""
    torch._dynamo.reset()
    counters.clear()
    kernel = fused_loss._Kernel()
    for rows in (37, 50):
        logits, targets = logits_and_targets(rows, dtype)
        exact = logits[:, :V].double().requires_grad_()
        losses = F.cross_entropy(exact, targets, ignore_index=IGNORED, reduction="none")
        losses.sum().backward()
        ours = kernel(logits, targets, V)
        torch.testing.assert_close(ours.double(), losses.detach(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits[:, :V].double(), exact.grad, rtol=0, atol=atol)
        assert not logits[:, V:].any()
    assert counters["stats"]["unique_graphs"] == 1
    assert counters["inductor"], "inductor was in use"
