"""Token ids of contexts and continuations, as lm-evaluation-harness encodes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2_lightning.errors import UserError, shortened
from gpt2_lightning.evaluation.likelihood.request import Request, TokenIds
from gpt2_lightning.tokenizers import Tokenizer


def prefix_token(tokenizer: Tokenizer) -> int:
    """Return the token before the first token of a document: the one that ends documents.

    Raises:
        UserError: if the tokenizer has none, as one of characters may.
    """
    if tokenizer.end_of_text is None:
        raise UserError(
            "the tokenizer has no end-of-text token, which is the context of a first token; a tokenizer of characters "
            "has one if its corpus has several documents"
        )
    return tokenizer.end_of_text


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[TokenIds, TokenIds]:
    """Encode a context and its continuation, as `TemplateLM.loglikelihood` of lm-evaluation-harness.

    White space at the end of the context is encoded with the continuation, since tokens begin with the space before a
    word. The tokens of the continuation are those of the whole text after as many as the context alone has. An empty
    context is the end-of-text token. Names of special tokens are encoded as these tokens.

    Returns:
        Ids of the context and of the continuation; at least one each.

    Raises:
        UserError: if the continuation has no token, or if the tokenizer lacks a token or a character.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    if stripped:
        before = tokenizer.encode_with_special_tokens(stripped)
        after = tokenizer.encode_with_special_tokens(stripped + continuation)[len(before) :]
    else:
        before = np.array([prefix_token(tokenizer)], dtype=tokenizer.dtype)
        after = tokenizer.encode_with_special_tokens(continuation)
        if len(after) and after[0] == before[0]:  # the text itself begins with the end-of-text token
            after = after[1:]
    if not len(after):
        raise UserError(f"the continuation {shortened(continuation)} of {shortened(context)} has no token of its own")
    return before, after


def encode_request(tokenizer: Tokenizer, context: str, continuations: Sequence[str]) -> Request:
    """Encode a context with several continuations; see `encode_pair`."""
    pairs = [encode_pair(tokenizer, context, continuation) for continuation in continuations]
    return Request(pairs[0][0], tuple(after for _, after in pairs))
