"""Tables of instructions and of labeled texts: from files of several formats to validated rows in three parts.

`files` and `hub` read `records`, `table` resolves the three parts and collects all bad rows, `splits` divides the rows,
and `labeled_texts` and `instructions` define and validate a row.
"""

from gpt2_lightning.data.tables.instructions import Alpaca, Conversation, Instructions, Message
from gpt2_lightning.data.tables.labeled_texts import LabeledTexts
from gpt2_lightning.data.tables.splits import Splits
from gpt2_lightning.label_kinds import LabeledText

__all__ = ["Alpaca", "Conversation", "Instructions", "LabeledText", "LabeledTexts", "Message", "Splits"]
