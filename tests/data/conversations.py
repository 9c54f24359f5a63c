"""Small conversations of letters, a template and a tokenizer for them."""

from __future__ import annotations

import random

from gpt2_lightning.data.instruction.encoding import Example, encode
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.data.tables import Alpaca, Conversation, Splits
from gpt2_lightning.tokenizers import CharTokenizer

LETTERS = CharTokenizer("abcdefg\n?", end_of_text=True)
BARE = Template(name="bare", question="{instruction}?", between="\n")


def conversations(count: int, longest: int = 9, seed: int = 0) -> list[Conversation]:
    """Questions of 1 to `longest` letters; the answer repeats the question's last letters."""
    dice = random.Random(seed)
    questions = ["".join(dice.choices("abcdefg", k=dice.randint(1, longest))) for _ in range(count)]
    return [Conversation.from_alpaca(Alpaca(each, "", each[-dice.randint(1, 4) :])) for each in questions]


def splits() -> Splits[Conversation]:
    return Splits(conversations(41), conversations(7, seed=1), conversations(5, seed=2))


def examples(count: int, longest: int = 9, seed: int = 0) -> list[Example]:
    return [encode(BARE.render(each.messages), LETTERS) for each in conversations(count, longest, seed)]
