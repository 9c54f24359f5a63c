from __future__ import annotations

import subprocess
import sys

import pytest

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.meta import on_meta_device

TINY = GPT2Config(vocab_size=11, block_size=7, n_layer=2, n_head=3, n_embd=15)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_model_on_meta_device_has_the_tensors_of_one_with_them(positions: str) -> None:
    config = GPT2Config(vocab_size=11, block_size=7, n_layer=2, n_head=3, n_embd=6, positions=positions)
    with on_meta_device():
        model = GPT2(config)
    expected = GPT2(config).state_dict()
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert {name: (it.shape, it.dtype) for name, it in model.state_dict().items()} == {
        name: (it.shape, it.dtype) for name, it in expected.items()
    }


def test_values_are_drawn_again_afterwards() -> None:
    with on_meta_device():
        GPT2(TINY)
    assert GPT2(TINY).wte.weight.std() > 0.01


def test_torchs_compiler_is_not_imported_for_it() -> None:
    """That would take a second, whenever a checkpoint is read."""
    program = (
        "import sys\n"
        "from gpt2_lightning.model import GPT2, GPT2Config\n"
        "from gpt2_lightning.model.meta import on_meta_device\n"
        "with on_meta_device():\n"
        "    GPT2(GPT2Config(vocab_size=11, block_size=7, n_layer=2, n_head=3, n_embd=15))\n"
        "print('torch._dynamo' in sys.modules)\n"
        "torch = sys.modules['torch']\n"
        "torch.nn.Embedding(3, 5, device='meta')\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
