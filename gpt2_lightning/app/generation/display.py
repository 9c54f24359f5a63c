"""Generated texts on the terminal: the text on standard output, all else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from gpt2_lightning.api.text_generator import Completion, TextGenerator
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.app.generation.token_colors import colored, has_colors, legend, summary, token_lines
from gpt2_lightning.generation import Piece, Token
from gpt2_lightning.generation.speculation.outcome import Acceptance
from gpt2_lightning.generation.stream import TextStream


def print_note(message: str) -> None:
    """Print on standard error."""
    print(message, file=sys.stderr)


class Display:
    """Prints generated texts, preceded by the prompt unless it is a chat message.

    Args:
        generator: generates the texts.
        config: settings of the output.
    """

    def __init__(self, generator: TextGenerator, config: Config) -> None:
        self._generator, self._tokenizer = generator, generator.tokenizer
        self._shows_probabilities = config.shows_probabilities
        self._console = Console(highlight=False)
        self._in_color = config.probabilities and has_colors(self._console)
        self._as_list = config.alternatives > 0 or (config.probabilities and not self._in_color)
        self.text = ""
        """The last text that was shown; of several the first."""

    def answer(self, prompt: str) -> None:
        """Generate and print the continuations of a prompt; a single one is streamed token by token.

        Raises:
            UserError: if the prompt cannot be read, or no token can be chosen.
        """
        generator = self._generator
        ids, had_slid = generator.encode(prompt), generator.slid
        for note in generator.notes(prompt, ids):
            print_note(note)
        if generator.streams:
            tokens = self._show(prompt, generator.stream([ids]))
        else:
            (completions,) = generator.complete([ids])
            tokens = []
            for number, completion in enumerate(completions, start=1):
                if len(completions) > 1:
                    _print(f"--- {_heading(number, completion, len(completions))} ---\n")
                tokens += self._show(prompt, completion.pieces)
            self.text = completions[0].text
        if generator.slid and not had_slid:
            print_note(generator.slide_note())
        if generator.settings.speculate is not None:
            print_note(str(Acceptance.of(token.outcome for token in tokens)))

    def _show(self, prompt: str, pieces: Iterable[Piece]) -> list[Token]:
        _print("" if self._generator.chat else prompt)
        self.text = ""
        stream, tokens = TextStream(self._tokenizer), list[Token]()
        for piece in pieces:
            tokens.append(piece.token)
            self.text += piece.text
            if self._in_color:
                self._draw(colored(stream.add(piece.token.id), piece.token.log_probability))
            else:
                _print(piece.text)
        _print(f"{stream.rest()}\n")
        if self._in_color:
            self._draw(legend().append("\n"))
        if self._as_list:
            for line in token_lines(tokens, self._tokenizer):
                self._draw(line.append("\n"))
        if self._shows_probabilities:
            print_note(summary(tokens))
        return tokens

    def _draw(self, text: Text) -> None:
        """Print styled text. `Console.print` would exit with code 1 on a closed pipe."""
        with self._console.capture() as drawn:
            self._console.print(text, end="", soft_wrap=True)
        _print(drawn.get())


def _heading(number: int, completion: Completion, count: int) -> str:
    seed = f", seed={completion.seed}" if completion.seed is not None else ""
    score = f", score {completion.score:.4f}" if completion.score is not None else ""
    return f"{number} of {count}{seed}{score}"


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
