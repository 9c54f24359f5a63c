"""Tokenizers in Hugging Face's files, read by their own classes, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPT2Config, GPT2TokenizerFast

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.tokenizer_files import padding_id, read_tokenizer, write_tokenizer_files
from gpt2_lightning.tokenizers import BPETokenizer, CharTokenizer, GPT2Tokenizer, HuggingFaceTokenizer, Tokenizer
from gpt2_lightning.tokenizers.bpe import from_corpus
from gpt2_lightning.tokenizers.saved import tokenizer_from_text

CODE = "def f(x):\n\treturn [x ** 2 for x in range(10) if x != 3]  # ^ \\ ~ && || -\r\n"
SPACES = "  a   b\n\n\n  c \t d\u00a0\u3000e  \n "
UNICODE = "Zürich, Ещё раз, 日本語の文章, مرحبا, नमस्ते, 👩‍🚀 ½ ² e\u0301 it's we'll \ufffd"
TEXT = CODE + SPACES + UNICODE
END = "<|endoftext|>"


def metaspace() -> HuggingFaceTokenizer:
    theirs = tokenizers.Tokenizer(models.Unigram())
    theirs.pre_tokenizer, theirs.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=97, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    theirs.train_from_iterator([TEXT], trainer)
    theirs.add_special_tokens(["</s>"])
    theirs.enable_truncation(3)
    return HuggingFaceTokenizer(theirs.to_str(), "</s>")


def byte_level_of_theirs(first: list[str], prefix_space: bool = False) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    theirs.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=331, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    theirs.train_from_iterator([TEXT * 3], trainer)
    return theirs


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": GPT2Tokenizer,
    "bpe": lambda: from_corpus([TEXT * 3], False, 331),
    "bpe without special tokens": lambda: from_corpus([TEXT * 3], False, 331, []),
    "bpe with two": lambda: from_corpus([TEXT * 3], False, 331, ["<|user|>", END]),
    "char": lambda: CharTokenizer(TEXT.replace("\ufffd", "")),
    "char that skips": lambda: CharTokenizer(TEXT, "skip", end_of_text=True),
    "char that replaces": lambda: CharTokenizer(TEXT, "replace", end_of_text=True),
    "huggingface": metaspace,
    "huggingface, byte-level": lambda: HuggingFaceTokenizer(byte_level_of_theirs([END]).to_str(), END),
}
Exported = tuple[Tokenizer, Any, Path]
"""A tokenizer, their reading of its files, and the folder, which holds a model's configuration too."""


def kind_of(exported: Exported) -> str:
    return exported[2].name.rstrip("0123456789")


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    ours = KINDS[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    write_tokenizer_files(ours, folder, block_size=37)
    end = ours.end_of_text
    GPT2Config(vocab_size=ours.vocab_size, bos_token_id=end, eos_token_id=end).save_pretrained(folder)
    return ours, AutoTokenizer.from_pretrained(folder), folder


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from(TEXT)))
@example(CODE)
@example(SPACES)
@example(UNICODE)
@example(f"a{END}b</s>")
@pytest.mark.slow
def test_their_ids_and_text_are_ours(exported: Exported, text: str) -> None:
    ours, theirs, _ = exported
    ids = ours.encode(text).tolist()
    assert theirs(text, split_special_tokens=True)["input_ids"] == ids
    assert theirs.decode(ids) == ours.decode(ids)


def test_sizes_and_special_tokens_agree(exported: Exported) -> None:
    ours, theirs, _ = exported
    assert len(theirs) == ours.vocab_size
    assert theirs.model_max_length == 37
    assert theirs.eos_token_id == theirs.bos_token_id == ours.end_of_text
    unknown = {"char that replaces": "\ufffd", "huggingface": "<unk>"}.get(kind_of(exported))
    assert theirs.unk_token_id == (theirs.get_vocab()[unknown] if unknown else ours.end_of_text)
    assert theirs.pad_token_id == ours.end_of_text


