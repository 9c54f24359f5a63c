"""Verification of a conversion against its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import SCORE, restore
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import chat_template, folder, to_huggingface, verify
from gpt2_lightning.huggingface.weights import dtype_name, not_finite
from gpt2_lightning.model import GPT2
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.tokenizers import Tokenizer


class Check:
    """Comparison of written files with the source model, with a record of the results.

    Args:
        source: model to convert.
    """

    def __init__(self, source: LoadedModel) -> None:
        self.source = source
        self.ids = verify.random_ids(source.model.config)
        self.dtype = verify.precision(source.model.config)
        self.expected = verify.model_logits(source.model, self.ids, self.dtype)
        rows, length = self.ids.shape
        self.lines = [f"checked on {rows} x {length} random tokens, in {dtype_name(self.dtype)}"]

    def reading(self) -> None:
        """Compare the model with the tensors and arithmetic of the other program that saved it."""
        if self.source.network is not None:
            theirs = self.source.network.logits(self.ids, self.dtype)
            self.agree(self.expected, theirs, "logits of the source's tensors and of this GPT-2")

    def rounding(self, model: GPT2) -> GPT2:
        """Set the expected logits to those of a model of another dtype, and return that model."""
        before, after = self.source.model.wte.weight.dtype, model.wte.weight.dtype
        if before == after:
            return model
        names = f"{dtype_name(before)} to {dtype_name(after)}"
        if faults := not_finite(model.state_dict()):
            raise UserError("\n  ".join([f"dtype: from {names} there is an overflow; use bf16 or fp32", *faults]))
        exact, self.expected = self.expected, verify.model_logits(model, self.ids, self.dtype)
        difference = verify.compare(self.expected, exact).largest_difference
        self.lines.append(f"  rounded from {names}: logits differ by up to {difference:.1e}")
        return model

    def folder(self, written: Path, model: GPT2, tokenizer: Tokenizer | None) -> None:
        """Compare a Hugging Face folder, as read by this program and by transformers."""
        again = folder.read(written)
        self.same(to_huggingface(again.model), to_huggingface(model), written)
        self.agree(verify.model_logits(again.model, self.ids, self.dtype), self.expected, "logits when read back")
        self.agree_there(
            verify.transformers_logits(written, self.ids, self.dtype), self.expected, "logits", "transformers"
        )
        self.same_tokens(again.tokenizer, tokenizer, written)

    def checkpoint(self, written: Path, tensors: dict[str, Tensor]) -> None:
        """Compare a checkpoint file, which may contain a classifier's head."""
        content = files.read(written)
        again, _ = restore(content, written)
        head = {name: tensor for name, tensor in content["state_dict"].items() if name == SCORE}
        self.same(again.state_dict() | head, tensors, written)
        self.agree(verify.model_logits(again, self.ids, self.dtype), self.expected, "logits when read back")

    def agree_there(self, found: Tensor | None, expected: Tensor, what: str, program: str) -> None:
        """Compare with the result of another program; `found` is None if that is not installed."""
        if found is None:
            self.lines.append(f"  {program} is not installed; the files were not loaded with it")
        else:
            self.agree(found, expected, f"{what} in {program}")

    def agree(self, found: Tensor, expected: Tensor, what: str) -> None:
        """Compare logits or scores up to rounding."""
        difference = verify.require_agreement(found, expected, what).largest_difference
        self.lines.append(f"  {what}: largest difference {difference:.1e}")

    def same(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], written: Path) -> None:
        """Compare tensors bit for bit."""
        verify.require_same(found, expected, written)
        self.lines.append(f"  {len(expected)} tensors are the same when read back, bit for bit")

    def template(self, written: Path, template: Template) -> None:
        """Compare an instruction template, as read by this program and as rendered by transformers."""
        if chat_template.read(written) != template.to_plain():
            raise UserError(
                f"{written}: the template read back differs from the one written, so the conversion was discarded"
            )
        question = "QUESTION"
        theirs = chat_template.transformers_text(written, [{"role": "user", "content": question}])
        if theirs is None:
            return
        if theirs != (ours := template.prompt(question)):
            raise UserError(f"{written}: transformers renders {theirs!r} from the template, instead of {ours!r}")
        self.lines.append(f"  its template ({chat_template.FILE}) renders the same in transformers")

    def same_tokens(self, found: Tokenizer | None, expected: Tokenizer | None, written: Path) -> None:
        """Compare the tokens of the tokenizer, if there is one."""
        if expected is None:
            return
        count = expected.vocab_size
        if found is None or [found.token_bytes(i) for i in range(count)] != list(
            map(expected.token_bytes, range(count))
        ):
            raise UserError(
                f"{written}: the tokenizer read back differs from the one written, so the conversion was discarded"
            )
        self.lines.append(f"  {count:,} tokens of the tokenizer are the same when read back")
