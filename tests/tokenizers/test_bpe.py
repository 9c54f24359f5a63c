"""Byte-level BPE: training against Hugging Face's tokenizers, encoding against tiktoken."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import BPETokenizer, GPT2Tokenizer, tokenizer_from_text
from gpt2_lightning.tokenizers.bpe import from_corpus
from gpt2_lightning.tokenizers.bpe_arrays import ArrayMerger
from gpt2_lightning.tokenizers.bpe_training import Pair, count_words, learn_merges
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT
from gpt2_lightning.tokenizers.gpt2 import read_merge_lines

UNICODE = (
    "Zürich, Łódź, Ålesund und São Paulo; naïve café, œuvre. Ещё раз: съешь же этих мягких булок. "
    "日本語の文章もあります。日本語、日本語！ 한국어도 있습니다. مرحبا بالعالم مرحبا. नमस्ते दुनिया नमस्ते "
    "👩‍🚀🚀🚀 emoji 👩‍🚀 ½ ² ③ 𝒳𝒴𝒳  \t tabs\n\n\nand   spaces e\u0301e\u0301 \u00a0nbsp "
) * 7


@pytest.fixture(scope="module")
def gpt2_merges() -> BPETokenizer:
    return BPETokenizer.from_merge_lines(read_merge_lines())


def merges_of_huggingface(text: str, n_tokens: int) -> list[Pair]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=n_tokens, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    ids = tokenizer.get_vocab()
    return [(ids[first], ids[second]) for first, second in json.loads(tokenizer.to_str())["model"]["merges"]]


@pytest.mark.parametrize(
    "text", ["low low low lower lowest newest newest widest", "aaaa aaa aa aaaaa banana ananas", UNICODE]
)
@pytest.mark.parametrize("n_tokens", [257, 263, 300, 600])
def test_merges_are_those_of_huggingface(text: str, n_tokens: int) -> None:
    assert learn_merges(count_words([text]), n_tokens) == merges_of_huggingface(text, n_tokens)


@given(st.text(st.sampled_from("ab c'é"), max_size=60), st.integers(257, 290))
@pytest.mark.slow
def test_merges_are_those_of_huggingface_on_any_text(text: str, n_tokens: int) -> None:
    assert learn_merges(count_words([text]), n_tokens) == merges_of_huggingface(text, n_tokens)


@pytest.mark.slow
def test_merges_are_those_of_huggingface_on_real_text(shared_data: Path) -> None:
    text = (shared_data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    assert learn_merges(count_words([text]), 10_000) == merges_of_huggingface(text, 10_000)


def test_a_worked_example() -> None:
    """Sennrich et al. 2016, figure 1: low 5, lower 2, newest 6, widest 3. Most frequent first: e s, es t, …"""
    words = Counter({"low": 5, "lower": 2, "newest": 6, "widest": 3})
    tokenizer = BPETokenizer(learn_merges(words, 256 + 4))
    learned = [tokenizer.token_bytes(i) for i in range(256, 260)]
    assert learned == [b"es", b"est", b"lo", b"low"], "9 times es, 9 times est, then 7 times lo and low"


def test_equally_frequent_pairs_come_in_the_order_of_their_ids() -> None:
    tokenizer = BPETokenizer(learn_merges(Counter({"zb": 3, "ab": 3, "az": 3}), 258))
    assert [tokenizer.token_bytes(i) for i in (256, 257)] == [b"ab", b"az"]


def test_counting_takes_texts_one_by_one() -> None:
    assert count_words(iter(["one two", " two", "\n"])) == {"one": 1, " two": 2, "\n": 1}


def test_no_merge_crosses_the_split() -> None:
    tokenizer = from_corpus(["it's 42 it's 42 it's 42 " * 5], False, vocab_size=400)
    assert {tokenizer.token_bytes(i) for i in range(256, tokenizer.vocab_size - 1)} == {
        b"it",
        b"'s",
        b" 42",
        b"42",
        b" it",
    }


def test_gpt2s_merges_encode_as_tiktoken_does(gpt2_merges: BPETokenizer) -> None:
    assert gpt2_merges.vocab_size == 50257
    assert gpt2_merges.end_of_text == 50256
    for text in (UNICODE, "Hello world", " \n\n \t x", "'s 'll ''d", "1234567890 a" * 30, "<|endoftext|>"):
        assert gpt2_merges.encode(text).tolist() == GPT2Tokenizer().encode(text).tolist()


@pytest.mark.slow
def test_gpt2s_merges_encode_as_tiktoken_does_on_real_text(gpt2_merges: BPETokenizer, shared_data: Path) -> None:
    files = ["wikitext-2-raw/wiki.valid.raw", "sst2/dev.tsv", "sms-spam/SMSSpamCollection", "gpt2_vocab/encoder.json"]
    for name in files:
        text = (shared_data / name).read_text(encoding="utf-8")
        assert gpt2_merges.encode(text).tolist() == GPT2Tokenizer().encode(text).tolist(), name


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    tokenizer = from_corpus([UNICODE], False, vocab_size=500)
    assert tokenizer.decode(tokenizer.encode(text).tolist()) == text


def test_tokens_are_no_longer_than_the_text_needs() -> None:
    """With all pairs of a word merged, the word is one token."""
    tokenizer = from_corpus(["spaceship spaceship"], False, vocab_size=300)
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("spaceship")] == [b"spaceship"]
    assert tokenizer.vocab_size < 300, "there was nothing left to merge"


def test_special_tokens_are_text_unless_allowed() -> None:
    tokenizer = BPETokenizer([], special_tokens=("<a>", "<a><b>", END_OF_TEXT))
    text = "x<a><b>y<a>" + END_OF_TEXT
    assert tokenizer.encode(text).max() < 256
    assert tokenizer.encode("<a><b>x", allowed_special={"<a>", "<a><b>"}).tolist()[0] == 257, "the longest one wins"
    ids = tokenizer.encode(text, allowed_special={"<a>"}).tolist()
    assert [i for i in ids if i >= 256] == [256, 256]
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_text == 258
    with pytest.raises(UserError, match="'<c>' is no special token"):
        tokenizer.encode("x", allowed_special={"<c>"})


def test_a_long_word_takes_no_time_to_speak_of() -> None:
    """A list searched anew for each merge would take minutes here."""
    tokenizer = BPETokenizer([(64, 64), (256, 256), (257, 257)], special_tokens=())
    assert tokenizer.encode("a" * 100_003).tolist() == [258] * 12_500 + [256, 64], "eight at a time, then two and one"


def test_saved_and_read_it_is_the_same() -> None:
    tokenizer = from_corpus([UNICODE], False, vocab_size=600)
    again = tokenizer_from_text(tokenizer.to_text())
    assert again.hash() == tokenizer.hash()
    assert again.encode(UNICODE).tolist() == tokenizer.encode(UNICODE).tolist()
    assert again.end_of_text == tokenizer.end_of_text == tokenizer.vocab_size - 1


def test_a_vocabulary_without_room_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size: 256 is out of range, 257"):
        from_corpus(["text"], False, vocab_size=256)
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size: 258 is out of range, 259 \(256 bytes, 3 special"):
        from_corpus(["text"], False, 258, ["<a>", "<b>", "<c>"])


def test_special_tokens_come_last_in_the_order_given() -> None:
    tokenizer = from_corpus(["spaceship spaceship"], True, 263, ["<|user|>", END_OF_TEXT])
    assert tokenizer.vocab_size == 263
    assert tokenizer.special_tokens == {"<|user|>": 261, END_OF_TEXT: 262}
    assert tokenizer.end_of_text == 262
    assert from_corpus(["text"], False, 257, ["<|user|>"]).end_of_text is None


@pytest.mark.parametrize("special_tokens", [["<a>", "<a>"], ["<a>", ""]])
def test_special_tokens_that_are_none_are_a_users_mistake(special_tokens: list[str]) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.special_tokens: .* must be different texts, none of them empty"):
        from_corpus(["text"], False, 300, special_tokens)


def test_a_text_in_pieces_gives_the_same_merges() -> None:
    pieces = iter(["it was low", " lower,", "\n\nlowest", " low"])
    assert from_corpus(pieces, False, 263).hash() == from_corpus(["it was low lower,\n\nlowest low"], True, 263).hash()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.text(st.sampled_from("ab"), min_size=1, max_size=60)
    | st.text(st.sampled_from("aabcé日"), min_size=1, max_size=40)
)
def test_merges_in_arrays_give_the_ids_of_merges_in_lists(word: str) -> None:
    tokenizer = from_corpus(["a" * 40 + " abab" * 5 + " aabb abcabc é日é日 bbbaab" * 3 + " aaab"], True, 330)
    assert tokenizer._merger.ranks_rise
    assert tokenizer._merger.merge(tokenizer.byte_tokens(word)) == tokenizer._merge_word(word)


def test_merges_whose_ranks_fall_are_not_made_in_arrays() -> None:
    """(ab, c) comes before (a, b), by which alone its first token is made."""
    a, b, c = (BPETokenizer([]).byte_tokens(letter)[0] for letter in "abc")
    assert ArrayMerger({(a, b): (0, 256), (256, c): (1, 257)}).ranks_rise
    assert not ArrayMerger({(256, c): (0, 257), (a, b): (1, 256)}).ranks_rise


def test_long_words_are_merged_in_arrays_and_not_remembered() -> None:
    tokenizer = from_corpus(["the cat sat on the mat"], True, 270)
    word = "thecatsatonthemat" * 8000
    assert tokenizer.encode(word).tolist() == tokenizer._merge_word(word)
    assert "_merger" in vars(tokenizer)
    assert tokenizer._encode_word.cache_info().currsize == 0
