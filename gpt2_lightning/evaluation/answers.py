"""Answers to instructions: generation, metrics against references, and a comparison of two models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpt2_lightning.data.instruction.encoding import encode
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.data.tables.instructions import Conversation
from gpt2_lightning.generation import Sampling
from gpt2_lightning.generation.text import write
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Answer:
    """Answer of a model."""

    text: str
    ended: bool
    """Whether the answer ended with a stop token or stop string, and was not truncated at `max_new_tokens`."""


@dataclass(frozen=True)
class AnswerScores:
    """Means over answers, each from 0 to 1."""

    exact_match: float
    rouge_l: float
    ended: float


def answer(
    model: GPT2,
    tokenizer: Tokenizer,
    template: Template,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    batch_size: int = 16,
) -> list[Answer]:
    """Generate the last turn of each conversation.

    Args:
        model: model in evaluation mode.
        tokenizer: tokenizer of the model.
        template: template with which the model was or will be trained.
        conversations: conversations whose last message, the assistant's, is the reference and is ignored. Conversations
            beyond the context are handled as in `generation.reader.Reader`.
        sampling: settings of the generation.
        batch_size: conversations per batch; answers do not depend on it.

    Returns:
        One answer per conversation.

    Raises:
        UserError: if a conversation does not fit the template or the tokenizer.
    """
    device = model.wte.weight.device
    answers = []
    for start in range(0, len(conversations), batch_size):
        chosen = conversations[start : start + batch_size]
        rendered = [template.render(each.messages[:-1], each.alpaca) for each in chosen]
        prompts = [torch.from_numpy(encode(segments, tokenizer).ids).to(device) for segments in rendered]
        texts, ended = [""] * len(prompts), [False] * len(prompts)
        for piece in write(model, tokenizer, prompts, sampling, stop=template.stop, first_row=start):
            texts[piece.row] += piece.text
            ended[piece.row] = piece.finished in ("end_of_text", "stop_string")
        answers += [Answer(*fields) for fields in zip(texts, ended, strict=True)]
    return answers


def score(answers: Sequence[Answer], references: Sequence[str]) -> AnswerScores:
    """Compute the mean metrics over at least one answer."""
    pairs = list(zip(answers, references, strict=True))
    return AnswerScores(
        sum(exact_match(given.text, wanted) for given, wanted in pairs) / len(pairs),
        sum(rouge_l(given.text, wanted) for given, wanted in pairs) / len(pairs),
        sum(given.ended for given in answers) / len(pairs),
    )


def exact_match(answer: str, reference: str) -> bool:
    """Whether an answer equals the reference, apart from leading and trailing white space."""
    return answer.strip() == reference.strip()


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L: the F-measure of the longest common subsequence of words, 0 to 1 (Lin 2004, section 3.1, beta = 1).

    Words are sequences of letters and digits, in lower case and without stemming, as in the package rouge-score, which
    however recognizes only a to z as letters.
    """
    said, wanted = (_WORD.findall(text.lower()) for text in (answer, reference))
    common = _longest_common_subsequence(said, wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def _longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence by dynamic programming (Wagner and Fischer 1974)."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0  # the entry of the row above, one column to the left
        for column, against in enumerate(other, 1):
            above = row[column]
            row[column] = before + 1 if word == against else max(above, row[column - 1])
            before = above
    return row[-1]


def side_by_side(
    conversations: Sequence[Conversation], before: Sequence[Answer], after: Sequence[Answer], title: str
) -> str:
    """Render the answers of two models as Markdown: a table of metrics, and a table of questions and answers.

    Args:
        conversations: at least one question, with the reference in the last message.
        before: answers of the first model.
        after: answers of the second model.
        title: title of the page.
    """
    references = [each.messages[-1].content for each in conversations]
    scores = [score(before, references), score(after, references)]
    lines = [
        f"# {title}",
        "",
        f"{len(conversations)} questions.",
        "",
        "| | before | after |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {' | '.join(f'{100 * getattr(of_model, field):.1f} %' for of_model in scores)} |"
            for name, field in (("exact match", "exact_match"), ("ROUGE-L", "rouge_l"), ("ended by itself", "ended"))
        ),
        "",
        "| question | reference | before | after |",
        "| --- | --- | --- | --- |",
    ]
    for conversation, reference, *answers in zip(conversations, references, before, after, strict=True):
        question = "\n\n".join(message.content for message in conversation.messages[:-1])
        shown = [_cell(each.text + ("" if each.ended else " …")) for each in answers]
        lines.append(f"| {_cell(question)} | {_cell(reference)} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Escape a text for verbatim display in a cell of a Markdown table."""
    escaped = text.strip().replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    for sign in "`*_[":
        escaped = escaped.replace(sign, f"\\{sign}")
    return "<br>".join(escaped.splitlines())
