"""Tokenizers, without torch.

To add one: a file with a subclass of `Tokenizer` and a function `from_corpus` that makes it from the training text, its
class in `saved._KINDS`, and a YAML in `conf/tokenizer` whose `_target_` is the function.
"""

from gpt2_lightning.tokenizers.bpe import BPETokenizer
from gpt2_lightning.tokenizers.char import CharTokenizer
from gpt2_lightning.tokenizers.gpt2 import GPT2Tokenizer
from gpt2_lightning.tokenizers.huggingface import HuggingFaceTokenizer
from gpt2_lightning.tokenizers.saved import tokenizer_from_text
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

__all__ = [
    "BPETokenizer",
    "CharTokenizer",
    "GPT2Tokenizer",
    "HuggingFaceTokenizer",
    "Tokenizer",
    "tokenizer_from_text",
]
