"""What the exchange with Hugging Face accepts and writes, key by key, and what it says of the rest."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel, LlamaConfig

from gpt2_lightning.huggingface import config_from_huggingface, config_to_huggingface, from_huggingface, to_huggingface
from gpt2_lightning.model import GPT2, GPT2Config
from tests.huggingface.networks import CONFIG, lively, some_ids


@pytest.fixture
def model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model


def assert_same_weights(found: GPT2, expected: GPT2) -> None:
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def faults_of(weights: dict[str, Tensor], config: GPT2Config = CONFIG) -> set[str]:
    with pytest.raises(ValueError, match=r"^the weights do not fit this GPT-2:\n") as caught:
        from_huggingface(weights, config)
    return {line.strip() for line in str(caught.value).splitlines()[1:]}


def test_exported_keys_and_shapes_are_theirs(model: GPT2) -> None:
    block = {
        **dict.fromkeys(["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"], (35,)),
        "attn.c_attn.weight": (35, 105),
        "attn.c_attn.bias": (105,),
        "attn.c_proj.weight": (35, 35),
        "attn.c_proj.bias": (35,),
        "mlp.c_fc.weight": (35, 140),
        "mlp.c_fc.bias": (140,),
        "mlp.c_proj.weight": (140, 35),
        "mlp.c_proj.bias": (35,),
    }
    expected = {f"transformer.h.{i}.{name}": shape for i in range(2) for name, shape in block.items()}
    expected |= {"transformer.wte.weight": (23, 35), "transformer.wpe.weight": (13, 35)}
    expected |= {"transformer.ln_f.weight": (35,), "transformer.ln_f.bias": (35,)}
    assert {name: tuple(tensor.shape) for name, tensor in to_huggingface(model).items()} == expected


def test_all_four_projections_are_transposed(model: GPT2) -> None:
    weights = to_huggingface(model)
    block = model.h[1]
    for name, linear in [
        ("attn.c_attn", block.attn.c_attn),
        ("attn.c_proj", block.attn.c_proj),
        ("mlp.c_fc", block.mlp.c_fc),
        ("mlp.c_proj", block.mlp.c_proj),
    ]:
        assert torch.equal(weights[f"transformer.h.1.{name}.weight"], linear.weight.T)


def test_export_and_import_copy(model: GPT2) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = to_huggingface(model)
    again = from_huggingface(weights, CONFIG)
    assert all(tensor.is_contiguous() for tensor in weights.values())
    for tensor in weights.values():
        tensor.zero_()
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor), name
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("with_head", [True, False])
def test_the_hubs_style_without_prefix_and_with_masks_is_read(model: GPT2, with_head: bool) -> None:
    weights = {name.removeprefix("transformer."): tensor for name, tensor in to_huggingface(model).items()}
    for i in range(2):
        weights[f"h.{i}.attn.bias"] = torch.ones(1, 1, 13, 13).tril()
        weights[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    if with_head:
        weights["lm_head.weight"] = model.wte.weight.detach()
    assert_same_weights(from_huggingface(weights, CONFIG), model)


def test_masks_are_ignored_under_the_prefix_too(model: GPT2) -> None:
    weights = {**to_huggingface(model), "transformer.h.0.attn.bias": torch.ones(1, 1, 13, 13).tril()}
    assert_same_weights(from_huggingface(weights, CONFIG), model)


def test_an_imported_tied_head_stays_tied(model: GPT2) -> None:
    imported = from_huggingface(to_huggingface(model), CONFIG)
    assert imported.lm_head.weight is imported.wte.weight


def test_missing_misshapen_and_extra_tensors_are_all_listed(model: GPT2) -> None:
    weights = to_huggingface(model)
    del weights["transformer.h.1.mlp.c_fc.bias"], weights["transformer.ln_f.weight"]
    weights["transformer.wpe.weight"] = torch.zeros(11, 35)
    weights["transformer.h.0.ln_1.bias"] = torch.zeros(34)
    weights["transformer.h.2.ln_1.bias"] = torch.zeros(35)
    weights["score.weight"] = torch.zeros(2, 35)
    assert faults_of(weights) == {
        "h.1.mlp.c_fc.bias: missing",
        "ln_f.weight: missing",
        "wpe.weight: has shape (11, 35), needs (13, 35)",
        "h.0.ln_1.bias: has shape (34,), needs (35,)",
        "h.2.ln_1.bias: not part of this architecture",
        "score.weight: not part of this architecture; it is a classifier's head, which is not read",
    }


def test_an_untransposed_projection_is_listed(model: GPT2) -> None:
    name = "transformer.h.0.attn.c_attn.weight"
    weights = to_huggingface(model)
    (fault,) = faults_of({**weights, name: weights[name].t()})
    assert fault.startswith("h.0.attn.c_attn.weight: has shape (")
    assert "35" in fault
    assert "105" in fault


def test_a_projection_with_a_third_dimension_is_listed(model: GPT2) -> None:
    name = "transformer.h.0.attn.c_attn.weight"
    weights = to_huggingface(model)
    (fault,) = faults_of({**weights, name: weights[name].unsqueeze(0)})
    assert fault.startswith("h.0.attn.c_attn.weight: has shape (1, ")


def test_an_empty_state_dict_misses_everything() -> None:
    expected = {f"{name}: missing" for name in GPT2(CONFIG).state_dict()}
    assert len(expected) > 20
    assert faults_of({}) >= expected - {"lm_head.weight: missing"}


def test_an_untied_head_must_be_there(model: GPT2) -> None:
    untied = dataclasses.replace(CONFIG, tied_head=False)
    assert faults_of(to_huggingface(model), untied) == {"lm_head.weight: missing"}


def test_a_head_of_its_own_does_not_overwrite_the_embedding_it_is_tied_to(model: GPT2) -> None:
    weights = {**to_huggingface(model), "lm_head.weight": torch.zeros(23, 35)}
    (fault,) = faults_of(weights)
    assert fault.startswith("lm_head.weight: ")


def test_a_missing_qkv_bias_is_written_as_zeros() -> None:
    model = GPT2(dataclasses.replace(CONFIG, qkv_bias=False))
    weights = to_huggingface(model)
    assert weights.keys() == to_huggingface(GPT2(CONFIG)).keys()
    for i in range(2):
        assert torch.equal(weights[f"transformer.h.{i}.attn.c_attn.bias"], torch.zeros(105))
    read = from_huggingface(weights, CONFIG)
    assert torch.equal(read.h[1].attn.c_attn.weight, model.h[1].attn.c_attn.weight)


def test_sinusoidal_positions_are_written_as_their_table() -> None:
    config = dataclasses.replace(CONFIG, positions="sinusoidal")
    model = lively(config)
    weights = to_huggingface(model)
    assert torch.equal(weights["transformer.wpe.weight"], model.wpe.table)
    theirs = GPT2LMHeadModel(TheirConfig(**config_to_huggingface(config))).eval()
    theirs.load_state_dict(weights, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(theirs(some_ids()).logits, model(some_ids()), rtol=0, atol=1e-5)
        again = from_huggingface(weights, CONFIG).eval()
        assert torch.equal(again(some_ids()), model(some_ids()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_weights_keep_their_dtype_both_ways(model: GPT2, dtype: torch.dtype) -> None:
    there = to_huggingface(model.to(dtype))
    assert {tensor.dtype for tensor in there.values()} == {dtype}
    again = from_huggingface(there, CONFIG)
    assert {tensor.dtype for tensor in again.state_dict().values()} == {dtype}
    assert_same_weights(again, model)


def test_weights_of_mixed_dtypes_are_kept_in_the_widest(model: GPT2) -> None:
    weights = {
        name: tensor.to(torch.float32 if ".ln_" in name else torch.bfloat16)
        for name, tensor in to_huggingface(model).items()
    }
    again = to_huggingface(from_huggingface(weights, CONFIG))
    for name, tensor in again.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, weights[name].float())


def test_other_dtypes_are_listed(model: GPT2) -> None:
    weights = to_huggingface(model)
    name = "transformer.h.0.ln_1.bias"
    expected = {"h.0.ln_1.bias: has dtype float64, float32, float16, bfloat16 are allowed"}
    assert faults_of({**weights, name: weights[name].double()}) == expected


def test_tensors_with_values_that_are_no_numbers_are_listed_and_counted(model: GPT2) -> None:
    weights = to_huggingface(model)
    weights["transformer.ln_f.bias"][[3, 7, 11]] = torch.tensor([float("nan"), float("inf"), float("-inf")])
    weights["transformer.h.1.mlp.c_fc.weight"][5] = float("nan")
    assert faults_of(weights) == {
        "ln_f.bias: 3 of 35 values are NaN or infinite",
        "h.1.mlp.c_fc.weight: 140 of 4,900 values are NaN or infinite",
    }


def test_the_hubs_configuration_of_gpt2_is_ours() -> None:
    """The fields that OpenAI's smallest model has on the hub."""
    fields = {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 50256,
        "embd_pdrop": 0.1,
        "eos_token_id": 50256,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 1024,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
        "resid_pdrop": 0.1,
        "vocab_size": 50257,
    }
    assert config_from_huggingface(fields) == GPT2Config(embd_pdrop=0.1, attn_pdrop=0.1, resid_pdrop=0.1)


