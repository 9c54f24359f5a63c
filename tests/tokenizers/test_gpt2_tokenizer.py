"""GPT-2's tokenizer, against published ids, an implementation by others, and OpenAI's own table."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as TheirTokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers.convert_slow_tokenizer import bytes_to_unicode

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import GPT2Tokenizer
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT
from gpt2_lightning.tokenizers.gpt2 import MERGES, from_corpus, read_ranks

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LIKE_PROSE = st.lists(
    st.sampled_from(
        [" ", "  ", "\n", "\t", "\u00a0", "'s", "'LL", "don't", "été", "日本", "42", "½", "…", "_", "🚀", "\r\n", "a"]
    )
).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> GPT2Tokenizer:
    return from_corpus(["the text does not matter"], several_documents=False)


@pytest.fixture(scope="module")
def theirs() -> TheirTokenizer:
    """Hugging Face's BPE and splitting, given the merges as they travel with the package."""
    lines = lzma.decompress(MERGES.read_bytes()).decode().splitlines()[1:]
    merges = [(left, right) for left, right in (line.split(" ") for line in lines)]
    bytes_first = sorted(bytes_to_unicode().values())
    vocabulary = {token: i for i, token in enumerate([*bytes_first, *(left + right for left, right in merges)])}
    tokenizer = TheirTokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world", [15496, 995]),
        ("hello world", [31373, 995]),
        ("Hello, I'm a language model,", [15496, 11, 314, 1101, 257, 3303, 2746, 11]),
        ("!", [0]),
        (" ", [220]),
        ("\n", [198]),
        ("\n\n", [628]),
        ("\n\na", [198, 198, 64]),
        ("", []),
    ],
)
def test_published_ids(tokenizer: GPT2Tokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text).tolist() == ids
    assert tokenizer.decode(ids) == text


