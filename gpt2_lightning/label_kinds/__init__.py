"""Label kinds: one class of several, any number of classes, or a number.

A `LabelKind` defines everything that depends on the kind of label: parsing, targets, loss, metrics, predictions and
report. To add a kind, write a module with a subclass and add an instance to `KINDS`; see docs/extending.md.
"""

from gpt2_lightning.label_kinds.kind import Label, LabeledText, LabelKind
from gpt2_lightning.label_kinds.multi import Multi
from gpt2_lightning.label_kinds.regression import Regression
from gpt2_lightning.label_kinds.single import Single

__all__ = ["KINDS", "Label", "LabelKind", "LabeledText"]

KINDS: dict[str, LabelKind] = {kind.name: kind for kind in (Single(), Multi(), Regression())}
"""Label kinds by name, as in `data.kind` and in checkpoints."""
