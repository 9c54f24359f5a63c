"""The kernels that torch may choose for attention."""

from __future__ import annotations

import pytest
import torch

from gpt2_lightning.model import GPT2, GPT2Config, KVCache
from gpt2_lightning.model.kernels.cudnn import without_cudnn


def test_cudnn_is_off_inside_and_as_before_outside() -> None:
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with without_cudnn():
        with without_cudnn():
            assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert not torch.backends.cuda.cudnn_sdp_enabled(), "the outer context has not ended"
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_cudnn_is_on_again_after_an_error() -> None:
    with pytest.raises(KeyError), without_cudnn():
        raise KeyError
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_decoding_goes_without_cudnn_and_training_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = GPT2(GPT2Config(vocab_size=7, block_size=5, n_layer=1, n_head=2, n_embd=6)), torch.zeros(2, 3).long()
    found, forward = [], model.forward_hidden

    def note(*args: object) -> torch.Tensor:
        found.append(torch.backends.cuda.cudnn_sdp_enabled())
        return forward(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "forward_hidden", note)
    model(ids)
    with torch.no_grad():
        model(ids, cache=KVCache(model.config, 2, ids.device, torch.float32))
    assert found == [True, False]