def test_end_of_text_in_a_text_is_text(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer.encode("<|endoftext|>").tolist()
    assert ids == [27, 91, 437, 1659, 5239, 91, 29]
    assert tokenizer.decode(ids) == "<|endoftext|>"


def test_end_of_text_is_the_last_id(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.end_of_text == tokenizer.vocab_size - 1 == 50256
    assert tokenizer.decode([50256]) == "<|endoftext|>"


def test_a_part_of_a_character_becomes_a_replacement(tokenizer: GPT2Tokenizer) -> None:
    first, *rest = tokenizer.encode("🚀").tolist()
    assert rest
    assert tokenizer.decode([first]) == "\ufffd"
    assert tokenizer.decode([first, *rest]) == "🚀"


def test_ids_are_uint16(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.encode("Hello").dtype == np.uint16
    assert tokenizer.encode("").dtype == np.uint16


@settings(derandomize=True, deadline=None)
@given(ANY_TEXT | LIKE_PROSE)
@example("<|endoftext|>")
@example("\x00\ufeff\u200b\U0010ffff")
def test_decoding_gives_every_text_back(tokenizer: GPT2Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.decode(ids) == text


@settings(derandomize=True, deadline=None, max_examples=300)
@given(ANY_TEXT | LIKE_PROSE)
def test_ids_equal_those_of_hugging_faces_tokenizer(
    tokenizer: GPT2Tokenizer, theirs: TheirTokenizer, text: str
) -> None:
    assert tokenizer.encode(text).tolist() == theirs.encode(text).ids


def test_a_lone_surrogate_becomes_a_replacement(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b").tolist()) == "a\ufffdb"


@pytest.mark.parametrize("n_texts", [0, 1, 2, 331])
def test_a_batch_is_encoded_in_order(tokenizer: GPT2Tokenizer, n_texts: int) -> None:
    texts = [f"text {i}, {'long ' * (i % 7)}{END_OF_TEXT if i % 5 == 0 else ''}" for i in range(n_texts)]
    batch = tokenizer.encode_batch(texts)
    assert [ids.tolist() for ids in batch] == [tokenizer.encode(text).tolist() for text in texts]
    assert all(ids.dtype == np.uint16 for ids in batch)


def test_ranks_are_bytes_first_then_merges() -> None:
    ranks = read_ranks(MERGES)
    assert sorted(ranks.values()) == list(range(50256))
    assert {token for token, rank in ranks.items() if rank < 256} == {bytes([byte]) for byte in range(256)}
    assert [ranks[token] for token in (b"!", b"~", b"\xa1", b"\x00", b" ", b"\xad")] == [0, 93, 94, 188, 220, 255]
    assert ranks[b" t"] == 256
    assert ranks[b" world"] == 995


def test_ranks_equal_openais_encoder(shared_data: Path) -> None:
    encoder = json.loads((shared_data / "gpt2_vocab" / "encoder.json").read_text(encoding="utf-8"))
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    assert encoder.pop("<|endoftext|>") == 50256
    assert read_ranks(MERGES) == {bytes(map(byte_of.get, token)): i for token, i in encoder.items()}


def test_merges_are_openais(shared_data: Path) -> None:
    assert lzma.decompress(MERGES.read_bytes()) == (shared_data / "gpt2_vocab" / "vocab.bpe").read_bytes()


@pytest.mark.parametrize(
    ("file", "tokens"),
    [
        ("tinyshakespeare/input.txt", 338_025),
        ("wikitext-2-raw/wiki.valid.raw", 249_887),
        ("wikitext-2-raw/wiki.train.raw", 2_417_786),
    ],
)
def test_token_counts_of_known_texts(tokenizer: GPT2Tokenizer, shared_data: Path, file: str, tokens: int) -> None:
    text = (shared_data / file).read_text(encoding="utf-8")
    ids = tokenizer.encode(text)
    assert len(ids) == tokens
    assert tokenizer.decode(ids) == text


def test_nanogpts_split_of_tinyshakespeare_has_its_published_counts(
    tokenizer: GPT2Tokenizer, shared_data: Path
) -> None:
    text = (shared_data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    split = int(0.9 * len(text))
    assert (len(tokenizer.encode(text[:split])), len(tokenizer.encode(text[split:]))) == (301_966, 36_059)


def fault_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_ranks(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("; install the package again, or restore the file from its repository")
    return str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "vocab.bpe.xz").startswith("GPT-2's vocabulary is missing: ")


def test_an_altered_table_is_noticed(tmp_path: Path) -> None:
    """Two merges exchanged: every id is still there, most texts would still encode, some otherwise."""
    lines = lzma.decompress(MERGES.read_bytes()).decode().splitlines(keepends=True)
    lines[1], lines[2] = lines[2], lines[1]
    path = tmp_path / "vocab.bpe.xz"
    path.write_bytes(lzma.compress("".join(lines).encode()))
    message = fault_of(path)
    assert message.startswith("GPT-2's vocabulary was altered: ")
    assert "expected 1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5" in message


@pytest.mark.parametrize("damage", ["cut", "flipped", "not xz", "empty"])
def test_a_corrupt_table_is_noticed(tmp_path: Path, damage: str) -> None:
    whole = MERGES.read_bytes()
    middle = len(whole) // 2
    path = tmp_path / "vocab.bpe.xz"
    path.write_bytes(
        {
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "not xz": b"#version: 0.2\n",
            "empty": b"",
        }[damage]
    )
    assert fault_of(path).startswith(("GPT-2's vocabulary cannot be unpacked (", "GPT-2's vocabulary was altered: "))


def test_an_equal_table_elsewhere_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vocab.bpe.xz"
    path.write_bytes(lzma.compress(lzma.decompress(MERGES.read_bytes()), preset=0))
    assert read_ranks(path) == read_ranks(MERGES)


@pytest.mark.slow
@pytest.mark.parametrize("space", [" ", "\n\u3000"])
def test_a_long_run_of_white_space_is_encoded(tokenizer: GPT2Tokenizer, theirs: TheirTokenizer, space: str) -> None:
    """tiktoken alone does not match a run of a million characters before a word."""
    run = space * (2**20 // len(space) + 5)
    text = f"one{run}two \x1c{run}"
    assert tokenizer.encode(text).tolist() == theirs.encode(text).ids
    with pytest.raises(ValueError, match="backtracking"):
        tokenizer._encode(text)


def test_a_lone_surrogate_beside_a_long_run_is_replaced(tokenizer: GPT2Tokenizer) -> None:
    text = "\ud83d" + " " * 2**20 + "x"
    assert tokenizer.decode(tokenizer.encode(text).tolist()) == text.replace("\ud83d", "\ufffd")
