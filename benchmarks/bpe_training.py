"""Training time of byte-level BPE, relative to Hugging Face tokenizers on the same text.

    python -m benchmarks.bpe_training INPUT.TXT

Ours is implemented in Python, theirs in Rust. Both update pair counts incrementally, and the merges are equal.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from benchmarks.results import report
from gpt2_lightning.tokenizers.bpe_training import count_words, learn_merges

_TOKENS = 10_000
_TURNS = 5


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m benchmarks.bpe_training INPUT.TXT")
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    turns = [(_theirs(text), _ours(text)) for _ in range(_TURNS)]
    ratio = statistics.median(ours / theirs for theirs, ours in turns)
    theirs, ours = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
    print(f"{_TOKENS:,} tokens from {len(text):,} characters: {ours:.2f} s, Hugging Face's tokenizers {theirs:.2f} s")
    report("bpe_training", {"training to 10,000 tokens over Hugging Face's tokenizers": round(ratio, 3)})


def _ours(text: str) -> float:
    started = time.perf_counter()
    learn_merges(count_words([text]), _TOKENS)
    return time.perf_counter() - started


def _theirs(text: str) -> float:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_TOKENS, initial_alphabet=alphabet, show_progress=False)
    started = time.perf_counter()
    tokenizer.train_from_iterator([text], trainer)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
