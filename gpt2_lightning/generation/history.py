"""Token ids of texts that grow."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_ROOM = 256
"""Ids for which room is made at least, whenever there is none."""


class History:
    """Ids of texts of different lengths, which grow by a token each at every step.

    Args:
        prompts: ids of each text so far, (T,), on one device.
    """

    def __init__(self, prompts: Sequence[Tensor]) -> None:
        self.prompt_lengths = torch.tensor([len(prompt) for prompt in prompts], device=prompts[0].device)
        """Number of prompt ids of each text, (R,)."""
        self.lengths = self.prompt_lengths.clone()
        """Number of ids of each text, (R,)."""
        self.padded = pad_sequence(list(prompts), batch_first=True)
        """Ids of all texts with room for more, (R, room), padded at the end."""
        self._longest = self.padded.size(1)

    @property
    def ids(self) -> Tensor:
        """The ids of all texts, (R, L), padded at the end."""
        return self.padded[:, : self._longest]

    def last(self, row: int, count: int) -> Tensor:
        """The last ids of a text, (count,)."""
        end = int(self.lengths[row])
        return self.padded[row, end - count : end]

    def new(self, row: int) -> list[int]:
        """The ids of a text after its prompt."""
        return self.padded[row, int(self.prompt_lengths[row]) : int(self.lengths[row])].tolist()

    def add(self, ids: Tensor) -> None:
        """Add one id (R,) to each text."""
        self.make_room()
        self.write(ids)
        self.advance()

    def add_to(self, rows: Sequence[int], ids: Tensor) -> None:
        """Add one id each, (len(rows),), to the texts of some rows."""
        self.make_room()
        self.padded[rows, self.lengths[rows]] = ids
        self.lengths[rows] += 1
        self._longest = int(self.lengths.max())

    def make_room(self) -> bool:
        """Make room for one more id of each text; return whether `padded` is another tensor now."""
        if self._longest < self.padded.size(1):
            return False
        room = self.padded.new_zeros(len(self.padded), max(self._longest, _ROOM))
        self.padded = torch.cat((self.padded, room), dim=1)
        return True

    def write(self, ids: Tensor) -> None:
        """The part of `add` that is a function of tensors alone: write the ids, and count them in `lengths`."""
        self.padded.scatter_(1, self.lengths.unsqueeze(1), ids.unsqueeze(1))
        self.lengths += 1

    def advance(self) -> None:
        """The rest of `add`: extend `ids` by a column, after `write`."""
        self._longest += 1

    def copy(self) -> History:
        """A history of its own with the same texts."""
        other = copy.copy(self)
        other.padded, other.lengths = self.padded.clone(), self.lengths.clone()
        return other

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the texts of these rows, in this order; a row may occur several times."""
        index = torch.tensor(rows, device=self.padded.device)
        self.prompt_lengths, self.lengths = self.prompt_lengths[index], self.lengths[index]
        self.padded = self.padded[index]
