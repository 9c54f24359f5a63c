"""Folders that transformers loads, and what is said of those that cannot be read."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, pipeline

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import weights_alone
from gpt2_lightning.conversion.convert import Target, convert
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, to_huggingface
from gpt2_lightning.huggingface.verify import require_same
from gpt2_lightning.huggingface.weight_files import parse_size
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.pretrained.load import load_pretrained
from gpt2_lightning.tokenizers import BPETokenizer, CharTokenizer, Tokenizer
from tests.huggingface.networks import CONFIG, lively, some_ids

LETTERS = CharTokenizer("abcdefghijklmnopqrstuv ")
BPE = BPETokenizer([(71, 72), (256, 73)])
UNLIMITED = 10**12


def written(tmp_path: Path, model: GPT2, tokenizer: Tokenizer | None = LETTERS, shard: int = UNLIMITED) -> Path:
    folder.write(model, tokenizer, tmp_path / "model", "# A card\n", shard)
    return tmp_path / "model"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return written(tmp_path, lively())


def with_bpe() -> GPT2Config:
    return dataclasses.replace(CONFIG, vocab_size=BPE.vocab_size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_transformers_loads_it_in_its_dtype_with_our_logits(tmp_path: Path, dtype: torch.dtype) -> None:
    model = lively().to(dtype)
    path = written(tmp_path, model)
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    assert theirs.dtype == dtype
    with torch.no_grad():
        logits = theirs.double()(some_ids()).logits
        torch.testing.assert_close(logits, model.double()(some_ids()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("change", [{"tied_head": False}, {"qkv_bias": False}, {"positions": "sinusoidal"}], ids=str)
def test_every_architecture_has_the_same_logits_in_transformers(tmp_path: Path, change: dict[str, object]) -> None:
    model = lively(dataclasses.replace(CONFIG, **change))
    theirs = AutoModelForCausalLM.from_pretrained(written(tmp_path, model))
    with torch.no_grad():
        torch.testing.assert_close(theirs(some_ids()).logits, model(some_ids()), rtol=0, atol=1e-5)


def test_auto_tokenizer_gives_the_same_ids_and_knows_the_context(tmp_path: Path) -> None:
    path = written(tmp_path, lively(with_bpe()), BPE)
    theirs = AutoTokenizer.from_pretrained(path)
    text = "hij hi, Ωmega\n"
    assert theirs(text)["input_ids"] == BPE.encode(text).tolist()
    assert theirs.model_max_length == 13
    assert theirs.eos_token_id == BPE.end_of_text


@pytest.mark.parametrize("vocabulary", ["bpe", "letters"])
def test_the_pipeline_writes_what_our_model_writes(tmp_path: Path, vocabulary: str) -> None:
    model, tokenizer = (lively(with_bpe()), BPE) if vocabulary == "bpe" else (lively(), LETTERS)
    path = written(tmp_path, model, tokenizer)
    write = pipeline("text-generation", str(path), device="cpu")
    ids = tokenizer.encode("hi hi").tolist()
    settings = GenerationConfig(max_new_tokens=13 - len(ids), do_sample=False, pad_token_id=0)
    found = write("hi hi", generation_config=settings)
    with torch.no_grad():
        while len(ids) < 13:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert found[0]["generated_text"] == tokenizer.decode(ids)


def test_other_readers_find_what_they_need(tmp_path: Path) -> None:
    path = written(tmp_path, lively(with_bpe()), BPE)
    config = json.loads((path / "config.json").read_text())
    assert (config["n_ctx"], config["n_positions"], config["vocab_size"]) == (13, 13, 259)
    assert (config["architectures"], config["model_type"]) == (["GPT2LMHeadModel"], "gpt2")
    assert (config["dtype"], config["activation_function"]) == ("float32", "gelu_new")
    assert (config["bos_token_id"], config["eos_token_id"]) == (258, 258)
    generation = json.loads((path / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 258, "eos_token_id": 258, "pad_token_id": 258, "max_length": 13}
    with safe_open(path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118  # it is no mapping
    assert {file.name for file in path.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    }


def test_only_a_context_that_the_pipeline_would_leave_limits_the_length_of_a_text(tmp_path: Path) -> None:
    path = written(tmp_path, lively(dataclasses.replace(CONFIG, block_size=257)))
    assert "max_length" not in json.loads((path / "generation_config.json").read_text())


def test_the_pipeline_writes_in_a_batch_what_it_writes_alone(tmp_path: Path) -> None:
    path = written(tmp_path, lively(with_bpe()), BPE)
    write = pipeline("text-generation", str(path), device="cpu")
    prompts = ["hi hi", "a", "jih"]
    alone, together = (
        [found[0]["generated_text"] for found in write(prompts, batch_size=size, max_new_tokens=5, do_sample=False)]
        for size in (1, 3)
    )
    assert together == alone


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_several_ends_of_a_text_are_kept(tmp_path: Path, file: str) -> None:
    path = written(tmp_path, lively(with_bpe()), BPE)
    if file == "config.json":
        (path / "generation_config.json").unlink()
    fields = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(fields | {"eos_token_id": [258, 3, 50256]}))
    found = load_pretrained(str(path))
    assert found.ends_of_text() == [258, 3]
    files.write(weights_alone(found.model, found.description()), tmp_path / "own.ckpt")
    again = load_pretrained(str(tmp_path / "own.ckpt"))
    convert(again, Target(tmp_path / "exported"), "huggingface")
    exported = GenerationConfig.from_pretrained(tmp_path / "exported")
    assert exported.eos_token_id == [258, 3]
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    network = again.model
    for start in range(40):
        text = theirs.generate(torch.tensor([[start, 1]]), do_sample=False, max_new_tokens=11)[0].tolist()
        ours = LanguageModel(network, BPE, again).generate([start, 1], temperature=0, max_new_tokens=11)
        assert ours == text


def padded(path: Path, rows: int) -> None:
    """Append random rows to the vocabulary of a folder."""
    tensors = load_file(path / "model.safetensors")
    embedding = tensors["transformer.wte.weight"]
    more = torch.randn(rows - len(embedding), embedding.size(1), generator=torch.Generator().manual_seed(3))
    tensors["transformer.wte.weight"] = torch.cat([embedding, more])
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))


def test_rows_that_pad_the_vocabulary_are_removed(tmp_path: Path) -> None:
    path = written(tmp_path, lively(with_bpe()), BPE)
    padded(path, 320)
    found = load_pretrained(str(path))
    assert found.model.config.vocab_size == 259
    assert "the 61 rows from 259 on of the embedding were removed" in found.notes[0]
    theirs = AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        torch.testing.assert_close(found.model(some_ids()), theirs(some_ids()).logits[..., :259], rtol=0, atol=1e-5)
    (report, *_) = [
        line for line in convert(found, Target(tmp_path / "own.ckpt"), "gpt2_lightning") if "source" in line
    ]
    assert "logits of the source's tensors and of this GPT-2: largest difference" in report


def test_rows_that_do_not_round_the_vocabulary_up_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lively(with_bpe()), BPE)
    padded(path, 300)
    with pytest.raises(UserError, match="vocab_size=300, the tokenizer has 259 tokens"):
        load_pretrained(str(path))


def test_a_vocabulary_without_an_end_has_none_there_either(saved: Path) -> None:
    assert AutoModelForCausalLM.from_pretrained(saved).generation_config.eos_token_id is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_there_and_back_is_the_same_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    model = lively().to(dtype)
    found = folder.read(written(tmp_path, model))
    assert found.model.config == CONFIG
    assert found.model.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor)
    assert found.tokenizer is not None
    assert found.tokenizer.decode(range(23)) == LETTERS.decode(range(23))


def test_shards_and_their_index_load_in_transformers_and_here(tmp_path: Path) -> None:
    model = lively()
    path = written(tmp_path, model, shard=20_000)
    shards = sorted(path.glob("model-*.safetensors"))
    assert len(shards) > 3
    assert not (path / "model.safetensors").exists()
    assert all(sum(t.nbytes for t in load_file(shard).values()) <= 20_000 for shard in shards)
    index = json.loads((path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in to_huggingface(model).values())
    require_same(to_huggingface(folder.read(path).model), to_huggingface(model), path)
    theirs = AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        torch.testing.assert_close(theirs(some_ids()).logits, model(some_ids()), rtol=0, atol=1e-5)


def test_weights_may_be_read_by_whom_the_other_files_may(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = written(tmp_path, lively(), shard=20_000)
    finally:
        os.umask(before)
    assert len(list(path.glob("model-*.safetensors"))) > 3
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o640}


def test_a_tensor_larger_than_a_shard_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, lively(), shard=1)
    assert len(list(path.glob("model-*.safetensors"))) == len(to_huggingface(lively()))
    require_same(to_huggingface(folder.read(path).model), to_huggingface(lively()), path)


def test_what_transformers_saves_is_read(tmp_path: Path, saved: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(saved)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    found = folder.read(tmp_path / "theirs")
    assert found.tokenizer is None
    require_same(to_huggingface(found.model), to_huggingface(lively()), saved)


def cut_off(path: Path) -> None:
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def empty(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def web_page(path: Path) -> None:
    (path / "model.safetensors").write_text("<html>not found</html>")


def without_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def other_weights(path: Path) -> None:
    (path / "model.safetensors").rename(path / "flax_model.msgpack")


class Runs:
    """An object that makes a folder `it-ran` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (self.path / "it-ran",)


