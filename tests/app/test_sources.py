"""One name for every place that a model may come from."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, weights_alone
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, hub
from gpt2_lightning.pretrained.load import load_any, open_source
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import CONFIG, lively, mingpt, nanogpt, nanogpt_checkpoint, some_ids

LETTERS = CharTokenizer("abcdefghijklmnopqrstuv ")
CPU = torch.device("cpu")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder.write(lively(), LETTERS, tmp_path / "theirs", "# A card\n", 10**9)
    return tmp_path / "theirs"


def test_the_latest_run_a_run_and_a_file_are_ours(tiny_run: Path) -> None:
    best = tiny_run / "checkpoints" / "best.ckpt"
    for source in ("latest", str(tiny_run), str(best)):
        model, description, place = load_any(source, tiny_run.parent, CPU)
        assert place == str(best)
        assert not model.training
        assert description.run_config["batch_size"] == 4


def test_a_folder_of_hugging_faces_is_loaded(theirs: Path, tmp_path: Path) -> None:
    model, description, place = load_any(str(theirs), tmp_path, CPU)
    with torch.no_grad():
        assert torch.equal(model(some_ids()), lively()(some_ids()))
    assert description.tokenizer.decode([0, 1, 2]) == " ab"
    assert place == str(theirs)


def test_a_model_without_a_tokenizer_asks_for_one(tmp_path: Path) -> None:
    torch.save(nanogpt_checkpoint(nanogpt(), CONFIG), tmp_path / "ckpt.pt")
    with pytest.raises(UserError, match=r"ckpt\.pt knows of no tokenizer, .* tokenizer_from=gpt2"):
        load_any(str(tmp_path / "ckpt.pt"), tmp_path, CPU)


def test_what_a_reader_should_know_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write(lively(), LETTERS, tmp_path / "theirs", "", 10**9)
    weights = folder.safetensors_files.read(tmp_path / "theirs")
    weights = {name: tensor.bfloat16() if "wpe" in name else tensor for name, tensor in weights.items()}
    (tmp_path / "theirs" / "model.safetensors").unlink()
    folder.safetensors_files.write(weights, tmp_path / "theirs", 10**9)
    load_any(str(tmp_path / "theirs"), tmp_path, CPU)
    assert "its tensors are bfloat16 and float32; all are kept as float32, which is exact" in capsys.readouterr().err


@pytest.mark.parametrize("named", ["gpt2", "folder", "text"])
def test_another_tokenizer_must_fit_the_model(theirs: Path, tmp_path: Path, named: str) -> None:
    (tmp_path / "text").write_text("only these")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "tokenizer.json").write_bytes((theirs / "tokenizer.json").read_bytes())
    torch.save(mingpt().state_dict(), tmp_path / "model.pt")
    chosen = named if named == "gpt2" else str(tmp_path / named)
    if named == "folder":
        found = open_source(str(tmp_path / "model.pt"), tmp_path, chosen, n_head=5)
        assert found.description().tokenizer.vocab_size == 23
        return
    size = {"gpt2": 50257, "text": 9}[named]
    with pytest.raises(UserError, match=f"the model has vocab_size=23, the tokenizer has {size} tokens"):
        open_source(str(tmp_path / "model.pt"), tmp_path, chosen, n_head=5)


def test_model_and_tokenizer_of_one_folder_must_fit(theirs: Path, tmp_path: Path) -> None:
    folder.write(lively(), CharTokenizer("abc"), tmp_path / "small", "", 10**9)
    with pytest.raises(UserError, match="vocab_size=23, the tokenizer has 3 tokens"):
        open_source(str(tmp_path / "small"), tmp_path)


def test_a_model_of_the_hub_without_a_revision_tells_its_commit(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda address: hub.Snapshot(theirs, "someone/tiny", "a1" * 20))
    (note,) = open_source("hf:someone/tiny", theirs).notes
    assert f"name it as hf:someone/tiny@{'a1' * 20} to get the same again" in note
    assert open_source("hf:someone/tiny@main", theirs).notes == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "there is no run, checkpoint or folder|there is no checkpoint"),
        ("empty", "holds no checkpoint"),
        ("theirs/model.safetensors", "name its folder"),
        ("theirs/config.json", "is not minGPT's"),
        ("text.txt", "damaged or cut off"),
        ("other.pt", r"a checkpoint of neither GPT-2 Lightning, nanoGPT nor minGPT: it has epoch, weights, …"),
    ],
)
def test_what_is_no_model_is_told(theirs: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("Once upon a time")
    torch.save({"epoch": 3, "weights": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / name), tmp_path)


@pytest.mark.parametrize("name", ["ckpt.pt", "model.bin"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.mkdir, (tmp_path / "it-ran",)

    (tmp_path / name).write_bytes(pickle.dumps({"model": Runs(), "model_args": {}}))
    with pytest.raises(UserError, match="refused and nothing of it was run"):
        open_source(str(tmp_path / name), tmp_path)
    assert not (tmp_path / "it-ran").exists()


def test_a_checkpoint_of_ours_with_nan_names_the_tensors(tmp_path: Path) -> None:
    model = lively()
    with torch.no_grad():
        model.h[1].ln_1.weight[:2] = float("nan")
    files.write(weights_alone(model, Description(CONFIG, LETTERS, {})), tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match=r"h\.1\.ln_1\.weight: 2 of 35 values are NaN or infinite"):
        open_source(str(tmp_path / "nan.ckpt"), tmp_path)
