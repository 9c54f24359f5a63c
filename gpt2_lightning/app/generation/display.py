"""Answers on the terminal: the text on standard output, what is said of it on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from gpt2_lightning.app.generation.generator import Answer, Writer
from gpt2_lightning.app.generation.token_colors import coloured, has_colours, legend, listed, summary
from gpt2_lightning.generation import Piece, Token
from gpt2_lightning.generation.stream import TextStream


def tell(message: str) -> None:
    """Say something that is no part of a text."""
    print(message, file=sys.stderr)


class Display:
    """Shows answers as the settings want them: after their prompt, or alone where it is a question.

    Args:
        writer: who answers.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer, self._tokenizer = writer, writer.tokenizer
        self._alternatives, self._shows_probabilities = writer.config.alternatives, writer.config.shows_probabilities
        self._console = Console(highlight=False)
        self._in_colour = writer.config.probabilities and has_colours(self._console)
        self.text = ""
        """What was shown of the last answer; of several texts the first."""
        self._lists = self._alternatives > 0 or (writer.config.probabilities and not self._in_colour)

    def answer(self, prompt: str) -> None:
        """Continue a prompt and show it: a single text as it is written.

        Raises:
            UserError: if the prompt cannot be read, or no token can be chosen.
        """
        writer = self._writer
        ids, had_slid = writer.read(prompt), writer.slid
        for note in writer.notes(prompt, ids):
            tell(note)
        if writer.streams:
            self._show(prompt, writer.pieces([ids]))
        else:
            (answers,) = writer.answers([ids])
            for number, answer in enumerate(answers, start=1):
                if len(answers) > 1:
                    _print(f"--- {_heading(number, answer, len(answers))} ---\n")
                self._show(prompt, answer.pieces)
            self.text = answers[0].text
        if writer.slid and not had_slid:
            tell(writer.slide_note())

    def _show(self, prompt: str, pieces: Iterable[Piece]) -> None:
        _print("" if self._writer.chat else prompt)
        self.text = ""
        stream, tokens = TextStream(self._tokenizer), list[Token]()
        for piece in pieces:
            tokens.append(piece.token)
            self.text += piece.text
            if self._in_colour:
                self._draw(coloured(stream.add(piece.token.id), piece.token.log_probability))
            else:
                _print(piece.text)
        _print(f"{stream.rest()}\n")
        if self._in_colour:
            self._draw(legend().append("\n"))
        if self._lists:
            for line in listed(tokens, self._tokenizer):
                self._draw(line.append("\n"))
        if self._shows_probabilities:
            tell(summary(tokens))

    def _draw(self, text: Text) -> None:
        """Without rich's own writing, which ends the program with code 1 when the reader of a pipe has seen enough."""
        with self._console.capture() as drawn:
            self._console.print(text, end="", soft_wrap=True)
        _print(drawn.get())


def _heading(number: int, answer: Answer, count: int) -> str:
    drawn = f", seed={answer.seed}" if answer.seed is not None else ""
    found = f", score {answer.score:.4f}" if answer.score is not None else ""
    return f"{number} of {count}{drawn}{found}"


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
