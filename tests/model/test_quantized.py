"""Models with int8 weights compute what a model with the rounded weights computes, in a third of its memory."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2_lightning.generation import Decoder, Sampling
from gpt2_lightning.huggingface.imported import mingpt
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.gpt2 import Linear
from gpt2_lightning.model.inference import quantized
from gpt2_lightning.model.inference.quantized import Int8Linear, quantize, quantize_rows
from tests.huggingface.networks import lively

CONFIG = GPT2Config(vocab_size=131, block_size=24, n_layer=2, n_head=5, n_embd=35)
PADDED = GPT2Config(vocab_size=131, block_size=24, n_layer=2, n_head=4, n_embd=32, pad_vocab_to_multiple_of=64)
UNTIED = GPT2Config(vocab_size=131, block_size=24, n_layer=2, n_head=4, n_embd=32, tied_head=False)


@pytest.fixture(params=["oneDNN", "float32 slices"])
def rounds_inputs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether products round their inputs: those of processors with VNNI do."""
    has_vnni = request.param == "oneDNN"
    if has_vnni and not quantized.has_vnni():
        pytest.skip("this processor has no VNNI")
    monkeypatch.setattr(quantized, "has_vnni", lambda: has_vnni)
    return has_vnni


def rounded(x: Tensor) -> Tensor:
    """Each row as whole multiples of a 127th of its largest absolute value, in float64, halves rounded up."""
    unit = x.double().abs().amax(-1, keepdim=True) / 127
    return ((x.double() / unit + 0.5).floor() * unit).nan_to_num()


def twin(model: GPT2, rounds_inputs: bool) -> GPT2:
    """The same quantization with floating-point weights and torch's own products, in float64."""
    model = copy.deepcopy(model).double()

    def round_input(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (rounded(inputs[0].float()),)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (Linear, nn.Embedding)) and module is not model.wpe:
                if not (module is model.lm_head and model.config.tied_head):
                    unit = module.weight.abs().amax(1, keepdim=True) / 127
                    module.weight.copy_(((module.weight / unit).round() * unit).nan_to_num())
                if isinstance(module, Linear) and rounds_inputs:
                    module.register_forward_pre_hook(round_input)
    return model


def greedy(model: GPT2, prompts: list[Tensor], **settings: int) -> list[list[int]]:
    sampling = Sampling(max_new_tokens=40, temperature=0)  # beyond the context, which therefore slides
    texts: list[list[int]] = [[] for _ in prompts]
    for step in Decoder(model, prompts, sampling, **settings):
        for token in step:
            texts[token.row].append(token.id)
    return texts


def test_rows_are_rounded_to_multiples_of_a_127th_of_their_largest_value() -> None:
    weight = torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0], [-254.0, 3.1, 100.0]])
    multiples, scales = quantize_rows(weight)
    assert multiples.tolist() == [[127, -50, 0], [0, 0, 0], [-127, 2, 50]]
    torch.testing.assert_close(scales, torch.tensor([0.01, 0.0, 2.0]))


@pytest.mark.parametrize("shape", [(768, 1000), (35, 131), (1, 1), (2050, 7)])
def test_a_layer_multiplies_the_rounded_weight(shape: tuple[int, int], rounds_inputs: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(*shape)
    nn.init.normal_(layer.bias)
    x = torch.randint(-127, 128, (3, 2, shape[0])) + 0.8 * torch.rand(3, 2, shape[0]) - 0.4  # not on a border
    x[..., 0] = 127.0
    x = x * torch.tensor([0.01, 1.0, 100.0]).view(3, 1, 1)
    x[1, 1] = 0
    found = Int8Linear(layer)(x)
    multiples, scales = quantize_rows(layer.weight.detach())
    inputs = rounded(x) if rounds_inputs else x.double()
    expected = F.linear(inputs, multiples.double() * scales.double().unsqueeze(1), layer.bias.double()).detach()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert found[1, 1].equal(layer.bias), "a row of zeros gives the bias"


def test_the_largest_products_do_not_overflow(rounds_inputs: bool) -> None:
    layer = Linear(4096, 64, bias=False)
    nn.init.ones_(layer.weight)
    torch.testing.assert_close(Int8Linear(layer)(torch.ones(2, 4096)), torch.full((2, 64), 4096.0))
    torch.testing.assert_close(Int8Linear(layer)(-torch.ones(2, 4096)), torch.full((2, 64), -4096.0))


def test_a_row_does_not_depend_on_the_others_of_its_batch(rounds_inputs: bool) -> None:
    layer = Int8Linear(Linear(35, 131))
    x = torch.randn(8, 35) * torch.logspace(-3, 3, 8).unsqueeze(1)
    for together, row in zip(layer(x), x, strict=True):
        torch.testing.assert_close(together, layer(row), rtol=0, atol=1e-5 * float(row.abs().max()))


@pytest.mark.parametrize("config", [CONFIG, PADDED, UNTIED], ids=["tied", "padded", "untied"])
def test_a_model_writes_what_the_rounded_model_writes(config: GPT2Config, rounds_inputs: bool) -> None:
    model = lively(config)
    reference = twin(model, rounds_inputs)
    quantize(model)
    prompts = [torch.tensor([5, 3, 120]), torch.tensor([7]), torch.arange(20)]
    with torch.no_grad():
        found, expected = model(prompts[2].unsqueeze(0)), reference(prompts[2].unsqueeze(0))
        scale = float(expected.abs().max())
        if not rounds_inputs:
            torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * scale)
            assert greedy(model, prompts) == greedy(reference, prompts)
        # An input on the border of two multiples may be rounded to either.
        assert float((found - expected).abs().mean()) < 1e-2 * scale
    assert greedy(model, prompts) == [text for prompt in prompts for text in greedy(model, [prompt])]