def test_every_field_of_a_configuration_survives_the_way_there_and_back() -> None:
    config = GPT2Config(
        vocab_size=23,
        block_size=13,
        n_layer=3,
        n_head=5,
        n_embd=35,
        tied_head=False,
        embd_pdrop=0.11,
        attn_pdrop=0.13,
        resid_pdrop=0.17,
        layer_norm_epsilon=3e-5,
        initializer_range=0.07,
        gelu="exact",
    )
    theirs = TheirConfig(**config_to_huggingface(config))
    assert config_from_huggingface(theirs.to_dict()) == config


def test_their_configuration_carries_what_other_readers_need() -> None:
    theirs = TheirConfig(**config_to_huggingface(CONFIG)).to_dict()
    assert (theirs["n_ctx"], theirs["n_positions"]) == (13, 13)
    assert theirs["activation_function"] == "gelu_new"
    assert theirs["tie_word_embeddings"] is True
    assert theirs["layer_norm_epsilon"] == 1e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_function", "relu"),
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("add_cross_attention", True),
        ("n_inner", 139),
        ("architectures", ["GPT2ForSequenceClassification"]),
        ("architectures", ["GPT2DoubleHeadsModel"]),
        ("quantization_config", {"bits": 4}),
        ("n_head", 6),
    ],
)
def test_a_configuration_that_ours_cannot_express_is_refused_by_name(field: str, value: object) -> None:
    """Such weights have our names and shapes, and would load and answer otherwise than they do there."""
    fields = {**TheirConfig(**config_to_huggingface(CONFIG)).to_dict(), field: value}
    with pytest.raises(ValueError, match=field):
        config_from_huggingface(fields)