def harmful_pickle(path: Path) -> None:
    torch.save({"wte.weight": Runs(path)}, path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def values_beside_tensors(path: Path) -> None:
    torch.save({"state_dict": {}, "epoch": 3}, path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def without_config(path: Path) -> None:
    (path / "config.json").unlink()


def half_a_config(path: Path) -> None:
    (path / "config.json").write_text('{"model_type": "gpt2", ')


def a_list_for_a_config(path: Path) -> None:
    (path / "config.json").write_text("[]")


def a_config_of_no_model(path: Path) -> None:
    (path / "config.json").write_text('{"name": "a web site"}')


def a_llama(path: Path) -> None:
    fields = {**LlamaConfig().to_dict(), "architectures": ["LlamaForCausalLM"]}
    (path / "config.json").write_text(json.dumps(fields))


def texts_for_numbers(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "n_layer": "two"}))


def another_tensor(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    del tensors["transformer.ln_f.bias"]
    save_file({**tensors, "score.weight": torch.zeros(2, 35)}, path / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        (cut_off, ["model.safetensors (", "bytes) is damaged or cut off", "fetch it again"]),
        (empty, ["(0 bytes) is damaged or cut off"]),
        (web_page, ["(22 bytes) is damaged or cut off"]),
        (without_weights, ["neither model.safetensors nor pytorch_model.bin", "fetch it again"]),
        (other_weights, ["it has flax_model.msgpack, which are not read", "save it as such with transformers"]),
        (harmful_pickle, ["pytorch_model.bin holds something other than tensors", "nothing of it was run"]),
        (values_beside_tensors, ["pytorch_model.bin contains state_dict, epoch beside tensors"]),
        (without_config, ["no config.json"]),
        (half_a_config, ["config.json cannot be read as JSON"]),
        (a_list_for_a_config, ["a list and not an object"]),
        (a_config_of_no_model, ["has no model_type"]),
        (a_llama, ["the architecture is 'llama', LlamaForCausalLM, and not 'gpt2'"]),
        (texts_for_numbers, ["config.json is not a GPT-2 that can be read"]),
        (another_tensor, ["ln_f.bias: missing", "score.weight: not part of this architecture; it is a classifier's"]),
    ],
)
def test_what_a_folder_lacks_is_told(saved: Path, damage: Callable[[Path], None], fragments: list[str]) -> None:
    damage(saved)
    with pytest.raises(UserError) as caught:
        folder.read(saved)
    assert [fragment for fragment in fragments if fragment not in str(caught.value)] == [], caught.value
    assert str(saved) in str(caught.value)
    assert not (saved / "it-ran").exists()


