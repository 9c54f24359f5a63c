"""Adapters that PEFT loads with our logits, adapters of PEFT's that load here, and what is said of the rest.

Random A and B, large enough to move the logits by more than 0.1: a wrong scale or a wrong row shows.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2Config as TheirConfig
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import config_to_huggingface, from_huggingface, to_huggingface
from gpt2_lightning.huggingface.peft.adapters import CONFIG as SETTINGS
from gpt2_lightning.huggingface.peft.adapters import WEIGHTS, PeftAdapter, read, write
from gpt2_lightning.model import GPT2, cross_entropy
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.adapters import adapter_state, add_lora, load_adapter, merge, set_adapter
from gpt2_lightning.model.lora.layers import LoRASpec
from tests.huggingface.networks import CONFIG, lively, some_ids

peft = pytest.importorskip("peft")

# PEFT tells of tied weights and Linear layers where the head is adapted; transformers of its own old names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
TARGETS = [
    *(["qkv"], ["q"], ["k"], ["q", "v"], ["q", "k", "v"], ["attn_out"], ["mlp_up"], ["mlp_down"], ["head"]),
    *(["q", "v", "attn_out"], ["qkv", "attn_out", "mlp_up", "mlp_down"]),
    ["q", "k", "v", "attn_out", "mlp_up", "mlp_down", "head"],
]
every_spec = pytest.mark.parametrize(
    "spec",
    [
        LoRASpec(rank=3, alpha=2, dropout=0.1, targets=targets, rank_stabilised=rank_stabilised)
        for targets in TARGETS
        for rank_stabilised in (False, True)
    ],
    ids=lambda spec: "-".join(spec.targets) + ("-rs" if spec.rank_stabilised else ""),
)


def with_values(model: GPT2, spec: LoRASpec) -> dict[str, Tensor]:
    """A new adapter with random values in A and B."""
    add_lora(model, spec)
    generator = torch.Generator().manual_seed(3)
    for tensor in adapter_state(model).values():
        tensor.copy_(0.25 * torch.randn(tensor.shape, generator=generator))
    return adapter_state(model)


def theirs(tied_head: bool = True) -> GPT2LMHeadModel:
    config = dataclasses.replace(CONFIG, tied_head=tied_head)
    network = GPT2LMHeadModel(TheirConfig(**config_to_huggingface(config), bos_token_id=1, eos_token_id=1))
    network.load_state_dict(to_huggingface(lively(config)), strict=False)
    network.tie_weights()
    return network.eval()


def written(tmp_path: Path, spec: LoRASpec, model: GPT2) -> Path:
    write(PeftAdapter(spec, with_values(model, spec), base="a/base"), tmp_path / "adapter")
    return tmp_path / "adapter"


@every_spec
def test_peft_computes_our_logits_with_our_adapter(tmp_path: Path, spec: LoRASpec) -> None:
    model = lively()
    folder = written(tmp_path, spec, model)
    adapted = peft.PeftModel.from_pretrained(theirs(), folder)
    ids = some_ids()
    with torch.no_grad():
        logits = adapted(ids).logits
        torch.testing.assert_close(logits, model(ids), **TOLERANCE)
        set_adapter(model, None)
        assert (logits - model(ids)).abs().max() > 0.1


@pytest.mark.parametrize("change", [{"alpha_pattern": {}}, {"use_rslora": True}, {"lora_alpha": 3}], ids=str)
def test_a_wrong_setting_in_the_folder_shows_in_the_logits(tmp_path: Path, change: dict) -> None:
    model = lively()
    folder = written(tmp_path, LoRASpec(rank=3, alpha=2, targets=["q", "v", "attn_out"]), model)
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(settings | change))
    adapted = peft.PeftModel.from_pretrained(theirs(), folder)
    with torch.no_grad():
        assert (adapted(some_ids()).logits - model(some_ids())).abs().max() > 1e-2


@pytest.mark.parametrize("targets", [["q", "v", "attn_out"], ["qkv", "mlp_up", "mlp_down"], ["qkv", "head"]])
def test_merged_weights_are_those_that_peft_merges(tmp_path: Path, targets: list[str]) -> None:
    base = dataclasses.replace(CONFIG, tied_head="head" not in targets)
    model = lively(base)
    folder = written(tmp_path, LoRASpec(rank=3, alpha=2, targets=targets), model)
    merged = peft.PeftModel.from_pretrained(theirs(base.tied_head), folder).merge_and_unload()
    merge(model)
    expected, changed = merged.state_dict(), 0
    for name, tensor in model.state_dict().items():
        if ".adapters." in name:
            continue
        there = expected[name if name == "lm_head.weight" else f"transformer.{name}"]
        is_conv1d = there.dim() == 2 and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        torch.testing.assert_close(there.t() if is_conv1d else there, tensor, **TOLERANCE)
        changed += not torch.equal(tensor, lively(base).state_dict()[name])
    assert changed == {"v": 4, "mlp_up": 6, "head": 3}[targets[1]]


@every_spec
def test_an_adapter_is_the_same_there_and_back(tmp_path: Path, spec: LoRASpec) -> None:
    model = lively()
    found = read(written(tmp_path, spec, model), lively())
    assert found.spec == spec
    assert (found.base, found.score) == ("a/base", None)
    assert found.state.keys() == adapter_state(model).keys()
    for name, tensor in adapter_state(model).items():
        assert torch.equal(found.state[name], tensor), name


def test_the_folder_holds_what_other_readers_expect(tmp_path: Path) -> None:
    spec = LoRASpec(rank=3, alpha=2, targets=["q", "v", "attn_out"])
    folder = written(tmp_path, spec, lively())
    assert {file.name for file in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    settings = json.loads((folder / SETTINGS).read_text())
    assert settings == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "a/base",
        "r": 3,
        "lora_alpha": 2,
        "rank_pattern": {"c_attn": 6},
        "alpha_pattern": {"c_attn": 4},
        "lora_dropout": 0.0,
        "use_rslora": False,
        "target_modules": ["attn.c_attn", "attn.c_proj"],
        "modules_to_save": None,
        "fan_in_fan_out": True,
        "bias": "none",
        "inference_mode": True,
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(folder / WEIGHTS).items()}
    assert shapes == {
        f"base_model.model.transformer.h.{i}.attn.{name}.weight": shape
        for i in range(2)
        for name, shape in {
            "c_attn.lora_A": (6, 35),
            "c_attn.lora_B": (105, 6),
            "c_proj.lora_A": (3, 35),
            "c_proj.lora_B": (35, 3),
        }.items()
    }
    with safe_open(folder / WEIGHTS, "pt") as file:
        assert file.metadata()["format"] == "pt"


def test_the_files_may_be_read_by_whom_any_other_may(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(PeftAdapter(LoRASpec(), {}), tmp_path / "adapter")
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "adapter").iterdir()} == {0o640}


def test_c_attn_alone_has_its_summed_rank_without_patterns(tmp_path: Path) -> None:
    settings = json.loads(
        (written(tmp_path, LoRASpec(rank=3, alpha=2, targets=["q", "v"]), lively()) / SETTINGS).read_text()
    )
    assert (settings["r"], settings["lora_alpha"], settings["rank_pattern"]) == (6, 4, {})


def of_peft(folder: Path, network: nn.Module | None = None, **settings: Any) -> nn.Module:
    """An adapter of PEFT's own making with values, saved."""
    settings = {"r": 3, "lora_alpha": 2, "fan_in_fan_out": True, "task_type": "CAUSAL_LM", **settings}
    torch.manual_seed(5)
    adapted = peft.get_peft_model(network or theirs(), peft.LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.25)
    adapted.save_pretrained(folder)
    return adapted.eval()


