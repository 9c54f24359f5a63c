"""minGPT's weights, as a state dict and as JSON."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.imported import mingpt as reader
from gpt2_lightning.model import GPT2Config
from tests.huggingface.networks import CONFIG, TheirGPT, mingpt, some_ids

NANO = GPT2Config(vocab_size=7, block_size=5, n_layer=3, n_head=3, n_embd=48)


def as_json(network: TheirGPT, config: GPT2Config) -> dict[str, Any]:
    def encoded(tensor: torch.Tensor) -> dict[str, Any]:
        data = base64.b64encode(tensor.detach().numpy().tobytes()).decode()
        return {"shape": list(tensor.shape), "dtype": "torch.float32", "data": data}

    shape = {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "vocab_size", "block_size")}
    settings = {"model_type": "gpt-nano", **shape, "embd_pdrop": 0.1, "resid_pdrop": 0.2, "attn_pdrop": 0.3}
    return {"config": settings, **{name: encoded(tensor) for name, tensor in network.state_dict().items()}}


def saved(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def state_dict(tmp_path: Path, config: GPT2Config = CONFIG) -> tuple[dict[str, Any], Path]:
    torch.save(mingpt(config).state_dict(), tmp_path / "model.pt")
    return files.read(tmp_path / "model.pt"), tmp_path / "model.pt"


def test_json_has_the_same_logits(tmp_path: Path) -> None:
    network = mingpt()
    found = reader.read_json_file(saved(tmp_path / "model.json", as_json(network, CONFIG)))
    with torch.no_grad():
        torch.testing.assert_close(found.model.eval()(some_ids()), network(some_ids()), rtol=0, atol=1e-5)
    config = found.model.config
    assert (config.embd_pdrop, config.resid_pdrop, config.attn_pdrop) == (0.1, 0.2, 0.3)
    assert found.model.config.gelu == "tanh"
    assert found.tokenizer is None


def test_a_state_dict_has_the_same_logits(tmp_path: Path) -> None:
    content, path = state_dict(tmp_path)
    assert reader.is_mingpt(content)
    found = reader.read_state_dict(content, path, n_head=5)
    with torch.no_grad():
        torch.testing.assert_close(found.model.eval()(some_ids()), mingpt()(some_ids()), rtol=0, atol=1e-5)
    assert not torch.equal(found.model.lm_head.weight, found.model.wte.weight)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"model_type": "gpt-nano", "n_head": None}, "system": {"work_dir": "out"}},
        {"model": {"model_type": None, "n_head": 3}},
        {"model_type": "gpt-nano", "n_head": 3},
    ],
)
def test_the_number_of_heads_is_found_beside_a_state_dict(tmp_path: Path, settings: dict[str, Any]) -> None:
    saved(tmp_path / "config.json", settings)
    content, path = state_dict(tmp_path, NANO)
    found = reader.read_state_dict(content, path, n_head=None)
    assert found.model.config.n_head == 3


def test_a_state_dict_that_does_not_tell_its_heads_is_refused_with_what_they_may_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"add n_head=NUMBER; minGPT's gpt-nano, which has this .* has n_head=3"):
        reader.read_state_dict(*state_dict(tmp_path, NANO), n_head=None)
    with pytest.raises(UserError, match=r"add n_head=NUMBER$"):
        reader.read_state_dict(*state_dict(tmp_path), n_head=None)


def test_a_number_of_heads_that_does_not_divide_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.pt: n_embd: 35 is not divisible by n_head=6"):
        reader.read_state_dict(*state_dict(tmp_path), n_head=6)


def test_the_trained_sorter_sorts(shared_data: Path) -> None:
    model = reader.read_json_file(shared_data / "gpt-nano-sort" / "gpt-nano-sort-model.json").model.eval()
    inputs = torch.tensor(list(itertools.product(range(3), repeat=6)))
    ids = inputs
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat((ids, model(ids)[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert torch.equal(ids[:, 6:], inputs.sort(dim=1).values)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("lm_head.weight", {"dtype": "torch.float16"}, "lm_head.weight: has dtype torch.float16, only torch.float32"),
        ("lm_head.weight", {"shape": [22, 35]}, "lm_head.weight: has 3,220 bytes, and its shape"),
        ("lm_head.weight", {"data": "never!"}, "lm_head.weight: "),
        ("lm_head.weight", None, "lm_head.weight: "),
        ("config", {"n_head": 6}, "n_embd: 35 is not divisible by n_head=6"),
    ],
)
def test_damaged_json_is_told(tmp_path: Path, name: str, change: dict[str, Any] | None, message: str) -> None:
    content = as_json(mingpt(), CONFIG)
    content[name] = None if change is None else content[name] | change
    with pytest.raises(UserError, match=r"model\.json") as caught:
        reader.read_json_file(saved(tmp_path / "model.json", content))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"config": {}}', '{"config": {"n_head": 3}, "weights": 1}'])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.json"):
        reader.read_json_file(tmp_path / "model.json")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    content = as_json(mingpt(), CONFIG)
    del content["transformer.h.1.mlp.c_fc.bias"]
    with pytest.raises(UserError, match=r"h\.1\.mlp\.c_fc\.bias: missing"):
        reader.read_json_file(saved(tmp_path / "model.json", content))


@pytest.mark.parametrize("other", [{}, {"transformer.wte.weight": torch.ones(2)}, {"step": 3}])
def test_other_state_dicts_are_not_taken_for_one(tmp_path: Path, other: dict[str, Any]) -> None:
    content, _ = state_dict(tmp_path)
    assert reader.is_mingpt(content)
    assert not reader.is_mingpt(content | other if "step" in other else other)
