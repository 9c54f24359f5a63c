"""Two implementations of one model side by side: where they differ, by how much, and why.

`ours` is this project's GPT2, `theirs` the GPT2LMHeadModel of transformers. Numbers first; nothing is printed here.
"""

from gpt2_lightning.evaluation.parity.padding import Padding
from gpt2_lightning.evaluation.parity.report import Report, measure
from gpt2_lightning.evaluation.parity.sides import Ours, Theirs, load_theirs

__all__ = ["Ours", "Padding", "Report", "Theirs", "load_theirs", "measure"]