@pytest.mark.parametrize("rank_stabilised", [False, True])
@pytest.mark.parametrize(
    ("modules", "targets"),
    [
        (None, ["qkv"]),
        (["c_attn", "c_fc"], ["qkv", "mlp_up"]),
        (["c_attn", "c_proj"], ["qkv", "attn_out", "mlp_down"]),
        (r".*\.mlp\.c_proj", ["mlp_down"]),
        (["c_attn", "lm_head"], ["qkv", "head"]),
        ("all-linear", ["qkv", "attn_out", "mlp_up", "mlp_down"]),
    ],
    ids=str,
)
def test_an_adapter_of_peft_computes_the_same_here(
    tmp_path: Path, modules: list[str] | str | None, targets: list[str], rank_stabilised: bool
) -> None:
    adapted = of_peft(tmp_path, target_modules=modules, use_rslora=rank_stabilised, lora_dropout=0.2)
    model = lively()
    found = read(tmp_path, model)
    assert found.spec == LoRASpec(3, 2, 0.2, targets, rank_stabilised)
    load_adapter(model, found.state, found.spec)
    ids = some_ids()
    with torch.no_grad():
        torch.testing.assert_close(model(ids), adapted(ids).logits, **TOLERANCE)
        set_adapter(model, None)
        assert (model(ids) - adapted(ids).logits).abs().max() > 0.1


