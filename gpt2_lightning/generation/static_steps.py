"""Steps of a batch that are one function of tensors which keep their addresses: a CUDA graph on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gpt2_lightning.generation.reader import Reader
from gpt2_lightning.generation.sampling import Chosen, Sampler
from gpt2_lightning.model.inference.compiled import decode_static

Step = Callable[[], tuple[Chosen, Tensor]]
"""Function that reads the last tokens of a batch and chooses the next ones; it returns them and the logits."""


@dataclass(frozen=True)
class StepState:
    """What a step reads and writes, beside the KV cache and the history. Rows are independent of each other."""

    ids: Tensor
    """Last token of each text, not yet read, (R,) int64."""
    positions: Tensor
    """Cached tokens of each text, (R,) int64; `KVCache.lengths` holds the same on the host."""
    noise: Tensor | None
    """Random numbers of the step; see `Sampler.draw`."""


def static_step(reader: Reader, sampler: Sampler, state: StepState) -> tuple[Chosen, Tensor]:
    """Read the last token of each text and choose the next one, with no value of a tensor read by the host."""
    history = reader.history
    history.write(state.ids)
    logits = decode_static(reader.model, state.ids, state.positions, reader.cache)  # (R, V)
    state.positions.add_(1)
    chosen = sampler.select(logits, state.noise, history.padded, history.lengths, history.prompt_lengths)
    state.ids.copy_(chosen.ids.clamp(min=0))
    return chosen, logits


class StaticSteps:
    """The steps of a batch by `static_step`.

    On a GPU the step is captured as a CUDA graph, and the next step is launched before the tokens of the last one are
    awaited, so that the GPU always has work. Finished texts therefore stay in the batch for a step at least; they are
    removed when half of the texts have finished, since a batch of another size is captured anew. A step that follows
    the sliding of a window is launched after its texts are known to go on.

    The random numbers of a step are drawn before it, by the generator of each row on the device, and not in the graph.

    Args:
        reader: after `start` and `keep`, with a text in each row.
        sampler: of the same rows, without choices.
        capture: what makes a step fast; None to run it as it is, one at a time, and to remove finished texts at once.
    """

    def __init__(self, reader: Reader, sampler: Sampler, capture: Callable[[Step], Step] | None) -> None:
        self._reader, self._sampler, self._capture = reader, sampler, capture

    def run(self, logits: Tensor, count: int, ended: Collection[int]) -> Iterator[tuple[list[int], Chosen]]:
        """Yield the texts that go on, by their numbers, and their next tokens on the host, `count` times at most.

        Args:
            logits: after the prompts, (R, V).
            count: tokens of each text.
            ended: numbers of the texts that have ended, updated by the caller after each step.

        Raises:
            UserError: if a text has no next token.
        """
        rows = list(range(len(logits)))
        pending, following = self._first(logits, rows), None
        try:
            for left in reversed(range(count)):
                following = None
                if left and self._capture is not None and not self._reader.full_rows:
                    following = self._launch(rows)
                yield pending.read(ended)
                going = [i for i, row in enumerate(rows) if row not in ended]
                if not going:
                    return
                if len(going) < len(rows) and (self._capture is None or 2 * len(going) <= len(rows)):
                    rows = [rows[i] for i in going]
                    self._keep(going)
                if left:
                    pending = following or self._slide_and_launch(rows, ended)
        finally:
            (following or pending).wait()  # a graph must not be deleted while it runs

    def _first(self, logits: Tensor, rows: list[int]) -> _Pending:
        """Choose the first tokens."""
        history, noise = self._reader.history, self._sampler.noise_for(logits)
        self._sampler.draw(noise)
        chosen = self._sampler.select(logits, noise, history.ids, history.lengths, history.prompt_lengths)
        history.make_room()
        self._prepare(chosen.ids.clamp(min=0), noise)
        return _Pending(rows, chosen, logits, self._sampler)

    def _prepare(self, ids: Tensor, noise: Tensor | None) -> None:
        """Prepare the step for tensors at other addresses or of other shapes."""
        positions = torch.tensor(self._reader.cache.lengths, device=ids.device)
        self._state = StepState(ids, positions, noise)
        step = partial(static_step, self._reader, self._sampler, self._state)
        self._step = step if self._capture is None else self._capture(step)

    def _keep(self, rows: Sequence[int]) -> None:
        self._reader.keep(rows)
        self._sampler.keep(rows)
        noise = self._state.noise
        self._prepare(self._state.ids[rows], None if noise is None else noise[: len(rows)].clone())

    def _slide_and_launch(self, rows: list[int], ended: Collection[int]) -> _Pending:
        cache = self._reader.cache
        for i in self._reader.full_rows:
            if rows[i] in ended:
                cache.lengths[i] = 0  # its tokens are dropped
            else:
                self._reader.slide(i)
            self._state.positions[i].fill_(cache.lengths[i])
        return self._launch(rows)

    def _launch(self, rows: list[int]) -> _Pending:
        history = self._reader.history
        if history.make_room():
            self._prepare(self._state.ids, self._state.noise)
        self._sampler.draw(self._state.noise)
        chosen, logits = self._step()
        history.advance()
        self._reader.cache.advance(1)
        return _Pending(rows, chosen, logits, self._sampler)


class _Pending:
    """Tokens on their way to the host."""

    def __init__(self, rows: list[int], chosen: Chosen, logits: Tensor, sampler: Sampler) -> None:
        self._rows, self._logits, self._sampler = rows, logits, sampler
        self._chosen = chosen.map(_copy)
        self._copied = torch.cuda.Event() if logits.is_cuda else None
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(logits.device))

    def wait(self) -> None:
        """Wait for the step, and for the copies of its tokens."""
        if self._copied is not None:
            self._copied.synchronize()

    def read(self, ended: Collection[int]) -> tuple[list[int], Chosen]:
        """Wait for the tokens; return the texts that have not ended, and theirs."""
        self.wait()
        going = [i for i, row in enumerate(self._rows) if row not in ended]
        chosen = self._chosen if len(going) == len(self._rows) else self._chosen.map(lambda tensor: tensor[going])
        self._sampler.check(chosen, self._logits)
        return [self._rows[i] for i in going], chosen


def _copy(tensor: Tensor) -> Tensor:
    """A copy on the host, which is complete when the work that the device has been given is."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return host.copy_(tensor, non_blocking=True)
