"""Speed of speculative decoding by lookup, relative to decoding token by token.

    python -m benchmarks.speculation INPUT.TXT

INPUT.TXT is tinyshakespeare (1,115,394 characters). Its passages are edited by a network of the size of GPT-2 124M,
whose weights are set by hand such that it repeats the prompt with some words replaced: one head attends to the token
that comes next in the passage, and the other weights, which cost as much, have no effect. So the text is known, and
every program takes the time of a real model. Texts that do not repeat are sampled from a network with random weights.
Both generate in float32, in alternation, on two threads, and the results are medians of the ratios.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.results import report
from gpt2_lightning.generation import Decoder, Sampling, Token
from gpt2_lightning.generation.speculation.draft import Draft
from gpt2_lightning.generation.speculation.outcome import Acceptance
from gpt2_lightning.model import GPT2, GPT2Config, KVCache
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.tokenizers import GPT2Tokenizer

_THREADS = 2
_TURNS = 5
_PASSAGE = 96
"""Tokens of a passage."""
_EDITS = {" king": " queen", " lord": " lady", " the": " this", " and": " but", " good": " kind", " thou": " you"}
_WIDTHS = (2, 5, 9, 17, 25)
"""Tokens of a pass."""


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m benchmarks.speculation INPUT.TXT, with tinyshakespeare's file")
    torch.set_num_threads(_THREADS)
    torch.manual_seed(0)
    tokenizer = GPT2Tokenizer()
    ids = torch.from_numpy(tokenizer.encode(Path(sys.argv[1]).read_text(encoding="utf-8")[:100_000]).astype("int64"))
    passages = list(ids[: 4 * _TURNS * _PASSAGE].view(-1, _PASSAGE))
    edits = {int(tokenizer.encode(old)[0]): int(tokenizer.encode(new)[0]) for old, new in _EDITS.items()}
    editor, random_weights = _editor(edits), GPT2(GPT2Config()).eval()
    edit, sample = Sampling(_PASSAGE, temperature=0), Sampling(32, temperature=1)
    written = zip(_tokens(editor, passages[:1], edit), passages[0].tolist(), strict=True)
    right = sum(token.id == edits.get(old, old) for token, old in written)
    figures: dict[str, float] = {"share of tokens that are those of the edit": right / _PASSAGE}
    for size in (1, 4):
        figures |= _beside(f"a text that repeats, batch {size}", editor, passages, size, edit)
        figures |= _beside(f"a text that does not repeat, batch {size}", random_weights, passages, size, sample)
    report("speculation", {key: round(value, 3) for key, value in (figures | _passes(editor)).items()})


@torch.no_grad()
def _editor(edits: dict[int, int]) -> GPT2:
    """Return a network that repeats the last `_PASSAGE` tokens with some tokens replaced."""
    model = GPT2(GPT2Config(tied_head=False)).eval()
    weights = dict(model.named_parameters())
    width = model.config.head_size  # D
    token, position, found = (slice(i * width, (i + 1) * width) for i in range(3))
    """Channels of the residual stream: a code of the token, one of its position, and the code that was found."""
    codes = torch.randn(model.config.vocab_rows, width).sign()
    weights["wte.weight"].zero_()
    weights["wte.weight"][:, token] = codes
    places, frequencies = torch.arange(model.config.block_size)[:, None], torch.rand(width // 2) * torch.pi
    weights["wpe.weight"].zero_()
    weights["wpe.weight"][:, position] = torch.cat(((places * frequencies).cos(), (places * frequencies).sin()), dim=1)
    for name, weight in weights.items():
        if name.endswith("c_proj.weight"):
            weight.zero_()
    back = (_PASSAGE - 1) * frequencies  # the next token is that of the place _PASSAGE - 1 before
    turn = torch.cat(
        (torch.cat((back.cos().diag(), back.sin().diag()), 1), torch.cat((-back.sin().diag(), back.cos().diag()), 1))
    )
    q, k, v = weights["h.0.attn.c_attn.weight"].split(model.config.n_embd)
    for weight, channels, matrix in (
        (q, position, 8 * turn),
        (k, position, torch.eye(width)),
        (v, token, torch.eye(width)),
    ):
        weight[:width] = 0
        weight[:width, channels] = matrix
    weights["h.0.attn.c_proj.weight"][found, :width] = torch.eye(width)
    replaced = torch.arange(len(codes))
    for old, new in edits.items():
        replaced[new], replaced[old] = old, new
    weights["lm_head.weight"].zero_()
    weights["lm_head.weight"][:, found] = codes[replaced]
    return model


def _tokens(model: GPT2, prompts: list[Tensor], sampling: Sampling, draft: Draft | None = None) -> list[Token]:
    return [token for step in Decoder(model, prompts, sampling, draft=draft) for token in step]


def _beside(name: str, model: GPT2, prompts: list[Tensor], size: int, sampling: Sampling) -> dict[str, float]:
    """Return the speed with lookup over that without, and what became of the drafts."""
    ratios, outcomes, same = [], [], 0
    with packed(model, size):
        for turn in range(_TURNS):
            batch = prompts[turn * size : (turn + 1) * size]
            plain_seconds, plain = _timed(_tokens, model, batch, sampling)
            seconds, found = _timed(_tokens, model, batch, sampling, "lookup")
            ratios.append(plain_seconds / seconds)
            outcomes += [token.outcome for token in found]
            same += sorted(map(_place, found)) == sorted(map(_place, plain))
    counts = Acceptance.of(outcomes)
    print(
        f"{name}: {counts}; texts of {same} of {_TURNS} turns equal; {', '.join(f'{r:.2f}' for r in ratios)}",
        flush=True,
    )
    return {
        f"{name}: speed over decoding token by token": statistics.median(ratios),
        f"{name}: tokens a step": counts.tokens_per_step,
        f"{name}: share of drafted tokens accepted": counts.rate,
    }


def _place(token: Token) -> tuple[int, int]:
    return token.row, token.id


@torch.inference_mode()
def _passes(model: GPT2) -> dict[str, float]:
    """Return the time of passes over several tokens relative to a pass over one, after a text of 128."""
    cache = KVCache(model.config, 1, torch.device("cpu"), torch.float32, 256)
    ids = torch.randint(model.config.vocab_size, (1, 128))
    ratios: dict[int, list[float]] = {width: [] for width in _WIDTHS}

    def read(width: int) -> Tensor:
        cache.lengths = [128]
        return model(ids[:, :width], cache=cache)

    with packed(model, 1):
        for width in (1, *_WIDTHS):
            read(width)
        for _ in range(2 * _TURNS):
            one = _timed(read, 1)[0]
            for width in _WIDTHS:
                ratios[width].append(_timed(read, width)[0] / one)
    return {f"time of a pass over {w} tokens over one": statistics.median(ratios[w]) for w in _WIDTHS}


def _timed(act: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = act(*arguments)
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
