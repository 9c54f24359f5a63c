"""Encoding of contexts and continuations, and windows of documents, compared with lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.likelihood.encoding import encode_pair, encode_request, prefix_token
from gpt2_lightning.evaluation.likelihood.request import Request
from gpt2_lightning.evaluation.likelihood.windows import disjoint_windows, sliding_windows
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer

PAIRS = [
    ("A man sits", " on a chair."),
    ("A man sits ", "on a chair."),
    ("A man sits \n\t ", " on"),
    ("A man sit", "s on"),  # the tokens of the whole differ from those of the context
    ("Question: why?\nAnswer:", " because"),
    ("naïve café", " 日本語 🙂"),
    ("", "The first"),
    ("", "<|endoftext|>The first"),
    ("one<|endoftext|>two", " three<|endoftext|>"),
]


@pytest.mark.parametrize(("context", "continuation"), PAIRS)
def test_pairs_are_encoded_as_by_the_harness(context: str, continuation: str) -> None:
    model = pytest.importorskip("lm_eval.api.model")
    tokenizer = GPT2Tokenizer()
    received: list[Any] = []

    class Harness(model.TemplateLM):  # type: ignore[misc,name-defined]  # the class is imported at run time
        backend = "causal"
        eot_token_id = prefix_token_id = tokenizer.end_of_text

        def tok_encode(self, text: str, **settings: Any) -> list[int]:
            return tokenizer.encode_with_special_tokens(text).tolist()

        def _loglikelihood_tokens(self, requests: list[Any], **settings: Any) -> list[Any]:
            received.extend(requests)
            return []

        def loglikelihood_rolling(self, *arguments: Any) -> list[Any]:
            raise NotImplementedError

        generate_until = loglikelihood_rolling

    Harness().loglikelihood([SimpleNamespace(args=(context, continuation))], disable_tqdm=True)
    assert tuple(ids.tolist() for ids in encode_pair(tokenizer, context, continuation)) == received[0][1:]


def test_space_at_the_end_of_a_context_belongs_to_the_continuation() -> None:
    tokenizer = GPT2Tokenizer()
    before, after = encode_pair(tokenizer, "The cat ", "sat")
    assert (tokenizer.decode(before.tolist()), tokenizer.decode(after.tolist())) == ("The cat", " sat")
    assert len(after) == 1
    assert len(encode_pair(tokenizer, "The cat", "  sat")[1]) == 2  # an extra space is a token of its own


def test_white_space_alone_is_an_empty_context() -> None:
    tokenizer = GPT2Tokenizer()
    before, after = encode_pair(tokenizer, "  ", "x")
    assert before.tolist() == [tokenizer.end_of_text]
    assert after.tolist() == tokenizer.encode("  x").tolist()


def test_request_has_one_context_for_all_continuations() -> None:
    tokenizer = GPT2Tokenizer()
    request = encode_request(tokenizer, "A man ", ["sits", "stands up"])
    assert tokenizer.decode(request.context.tolist()) == "A man"
    assert [tokenizer.decode(ids.tolist()) for ids in request.continuations] == [" sits", " stands up"]


def test_empty_context_needs_an_end_of_text_token() -> None:
    tokenizer = CharTokenizer("abc")
    with pytest.raises(UserError, match="no end-of-text token"):
        prefix_token(tokenizer)
    with pytest.raises(UserError, match="no end-of-text token"):
        encode_pair(tokenizer, "", "a")
    assert [ids.tolist() for ids in encode_pair(tokenizer, "a", "bc")] == [[0], [1, 2]]


@pytest.mark.parametrize(("context", "continuation"), [("a", ""), ("", ""), ("", "<|endoftext|>")])
def test_continuation_without_tokens_is_refused(context: str, continuation: str) -> None:
    with pytest.raises(UserError, match="has no token of its own"):
        encode_pair(GPT2Tokenizer(), context, continuation)


def plain(request: Request) -> tuple[list[int], list[int]]:
    (continuation,) = request.continuations
    return request.context.tolist(), continuation.tolist()


def written_out(ids: list[int], block_size: int, stride: int) -> list[tuple[list[int], list[int]]]:
    """The loop of Hugging Face's guide: labels before the end of the last window are masked, and labels are shifted."""
    windows, end_before = [], 0
    for begin in range(0, len(ids), stride):
        end = min(begin + block_size, len(ids))
        new = end - end_before
        inputs = ids[begin:end]
        labels = [-100] * (len(inputs) - new) + inputs[len(inputs) - new :]
        predicted = [label for label in labels[1:] if label != -100]
        if predicted:
            windows.append((inputs[: len(inputs) - len(predicted)], predicted))
        end_before = end
        if end == len(ids):
            break
    return windows


@pytest.mark.parametrize("length", [1, 2, 6, 7, 8, 13, 14, 15, 21, 22, 29, 50])
@pytest.mark.parametrize("stride", [1, 2, 3, 5, 6, 7])
def test_sliding_windows_are_those_of_a_written_out_loop(length: int, stride: int) -> None:
    ids = np.arange(100, 100 + length)
    expected = written_out(ids.tolist(), 7, stride)
    windows = sliding_windows(ids, 7, stride)
    assert [plain(window) for window in windows] == expected
    assert len(windows) == len(expected)
    expected = written_out([3, *ids.tolist()], 7, stride)
    assert [plain(window) for window in sliding_windows(ids, 7, stride, prefix=3)] == expected


@pytest.mark.parametrize("length", [1, 2, 6, 7, 8, 13, 14, 15, 50])
def test_disjoint_windows_are_those_of_the_harness(length: int) -> None:
    theirs = pytest.importorskip("lm_eval.utils")
    ids = np.arange(100, 100 + length)
    found = theirs.get_rolling_token_windows(ids.tolist(), prefix_token=3, max_seq_len=7, context_len=1)
    expected = [theirs.make_disjoint_window(window) for window in found]
    assert [plain(window) for window in disjoint_windows(ids, 7, 3)] == expected


@pytest.mark.parametrize(
    "windows", [lambda ids: sliding_windows(ids, 1024, 1), lambda ids: disjoint_windows(ids, 8, 0)]
)
def test_windows_are_views_that_are_made_when_they_are_read(windows: Callable[..., Any]) -> None:
    ids = np.zeros(250_000, dtype=np.uint16)
    found = windows(ids)
    assert all(np.shares_memory(part, ids) for part in (found[-1].context, *found[-1].continuations))
    assert [plain(one) for one in found[1:4:2]] == [plain(found[1]), plain(found[3])]


@pytest.mark.parametrize("stride", [0, 8])
def test_stride_outside_of_the_context_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=r"stride is \d; it must be from 1 to block_size, which is 7"):
        sliding_windows(np.arange(20), 7, stride)
