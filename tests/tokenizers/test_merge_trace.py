"""Encoding watched, merge by merge."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_lightning.tokenizers import BPETokenizer
from gpt2_lightning.tokenizers.bpe import from_corpus
from gpt2_lightning.tokenizers.gpt2 import read_merge_lines
from gpt2_lightning.tokenizers.merge_trace import MergeStep, merge_trace

TRAINED = from_corpus(["the thin theme of the thing; über 日本 aaaa aa aaa\n"] * 3, False, 300)


def test_a_worked_example() -> None:
    """Merges: h e, t he. The first joins in both words, the second in one."""
    tokenizer = BPETokenizer.from_merge_lines(["h e", "t he", "x y"])
    assert list(merge_trace(tokenizer, "the he")) == [
        MergeStep(None, None, [[b"t", b"h", b"e"], [b" ", b"h", b"e"]]),
        MergeStep(0, (b"h", b"e"), [[b"t", b"he"], [b" ", b"he"]]),
        MergeStep(1, (b"t", b"he"), [[b"the"], [b" ", b"he"]]),
    ]


def test_a_merge_joins_from_left_to_right() -> None:
    steps = list(merge_trace(BPETokenizer.from_merge_lines(["a a"]), "aaaaa"))
    assert steps[-1].words == [[b"aa", b"aa", b"a"]]
    assert len(steps) == 2


def test_a_merge_may_make_an_earlier_one_fit() -> None:
    """`abc` is made in two ways, and only the later merge makes it here; then the one before that fits."""
    tokenizer = BPETokenizer.from_merge_lines(["b c", "a b", "ab c", "abc d", "a bc"])
    steps = list(merge_trace(tokenizer, "abcd"))
    assert [step.rank for step in steps] == [None, 0, 4, 3]
    assert steps[-1].words == [[b"abcd"]]


def test_gpt2s_steps_end_in_its_tokens() -> None:
    tokenizer = BPETokenizer.from_merge_lines(read_merge_lines())
    *_, last = merge_trace(tokenizer, "Hello world,\n\n tokenization 🚀")
    flat = list(itertools.chain.from_iterable(last.words))
    assert flat == [tokenizer.token_bytes(i) for i in tokenizer.encode("Hello world,\n\n tokenization 🚀")]
    assert flat[:2] == [b"Hello", b" world"]


def test_a_text_without_merges_has_one_step() -> None:
    assert list(merge_trace(TRAINED, "")) == [MergeStep(None, None, [])]
    assert list(merge_trace(TRAINED, "Q")) == [MergeStep(None, None, [[b"Q"]])]


@st.composite
def tokenizers(draw: st.DrawFn) -> BPETokenizer:
    """Any merges of what there is so far, in an order that no training would give."""
    ids = [64, 65, 66]
    merges: list[tuple[int, int]] = []
    made: dict[bytes, int] = {}
    text = {64: b"a", 65: b"b", 66: b"c"}
    for _ in range(draw(st.integers(0, 9))):
        pair = (draw(st.sampled_from(ids)), draw(st.sampled_from(ids)))
        if pair in merges:
            continue
        merges.append(pair)
        token = text[pair[0]] + text[pair[1]]
        if token not in made:
            made[token] = 256 + len(made)
            text[made[token]] = token
            ids.append(made[token])
    return BPETokenizer(merges)


@settings(deadline=None)
@given(st.text(st.sampled_from("abc "), max_size=30), tokenizers())
def test_steps_end_in_what_encode_gives(text: str, tokenizer: BPETokenizer) -> None:
    steps = list(merge_trace(tokenizer, text))
    flat = [token for word in steps[-1].words for token in word]
    assert flat == [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]


@settings(deadline=None)
@given(st.text(st.sampled_from("then aü日 \n")))
def test_every_step_shortens_the_text_by_its_merge(text: str) -> None:
    steps = list(merge_trace(TRAINED, text))
    for before, after in itertools.pairwise(steps):
        assert after.pair is not None
        assert sum(map(len, after.words)) < sum(map(len, before.words))
        assert b"".join(after.pair) in itertools.chain.from_iterable(after.words)
        assert b"".join(itertools.chain.from_iterable(after.words)) == text.encode()
    ranks = [step.rank for step in steps[1:]]
    assert ranks == sorted(set(ranks)), "merges that were learned from a text never come again"