def test_loss_and_gradients_are_pefts(tmp_path: Path) -> None:
    adapted = of_peft(tmp_path, target_modules=["c_attn", "c_proj", "c_fc"])
    model, ids = lively(), some_ids()
    found = read(tmp_path, model)
    load_adapter(model, found.state, found.spec)
    loss = cross_entropy(model(ids)[:, :-1], ids[:, 1:])
    loss.backward()
    expected = adapted(ids, labels=ids).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, **TOLERANCE)
    gradients = {
        name.removeprefix("base_model.model.transformer.").replace(".default.weight", ""): parameter.grad
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }
    ours = {
        name.replace(".adapters.default", "").rsplit(".", 1)[0]: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert ours.keys() == gradients.keys()
    assert len(ours) == 2 * 4 * 2
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-4, atol=1e-5)
        assert gradient is not None
        assert gradient.abs().max() > 1e-3


def test_a_classifiers_adapter_goes_to_peft_with_its_head(tmp_path: Path) -> None:
    torch.manual_seed(2)
    classifier = Classifier(lively(), labels=3).eval()
    nn.init.normal_(classifier.score.weight)
    spec = LoRASpec(rank=3, alpha=2, targets=["q", "v"])
    state = with_values(classifier.transformer, spec)
    write(PeftAdapter(spec, state, score=classifier.score.weight), tmp_path / "adapter")
    adapted = peft.PeftModel.from_pretrained(their_classifier(), tmp_path / "adapter")
    ids = some_ids()
    logits = classifier(ids, torch.ones_like(ids, dtype=torch.bool))
    with torch.no_grad():
        torch.testing.assert_close(adapted(ids).logits, logits, **TOLERANCE)
    found = read(tmp_path / "adapter", lively())
    assert found.score is not None
    assert torch.equal(found.score, classifier.score.weight)


def test_a_classifiers_adapter_comes_from_peft_with_its_head(tmp_path: Path) -> None:
    adapted = of_peft(tmp_path, their_classifier(), target_modules=["c_attn"], task_type="SEQ_CLS")
    found = read(tmp_path, lively())
    classifier = Classifier(lively(), labels=3).eval()
    load_adapter(classifier.transformer, found.state, found.spec)
    assert found.score is not None
    with torch.no_grad():
        classifier.score.weight.copy_(found.score)
        ids = some_ids()
        logits = classifier(ids, torch.ones_like(ids, dtype=torch.bool))
        torch.testing.assert_close(logits, adapted(ids).logits, **TOLERANCE)


def test_a_classifiers_folder_without_its_head_is_refused(tmp_path: Path) -> None:
    of_peft(tmp_path, their_classifier(), target_modules=["c_attn"], task_type="SEQ_CLS")
    tensors = load_file(tmp_path / WEIGHTS)
    del tensors["base_model.model.score.weight"]
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=r"score\.weight: missing, but adapter_config\.json"):
        read(tmp_path, lively())


def their_classifier() -> GPT2ForSequenceClassification:
    """Its pad is a token that the texts do not have."""
    fields = {**config_to_huggingface(CONFIG), "vocab_size": 23, "num_labels": 3, "pad_token_id": 22}
    torch.manual_seed(4)
    network = GPT2ForSequenceClassification(TheirConfig(**fields, bos_token_id=1, eos_token_id=1))
    network.load_state_dict(to_huggingface(lively()), strict=False)
    return network.eval()


