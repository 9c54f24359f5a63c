"""Explanations of texts that try to break a page, by a small classifier. A token is a word, so that whole tags are."""

from __future__ import annotations

import re

import torch

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.inspection.attribution.deletion import attribute
from gpt2_lightning.inspection.attribution.export import AttributedText
from gpt2_lightning.inspection.attribution.methods import Output
from gpt2_lightning.inspection.token_labels import token_label
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from tests.huggingface.networks import enliven

TEXTS = [
    "a <b>bold</b> {{title}} & &amp; $x_1$",
    "one </script><script>throw 1</script> <!-- or two",
    "é\n\"quoted' <img src=x onerror=alert(1)>",
]
TASK = LabelTask(("<i>ham</i>", "spam"), "single", "mean", 40)
NUMBER = LabelTask((), "regression", "last", 40)
_VOCABULARY = 61


def explained(texts: list[str], kind: str = "single", n_left_out: int = 0) -> list[AttributedText]:
    """Each text with an explanation of the first label."""
    torch.manual_seed(2)
    model = GPT2(GPT2Config(_VOCABULARY, 43, n_layer=2, n_head=3, n_embd=21))
    task = NUMBER if kind == "regression" else TASK
    classifier = Classifier(model, task.n_scores, task.pooling).eval()
    enliven(classifier)
    made = []
    for text in texts:
        words = [word.encode() for word in re.findall(r"\S+|\s", text)]
        explanation = attribute(
            Output(classifier, KINDS[kind], 0, 32), torch.tensor([sum(word) % _VOCABULARY for word in words])
        )
        label = task.labels[0] if task.labels else None
        tokens = [token_label(word) for word in words]
        made.append(AttributedText(text, tokens, n_left_out, label or "0.5", label, explanation))
    return made
