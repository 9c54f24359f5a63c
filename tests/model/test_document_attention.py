"""Attention within documents by FlashAttention's operator: equal, in logits and gradients, to that with a dense mask.

The operator has kernels for CUDA alone. Here it has one for the CPU, which reads the same boundaries.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gpt2_lightning.model import GPT2, GPT2Config, documents
from gpt2_lightning.model import gpt2 as page
from gpt2_lightning.model.documents import DocumentMask, document_attention, has_flash_attention, positions_and_mask
from gpt2_lightning.model.gpt2 import AttentionContext, Block
from gpt2_lightning.model.kernels import KERNELS
from tests.model import varlen_reference
from tests.model.sizes import BLOCK, V

LENGTHS = {
    "several": [[5, 1, 7], [2, 11, 0]],
    "single tokens": [[1] * BLOCK, [1] * BLOCK],
    "whole windows": [[BLOCK], [BLOCK]],
    "boundaries at the ends": [[1, BLOCK - 1], [BLOCK - 1, 1]],
}
IDS = torch.randint(V, (2, BLOCK), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", autouse=True)
def operator() -> Iterator[None]:
    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", varlen_reference.forward, "CPU")
    library.impl("_flash_attention_backward", varlen_reference.backward, "CPU")
    yield
    library._destroy()


@pytest.fixture(autouse=True)
def calls() -> list[dict]:
    varlen_reference.calls.clear()
    return varlen_reference.calls


@pytest.fixture
def on_flash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "needs_tensor", lambda *_: False)


def numbered(lengths: list[list[int]]) -> Tensor:
    return torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths])


def count(lengths: list[list[int]]) -> int:
    return sum(length > 0 for row in lengths for length in row)


def logits_and_gradients(model: GPT2, document_ids: Tensor, n_documents: int | None = None) -> list[Tensor]:
    logits = model(IDS, document_ids=document_ids, n_documents=n_documents)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return [logits.detach(), *torch.autograd.grad(logits, list(model.parameters()), weights.to(logits.dtype))]


@pytest.mark.parametrize("recomputes", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_logits_and_gradients_equal_those_with_a_mask(
    model: GPT2, lengths: list[list[int]], recomputes: bool, monkeypatch: pytest.MonkeyPatch, calls: list[dict]
) -> None:
    model.gradient_checkpointing = recomputes
    expected = logits_and_gradients(model, numbered(lengths))
    assert not calls
    monkeypatch.setattr(page, "needs_tensor", lambda *_: False)
    found = logits_and_gradients(model, numbered(lengths), count(lengths))
    assert len(calls) == (2 if recomputes else 1) * model.config.n_layer
    assert expected[1].abs().max() > 1e-3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_single_precision_and_bfloat16_agree_to_their_precision(lengths: list[list[int]], dtype: torch.dtype) -> None:
    """With the explicit kernel and a dense mask in float64."""
    qkv = torch.randn(3, 2, 4, BLOCK, 8, generator=torch.Generator().manual_seed(3)).to(dtype).requires_grad_()
    exact = qkv.detach().double().requires_grad_()
    _, mask = positions_and_mask(numbered(lengths), dense=False)
    _, attn_mask = positions_and_mask(numbered(lengths))
    assert isinstance(mask, DocumentMask)
    y, expected = document_attention(*qkv, mask), KERNELS["explicit"].attention(*exact, attn_mask=attn_mask)
    assert y.dtype == dtype
    for found, wanted in ((y, expected), (of_squares(y, qkv), of_squares(expected, exact))):
        assert (found - wanted).abs().max() < 4 * torch.finfo(dtype).eps * wanted.abs().max()


def of_squares(y: Tensor, x: Tensor) -> Tensor:
    """Gradient of the sum of the squares of y."""
    return torch.autograd.grad(y.square().sum(), x)[0]


@pytest.mark.usefixtures("on_flash")
@pytest.mark.parametrize("positions", ["learned"], indirect=True)
@pytest.mark.parametrize("fault", ["boundary", "not causal"])
def test_a_planted_fault_shows(model: GPT2, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document_ids = numbered(LENGTHS["several"])
    right = logits_and_gradients(model, document_ids)[0]
    if fault == "boundary":
        document_ids[0, 5] = 0
    else:
        weights = varlen_reference._weights
        monkeypatch.setattr(varlen_reference, "_weights", lambda q, k, _: weights(q, k, False))
    assert (logits_and_gradients(model, document_ids)[0] - right).abs().max() > 1e-2


@pytest.mark.usefixtures("on_flash")
@pytest.mark.parametrize("positions", ["learned"], indirect=True)
def test_recorded_weights_come_from_a_mask(model: GPT2, calls: list[dict]) -> None:
    record: list[Tensor] = []
    model(IDS, document_ids=numbered(LENGTHS["several"]), attn_weights=record)
    assert len(record) == model.config.n_layer
    assert not calls


def test_boundaries_by_hand() -> None:
    document_ids = torch.tensor([[4, 4, 9, 9, 9], [9, 1, 2, 2, 2]])
    for n_documents, expected in (
        (None, [0, 2, 5, 6, 7, 10]),
        (5, [0, 2, 5, 6, 7, 10]),
        (7, [0, 2, 5, 6, 7, 10, 10, 10]),
    ):
        positions, mask = positions_and_mask(document_ids, dense=False, n_documents=n_documents)
        assert isinstance(mask, DocumentMask)
        assert mask.cu_seqlens.tolist() == expected, "documents beyond the last are empty"
        assert mask.cu_seqlens.dtype == torch.int32
        assert positions.tolist() == [[0, 1, 0, 1, 2], [0, 0, 0, 1, 2]]


def test_queries_are_not_copied_and_dropout_is_passed_on(calls: list[dict]) -> None:
    qkv = torch.randn(2, BLOCK, 3, 4, 8)
    _, mask = positions_and_mask(numbered(LENGTHS["several"]), dense=False)
    assert isinstance(mask, DocumentMask)
    y = document_attention(*qkv.permute(2, 0, 3, 1, 4), mask, 0.25)
    assert y.shape == (2, 4, BLOCK, 8)
    assert y.transpose(1, 2).is_contiguous(), "heads are concatenated without a copy"
    assert calls == [{"offsets": [0, 5, 6, 13, 15, 26], "dropout_p": 0.25, "shares_memory": True}]


def test_a_block_compiles_as_one_graph_for_any_number_of_documents() -> None:
    """Twice: for the first number, and for all others."""
    torch.compiler.reset()
    block, graphs = Block(GPT2Config(V, BLOCK, n_layer=1, n_head=2, n_embd=16), 0), []

    def note(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(block, backend=note, fullgraph=True)
    x = torch.randn(2, BLOCK, 16)
    for lengths in LENGTHS.values():
        positions, mask = positions_and_mask(numbered(lengths), dense=False)
        context = AttentionContext(positions, mask)
        torch.testing.assert_close(compiled(x, context), block(x, context))
    assert len(graphs) <= 2


class Operators(TorchDispatchMode):
    """Collects the names of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch's signature
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The compute capability of a GPU that is not there."""
    found = [(9, 0)]
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: found[0])
    return found


def test_a_gpu_takes_the_boundaries_without_waiting(capability: list[tuple[int, int]]) -> None:
    """Fake tensors of CUDA; a value that the CPU needs would be an error."""
    with torch.device("meta"):
        model = GPT2(GPT2Config(V, BLOCK, n_layer=2, n_head=2, n_embd=16))
    with FakeTensorMode(), torch.no_grad(), torch.device("cuda"):
        weights = {name: torch.empty(p.shape, dtype=torch.bfloat16) for name, p in model.named_parameters()}
        ids = torch.empty(2, BLOCK, dtype=torch.int64)
        with Operators() as operators:
            torch.func.functional_call(model, weights, (ids,), {"document_ids": ids, "n_documents": 5})
    assert operators.names.count("aten::_flash_attention_forward") == 2
    assert "aten::_local_scalar_dense" not in operators.names
    assert not any("scaled_dot_product" in name for name in operators.names)


def test_where_a_gpu_has_flash_attention(capability: list[tuple[int, int]]) -> None:
    cuda, half = torch.device("cuda"), torch.bfloat16
    assert has_flash_attention(cuda, half, 64)
    assert has_flash_attention(cuda, torch.float16, 64)
    assert not has_flash_attention(cuda, torch.float32, 64)
    assert not has_flash_attention(cuda, half, 65)
    assert not has_flash_attention(cuda, half, 256)
    assert not has_flash_attention(torch.device("cpu"), half, 64)
    capability[0] = (7, 5)
    assert not has_flash_attention(cuda, half, 64)


@pytest.mark.usefixtures("capability")
def test_the_mask_follows_autocast_and_the_kernels() -> None:
    with FakeTensorMode():
        weight = torch.empty(1, device="cuda")
    config = GPT2Config(n_head=2, n_embd=16)
    assert documents.needs_tensor(weight, config), "float32"
    assert not documents.needs_tensor(weight.bfloat16(), config)
    assert documents.needs_tensor(weight.bfloat16(), GPT2Config(n_head=2, n_embd=16, kernels="explicit"))
    torch.set_autocast_enabled("cuda", True)
    try:
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        assert not documents.needs_tensor(weight, config)
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", torch.float16)


def test_gradients_of_a_gpu_have_the_shapes_of_its_inputs() -> None:
    """On the meta device, whose kernels know the operator's real signature and that of its backward pass."""
    qkv = torch.empty(2, BLOCK, 3, 4, 8, device="meta", dtype=torch.bfloat16, requires_grad=True)
    mask = DocumentMask(torch.empty(6, device="meta", dtype=torch.int32))
    document_attention(*qkv.permute(2, 0, 3, 1, 4), mask, 0.1).float().sum().backward()
    assert qkv.grad is not None
    assert qkv.grad.shape == qkv.shape
