import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import FORMAT, KEY, Description, describe, differing_fields, load_model
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer

ALPHABET = "abcdefghij\n"
TINY = GPT2Config(vocab_size=11, block_size=7, n_layer=2, n_head=3, n_embd=15)
CPU = torch.device("cpu")
ANYWHERE = Path("anywhere.ckpt")


def checkpoint_of(config: GPT2Config) -> dict[str, Any]:
    torch.manual_seed(0)
    description = Description(config, CharTokenizer(ALPHABET), {"seed": 3, "model": {"n_embd": 15}, "data": None})
    return {"state_dict": GPT2(config).state_dict(), KEY: description.to_plain()}


def test_a_description_survives_the_file(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, positions="sinusoidal", qkv_bias=False, kernels="explicit", attn_pdrop=0.25)
    files.write(checkpoint_of(config), tmp_path / "a.ckpt")
    found = describe(files.read(tmp_path / "a.ckpt"), tmp_path / "a.ckpt")
    assert found.model == config
    assert found.tokenizer.to_text() == CharTokenizer(ALPHABET).to_text()
    assert found.run_config == {"seed": 3, "model": {"n_embd": 15}, "data": None}


def test_a_description_names_its_tokenizer_by_hash() -> None:
    plain = Description(GPT2Config(), GPT2Tokenizer(), {}).to_plain()
    assert plain["tokenizer_hash"] == GPT2Tokenizer().hash()
    found = describe({KEY: plain, "state_dict": {}}, ANYWHERE)
    assert isinstance(found.tokenizer, GPT2Tokenizer)


@pytest.mark.parametrize(
    "foreign",
    [{}, {"state_dict": {}}, {"model": 1, "optimizer": 2}, {KEY: "text", "state_dict": {}}, {KEY: {"format": 1}}],
)
def test_a_checkpoint_of_another_program_is_named(foreign: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"anywhere\.ckpt was not written by GPT-2 Lightning"):
        describe(foreign, ANYWHERE)


def test_a_newer_format_asks_for_an_upgrade() -> None:
    checkpoint = checkpoint_of(TINY)
    checkpoint[KEY]["format"] = FORMAT + 1
    with pytest.raises(UserError, match=f"format {FORMAT + 1}.* {FORMAT}; upgrade"):
        describe(checkpoint, ANYWHERE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_experts": 4}, "n_experts"),
        ({"n_embd": 16}, "n_embd: 16 is not divisible by n_head=3"),
        ({"positions": "rotary"}, "positions: 'rotary' is not one of"),
        ({"n_layer": "two"}, "n_layer: 'two' is not an integer"),
        ({"n_embd": 48.0}, "n_embd: 48.0 is not an integer"),
    ],
)
def test_a_model_that_this_version_lacks_is_a_users_mistake(change: dict[str, Any], message: str) -> None:
    checkpoint = checkpoint_of(TINY)
    checkpoint[KEY]["model"] |= change
    with pytest.raises(UserError, match=r"anywhere\.ckpt .*description") as caught:
        describe(checkpoint, ANYWHERE)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("format", None), ("tokenizer", "[]"), ("tokenizer", '{"kind": "char"}'), ("model", []), ("run_config", 3)],
)
def test_a_malformed_description_is_a_users_mistake(entry: str, value: Any) -> None:
    checkpoint = checkpoint_of(TINY)
    checkpoint[KEY][entry] = value
    with pytest.raises(UserError, match="cannot read"):
        describe(checkpoint, ANYWHERE)


@pytest.mark.parametrize("kind", ["sentencepiece", None])
def test_a_tokenizer_that_this_version_lacks_is_a_users_mistake(kind: str | None) -> None:
    checkpoint = checkpoint_of(TINY)
    checkpoint[KEY]["tokenizer"] = "{}" if kind is None else f'{{"kind": "{kind}"}}'
    with pytest.raises(UserError, match=f"tokenizer is of kind '{kind}'"):
        describe(checkpoint, ANYWHERE)


