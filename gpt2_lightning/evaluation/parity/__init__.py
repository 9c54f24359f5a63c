"""Comparison of two implementations of one model: their differences and the causes.

`ours` is the GPT2 of this package, `theirs` the GPT2LMHeadModel of transformers. This package measures; it prints
nothing.
"""

from gpt2_lightning.evaluation.parity.padding import Padding
from gpt2_lightning.evaluation.parity.report import Report, measure
from gpt2_lightning.evaluation.parity.sides import Ours, Theirs, load_theirs

__all__ = ["Ours", "Padding", "Report", "Theirs", "load_theirs", "measure"]
