"""Every conversion is compared with its source before it takes its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from gpt2_lightning.app.sources import Source
from gpt2_lightning.app.trained_adapter import TrainedAdapter
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import SCORE, restore
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, peft_adapters, to_huggingface, verify, verify_peft
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.weights import name_of, not_finite, recast
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer


class Check:
    """Compares on the way, and keeps what there is to say."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.ids = verify.random_ids(source.model.config)
        self.dtype = verify.precision(source.model.config)
        self.expected = verify.our_logits(source.model, self.ids, self.dtype)
        rows, length = self.ids.shape
        self.lines = [f"checked on {rows} x {length} random tokens, in {name_of(self.dtype)}"]

    def reading(self, approximate: bool) -> None:
        """The model must compute what the other program's tensors compute."""
        network = self.source.network
        if network is None:
            return
        as_ours = dataclasses.replace(network, exact_gelu=False).logits(self.ids, self.dtype)
        self._agree(self.expected, as_ours, "logits of the source's tensors, and of this GPT-2")
        if self.source.inexact:
            meant = verify.compare(self.expected, network.logits(self.ids, self.dtype)).largest_difference
            told = f"{self.source.inexact}: here the logits differ by up to {meant:.1e}"
            if not approximate:
                raise UserError(f"{self.source.place}: {told}. It was not converted; accept that with approximate=true")
            self.lines.append(f"  not the same: {told}")

    def rounding(self, model: GPT2) -> GPT2:
        """Take over a model of another dtype, whose logits are those to expect from now on."""
        before, after = self.source.model.wte.weight.dtype, model.wte.weight.dtype
        if before == after:
            return model
        names = f"{name_of(before)} to {name_of(after)}"
        if faults := not_finite(model.state_dict()):
            raise UserError("\n  ".join([f"dtype: from {names} there is an overflow; use bf16 or fp32", *faults]))
        exact, self.expected = self.expected, verify.our_logits(model, self.ids, self.dtype)
        difference = verify.compare(self.expected, exact).largest_difference
        self.lines.append(f"  rounded from {names}: logits differ by up to {difference:.1e}")
        return model

    def folder(self, written: Path, model: GPT2, tokenizer: Tokenizer | None, head: LabelHead | None = None) -> None:
        """What our reader and transformers make of a folder."""
        again = folder.read(written)
        if head is None:
            self._same(to_huggingface(again.model), to_huggingface(model), written)
            self._language_model(written, again.model)
        else:
            found = folder.read_head(written)
            assert found is not None, "the folder was written with a head"
            self._same(
                {**to_huggingface(again.model), SCORE: found.score},
                {**to_huggingface(model), SCORE: head.score},
                written,
            )
            self._classifier(written, again.model, found, recast(model, self.dtype), head, tokenizer)
        if tokenizer is not None:
            self._same_tokens(again.tokenizer, tokenizer, written)

    def _language_model(self, written: Path, again: GPT2) -> None:
        self._agree(verify.our_logits(again, self.ids, self.dtype), self.expected, "logits when read back")
        theirs = verify.their_logits(written, self.ids, self.dtype)
        if theirs is None:
            self.lines.append("  transformers is not installed; the folder was not loaded there")
        else:
            self._agree(theirs, self.expected, "logits in transformers")

    def _classifier(
        self,
        written: Path,
        again: GPT2,
        found: LabelHead,
        model: GPT2,
        head: LabelHead,
        tokenizer: Tokenizer | None,
    ) -> None:
        """Scores of padded texts, where the tokenizer has a token to pad with."""
        if (found.labels, found.kind, found.truncation) != (list(head.labels), head.kind, head.truncation):
            raise UserError(f"{written} does not hold the labels that were written to it; it was removed")
        ids, mask = verify.random_texts(model.config, tokenizer.end_of_text if tokenizer else None)
        expected = verify.our_scores(model, head.score, ids, mask)
        self._agree(
            verify.our_scores(recast(again, self.dtype), found.score, ids, mask), expected, "scores when read back"
        )
        theirs = verify.their_scores(written, ids, mask, self.dtype)
        if theirs is None:
            self.lines.append("  transformers is not installed; the folder was not loaded there")
        else:
            self._agree(theirs, expected, f"scores of {len(ids)} padded texts in transformers")

    def checkpoint(self, written: Path, expected: dict[str, Tensor]) -> None:
        """What our reader makes of a checkpoint file."""
        content = files.read(written)
        again, _ = restore(content, written)
        head = {SCORE: content["state_dict"][SCORE]} if SCORE in content["state_dict"] else {}
        self._same({**again.state_dict(), **head}, expected, written)
        self._agree(verify.our_logits(again, self.ids, self.dtype), self.expected, "logits when read back")

    def adapter(self, written: Path, adapter: TrainedAdapter, base: GPT2, score: Tensor | None) -> None:
        """What our reader and PEFT make of an adapter's folder, over the base, with and without a classifier's head."""
        found = peft_adapters.read(written, base)
        again = dataclasses.replace(adapter, spec=found.spec, state=found.state)
        head, head_again = (({} if s is None else {SCORE: s}) for s in (score, found.score))
        self._same({**again.state, **head_again}, {**adapter.state, **head}, written)
        ours = adapter.load_into(recast(base, self.dtype), written)
        if score is None:
            with torch.no_grad():
                expected: Tensor = ours(self.ids)
            theirs = verify_peft.their_adapted_logits(base, written, self.ids, self.dtype)
        else:
            ids, mask = verify.random_texts(base.config, pad=None)
            expected = verify.our_scores(ours, score, ids, mask)
            theirs = verify_peft.their_adapted_scores(base, written, len(score), ids, mask, self.dtype)
        if theirs is None:
            self.lines.append("  peft is not installed; the adapter was not loaded there")
        else:
            self._agree(theirs, expected, f"{'logits' if score is None else 'scores'} in peft, over the base")

    def adapter_checkpoint(self, again: Source) -> None:
        """What `open_source` makes of a checkpoint with an adapter alone."""
        self._same(again.tensors(), self.source.tensors(), Path(again.place))
        self._agree(verify.our_logits(again.model, self.ids, self.dtype), self.expected, "logits when read back")

    def _agree(self, found: Tensor, expected: Tensor, what: str) -> None:
        difference = verify.require_agreement(found, expected, what).largest_difference
        self.lines.append(f"  {what}: largest difference {difference:.1e}")

    def _same(self, found: dict[str, Tensor], expected: dict[str, Tensor], written: Path) -> None:
        verify.require_same(found, expected, written)
        self.lines.append(f"  {len(expected)} tensors are the same when read back, bit for bit")

    def _same_tokens(self, found: Tokenizer | None, expected: Tokenizer, written: Path) -> None:
        count = expected.vocab_size
        if found is None or [found.token_bytes(i) for i in range(count)] != list(
            map(expected.token_bytes, range(count))
        ):
            raise UserError(f"{written} does not hold the tokenizer that was written to it; it was removed")
        self.lines.append(f"  {count:,} tokens of the tokenizer are the same when read back")
