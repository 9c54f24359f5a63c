"""nanoGPT's `ckpt.pt`, in the layout in which its training loop saves it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.imported import nanogpt as reader
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.tokenizers import GPT2Tokenizer
from tests.huggingface.networks import CONFIG, nanogpt, nanogpt_checkpoint, some_ids

PADDED = GPT2Config(vocab_size=50304, block_size=7, n_layer=1, n_head=1, n_embd=3)


def saved(tmp_path: Path, content: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """What is in the file that nanoGPT would have written."""
    path = tmp_path / "ckpt.pt"
    torch.save(content, path)
    return files.read(path), path


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_checkpoint_has_the_same_logits(tmp_path: Path, bias: bool, compiled: bool) -> None:
    network = nanogpt(bias=bias)
    content, path = saved(tmp_path, nanogpt_checkpoint(network, CONFIG, bias, compiled))
    assert reader.is_nanogpt(content)
    found = reader.read(content, path)
    with torch.no_grad():
        torch.testing.assert_close(found.model.eval()(some_ids()), network(some_ids()), rtol=0, atol=1e-5)
    assert found.model.config == dataclasses.replace(CONFIG, qkv_bias=bias, gelu="exact")
    assert any("no biases" in note for note in found.notes) != bias


def test_the_file_is_understood_as_nanogpt_means_it_today(tmp_path: Path) -> None:
    network = nanogpt()
    found = reader.read(*saved(tmp_path, nanogpt_checkpoint(network, CONFIG)))
    as_there = found.network.logits(some_ids(), torch.float64)
    torch.testing.assert_close(as_there, network.double()(some_ids()), rtol=0, atol=1e-12)
    with torch.no_grad():
        difference = (found.model.eval()(some_ids()) - as_there).abs().max()
    assert difference < 1e-5
    assert "the exact one" in found.notes[-1]


def test_rows_that_pad_the_vocabulary_are_cut_off(tmp_path: Path) -> None:
    network = nanogpt(PADDED)
    found = reader.read(*saved(tmp_path, nanogpt_checkpoint(network, PADDED)))
    ids = torch.tensor([[0, 50256, 11, 318, 42]])
    with torch.no_grad():
        torch.testing.assert_close(found.model.eval()(ids), network(ids)[..., :50257], rtol=0, atol=1e-5)
    assert found.model.config.vocab_size == 50257
    assert isinstance(found.tokenizer, GPT2Tokenizer)
    assert any("47 rows from 50257 on" in note for note in found.notes)


def test_other_vocabularies_stay_whole_and_have_no_tokenizer(tmp_path: Path) -> None:
    found = reader.read(*saved(tmp_path, nanogpt_checkpoint(nanogpt(), CONFIG)))
    assert found.model.config.vocab_size == 23
    assert found.tokenizer is None


def test_the_origin_is_kept_as_plain_values(tmp_path: Path) -> None:
    content, path = saved(tmp_path, nanogpt_checkpoint(nanogpt(), CONFIG))
    origin = reader.read(content, path).origin
    settings = {"dataset": "shakespeare", "batch_size": 12, "learning_rate": 1e-3, "compile": True}
    assert origin == {
        "program": "nanoGPT",
        "source": str(path),
        "steps": 250,
        "best_val_loss": 1.75,
        "settings": settings,
    }


def test_the_head_stays_tied(tmp_path: Path) -> None:
    model = reader.read(*saved(tmp_path, nanogpt_checkpoint(nanogpt(), CONFIG))).model
    assert model.lm_head.weight is model.wte.weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_dtype_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    content = nanogpt_checkpoint(nanogpt(bias=False).to(dtype), CONFIG, bias=False)
    model = reader.read(*saved(tmp_path, content)).model
    assert {tensor.dtype for tensor in model.state_dict().values()} == {dtype}


def test_dropout_is_taken_over(tmp_path: Path) -> None:
    content = nanogpt_checkpoint(nanogpt(), CONFIG)
    content["model_args"]["dropout"] = 0.2
    config = reader.read(*saved(tmp_path, content)).model.config
    assert (config.embd_pdrop, config.attn_pdrop, config.resid_pdrop) == (0.2, 0.2, 0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_rmsnorm": True}, "model_args has use_rmsnorm=True"),
        ({"n_head": None}, "model_args has no number for n_head"),
        ({"n_layer": 3}, r"h\.2\.ln_1\.weight: missing"),
        ({"n_head": 6}, "n_embd: 35 is not divisible by n_head=6"),
        ({"vocab_size": 29}, re.escape("wte.weight: has shape (23, 35), needs (29, 35)")),
    ],
)
def test_settings_that_do_not_fit_are_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = nanogpt_checkpoint(nanogpt(), CONFIG)
    content["model_args"] |= change
    with pytest.raises(UserError, match=message) as caught:
        reader.read(*saved(tmp_path, content))
    assert "ckpt.pt" in str(caught.value)


def test_settings_that_are_not_there_are_named(tmp_path: Path) -> None:
    content = nanogpt_checkpoint(nanogpt(), CONFIG)
    del content["model_args"]["n_head"], content["model_args"]["block_size"]
    with pytest.raises(UserError, match="model_args has no number for block_size, n_head"):
        reader.read(*saved(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [{}, {"model": 3, "model_args": {}}, {"model": {"a": 1}, "model_args": {}}, {"model": {}}, {"state_dict": {}}],
)
def test_other_checkpoints_are_not_taken_for_one(content: dict[str, Any]) -> None:
    assert not reader.is_nanogpt(content)
