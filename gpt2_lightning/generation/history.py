"""Token ids of texts that grow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


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
        self._padded = pad_sequence(list(prompts), batch_first=True)  # (R, room)
        self._longest = self._padded.size(1)

    @property
    def ids(self) -> Tensor:
        """The ids of all texts, (R, L), padded at the end."""
        return self._padded[:, : self._longest]

    def last(self, row: int, count: int) -> Tensor:
        """The last ids of a text, (count,)."""
        end = int(self.lengths[row])
        return self._padded[row, end - count : end]

    def new(self, row: int) -> list[int]:
        """The ids of a text after its prompt."""
        return self._padded[row, int(self.prompt_lengths[row]) : int(self.lengths[row])].tolist()

    def add(self, ids: Tensor) -> None:
        """Add one id (R,) to each text."""
        if self._longest == self._padded.size(1):
            self._padded = torch.cat((self._padded, torch.zeros_like(self._padded)), dim=1)  # double the room
        self._padded.scatter_(1, self.lengths.unsqueeze(1), ids.unsqueeze(1))
        self.lengths += 1
        self._longest += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the texts of these rows, in this order; a row may occur several times."""
        index = torch.tensor(rows, device=self._padded.device)
        self.prompt_lengths, self.lengths = self.prompt_lengths[index], self.lengths[index]
        self._padded = self._padded[index]
