"""Tables of instructions and of labelled texts: from files of several formats to validated rows in three parts.

`files` and `hub` read `records`, `table` finds the three parts and collects every bad row, `splits` cuts, and
`labelled_texts` and `instructions` say what a row is.
"""

from gpt2_lightning.data.tables.instructions import Alpaca, Conversation, Instructions, Message
from gpt2_lightning.data.tables.labeled_texts import LabelledText, LabelledTexts
from gpt2_lightning.data.tables.splits import Splits

__all__ = ["Alpaca", "Conversation", "Instructions", "LabelledText", "LabelledTexts", "Message", "Splits"]
