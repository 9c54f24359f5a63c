"""One name for every place that a model may come from."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, weights_alone
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, hub, to_huggingface
from gpt2_lightning.huggingface.verify import require_same
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import CONFIG, lively, mingpt, nanogpt, nanogpt_checkpoint, some_ids

LETTERS = CharTokenizer("abcdefghijklmnopqrstuv ")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder.write(lively(), LETTERS, tmp_path / "theirs", "# A card\n", 10**9)
    return tmp_path / "theirs"


def test_the_latest_run_a_run_and_a_file_are_ours(tiny_run: Path) -> None:
    best = tiny_run / "checkpoints" / "best.ckpt"
    for source in ("latest", str(tiny_run), str(best)):
        found = load_pretrained(source, LoadOptions(tiny_run.parent))
        assert found.location == str(best)
        assert not found.model.training
        assert found.run_config["batch_size"] == 4


def test_a_folder_of_hugging_faces_is_loaded(theirs: Path, tmp_path: Path) -> None:
    found = load_pretrained(str(theirs))
    with torch.no_grad():
        assert torch.equal(found.model(some_ids()), lively()(some_ids()))
    assert found.description().tokenizer.decode([0, 1, 2]) == " ab"
    assert found.location == str(theirs)


def test_a_model_without_a_tokenizer_asks_for_one(tmp_path: Path) -> None:
    torch.save(nanogpt_checkpoint(nanogpt(), CONFIG), tmp_path / "ckpt.pt")
    with pytest.raises(UserError, match=r"ckpt\.pt has no tokenizer, .* tokenizer_from=gpt2"):
        load_pretrained(str(tmp_path / "ckpt.pt")).description()


def test_dtypes_that_differ_are_noted(tmp_path: Path) -> None:
    folder.write(lively(), LETTERS, tmp_path / "theirs", "", 10**9)
    weights = folder.weight_files.read(tmp_path / "theirs")
    weights = {name: tensor.bfloat16() if "wpe" in name else tensor for name, tensor in weights.items()}
    (tmp_path / "theirs" / "model.safetensors").unlink()
    folder.weight_files.write(weights, tmp_path / "theirs", 10**9)
    notes = load_pretrained(str(tmp_path / "theirs")).notes
    assert notes == ("its tensors are bfloat16 and float32; all are kept as float32, which is exact",)


@pytest.mark.parametrize("named", ["gpt2", "folder", "text"])
def test_another_tokenizer_must_fit_the_model(theirs: Path, tmp_path: Path, named: str) -> None:
    (tmp_path / "text").write_text("only these")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "tokenizer.json").write_bytes((theirs / "tokenizer.json").read_bytes())
    torch.save(mingpt().state_dict(), tmp_path / "model.pt")
    chosen = named if named == "gpt2" else str(tmp_path / named)
    if named == "folder":
        found = load_pretrained(str(tmp_path / "model.pt"), LoadOptions(tokenizer_from=chosen, n_head=5))
        assert found.description().tokenizer.vocab_size == 23
        return
    size = {"gpt2": 50257, "text": 9}[named]
    with pytest.raises(UserError, match=f"the model has vocab_size=23, the tokenizer has {size} tokens"):
        load_pretrained(str(tmp_path / "model.pt"), LoadOptions(tokenizer_from=chosen, n_head=5))


def test_model_and_tokenizer_of_one_folder_must_fit(theirs: Path, tmp_path: Path) -> None:
    folder.write(lively(), CharTokenizer("abc"), tmp_path / "small", "", 10**9)
    with pytest.raises(UserError, match="vocab_size=23, the tokenizer has 3 tokens"):
        load_pretrained(str(tmp_path / "small"))


def test_a_model_of_the_hub_without_a_revision_tells_its_commit(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda address: hub.Snapshot(theirs, "someone/tiny", "a1" * 20))
    (note,) = load_pretrained("hf:someone/tiny").notes
    assert f"name it as hf:someone/tiny@{'a1' * 20} to get the same again" in note
    assert load_pretrained("hf:someone/tiny@main").notes == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "there is no run, checkpoint or folder|there is no checkpoint"),
        ("empty", "holds no checkpoint"),
        ("alone.safetensors", "put the config.json of the model beside it"),
        ("pytorch_model.bin", r"Hugging Face model, .* number of heads; put the config\.json"),
        ("early.bin", r"Hugging Face model, .* number of heads; put the config\.json"),
        ("llama.gguf", r"is a GGUF file of llama\.cpp, which is not read; name the Hugging Face folder"),
        ("gpt2_124M.bin", r"is a model of llm\.c, which is not read; name the Hugging Face folder"),
        ("tiny_val.bin", r"is token ids of llm\.c, which is not read"),
        ("theirs/config.json", "is not a minGPT file"),
        ("text.txt", "damaged or cut off"),
        ("other.pt", r"a checkpoint of neither GPT-2 Lightning, nanoGPT nor minGPT: it has epoch, weights, …"),
    ],
)
def test_what_is_no_model_is_told(theirs: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("Once upon a time")
    torch.save({"epoch": 3, "weights": torch.ones(2)}, tmp_path / "other.pt")
    weights = to_huggingface(lively())
    torch.save(weights | {"lm_head.weight": weights["transformer.wte.weight"]}, tmp_path / "pytorch_model.bin")
    torch.save({name.removeprefix("transformer."): t for name, t in weights.items()}, tmp_path / "early.bin")
    (tmp_path / "alone.safetensors").write_bytes((theirs / "model.safetensors").read_bytes())
    (tmp_path / "llama.gguf").write_bytes(b"GGUF\x03\0\0\0" + bytes(100))
    (tmp_path / "gpt2_124M.bin").write_bytes(np.array([20240326, 3, *[0] * 254], "<i4").tobytes())
    (tmp_path / "tiny_val.bin").write_bytes(np.array([20240520, 1, *[0] * 254], "<i4").tobytes())
    with pytest.raises(UserError, match=message):
        load_pretrained(str(tmp_path / name))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_of_weights_with_its_configuration_beside_it_is_that_folder(theirs: Path, name: str) -> None:
    if name == "pytorch_model.bin":
        weights = to_huggingface(lively())
        torch.save(weights | {"lm_head.weight": weights["transformer.wte.weight"]}, theirs / name)
        (theirs / "model.safetensors").unlink()
    found = load_pretrained(str(theirs / name))
    assert found.program == "Hugging Face"
    assert found.description().tokenizer.vocab_size == 23
    require_same(to_huggingface(found.model), to_huggingface(lively()), theirs)


@pytest.mark.parametrize("name", ["ckpt.pt", "model.bin"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.mkdir, (tmp_path / "it-ran",)

    (tmp_path / name).write_bytes(pickle.dumps({"model": Runs(), "model_args": {}}))
    with pytest.raises(UserError, match="refused and nothing of it was run"):
        load_pretrained(str(tmp_path / name))
    assert not (tmp_path / "it-ran").exists()


def test_a_checkpoint_of_ours_with_nan_names_the_tensors(tmp_path: Path) -> None:
    model = lively()
    with torch.no_grad():
        model.h[1].ln_1.weight[:2] = float("nan")
    files.write(weights_alone(model, Description(CONFIG, LETTERS, {})), tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match=r"h\.1\.ln_1\.weight: 2 of 35 values are NaN or infinite"):
        load_pretrained(str(tmp_path / "nan.ckpt"))