def test_an_adapter_keeps_its_dtype(tmp_path: Path) -> None:
    spec = LoRASpec(rank=3, targets=["q", "v"])
    folder = written(tmp_path, spec, lively().to(torch.bfloat16))
    assert {tensor.dtype for tensor in load_file(folder / WEIGHTS).values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in read(folder, lively()).state.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"peft_type": "IA3"}, "peft_type: 'IA3' is not supported, only 'LORA'"),
        ({"use_dora": True}, "use_dora: True is not supported"),
        ({"bias": "lora_only"}, "bias: 'lora_only' is not supported, only 'none'"),
        ({"lora_bias": True}, "lora_bias: True is not supported"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa' is not supported"),
        ({"modules_to_save": ["wte"]}, "modules_to_save: ['wte'] is not supported"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"something_new": "x"}, "something_new: 'x' is not supported"),
        ({"r": "three"}, "r: 'three' has the wrong type"),
        ({"r": 4}, "lora_A has shape (3, 35), lora_B (105, 3), and adapter_config.json another rank"),
        ({"rank_pattern": {"h.1.attn.c_attn": 4}}, "h.1.attn.c_attn: lora_A has shape (3, 35)"),
        ({"lora_dropout": 1.5}, "dropout: 1.5 is out of range"),
        ({"lora_alpha": -1}, "alpha: -1.0 is out of range"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_we_cannot_express_are_refused_by_name(tmp_path: Path, change: dict, fragment: str) -> None:
    of_peft(tmp_path, target_modules=["c_attn"])
    settings = json.loads((tmp_path / SETTINGS).read_text())
    read(tmp_path, lively())
    (tmp_path / SETTINGS).write_text(json.dumps(settings | change))
    with pytest.raises(UserError) as caught:
        read(tmp_path, lively())
    assert fragment in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    if "not supported" in fragment:
        assert "rank_pattern, alpha_pattern and layers_to_transform" in str(caught.value)
        assert "merge_and_unload" in str(caught.value)


def without_a_matrix(tensors: dict[str, Tensor]) -> None:
    del tensors["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"]


def with_another_layer(tensors: dict[str, Tensor]) -> None:
    tensors["base_model.model.transformer.wte.lora_embedding_A"] = torch.zeros(3, 23)


def with_another_embedding(tensors: dict[str, Tensor]) -> None:
    tensors["base_model.model.transformer.wte.weight"] = torch.zeros(23, 35)


def with_nothing(tensors: dict[str, Tensor]) -> None:
    tensors.clear()


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (without_a_matrix, "h.0.attn.c_attn: lora_A and lora_B are not both there"),
        (with_another_layer, "wte.lora_embedding_A: not part of an adapter of attn.c_attn, attn.c_proj, mlp.c_fc"),
        (with_another_embedding, "wte.weight: differs from that weight of the base"),
        (with_nothing, "no layer is adapted"),
    ],
)
def test_tensors_that_we_cannot_express_are_refused_by_name(
    tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], fragment: str
) -> None:
    of_peft(tmp_path, target_modules=["c_attn"])
    tensors = load_file(tmp_path / WEIGHTS)
    damage(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(UserError) as caught:
        read(tmp_path, lively())
    assert fragment in str(caught.value)


@pytest.mark.parametrize("rank_stabilised", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["c_attn"], "layers_to_transform": [1]},
        {"target_modules": ["h.1.attn.c_attn"]},
        {"target_modules": ["c_attn", "c_fc"], "rank_pattern": {"c_fc": 5}},
        {"target_modules": ["c_attn", "c_fc"], "rank_pattern": {"h.0.attn.c_attn": 2}, "alpha_pattern": {"c_fc": 7}},
        {"target_modules": ["c_attn", "lm_head"], "rank_pattern": {"lm_head": 1}, "layers_to_transform": 0},
    ],
    ids=str,
)
def test_layers_of_their_own_rank_and_alpha_compute_the_same_here(
    tmp_path: Path, settings: dict[str, Any], rank_stabilised: bool
) -> None:
    adapted = of_peft(tmp_path, use_rslora=rank_stabilised, **settings)
    model, ids = lively(), some_ids()
    found = read(tmp_path, model)
    load_adapter(model, found.state, found.spec)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), adapted(ids).logits, **TOLERANCE)
        set_adapter(model, None)
        assert (model(ids) - adapted(ids).logits).abs().max() > 0.1


def test_parts_that_change_more_than_is_noted_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, LoRASpec(rank=3, targets=["q", "v"]), lively())
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"][50, 2] = 1.0
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", "targets": "q,v"})
    with pytest.raises(UserError, match=r"h\.1\.attn\.c_attn: lora_B changes other outputs than q and v"):
        read(folder, lively())


def test_folders_without_their_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no adapter_config\.json"):
        read(tmp_path, lively())
    folder = written(tmp_path, LoRASpec(rank=3), lively())
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors \([\d,]+ bytes\) is damaged or cut off"):
        read(folder, lively())
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match="is missing; adapters are read from safetensors files alone"):
        read(folder, lively())
    with pytest.raises(UserError, match="cannot be written: File exists"):
        write(PeftAdapter(LoRASpec(), {}), folder)


def test_a_folder_over_another_base_class_is_read(tmp_path: Path) -> None:
    """Adapters of a GPT2Model have no `transformer.` in their names."""
    adapted = of_peft(tmp_path, theirs().transformer, target_modules=["c_attn"], task_type="FEATURE_EXTRACTION")
    model, ids = from_huggingface(to_huggingface(lively()), CONFIG).eval(), some_ids()
    found = read(tmp_path, model)
    load_adapter(model, found.state, found.spec)
    with torch.no_grad():
        torch.testing.assert_close(model.features(ids), adapted(ids).last_hidden_state, **TOLERANCE)
