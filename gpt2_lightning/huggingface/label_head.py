"""Head of GPT2ForSequenceClassification, and the fields of config.json for its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gpt2_lightning.label_kinds import KINDS, LabelKind
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.meta import on_meta_device

ARCHITECTURE = "GPT2ForSequenceClassification"
WEIGHT = "score.weight"
"""Name of the head in the state dict."""
_OWN_HEAD = "lm_head.weight"
_UNNAMED = "LABEL_{}"
_PROBLEMS = {kind.problem_type: kind for kind in KINDS.values() if kind.problem_type is not None}


@dataclass(frozen=True)
class LabelHead:
    """Linear layer without bias on the last token of a text."""

    score: Tensor
    """Weight of the layer, (labels, C)."""
    labels: Sequence[str]
    """Class names in the order of the scores; empty for a kind without classes."""
    kind: str
    """Name of the `LabelKind`."""
    truncation: int
    """Maximum length of a text in tokens, `model_max_length` of the tokenizer."""

    def metadata(self) -> tuple[list[str], str, int]:
        """Return labels, kind and truncation."""
        return list(self.labels), self.kind, self.truncation

    def to_config(self, pad: int | None) -> dict[str, Any]:
        """Return the fields of config.json.

        Args:
            pad: id of the padding token; None for none, in which case transformers supports only a batch size of 1.
        """
        names = list(self.labels) or unnamed(len(self.score))
        return {
            "num_labels": len(names),
            "id2label": {str(number): name for number, name in enumerate(names)},
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": KINDS[self.kind].problem_type,
            "pad_token_id": pad,
        }

    @classmethod
    def from_config(cls, fields: Mapping[str, Any], score: Tensor, truncation: int) -> LabelHead:
        """Create the head described by config.json. Without `problem_type`, one score means regression.

        Args:
            fields: content of config.json.
            score: weight of the layer, (labels, C).
            truncation: maximum length of a text in tokens.

        Raises:
            ValueError: if the fields do not describe a classifier, as "field: what is wrong".
        """
        count = len(score)
        problem = fields.get("problem_type")
        if problem and (not isinstance(problem, str) or problem not in _PROBLEMS):
            raise ValueError(f"problem_type: {problem!r} is not supported, only {', '.join(_PROBLEMS)}")
        kind = _PROBLEMS[problem] if problem else default_kind(count)
        if not kind.fewest_labels and count > 1:
            raise ValueError(f"problem_type: {problem} with {count} scores is not supported, only with 1")
        names = fields.get("id2label") or {}
        if not isinstance(names, Mapping) or len(names) not in (0, count):
            raise ValueError(f"id2label: {names!r} does not name {count} labels, and {WEIGHT} has as many scores")
        found = [str(names.get(str(number), unnamed(count)[number])) for number in range(count)]
        return cls(score, found if kind.fewest_labels else (), kind.name, truncation)


def default_kind(n_scores: int) -> LabelKind:
    """Return the kind that transformers assumes without `problem_type`, for targets that are class indices."""
    return _PROBLEMS["single_label_classification" if n_scores > 1 else "regression"]


def unnamed(count: int) -> list[str]:
    """Return Hugging Face's default label names."""
    return [_UNNAMED.format(number) for number in range(count)]


def without_own_head(model: GPT2) -> GPT2:
    """Return the model with its head tied to the embedding, since a classifier has no other; the weights are shared."""
    if model.config.tied_head:
        return model
    with on_meta_device():
        twin = GPT2(dataclasses.replace(model.config, tied_head=True))
    twin.load_state_dict({**model.state_dict(), _OWN_HEAD: model.wte.weight}, assign=True)
    twin.tie_head()
    return twin.eval()