def test_another_architecture_is_named() -> None:
    fields = {**LlamaConfig(hidden_size=32, num_attention_heads=2).to_dict(), "architectures": ["LlamaForCausalLM"]}
    with pytest.raises(ValueError, match=r"'llama'.*'gpt2'"):
        config_from_huggingface(fields)


def test_an_mlp_of_the_usual_width_may_be_stated() -> None:
    fields = {**TheirConfig(**config_to_huggingface(CONFIG)).to_dict(), "n_inner": 140}
    assert config_from_huggingface(fields) == CONFIG


def test_dropout_that_a_file_leaves_out_is_theirs() -> None:
    fields = {"n_embd": 35, "n_head": 5}
    ours, theirs = config_from_huggingface(fields), TheirConfig(**fields)
    assert (ours.embd_pdrop, ours.attn_pdrop, ours.resid_pdrop) == (
        theirs.embd_pdrop,
        theirs.attn_pdrop,
        theirs.resid_pdrop,
    )


@pytest.mark.parametrize("tied", [True, False])
def test_a_padded_vocabulary_is_exported_without_its_padding(tied: bool) -> None:
    padded = lively(dataclasses.replace(CONFIG, tied_head=tied, pad_vocab_to_multiple_of=8))
    with torch.no_grad():
        for weight in (padded.wte.weight, padded.lm_head.weight):
            weight[CONFIG.vocab_size :] = 100.0
    exported, fields = to_huggingface(padded), config_to_huggingface(padded.config)
    theirs = GPT2LMHeadModel(TheirConfig(**fields)).eval()
    left_out = ["lm_head.weight"] if tied else []
    assert theirs.load_state_dict(exported, strict=False) == (left_out, [])
    assert theirs.config.vocab_size == len(exported["transformer.wte.weight"]) == CONFIG.vocab_size
    again = from_huggingface(exported, config_from_huggingface(fields))
    ids = some_ids()
    expected = padded(ids)
    torch.testing.assert_close(theirs(ids).logits, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(again(ids), expected, atol=1e-5, rtol=0)
    assert again.config.vocab_rows == CONFIG.vocab_size
