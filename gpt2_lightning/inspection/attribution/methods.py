"""Which tokens of a text matter for a classifier's answer, by three methods that measure different things.

What is explained is the evidence for a label: the log-odds of its probability. It does not saturate where the
probability is near 1, and an amount that is added to all scores, which changes no answer, does not change it either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.inspection.attention.reading import attention_weights, rollout
from gpt2_lightning.label_kinds import LabelKind
from gpt2_lightning.model.classifier import Classifier


@dataclass(frozen=True)
class Method:
    """A way to tell which tokens matter."""

    name: str
    """As readers see it."""
    is_signed: bool
    """Whether a token may speak against the label."""
    meaning: str


METHODS = {
    "gradient_x_input": Method(
        "gradient × input",
        True,
        "The gradient of the evidence at the token's embedding, times the embedding: what the token adds, as far as "
        "the classifier is linear near this text (Denil et al. 2014; Shrikumar et al. 2016).",
    ),
    "occlusion": Method(
        "occlusion",
        True,
        "How far the evidence falls when the token is removed (Zeiler and Fergus 2014; Li et al. 2016).",
    ),
    "rollout": Method(
        "attention rollout",
        False,
        "How much of the token reaches what the classifier reads, as far as attention mixes tokens. It knows no label: "
        "it cannot say for or against (Abnar and Zuidema 2020).",
    ),
}
"""By the names that files have for them."""


@dataclass(frozen=True)
class Output:
    """One output of a classifier: what is to be explained."""

    classifier: Classifier
    """In evaluation mode."""
    kind: LabelKind
    index: int
    """The number of the label."""
    batch_size: int
    """Versions of a text in one forward pass."""

    def evidence(self, ids: Tensor, kept: Tensor) -> Tensor:
        """The evidence for the label in versions of a text.

        Args:
            ids: the text's tokens, (T,).
            kept: the tokens that each version has, bool, (N, T); at least one. The others are gone, as padding is:
                those after them move up.

        Returns:
            (N,), float32, on the classifier's device.
        """
        device = self.classifier.score.weight.device
        logits = self.classifier(ids.to(device).expand(len(kept), -1), kept.to(device))
        return self.kind.evidence(logits.float())[:, self.index]

    @torch.inference_mode()
    def measure(self, ids: Tensor, kept: Tensor) -> Tensor:
        """The same in batches of versions of similar length, without a graph for gradients, on the CPU."""
        order = kept.sum(dim=1).argsort()
        found = torch.cat([self.evidence(ids, kept[rows]) for rows in order.split(self.batch_size)])
        return torch.empty(len(kept)).index_copy(0, order, found.cpu())

    def answer(self, evidence: Tensor) -> Tensor:
        """What the classifier says: the label's probability, or the number."""
        return self.kind.answer(evidence)


def attributions(output: Output, ids: Tensor) -> dict[str, Tensor]:
    """How much each token (T,) matters, (T,) each, by the names in `METHODS`.

    Raises:
        ValueError: if the text has fewer than two tokens: without its only one, nothing is left to read.
    """
    if len(ids) < 2:
        raise ValueError(f"{len(ids)} tokens are too few: what is left of a text without one of them must be a text")
    found = {
        "gradient_x_input": gradient_times_input(output, ids),
        "occlusion": occlusion(output, ids),
        "rollout": rollout_attribution(output.classifier, ids),
    }
    return {name: found[name] for name in METHODS}


def gradient_times_input(output: Output, ids: Tensor) -> Tensor:
    """The gradient of the evidence at each token's embedding, times the embedding, summed over the channels, (T,).

    Denil et al. 2014, "Extraction of Salient Sentences from Labeled Documents", section 4; Shrikumar et al. 2016, "Not
    Just a Black Box". Positional embeddings are no part of it. Where the evidence is linear in the embeddings, the sum
    over the tokens is the evidence less what does not depend on them.
    """
    embedded: list[Tensor] = []

    def watch(_: object, __: object, embeddings: Tensor) -> Tensor:
        embedded.append(embeddings.detach().requires_grad_())  # (1, T, C)
        return embedded[0]

    hook = output.classifier.transformer.wte.register_forward_hook(watch)
    try:
        found = output.evidence(ids, torch.ones(1, len(ids), dtype=torch.bool))
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(found.sum(), embedded)
    return (gradient * embedded[0].detach()).sum(dim=-1)[0].cpu()


def occlusion(output: Output, ids: Tensor) -> Tensor:
    """How far the evidence falls when each token is removed, (T,).

    Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2, cover parts of a
    picture; Li et al. 2016, "Understanding Neural Networks through Representation Erasure", erase words. Tokens are
    removed, and not replaced: GPT-2 has no token that means nothing, and any other would say something.
    """
    kept = torch.cat([torch.ones(1, len(ids), dtype=torch.bool), ~torch.eye(len(ids), dtype=torch.bool)])
    whole, *_ = found = output.measure(ids, kept)
    return whole - found[1:]


def rollout_attribution(classifier: Classifier, ids: Tensor) -> Tensor:
    """The share of each token in what the classifier reads, by attention `rollout`, (T,); the sum is 1."""
    flow = rollout(attention_weights(classifier.transformer, ids))  # (T, T)
    if classifier.pooling == "mean":
        return flow.mean(dim=0)
    return flow[0 if classifier.pooling == "first" else -1]
