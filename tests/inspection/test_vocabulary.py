import pytest

from gpt2_lightning.inspection.vocabulary import examine
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer
from gpt2_lightning.tokenizers.bpe import from_corpus


def test_figures_of_a_text_counted_by_hand() -> None:
    figures = examine(CharTokenizer("abcé", end_of_text=True), ["aab", "é"], CharTokenizer("abé"))
    assert (figures.text_bytes, figures.tokens, figures.reference_tokens) == (5, 4, 4)
    assert figures.bytes_per_token == 1.25
    assert figures.most_frequent == [(b"a", 2), (b"b", 1), ("é".encode(), 1)]
    assert figures.longest == ["é".encode(), b"a", b"b"]
    assert figures.unused == [2, 4], "c, and the end of text"


def test_gpt2_needs_fewer_tokens_than_bytes() -> None:
    text = "The keeper of the lamp went out, and the airlock opened. " * 5
    figures = examine(from_corpus([text], several_documents=False, vocab_size=300), [text], GPT2Tokenizer())
    assert figures.reference_tokens == len(GPT2Tokenizer().encode(text))
    assert figures.reference_bytes_per_token == pytest.approx(len(text) / figures.reference_tokens)
    assert figures.longest[0] == max(figures.longest, key=len)
