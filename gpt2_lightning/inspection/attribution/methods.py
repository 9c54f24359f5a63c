"""Attribution of a classifier's output to the tokens of a text, by three methods.

The attributed quantity is the evidence for a label: the log-odds of its probability. It does not saturate where the
probability is near 1, and it is invariant to a constant added to all logits.
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
    """An attribution method."""

    name: str
    """Display name."""
    is_signed: bool
    """Whether values are negative for tokens that are evidence against the label."""
    meaning: str


METHODS = {
    "gradient_x_input": Method(
        "gradient × input",
        True,
        "The gradient of the evidence at the token's embedding, times the embedding: the contribution of the token "
        "in a linear approximation of the classifier near this text (Denil et al. 2014; Shrikumar et al. 2016).",
    ),
    "occlusion": Method(
        "occlusion",
        True,
        "The drop of the evidence when the token is removed (Zeiler and Fergus 2014; Li et al. 2016).",
    ),
    "rollout": Method(
        "attention rollout",
        False,
        "The share of the token in the pooled features, as far as attention mixes tokens. It is independent of the "
        "label and has no sign (Abnar and Zuidema 2020).",
    ),
}
"""Methods by their names in files."""


@dataclass(frozen=True)
class Output:
    """The output of a classifier that is attributed."""

    classifier: Classifier
    """In evaluation mode."""
    kind: LabelKind
    index: int
    """Index of the label."""
    batch_size: int
    """Versions of a text in a forward pass."""

    def evidence(self, ids: Tensor, kept: Tensor) -> Tensor:
        """Compute the evidence for the label in versions of a text.

        Args:
            ids: the text's tokens, (T,).
            kept: mask of the tokens of each version, bool, (N, T), with at least one per version. The others are
                removed like padding, so positions close up.

        Returns:
            (N,), float32, on the classifier's device.
        """
        device = self.classifier.score.weight.device
        logits = self.classifier(ids.to(device).expand(len(kept), -1), kept.to(device))
        return self.kind.evidence(logits.float())[:, self.index]

    @torch.inference_mode()
    def measure(self, ids: Tensor, kept: Tensor) -> Tensor:
        """`evidence` in batches of similar length, without gradients, on the CPU."""
        order = kept.sum(dim=1).argsort()
        found = torch.cat([self.evidence(ids, kept[rows]) for rows in order.split(self.batch_size)])
        return torch.empty(len(kept)).index_copy(0, order, found.cpu())

    def answer(self, evidence: Tensor) -> Tensor:
        """Convert evidence to the probability of the label; identity for regression."""
        return self.kind.answer(evidence)


def attributions(output: Output, ids: Tensor) -> dict[str, Tensor]:
    """Compute the attribution of each token by every method, (T,) each, by the names in `METHODS`.

    Raises:
        ValueError: if the text has fewer than two tokens, since occlusion would leave none.
    """
    if len(ids) < 2:
        raise ValueError(f"{len(ids)} tokens are too few: attribution removes tokens, and needs 2 or more")
    found = {
        "gradient_x_input": gradient_times_input(output, ids),
        "occlusion": occlusion(output, ids),
        "rollout": rollout_attribution(output.classifier, ids),
    }
    return {name: found[name] for name in METHODS}


def gradient_times_input(output: Output, ids: Tensor) -> Tensor:
    """Gradient of the evidence with respect to each token embedding, times the embedding, summed over channels, (T,).

    Denil et al. 2014, "Extraction of Salient Sentences from Labelled Documents", section 4; Shrikumar et al. 2016, "Not
    Just a Black Box". Position embeddings are excluded. Where the evidence is linear in the token embeddings, the sum
    over tokens is the evidence without its constant term.
    """
    embedded: list[Tensor] = []

    def record(_: object, __: object, embeddings: Tensor) -> Tensor:
        embedded.append(embeddings.detach().requires_grad_())  # (1, T, C)
        return embedded[0]

    hook = output.classifier.transformer.wte.register_forward_hook(record)
    try:
        found = output.evidence(ids, torch.ones(1, len(ids), dtype=torch.bool))
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(found.sum(), embedded)
    return (gradient * embedded[0].detach()).sum(dim=-1)[0].cpu()


def occlusion(output: Output, ids: Tensor) -> Tensor:
    """Drop of the evidence when each token is removed, (T,).

    Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2, occlude image
    patches; Li et al. 2016, "Understanding Neural Networks through Representation Erasure", erase words. Tokens are
    removed rather than replaced, because GPT-2 has no mask token.
    """
    kept = torch.cat([torch.ones(1, len(ids), dtype=torch.bool), ~torch.eye(len(ids), dtype=torch.bool)])
    whole, *_ = found = output.measure(ids, kept)
    return whole - found[1:]


def rollout_attribution(classifier: Classifier, ids: Tensor) -> Tensor:
    """Share of each token in the pooled features by attention `rollout`, (T,); sums to 1."""
    flow = rollout(attention_weights(classifier.transformer, ids))  # (T, T)
    if classifier.pooling == "mean":
        return flow.mean(dim=0)
    return flow[0 if classifier.pooling == "first" else -1]
