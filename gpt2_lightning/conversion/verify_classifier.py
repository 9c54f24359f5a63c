"""Verification of a classifier in a Hugging Face folder against its source."""

from __future__ import annotations

from pathlib import Path

from gpt2_lightning.checkpoints.content import SCORE
from gpt2_lightning.conversion.verify import Check
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, to_huggingface, verify
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.weights import recast
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer


def check_classifier(check: Check, written: Path, model: GPT2, head: LabelHead, tokenizer: Tokenizer | None) -> None:
    """Compare a classifier's folder, as read by this program and by transformers, on texts of different lengths.

    Args:
        check: record of the results.
        written: folder of the classifier.
        model: expected model.
        head: expected head.
        tokenizer: tokenizer, whose end-of-text token pads texts; without one, texts are compared one by one.

    Raises:
        UserError: if tensors or scores differ.
    """
    again, found = folder.read(written), folder.read_head(written)
    if found is None or found.metadata() != head.metadata():
        raise UserError(f"{written}: the labels read back differ from those written, so the conversion was discarded")
    theirs, ours = (to_huggingface(m) | {SCORE: h.score} for m, h in ((again.model, found), (model, head)))
    check.same(theirs, ours, written)
    pad = tokenizer.end_of_text if tokenizer else None
    ids, mask = verify.random_texts(model.config, pad)
    expected = verify.classifier_scores(recast(model, check.dtype), head.score, ids, mask)
    read_back = verify.classifier_scores(recast(again.model, check.dtype), found.score, ids, mask)
    check.agree(read_back, expected, "scores of padded texts when read back")
    what = "scores of single texts" if pad is None else "scores of padded texts"
    check.agree_there(verify.transformers_scores(written, ids, mask, pad, check.dtype), expected, what, "transformers")
    check.same_tokens(again.tokenizer, tokenizer, written)