def bert_like(config: dict[str, Any], added: bool) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """A WordPiece tokenizer, whose decoder puts a space before a word, with special tokens in its vocabulary."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "ship", "##s"]
    theirs = tokenizers.Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    theirs.pre_tokenizer, theirs.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    if added:
        theirs.add_special_tokens(words[:4])
    return theirs, {"tokenizer_class": "PreTrainedTokenizerFast", **config}


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_special_tokens_of_the_source_have_their_names_and_ids_after_an_export(
    tmp_path: Path, added: bool, file: str
) -> None:
    names = {"eos_token": "[SEP]", "pad_token": {"content": "[PAD]"}, "unk_token": "[UNK]"}
    theirs, config = bert_like(names, added)
    theirs.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / file).write_text(json.dumps(config))
    ours = tokenizer_from_text(read_tokenizer(tmp_path).to_text())
    write_tokenizer_files(ours, tmp_path / "exported", 37)
    again = AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert len(again) == ours.vocab_size == 7
    assert (again.eos_token, again.pad_token, again.unk_token) == ("[SEP]", "[PAD]", "[UNK]")
    assert (again.eos_token_id, again.pad_token_id, again.unk_token_id) == (3, 0, 1)
    assert (ours.end_of_text, padding_id(ours)) == (3, 0)
    assert again("the ships")["input_ids"] == ours.encode("the ships").tolist() == [4, 5, 6]


def test_a_padding_token_of_a_byte_level_tokenizer_is_kept(tmp_path: Path) -> None:
    write_tokenizer_files(from_corpus([TEXT * 3], False, 331, [END, "<pad>"]), tmp_path, 37)
    assert read_tokenizer(tmp_path).kind == "bpe"
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "<pad>"}))
    write_tokenizer_files(read_tokenizer(tmp_path), tmp_path / "again", 37)
    assert AutoTokenizer.from_pretrained(tmp_path / "again").pad_token_id == 330


def test_names_of_tokens_that_the_vocabulary_lacks_are_left_out(tmp_path: Path) -> None:
    write_tokenizer_files(GPT2Tokenizer(), tmp_path, 37)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "[PAD]"}))
    ours = read_tokenizer(tmp_path)
    write_tokenizer_files(ours, tmp_path / "exported", 37)
    assert ours.kind == "gpt2"
    assert len(AutoTokenizer.from_pretrained(tmp_path / "exported")) == 50257


def test_special_tokens_in_a_text_are_found_as_is_their_custom(exported: Exported) -> None:
    ours, theirs, _ = exported
    if ours.end_of_text is not None:
        end = theirs.eos_token
        assert theirs(f"a{end}")["input_ids"][-1] == ours.end_of_text
        assert ours.end_of_text not in ours.encode(f"a{end}")


@pytest.mark.parametrize(
    "text", [f"a{END}b", END, f"{END}{END} a </s> c {END}", f"x <|user|>{END} {TEXT}", "a</s>b<unk> c", "a"]
)
def test_special_tokens_are_encoded_as_theirs_on_request(exported: Exported, text: str) -> None:
    ours, theirs, _ = exported
    ids = ours.encode_with_special_tokens(text)
    assert ids.tolist() == theirs(text)["input_ids"]
    assert ids.dtype == ours.dtype


@pytest.mark.parametrize("added", [True, False])
def test_special_tokens_that_only_the_configuration_names_are_encoded_as_theirs(tmp_path: Path, added: bool) -> None:
    theirs, config = bert_like({"eos_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}, added)
    theirs.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours, text = tokenizer_from_text(read_tokenizer(tmp_path).to_text()), "the [SEP] ships[PAD] [UNK]the"
    assert ours.encode_with_special_tokens(text).tolist() == AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"]
    assert ours.end_of_text in ours.encode_with_special_tokens(text)
    assert ours.end_of_text not in ours.encode(text)


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_a_special_token_that_depends_on_its_neighbors_is_encoded_as_theirs(tmp_path: Path, flag: str) -> None:
    theirs = byte_level_of_theirs([END])
    theirs.add_special_tokens([tokenizers.AddedToken("<mask>", normalized=False, **{flag: True})])
    theirs.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    ours, text = read_tokenizer(tmp_path), "a <mask> b<mask>c"
    assert ours.encode_with_special_tokens(text).tolist() == AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"]


def test_read_back_it_is_the_same(exported: Exported) -> None:
    ours, _, folder = exported
    again = read_tokenizer(folder)
    assert again.kind == ours.kind
    assert again.end_of_text == ours.end_of_text
    assert again.vocab_size == ours.vocab_size
    texts = [CODE, SPACES, UNICODE.replace("½", "")]
    assert [again.encode(text).tolist() for text in texts] == [ours.encode(text).tolist() for text in texts]
    if ours.kind != "huggingface":
        assert again.hash() == ours.hash()


def test_read_from_what_they_save_it_is_the_same(exported: Exported, tmp_path: Path) -> None:
    ours, theirs, _ = exported
    theirs.save_pretrained(tmp_path)
    again = read_tokenizer(tmp_path)
    assert again.kind == ours.kind
    assert again.encode(TEXT).tolist() == ours.encode(TEXT).tolist()


def test_gpt2s_files_are_openais(tmp_path: Path, shared_data: Path) -> None:
    write_tokenizer_files(GPT2Tokenizer(), tmp_path, 1024)
    assert (tmp_path / "vocab.json").read_bytes() == (shared_data / "gpt2_vocab" / "encoder.json").read_bytes()
    assert (tmp_path / "merges.txt").read_bytes() == (shared_data / "gpt2_vocab" / "vocab.bpe").read_bytes()


def test_a_tokenizer_that_rejects_texts_substitutes_there(tmp_path: Path) -> None:
    write_tokenizer_files(CharTokenizer("ab?", "error"), tmp_path, 5)
    assert AutoTokenizer.from_pretrained(tmp_path)("ab—")["input_ids"] == [1, 2, 0]


def test_early_files_without_a_substitute_are_read(tmp_path: Path) -> None:
    write_tokenizer_files(CharTokenizer("ab?"), tmp_path, 5)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["unk_token"] = ""
    file.write_text(json.dumps(content), encoding="utf-8")
    assert read_tokenizer(tmp_path).hash() == CharTokenizer("ab?").hash()


@pytest.mark.parametrize(
    ("tokenizer", "files"),
    [
        (BPETokenizer([]), ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"]),
        (CharTokenizer("abc"), ["tokenizer.json", "tokenizer_config.json"]),
    ],
    ids=["bpe", "char"],
)
def test_the_files_are_returned(tmp_path: Path, tokenizer: Tokenizer, files: list[str]) -> None:
    written = write_tokenizer_files(tokenizer, tmp_path / "new" / "folder", 5)
    assert [path.relative_to(tmp_path / "new" / "folder").as_posix() for path in written] == files
    assert all(path.is_file() for path in written)


@pytest.mark.parametrize(
    ("tokenizer", "why"),
    [
        (BPETokenizer([], ["a"]), r"the special token 'a': they write token 64, b'a', in the same way"),
        (BPETokenizer([], ["Ġ"]), r"the special token 'Ġ': they write token 220, b' ', in the same way"),
        (CharTokenizer("ab\ud800"), r"U\+D800, which is half of a character"),
    ],
    ids=["a byte", "a byte in disguise", "surrogate"],
)
def test_what_their_files_cannot_express_is_refused(tmp_path: Path, tokenizer: Tokenizer, why: str) -> None:
    with pytest.raises(UserError, match=f"Hugging Face's files cannot express {why}"):
        write_tokenizer_files(tokenizer, tmp_path, 5)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot be written to {tmp_path / 'file'}: File exists"):
        write_tokenizer_files(CharTokenizer("a"), tmp_path / "file", 5)


def keep_the_early_files(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize("kind", ["gpt2", "bpe", "bpe without special tokens", "bpe with two"])
def test_vocabulary_and_merges_are_enough(tmp_path: Path, kind: str) -> None:
    ours = KINDS[kind]()
    write_tokenizer_files(ours, tmp_path, 5)
    keep_the_early_files(tmp_path)
    assert read_tokenizer(tmp_path).hash() == ours.hash()


@pytest.mark.parametrize("kind", ["gpt2", "bpe", "bpe with two"])
def test_their_class_for_gpt2_reads_vocabulary_and_merges_alone(tmp_path: Path, kind: str) -> None:
    ours = KINDS[kind]()
    write_tokenizer_files(ours, tmp_path, 5)
    keep_the_early_files(tmp_path)
    theirs = GPT2TokenizerFast.from_pretrained(tmp_path)
    assert theirs(TEXT)["input_ids"] == ours.encode(TEXT).tolist()
    assert theirs.bos_token_id == theirs.eos_token_id == theirs.unk_token_id == ours.end_of_text


def test_vocabulary_and_merges_in_another_order_need_their_library(tmp_path: Path) -> None:
    """Special tokens first, as RoBERTa has them."""
    theirs = byte_level_of_theirs(["<s>", "</s>"])
    theirs.model.save(str(tmp_path))
    again = read_tokenizer(tmp_path)
    assert again.kind == "huggingface"
    assert again.end_of_text == 1
    assert again.encode(TEXT).tolist() == theirs.encode(TEXT).ids


def test_an_early_file_without_types_is_read(tmp_path: Path) -> None:
    """As GPT-2's own on their hub: no type of the model, no `use_regex`, post-processor, nothing on `eos_token`."""
    ours = from_corpus([TEXT], False, 300)
    write_tokenizer_files(ours, tmp_path, 5)
    file = tmp_path / "tokenizer.json"
    definition = json.loads(file.read_text(encoding="utf-8"))
    del definition["model"]["type"], definition["pre_tokenizer"]["use_regex"]
    definition["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
    file.write_text(json.dumps(definition))
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    assert read_tokenizer(tmp_path).hash() == ours.hash()


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *parents, last = path.split(".")

    def change(definition: dict[str, Any]) -> None:
        for parent in parents:
            definition = definition[parent]
        definition[last] = value

    return change


def added_not_special(definition: dict[str, Any]) -> None:
    definition["added_tokens"][0]["special"] = False


@pytest.mark.parametrize(
    "change",
    [
        changed("normalizer", {"type": "NFC"}),
        changed("pre_tokenizer.add_prefix_space", True),
        changed("pre_tokenizer.use_regex", False),
        changed("pre_tokenizer", {"type": "Whitespace"}),
        changed("decoder", None),
        changed("model.ignore_merges", True),
        changed("model.vocab.<|endoftext|>", 400),
        added_not_special,
    ],
)
def test_what_our_own_class_does_not_do_their_library_does(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    write_tokenizer_files(from_corpus([TEXT], False, 300), tmp_path, 5)
    file = tmp_path / "tokenizer.json"
    definition = json.loads(file.read_text(encoding="utf-8"))
    change(definition)
    file.write_text(json.dumps(definition))
    again = read_tokenizer(tmp_path)
    assert again.kind == "huggingface"
    theirs = tokenizers.Tokenizer.from_file(str(file))
    assert again.encode("naïve  text,\nit's").tolist() == theirs.encode("naïve  text,\nit's").ids


def test_another_end_of_text_is_kept(tmp_path: Path) -> None:
    write_tokenizer_files(from_corpus([TEXT], False, 300, ["<|im_end|>", END]), tmp_path, 5)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    assert read_tokenizer(tmp_path).end_of_text == 298


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "has neither tokenizer.json nor vocab.json and merges.txt"),
        ({"vocab.json": "{}"}, "has neither tokenizer.json nor vocab.json and merges.txt"),
        ({"tokenizer.json": "{"}, "cannot be used: Expecting property name"),
        ({"tokenizer.json": "[]"}, "cannot be used: it is no JSON object with a model"),
        ({"tokenizer.json": '{"model": {"type": "BPE"}}'}, "cannot be used: "),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n"}, "cannot be used: .*out of vocabulary"),
        ({"vocab.json": "[]", "merges.txt": ""}, r"vocab\.json contains no token ids"),
        ({"vocab.json": "{", "merges.txt": ""}, r"vocab\.json contains no token ids"),
    ],
)
def test_unfit_files_are_named(tmp_path: Path, files: dict[str, str], why: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{tmp_path}.*{why}"):
        read_tokenizer(tmp_path)
