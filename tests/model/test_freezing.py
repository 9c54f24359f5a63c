"""What trains under each choice, and the table that says so."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.freezing import Freeze, Row, count_trainable, freeze, parameter_table
from gpt2_lightning.model.lora.layers import LoRASpec

CONFIG = GPT2Config(vocab_size=23, block_size=13, n_layer=3, n_head=5, n_embd=35)
BLOCK = 35 * 105 + 105 + 35 * 35 + 35 + 2 * 35 * 140 + 140 + 35 + 4 * 35


def trained(model: nn.Module) -> set[str]:
    """The parts with trained parameters: a block, or a module outside of them."""
    names = [name.removeprefix("transformer.") for name, p in model.named_parameters() if p.requires_grad]
    return {name[:3] if name.startswith("h.") else name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("how", "n", "expected"),
    [
        ("none", 1, {"wte", "wpe", "h.0", "h.1", "h.2", "ln_f", "score"}),
        ("all_but_head", 1, {"score"}),
        ("first_n_blocks", 0, {"h.0", "h.1", "h.2", "ln_f", "score"}),
        ("first_n_blocks", 2, {"h.2", "ln_f", "score"}),
        ("last_n_blocks", 0, {"ln_f", "score"}),
        ("last_n_blocks", 2, {"h.1", "h.2", "ln_f", "score"}),
        ("last_n_blocks", 3, {"h.0", "h.1", "h.2", "ln_f", "score"}),
    ],
)
@pytest.mark.parametrize("tied_head", [True, False])
def test_a_classifier_trains_what_is_chosen(how: Freeze, n: int, expected: set[str], tied_head: bool) -> None:
    classifier = Classifier(GPT2(dataclasses.replace(CONFIG, tied_head=tied_head)), labels=2)
    freeze(classifier, how, n)
    assert trained(classifier) == expected


@pytest.mark.parametrize(
    ("how", "tied", "untied"),
    [
        ("none", {"wte", "wpe", "h.0", "h.1", "h.2", "ln_f"}, {"wte", "wpe", "h.0", "h.1", "h.2", "ln_f", "lm_head"}),
        ("all_but_head", {"wte"}, {"lm_head"}),
        ("first_n_blocks", {"h.1", "h.2", "ln_f"}, {"h.1", "h.2", "ln_f", "lm_head"}),
        ("last_n_blocks", {"h.2", "ln_f"}, {"h.2", "ln_f", "lm_head"}),
    ],
)
def test_a_language_models_tied_head_is_frozen_with_the_embedding(
    how: Freeze, tied: set[str], untied: set[str]
) -> None:
    for tied_head, expected in [(True, tied), (False, untied)]:
        model = GPT2(dataclasses.replace(CONFIG, tied_head=tied_head))
        freeze(model, how)
        assert trained(model) == expected


def test_a_later_choice_replaces_an_earlier_one() -> None:
    model = GPT2(CONFIG)
    freeze(model, "all_but_head")
    freeze(model, "none")
    assert count_trainable(model) == sum(parameter.numel() for parameter in model.parameters())


def test_what_is_frozen_gets_no_gradient() -> None:
    model = GPT2(CONFIG)
    freeze(model, "last_n_blocks", 1)
    model(torch.zeros(1, 5, dtype=torch.int64)).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, _ in model.named_parameters() if name.startswith(("h.2.", "ln_f."))
    }


def test_the_table_joins_blocks_that_are_alike() -> None:
    classifier = Classifier(GPT2(CONFIG), labels=2)
    freeze(classifier, "last_n_blocks", 1)
    assert parameter_table(classifier) == [
        Row("transformer.wte", 0, 23 * 35),
        Row("transformer.wpe", 0, 13 * 35),
        Row("transformer.h.0 to transformer.h.1", 0, 2 * BLOCK),
        Row("transformer.h.2", BLOCK, 0),
        Row("transformer.ln_f", 70, 0),
        Row("score", 70, 0),
    ]


def test_the_table_of_an_adapted_model_counts_the_adapter() -> None:
    model = GPT2(CONFIG)
    add_lora(model, LoRASpec(rank=2, targets=["q", "head"]))
    rows = parameter_table(model)
    assert rows == [
        Row("wte", 0, 23 * 35),
        Row("wpe", 0, 13 * 35),
        Row("h.0 to h.2", 3 * 2 * 70, 3 * BLOCK),
        Row("ln_f", 0, 70),
        Row("lm_head", 2 * (35 + 23), 0),
    ]
    assert sum(row.trained for row in rows) == count_trainable(model)


def test_blocks_that_are_not_there_are_told() -> None:
    for how in ("first_n_blocks", "last_n_blocks"):
        with pytest.raises(ValueError, match="n: 4 is out of range, the model has 3 blocks"):
            freeze(GPT2(CONFIG), how, 4)
    with pytest.raises(ValueError, match="freeze: 'most' is not one of none, all_but_head"):
        freeze(GPT2(CONFIG), "most")  # type: ignore[arg-type]
