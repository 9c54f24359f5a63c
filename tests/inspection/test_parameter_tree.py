"""Sums of parameters by module."""

from __future__ import annotations

from gpt2_lightning.inspection.parameters.tensors import summarize_tensors
from gpt2_lightning.inspection.parameters.tree import ModuleNode, module_tree, part_of
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.lora.freezing import freeze
from gpt2_lightning.model.size import count_parameters

CONFIG = GPT2Config(7, 5, 3, 2, 4)


def child(module: ModuleNode, *names: str) -> ModuleNode:
    for name in names:
        (module,) = [inside for inside in module.children if inside.name == name]
    return module


def test_alike_blocks_are_one_with_the_sum_of_all() -> None:
    root = module_tree(summarize_tensors(GPT2(CONFIG)))
    assert root.count == count_parameters(CONFIG)
    assert [inside.name for inside in root.children] == ["wte", "wpe", "h", "ln_f"]
    blocks = child(root, "h", "0 to 2")
    assert (blocks.times, blocks.count) == (3, 3 * (12 * 4 * 4 + 13 * 4))
    attention = child(blocks, "attn", "c_attn")
    assert [(one.name, one.shape) for one in attention.tensors] == [
        ("h.0.attn.c_attn.weight", (12, 4)),
        ("h.0.attn.c_attn.bias", (12,)),
    ]
    assert attention.count == 12 * 4 + 12


def test_blocks_that_differ_stay_apart() -> None:
    model = GPT2(CONFIG)
    freeze(model, "first_n_blocks", 1)
    root = module_tree(summarize_tensors(model))
    assert [(inside.name, inside.times) for inside in child(root, "h").children] == [("0", 1), ("1 to 2", 2)]
    assert root.count == count_parameters(CONFIG)


def test_a_tensor_belongs_to_its_block_or_module() -> None:
    assert [part_of(name) for name in ("wte.weight", "h.11.mlp.c_fc.bias", "ln_f.bias", "weight")] == [
        "wte",
        "h.11",
        "ln_f",
        "weight",
    ]
