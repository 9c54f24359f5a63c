import pytest

from gpt2_lightning.inspection.token_labels import token_label, token_labels
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
