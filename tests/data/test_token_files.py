from pathlib import Path

import numpy as np
import pytest

from gpt2_lightning.data.corpus import Splits
from gpt2_lightning.data.tokens import encode_once
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer

SPLITS = Splits(train="the cat sat on the mat. ", val="the hat")


@pytest.fixture
def tokenizer() -> CharTokenizer:
    return CharTokenizer(SPLITS.train)


def test_ids_decode_to_both_parts(tmp_path: Path, tokenizer: CharTokenizer) -> None:
    files = encode_once(SPLITS, tokenizer, tmp_path)
    assert tokenizer.decode(np.load(files.train).tolist()) == SPLITS.train
    assert tokenizer.decode(np.load(files.val).tolist()) == SPLITS.val
    assert np.load(files.train).dtype == np.uint16


def test_a_text_is_encoded_once(tmp_path: Path, tokenizer: CharTokenizer) -> None:
    """Marked ids survive a second call, so that it did not encode again."""
    first = encode_once(SPLITS, tokenizer, tmp_path)
    marked = np.full(5, 3, dtype=np.uint16)
    np.save(first.train, marked)
    second = encode_once(SPLITS, CharTokenizer(SPLITS.train), tmp_path)
    assert second.train == first.train
    assert np.load(second.train).tolist() == marked.tolist()


def test_another_tokenizer_has_other_files(tmp_path: Path, tokenizer: CharTokenizer) -> None:
    tokenizers = [tokenizer, CharTokenizer(SPLITS.train + "#"), GPT2Tokenizer()]
    files = [encode_once(SPLITS, t, tmp_path) for t in tokenizers]
    assert len({f.train for f in files}) == len({f.val for f in files}) == 3
    for t, f in zip(tokenizers, files, strict=True):
        assert t.decode(np.load(f.val).tolist()) == SPLITS.val


def test_another_text_or_cut_has_other_files(tmp_path: Path, tokenizer: CharTokenizer) -> None:
    whole = SPLITS.train + SPLITS.val
    cuts = [Splits(whole[:cut], whole[cut:]) for cut in (20, 21)]
    files = [encode_once(splits, tokenizer, tmp_path) for splits in (SPLITS, *cuts)]
    assert len({f.train for f in files}) == 3


def test_bytes_per_token_are_those_of_each_part(tmp_path: Path) -> None:
    splits = Splits(train="aé€ " * 9, val="é€a")
    files = encode_once(splits, CharTokenizer(splits.train), tmp_path)
    assert files.bytes_per_token == pytest.approx({"train": (1 + 2 + 3 + 1) / 4, "val": (2 + 3 + 1) / 3})


def test_no_temporary_file_stays(tmp_path: Path, tokenizer: CharTokenizer) -> None:
    encode_once(SPLITS, tokenizer, tmp_path)
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["train.npy", "val.npy"]


def test_characters_that_training_lacks_are_named_with_their_place(tmp_path: Path) -> None:
    splits = Splits(train="abc", val="cabXa€")
    with pytest.raises(UserError) as caught:
        encode_once(splits, CharTokenizer(splits.train), tmp_path)
    message = str(caught.value)
    assert message.startswith("in the validation part of the text:")
    assert "'X' (U+0058) at character 3" in message
    assert "'€' (U+20AC) at character 5" in message
    assert not list(tmp_path.rglob("val.npy"))


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, tokenizer: CharTokenizer) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder", encoding="utf-8")
    with pytest.raises(UserError, match=r"cache_dir: the token file .* cannot be written: (?!None)"):
        encode_once(SPLITS, tokenizer, in_the_way)
    assert in_the_way.read_text(encoding="utf-8") == "no folder"


@pytest.mark.parametrize("room", [0, 100, 150, 10_000, 20_000], ids=lambda room: f"after {room} bytes")
def test_a_full_disk_leaves_no_token_file(tmp_path: Path, room: int) -> None:
    resource = pytest.importorskip("resource", reason="the size of a file can be limited on POSIX only")
    splits = Splits("abc" * 3370, "abc")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written: (?!None)"):
            encode_once(splits, CharTokenizer("abc"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
