"""Activations that are computed again: the same gradients, dropout and all, from less memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.layers import LoRASpec

CONFIG = GPT2Config(
    vocab_size=23, block_size=13, n_layer=3, n_head=5, n_embd=35, attn_pdrop=0.2, resid_pdrop=0.3, embd_pdrop=0.1
)
IDS = torch.randint(23, (3, 13), generator=torch.Generator().manual_seed(0))
DOCUMENTS = torch.arange(13).expand(3, 13) // 5


def gradients(model: GPT2, recomputes: bool, documents: Tensor | None = None) -> tuple[list[Tensor], int]:
    """Of the trained parameters, and how many elements the forward pass kept for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.gradient_checkpointing = recomputes
    torch.manual_seed(7)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(IDS, document_ids=documents, targets=IDS.roll(-1, 1))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss, trained)), sum(kept.values())


def model(kernels: str = "fused") -> GPT2:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(**{**vars(CONFIG), "kernels": kernels}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
@pytest.mark.parametrize("kernels", ["fused", "explicit"])
def test_gradients_are_the_same_with_and_without_dropout(
    training: bool, documents: Tensor | None, kernels: str
) -> None:
    network = model(kernels).train(training)
    kept, recomputed = (gradients(network, recomputes, documents)[0] for recomputes in (False, True))
    assert all(map(torch.equal, kept, recomputed))
    assert kept[0].abs().max() > 0.01


def test_blocks_keep_nothing_but_their_input() -> None:
    """The hooks of a checkpoint are inside those of the test, so that what a block would keep is not seen here."""
    network = model().train()
    weights = sum(parameter.nbytes for parameter in network.parameters())
    everything, little = (gradients(network, recomputes)[1] - weights for recomputes in (False, True))
    assert little < everything / 4


def test_adapters_learn_alike() -> None:
    network = model().train()
    add_lora(network, LoRASpec(rank=2, dropout=0.2))
    kept, recomputed = (gradients(network, recomputes)[0] for recomputes in (False, True))
    assert all(map(torch.equal, kept, recomputed))


def test_nothing_changes_without_gradients() -> None:
    network = model().eval()
    with torch.no_grad():
        expected = network(IDS)
        network.gradient_checkpointing = True
        assert torch.equal(network(IDS), expected)
