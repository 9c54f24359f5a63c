"""What a label is: one class of several, any number of classes, or a number.

A `LabelKind` holds all that depends on this: how a column is parsed, targets, loss, metrics, predictions, report. To
add one, write a file with a subclass and name it in `KINDS`; see docs/extending.md.
"""

from gpt2_lightning.label_kinds.kind import Label, LabeledText, LabelKind
from gpt2_lightning.label_kinds.multi import Multi
from gpt2_lightning.label_kinds.regression import Regression
from gpt2_lightning.label_kinds.single import Single

__all__ = ["KINDS", "Label", "LabelKind", "LabeledText"]

KINDS: dict[str, LabelKind] = {kind.name: kind for kind in (Single(), Multi(), Regression())}
"""By the names that `data.kind` and checkpoints have."""