def test_model_and_tokenizer_must_agree_on_the_vocabulary() -> None:
    checkpoint = checkpoint_of(TINY)
    checkpoint[KEY]["tokenizer"] = CharTokenizer(ALPHABET + "XY").to_text()
    with pytest.raises(UserError, match=r"vocab_size=11.* 13 tokens"):
        describe(checkpoint, ANYWHERE)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("tied_head", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_a_loaded_model_gives_the_saved_models_logits(
    tmp_path: Path, positions: str, tied_head: bool, qkv_bias: bool
) -> None:
    config = dataclasses.replace(TINY, positions=positions, tied_head=tied_head, qkv_bias=qkv_bias, embd_pdrop=0.5)
    checkpoint = checkpoint_of(config)
    original = GPT2(config).eval()
    original.load_state_dict({name: 5 * tensor for name, tensor in checkpoint["state_dict"].items()})
    files.write({**checkpoint, "state_dict": original.state_dict()}, tmp_path / "a.ckpt")
    model, description = load_model(tmp_path / "a.ckpt", CPU)
    ids = torch.arange(7).unsqueeze(0)
    assert torch.equal(model(ids), original(ids))
    assert description.model == config
    assert not model.training
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def test_a_tied_weight_stays_one_tensor(tmp_path: Path) -> None:
    files.write(checkpoint_of(TINY), tmp_path / "a.ckpt")
    model, _ = load_model(tmp_path / "a.ckpt", CPU)
    assert model.lm_head.weight is model.wte.weight
    with torch.no_grad():
        model.wte.weight.zero_()
    assert not model(torch.zeros(1, 3, dtype=torch.int64)).any()


def test_an_untied_weight_stays_two_tensors(tmp_path: Path) -> None:
    files.write(checkpoint_of(dataclasses.replace(TINY, tied_head=False)), tmp_path / "a.ckpt")
    model, _ = load_model(tmp_path / "a.ckpt", CPU)
    assert model.lm_head.weight.data_ptr() != model.wte.weight.data_ptr()


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape"])
def test_tensors_that_are_not_the_described_models_are_refused(tmp_path: Path, fault: str) -> None:
    checkpoint = checkpoint_of(TINY)
    if fault == "missing":
        del checkpoint["state_dict"]["h.1.mlp.c_fc.bias"]
    elif fault == "surplus":
        checkpoint["state_dict"]["h.1.mlp.c_fc.bias_2"] = torch.ones(1)
    else:
        checkpoint["state_dict"]["h.1.mlp.c_fc.bias"] = torch.ones(3)
    files.write(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt .*tensors.* description") as caught:
        load_model(tmp_path / "a.ckpt", CPU)
    assert "h.1.mlp.c_fc.bias" in str(caught.value)


def test_differing_fields_name_both_values() -> None:
    other = dataclasses.replace(TINY, n_layer=3, positions="sinusoidal")
    assert differing_fields(TINY, other) == [
        "n_layer: the configuration has 2, the checkpoint 3",
        "positions: the configuration has learned, the checkpoint sinusoidal",
    ]
    assert differing_fields(TINY, TINY) == []


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(GPT2Config)])
def test_a_field_differs_exactly_if_it_changes_what_a_checkpoint_means(field: str) -> None:
    """Dropout, kernels and the scale of initial weights may change between a run and its continuation."""
    values = {"positions": "sinusoidal", "gelu": "exact", "kernels": "explicit", "n_embd": 18, "n_head": 5}
    old = getattr(TINY, field)
    new = values.get(field, not old if isinstance(old, bool) else old * 2 or 0.5)
    found = differing_fields(TINY, dataclasses.replace(TINY, **{field: new}))
    harmless = field.endswith("_pdrop") or field in ("kernels", "initializer_range")
    assert [line.split(":")[0] for line in found] == ([] if harmless else [field])
