"""Every conversion is compared with its source before it takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import SCORE, restore
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import chat_template, folder, to_huggingface, verify
from gpt2_lightning.huggingface.weights import name_of, not_finite
from gpt2_lightning.model import GPT2
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.tokenizers import Tokenizer


class Check:
    """Compares on the way, and keeps what there is to say."""

    def __init__(self, source: LoadedModel) -> None:
        self.source = source
        self.ids = verify.random_ids(source.model.config)
        self.dtype = verify.precision(source.model.config)
        self.expected = verify.our_logits(source.model, self.ids, self.dtype)
        rows, length = self.ids.shape
        self.lines = [f"checked on {rows} x {length} random tokens, in {name_of(self.dtype)}"]

    def reading(self) -> None:
        """The model must compute what the other program's tensors compute."""
        if self.source.network is not None:
            theirs = self.source.network.logits(self.ids, self.dtype)
            self.agree(self.expected, theirs, "logits of the source's tensors, and of this GPT-2")

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

    def folder(self, written: Path, model: GPT2, tokenizer: Tokenizer | None) -> None:
        """What our reader and transformers make of a folder."""
        again = folder.read(written)
        self.same(to_huggingface(again.model), to_huggingface(model), written)
        self.agree(verify.our_logits(again.model, self.ids, self.dtype), self.expected, "logits when read back")
        self.agree_there(verify.their_logits(written, self.ids, self.dtype), self.expected, "logits", "transformers")
        self.same_tokens(again.tokenizer, tokenizer, written)

    def checkpoint(self, written: Path, tensors: dict[str, Tensor]) -> None:
        """What our reader makes of a checkpoint file, which may hold a classifier's head beside the model's tensors."""
        content = files.read(written)
        again, _ = restore(content, written)
        head = {name: tensor for name, tensor in content["state_dict"].items() if name == SCORE}
        self.same(again.state_dict() | head, tensors, written)
        self.agree(verify.our_logits(again, self.ids, self.dtype), self.expected, "logits when read back")

    def agree_there(self, found: Tensor | None, expected: Tensor, what: str, program: str) -> None:
        """Compare with what another program computes; without it, which is None, that is told."""
        if found is None:
            self.lines.append(f"  {program} is not installed; what was written was not loaded there")
        else:
            self.agree(found, expected, f"{what} in {program}")

    def agree(self, found: Tensor, expected: Tensor, what: str) -> None:
        """Logits or scores must be the same up to rounding."""
        difference = verify.require_agreement(found, expected, what).largest_difference
        self.lines.append(f"  {what}: largest difference {difference:.1e}")

    def same(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], written: Path) -> None:
        """Tensors must be the same, bit for bit."""
        verify.require_same(found, expected, written)
        self.lines.append(f"  {len(expected)} tensors are the same when read back, bit for bit")

    def template(self, written: Path, template: Template) -> None:
        """What our reader and transformers make of a template for instructions."""
        if chat_template.read(written) != template.to_plain():
            raise UserError(f"{written} does not hold the template that was written to it; it was removed")
        question = "QUESTION"
        theirs = chat_template.their_text(written, [{"role": "user", "content": question}])
        if theirs is None:
            return
        if theirs != (ours := template.prompt(question)):
            raise UserError(f"{written}: transformers writes {theirs!r} by the template, instead of {ours!r}")
        self.lines.append(f"  its template ({chat_template.FILE}) writes in transformers what it writes here")

    def same_tokens(self, found: Tokenizer | None, expected: Tokenizer | None, written: Path) -> None:
        """So must the tokens, where there is a tokenizer."""
        if expected is None:
            return
        count = expected.vocab_size
        if found is None or [found.token_bytes(i) for i in range(count)] != list(
            map(expected.token_bytes, range(count))
        ):
            raise UserError(f"{written} does not hold the tokenizer that was written to it; it was removed")
        self.lines.append(f"  {count:,} tokens of the tokenizer are the same when read back")
