"""Questions with choices, from rows in the formats of published data sets.

To add a format: a function from a row to a `Question`, and its name in `ROW_FORMATS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpt2_lightning.data.tables.records import BadRow, checked_text, text_of
from gpt2_lightning.errors import shortened

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A question whose answer is one of several choices.

    Either all choices continue one context, or one continuation follows a context for each choice (partial evaluation;
    Trinh and Le 2018, section 3.1).
    """

    contexts: tuple[str, ...]
    """One, or one for each choice."""
    continuations: tuple[str, ...]
    """One for each choice, or one for all contexts; the delimiter comes before it."""
    answer: int
    """Index of the right choice."""

    @property
    def choices(self) -> tuple[str, ...]:
        """Texts that differ between the choices."""
        return self.contexts if len(self.continuations) == 1 else self.continuations


def _choices(row: Row) -> Question:
    """`context` (may be empty), `choices`, and `answer`: the index of a choice, from 0, or its text."""
    context = row.get("context")
    if not isinstance(context, str):
        raise BadRow(f"context is {shortened(context)}, and must be text, which may be empty")
    choices = _texts(row.get("choices"), "choices")
    answer = row.get("answer")
    if isinstance(answer, str):
        if answer not in choices:
            raise BadRow(f"answer is {shortened(answer)}, and must be one of the choices or its index")
        return Question((context,), choices, choices.index(answer))
    return Question((context,), choices, _index(answer, "answer", len(choices)))


def _hellaswag(row: Row) -> Question:
    """Zellers et al. 2019; the texts are those of the task `hellaswag` of lm-evaluation-harness."""
    endings = _texts(row.get("endings"), "endings")
    context = f"{text_of(row, 'activity_label')}: {_text(row, 'ctx_a')} {_text(row, 'ctx_b').capitalize()}"
    return Question(
        (_without_brackets(context),),
        tuple(map(_without_brackets, endings)),
        _index(row.get("label"), "label", len(endings)),
    )


def _arc(row: Row) -> Question:
    """Clark et al. 2018: `question`, `choices` (`text` and `label`) and `answerKey`, a label."""
    question, choices = text_of(row, "question"), row.get("choices")
    if not isinstance(choices, Mapping):
        raise BadRow(f"choices is {shortened(choices)}, and must be an object with text and label")
    texts, labels = (_texts(choices.get(name), f"choices.{name}") for name in ("text", "label"))
    key = row.get("answerKey")
    if len(texts) != len(labels) or key not in labels:
        raise BadRow(f"answerKey is {shortened(key)}, and must be one of {len(texts)} labels: {', '.join(labels)}")
    return Question((f"Question: {question}\nAnswer:",), texts, labels.index(key))


def _piqa(row: Row) -> Question:
    """Bisk et al. 2020: `goal`, `sol1`, `sol2` and `label`, 0 or 1."""
    choices = (text_of(row, "sol1"), text_of(row, "sol2"))
    return Question((f"Question: {text_of(row, 'goal')}\nAnswer:",), choices, _index(row.get("label"), "label", 2))


def _winogrande(row: Row) -> Question:
    """Sakaguchi et al. 2020: `sentence` with a blank `_`, `option1`, `option2` and `answer`, 1 or 2."""
    before, blank, after = text_of(row, "sentence").partition("_")
    if not blank or not after.strip():
        raise BadRow("sentence has no blank, _, with text after it")
    options = (text_of(row, "option1"), text_of(row, "option2"))
    if str(row.get("answer")) not in ("1", "2"):
        raise BadRow(f"answer is {shortened(row.get('answer'))}, and must be 1 or 2")
    return Question(tuple(before + option for option in options), (after.strip(),), int(row["answer"]) - 1)


def _minimal_pair(row: Row) -> Question:
    """Warstadt et al. 2020 (BLiMP): whole sentences, `sentence_good` and `sentence_bad`."""
    return Question(("",), (text_of(row, "sentence_good"), text_of(row, "sentence_bad")), 0)


ROW_FORMATS: dict[str, Callable[[Row], Question]] = {
    "choices": _choices,
    "hellaswag": _hellaswag,
    "arc": _arc,
    "piqa": _piqa,
    "winogrande": _winogrande,
    "minimal_pair": _minimal_pair,
}
"""Functions that convert a row to a question, or raise BadRow, by name."""


def _without_brackets(text: str) -> str:
    """Remove what WikiHow's headings have left in the texts of HellaSwag, as lm-evaluation-harness."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _text(row: Row, column: str) -> str:
    """Return a text that may be empty."""
    value = row.get(column)
    if not isinstance(value, str):
        raise BadRow(f"{column} is {shortened(value)}, and must be text")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    """Return two or more non-blank texts."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 2:
        raise BadRow(f"{name} is {shortened(value)}, and must be a list of two or more texts")
    return tuple(checked_text(text, f"{name}[{place}]") for place, text in enumerate(value))


def _index(value: Any, name: str, n_choices: int) -> int:
    """Return an index of a choice; data sets have it as a number or as text."""
    if value is None or value == "":
        raise BadRow(f"{name} is missing: there is no answer to compare with")
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < n_choices:
        raise BadRow(f"{name} is {shortened(value)}, and must be an index of the choices, 0 to {n_choices - 1}")
    return value
