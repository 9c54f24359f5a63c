import pytest

from gpt2_lightning.inspection.token_labels import text_labels, token_label, token_labels
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (b" the", "·the"),
        (b"\n\n\t", "↵↵⇥"),
        (b"", "∅"),
        (b"\r\x1b", "\\r\\x1b"),
        (b"\xe2\x80", "\\xe2\\x80"),
        ("é中".encode(), "é中"),
        ("\u202e\u00a0".encode(), "\\u202e\\xa0"),
        (b"<script>", "<script>"),
    ],
)
def test_nothing_in_a_label_is_invisible(token: bytes, label: str) -> None:
    assert token_label(token) == label


def test_labels_are_those_of_the_tokenizer() -> None:
    tokenizer = GPT2Tokenizer()
    assert token_labels(tokenizer.encode("Hello new\nworld").tolist(), tokenizer) == ["Hello", "·new", "↵", "world"]
    assert token_labels([0, 2], CharTokenizer("ab", end_of_text=True)) == ["a", "<|endoftext|>"]


def test_a_character_of_several_tokens_is_seen_in_each() -> None:
    tokenizer = GPT2Tokenizer()
    text = "say “鯨\n🙂”"
    ids = tokenizer.encode(text).tolist()
    assert [tokenizer.token_bytes(i) for i in ids[1:4]] == [b" \xe2\x80", b"\x9c", b"\xe9"]
    assert text_labels(ids, tokenizer) == ["say", "·“₁", "“₂", "鯨₁", "鯨₂", "鯨₃", "↵", "🙂₁", "🙂₂", "”₁", "”₂"]
    assert text_labels(ids[2:], tokenizer)[:2] == ["\\x9c", "鯨₁"], "a part without the rest stays what it is"


def test_labels_of_a_text_in_whole_characters_are_those_of_its_tokens() -> None:
    tokenizer = GPT2Tokenizer()
    ids = tokenizer.encode("A keeper,\n\n\tcafé \x1b").tolist()
    assert text_labels(ids, tokenizer) == token_labels(ids, tokenizer)
    assert text_labels([], tokenizer) == []
    assert text_labels([1, 0], CharTokenizer("\ud800b")) == token_labels([1, 0], CharTokenizer("\ud800b"))