def test_a_wrong_scale_shows(rounds_inputs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_wrong_scale(weight: Tensor) -> tuple[Tensor, Tensor]:
        multiples, scales = quantize_rows(weight)
        scales[len(scales) // 2] *= 1.05
        return multiples, scales

    monkeypatch.setattr(quantized, "quantize_rows", with_a_wrong_scale)
    with pytest.raises(AssertionError, match="not close"):
        test_a_layer_multiplies_the_rounded_weight((35, 131), rounds_inputs)


def test_weights_take_a_third_of_the_memory(rounds_inputs: bool) -> None:
    model = GPT2(GPT2Config(n_layer=2, n_head=4, n_embd=256, vocab_size=1000, block_size=64)).eval()
    before = sum(tensor.nbytes for tensor in model.parameters())
    quantize(model)
    layers = [module for module in model.modules() if isinstance(module, Int8Linear)]
    assert len(layers) == 9
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    assert sum(held.values()) + sum(layer.in_features * layer.out_features for layer in layers) < before / 3
    assert max(parameter.numel() for parameter in model.parameters()) == model.wpe.weight.numel(), "no weight is left"


def test_features_of_generation_and_evaluation_work(rounds_inputs: bool) -> None:
    model = lively(CONFIG)
    exact = copy.deepcopy(model)
    quantize(model)
    ids, targets = torch.randint(131, (2, 2, 20), generator=torch.Generator().manual_seed(3))
    document_ids = (torch.arange(20) >= 9).long().expand(2, 20)
    for arguments in ({}, {"document_ids": document_ids}):
        with torch.no_grad():
            loss, exact_loss = (network(ids, targets, **arguments) for network in (model, exact))
        torch.testing.assert_close(loss, exact_loss, rtol=0.02, atol=0)
    assert torch.isfinite(model(ids)).all(), "gradients may be enabled: there are none"
    sampling = Sampling(max_new_tokens=30, temperature=0.8, top_k=20, log_probabilities=3)
    rows = {token.row for step in Decoder(model, [ids[0]], sampling, samples=3) for token in step}
    assert rows == {0, 1, 2}


def test_a_trained_model_keeps_its_answers_and_its_perplexity(shared_data: Path, rounds_inputs: bool) -> None:
    model = mingpt.read_json_file(shared_data / "gpt-nano-sort" / "gpt-nano-sort-model.json").model.eval()
    digits = torch.cartesian_prod(*[torch.arange(3)] * 6)
    ids = torch.cat((digits, digits.sort(dim=1).values), dim=1)
    targets = ids[:, 1:].clone()
    targets[:, :5] = -100
    perplexity = functools.partial(_perplexity, ids=ids[:, :-1], targets=targets)
    before = perplexity(model)
    quantize(model)
    assert perplexity(model) < 1.005 * before
    with torch.no_grad():
        sorts = model(ids[:, :-1])[:, 5:].argmax(-1).eq(targets[:, 5:]).all(dim=1)
    assert sorts.float().mean() > 0.99


@torch.no_grad()
def _perplexity(model: GPT2, ids: Tensor, targets: Tensor) -> float:
    return float((model(ids, targets) / targets.ge(0).sum()).exp())


def test_a_torch_without_onednn_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not quantized.has_vnni()
    assert isinstance(Int8Linear(Linear(4, 3)).product, quantized.SlicedProduct)
