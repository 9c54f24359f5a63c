"""A model that answers prompts with the settings of the command line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from gpt2_lightning.app.generation.chat import Chat
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.generation import Piece, Token, search, write
from gpt2_lightning.generation.beams import Beam
from gpt2_lightning.generation.decoder import Finish
from gpt2_lightning.generation.sampling import row_seed
from gpt2_lightning.generation.start import empty_start, prompt_ids
from gpt2_lightning.generation.text import StoppableText, piece_of
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class Answer:
    """A whole text that follows a prompt."""

    pieces: tuple[Piece, ...]
    """What each token added, that of an end of text or of a stop string included."""
    seed: int | None = None
    """With this as `seed`, the prompt alone gets the same answer; None where nothing is drawn."""
    score: float | None = None
    """Beam search's; see `Beam`."""

    @property
    def text(self) -> str:
        """The text, without the prompt."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def finish(self) -> Finish | None:
        """Why it ended."""
        return self.pieces[-1].finished


class Writer:
    """Answers prompts.

    Args:
        model: in evaluation mode.
        tokenizer: its own.
        config: the settings.
        slid: whether a text has outgrown the context before.
        chat: takes prompts as questions, where the model was trained on instructions.
    """

    def __init__(
        self, model: GPT2, tokenizer: Tokenizer, config: Config, slid: bool = False, chat: Chat | None = None
    ) -> None:
        self.model, self.tokenizer, self.config, self.chat = model, tokenizer, config, chat
        self.sampling = config.sampling()
        self.slid = slid
        """Whether a text has outgrown the context."""
        self._spelling = copy.copy(tokenizer)  # its end of text ends texts; an empty prompt starts from the other's
        if config.ignore_end_of_text:
            self._spelling.end_of_text = None

    @property
    def streams(self) -> bool:
        """Whether a prompt gets one text, token by token."""
        return self.config.num_samples == 1 and self.sampling.n_beams == 1

    @property
    def context(self) -> int:
        """Tokens that the model sees at a time."""
        return self.model.config.block_size

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a text: those of the settings and of the template."""
        return self.config.stop_strings + (self.chat.template.stop if self.chat else ())

    def read(self, prompt: str) -> Tensor:
        """The ids (T,) of a prompt, or of a question in the model's template.

        Raises:
            UserError: if it has characters that the tokenizer lacks, or none that it has; see also `Chat.read`.
        """
        if self.chat is not None:
            return self.chat.read(prompt, self.sampling.max_new_tokens)
        return prompt_ids(prompt, self.tokenizer)

    def notes(self, prompt: str, ids: Tensor) -> Iterator[str]:
        """What the user should know of a prompt."""
        if not prompt:
            yield f"the prompt is empty: the text starts from {empty_start(self.tokenizer)[1]}"
        if len(ids) > self.context:
            yield (f"the prompt has {len(ids)} tokens and the context {self.context}: the last {self.context} are read")

    def slide_note(self) -> str:
        """What the user should know of a text that outgrew the context."""
        return (
            f"past the context of {self.context} tokens a window slid: whenever it was full, the text went on from "
            f"the last {max(1, 3 * self.context // 4)} tokens"
        )

    def pieces(self, prompts: Sequence[Tensor], first_row: int = 0) -> Iterator[Piece]:
        """The answers token by token; see `generation.write`."""
        config = self.config
        return write(
            self.model,
            self._spelling,
            prompts,
            self.sampling,
            config.num_samples,
            self.stop,
            first_row,
            self._note_slide,
        )

    def answers(
        self, prompts: Sequence[Tensor], first_row: int = 0, on_token: Callable[[], None] = lambda: None
    ) -> list[list[Answer]]:
        """The whole answers to each prompt; with beams the best ones, best first.

        Args:
            prompts: ids of each.
            first_row: number of the first text, by which its seed follows from the `seed` of the settings.
            on_token: called when a text has got a token.
        """
        if self.sampling.n_beams > 1:
            return [self._searched(prompt, on_token) for prompt in prompts]
        count = self.config.num_samples
        texts: list[list[Piece]] = [[] for _ in range(len(prompts) * count)]
        for piece in self.pieces(prompts, first_row):
            texts[piece.row].append(piece)
            on_token()
        answers = [Answer(tuple(pieces), self._seed(first_row + row)) for row, pieces in enumerate(texts)]
        return [answers[i : i + count] for i in range(0, len(answers), count)]

    def _searched(self, prompt: Tensor, on_token: Callable[[], None]) -> list[Answer]:
        prompt = prompt.to(self.model.wte.weight.device)
        found = search(self.model, prompt, self.sampling, self._spelling.end_of_text)[: self.config.num_samples]
        answers = [Answer(tuple(self._spelt(beam)), score=beam.score) for beam in found]
        for answer in answers:
            if min(len(prompt), self.context) + len(answer.pieces) - 1 > self.context:  # the last one is not read
                self._note_slide()
            for _ in answer.pieces:
                on_token()
        return answers

    def _spelt(self, beam: Beam) -> Iterator[Piece]:
        """Up to the first stop string: the search itself knows only the end of text."""
        text, end = StoppableText(self.tokenizer, self.stop), self._spelling.end_of_text
        ids = [*beam.ids, end] if beam.ended and end is not None else [*beam.ids]
        for number, token in enumerate(ids, start=1):
            finish: Finish | None = ("end_of_text" if beam.ended else "length") if number == len(ids) else None
            piece = piece_of(Token(0, token, finish), text)
            yield piece
            if piece.finished:
                return

    def _seed(self, row: int) -> int | None:
        return None if self.sampling.temperature == 0 else row_seed(self.sampling.seed, row)

    def _note_slide(self) -> None:
        self.slid = True