def test_a_part_of_a_model_in_the_cache_of_the_hub_names_the_address_of_the_whole(saved: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / ("a1" * 20)
    snapshot.mkdir(parents=True)
    (saved / "config.json").rename(snapshot / "config.json")
    with pytest.raises(UserError, match=f"name hf:someone/tiny@{'a1' * 20} to download the rest"):
        folder.read(snapshot)


def pickle_of_an_early_version(path: Path, shards: int, zipped: bool = True) -> None:
    """Replace safetensors by what early versions of transformers wrote: no prefix, and the masks as buffers."""
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(path / "model.safetensors").items()}
    for layer in range(CONFIG.n_layer):
        size = CONFIG.block_size
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, size, size, dtype=torch.uint8).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin": names[i::shards] for i in range(shards)}
    if shards == 1:
        files = {"pytorch_model.bin": names}
    else:
        index = {"weight_map": {name: file for file, own in files.items() for name in own}}
        (path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for file, own in files.items():
        torch.save({name: tensors[name] for name in own}, path / file, _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize(("shards", "zipped"), [(1, True), (1, False), (3, True)])
def test_pickles_of_early_versions_are_read_as_tensors(saved: Path, shards: int, zipped: bool) -> None:
    pickle_of_an_early_version(saved, shards, zipped)
    require_same(to_huggingface(folder.read(saved).model), to_huggingface(lively()), saved)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, lively(), shard=40_000)
    (gone, *_) = sorted(path.glob("model-*.safetensors"))
    gone.unlink()
    with pytest.raises(UserError, match=rf"{gone.name}.* model\.safetensors\.index\.json"):
        folder.read(path)


def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lively(), shard=40_000)
    index = path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["transformer.wte.weight"] = "../elsewhere.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="no weight_map from tensors to files beside it"):
        folder.read(path)


def test_an_index_that_its_files_contradict_is_told_tensor_by_tensor(tmp_path: Path) -> None:
    path = written(tmp_path, lively(), shard=40_000)
    index = path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    del content["weight_map"]["transformer.wte.weight"]
    content["weight_map"]["transformer.extra"] = content["weight_map"]["transformer.wpe.weight"]
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="and its files disagree") as caught:
        folder.read(path)
    assert "transformer.extra: not in model-00001" in str(caught.value)
    assert "transformer.wte.weight: in model-00001" in str(caught.value)


def test_a_folder_that_is_there_is_not_written_into(saved: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: File exists"):
        folder.write(lively(), LETTERS, saved, "", UNLIMITED)


def test_files_of_others_are_told_from_ours(tmp_path: Path) -> None:
    path = written(tmp_path, lively(with_bpe()), BPE, shard=40_000)
    assert folder.unknown_files(path) == []
    (path / "notes.txt").touch()
    (path / "pytorch_model.bin").touch()
    assert folder.unknown_files(path) == ["notes.txt", "pytorch_model.bin"]


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("1.5 MB", 1_500_000), ("20KB", 20_000), ("7B", 7), ("1GB", 10**9)]
)
def test_sizes_are_decimal(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "GB", "0MB", "-1GB", "5 gigabytes", "0.1B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as 500MB or 5GB is allowed"):
        parse_size(text)
