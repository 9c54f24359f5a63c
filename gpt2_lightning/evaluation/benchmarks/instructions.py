"""Instructions: the answers of a model that was trained on instructions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gpt2_lightning.data.instruction.encoding import Example, encode, encode_rows
from gpt2_lightning.data.instruction.samples import batch_of
from gpt2_lightning.data.instruction.templates import Template, template_of
from gpt2_lightning.data.tables import Conversation, Instructions
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.answers import answer, exact_match, rouge_l
from gpt2_lightning.evaluation.benchmarks.benchmark import Item, ItemRecord, Items, Subject, evenly_spaced
from gpt2_lightning.evaluation.benchmarks.fine_tuning_benchmark import FineTuningBenchmark
from gpt2_lightning.evaluation.responses import response_loss
from gpt2_lightning.evaluation.results.comparison import Option, ShownItem
from gpt2_lightning.evaluation.results.intervals import mean, perplexity, ratio, share
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.generation import Sampling
from gpt2_lightning.settings import PositiveInt

_ANSWERS_AT_ONCE = 16


@dataclass(frozen=True)
class _Content:
    conversation: Conversation
    example: Example
    """The conversation with its reference answer, cut to the context as in training."""
    cut: int
    """Number of tokens that were cut."""


@dataclass(frozen=True, kw_only=True)
class InstructionAnswers(FineTuningBenchmark):
    """Answers to instructions, generated greedily, against reference answers; and the loss of the reference answers.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    name = "instructions"
    instruction_column: str = "instruction"
    input_column: str | None = "input"
    """Column of the input, which may be missing or blank in a row; null if there is no such column."""
    output_column: str = "output"
    """Column of the reference answer."""
    messages_column: str | None = None
    """Column of the messages of a chat, the last of them the reference answer; if set, the three other columns are
    ignored."""
    max_new_tokens: PositiveInt = 128
    """Maximum length of an answer in tokens."""

    def items(self, subject: Subject, data_dir: Path | None) -> Items:
        template = _checked(subject)
        source, rows = self.read(
            subject,
            Instructions,
            instruction_column=self.instruction_column,
            input_column=self.input_column,
            output_column=self.output_column,
            messages_column=self.messages_column,
        )
        chosen = evenly_spaced(list(enumerate(rows, 1)), self.limit)
        conversations = [row for _, row in chosen]
        block_size = subject.model.config.block_size
        encoded = encode_rows(conversations, "evaluated", template, subject.tokenizer, block_size)
        whole = [len(encode(template.render(row.messages, row.alpaca), subject.tokenizer).ids) for row in conversations]
        items = [
            Item(str(number), _Content(row, example, length - len(example.ids)))
            for (number, row), example, length in zip(chosen, encoded.examples, whole, strict=True)
        ]
        note = subject.tokenizer.take_note()
        plain = json.dumps([[number, [asdict(message) for message in row.messages]] for number, row in chosen])
        return Items(items, source, hashlib.sha256(plain.encode()).hexdigest(), (note,) if note else ())

    def records(self, subject: Subject, items: Sequence[Item]) -> Iterator[ItemRecord]:
        template, sampling = _checked(subject), Sampling(max_new_tokens=self.max_new_tokens, temperature=0)
        for start in range(0, len(items), _ANSWERS_AT_ONCE):
            chunk = items[start : start + _ANSWERS_AT_ONCE]
            asked = [item.content.conversation for item in chunk]
            answers = answer(subject.model, subject.tokenizer, template, asked, sampling)
            for item, found in zip(chunk, answers, strict=True):
                messages, example = item.content.conversation.messages, item.content.example
                reference = messages[-1].content
                loss = response_loss(subject.model, [batch_of([[example]], example.width, packed=False)])
                if not np.isfinite(loss.loss):
                    raise UserError(f"benchmarks.instructions: the loss of row {item.id} is {loss.loss}")
                yield {
                    "id": item.id,
                    "exact_match": float(exact_match(found.text, reference)),
                    "rouge_l": rouge_l(found.text, reference),
                    "ended": float(found.ended),
                    "log_likelihood": -loss.loss * loss.tokens,
                    "tokens": loss.tokens,
                    "question": "\n\n".join(message.content for message in messages[:-1]),
                    "reference": reference,
                    "answer": found.text,
                    "cut": item.content.cut,
                }

    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        values = {name: [record[name] for record in records] for name in records[0]}
        return [
            share("exact_match", values["exact_match"]),
            mean("rouge_l", values["rouge_l"], is_share=True),
            share("ended", values["ended"]),
            ratio("response_loss", np.negative(values["log_likelihood"]), values["tokens"]),
            perplexity("response_perplexity", values["log_likelihood"], values["tokens"]),
        ]

    def shown(self, record: ItemRecord, metric: str) -> ShownItem:
        is_right = bool(record["exact_match"])
        reference = Option(record["reference"], is_right=True, is_chosen=is_right)
        answered = () if is_right else (Option(record["answer"], is_chosen=True),)
        return ShownItem(record["question"], (reference, *answered))


def _checked(subject: Subject) -> Template:
    """Return the template of the model."""
    try:
        return template_of(dict(subject.task))
    except UserError as error:
        raise UserError(f"benchmarks.instructions: {subject.location}: {error}") from None
