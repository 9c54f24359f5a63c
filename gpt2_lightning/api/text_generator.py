"""Text that follows prompts, as pieces or as whole completions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from gpt2_lightning.api.chat import Chat
from gpt2_lightning.api.settings import GenerationSettings, with_token_ids
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Piece, Token, search, write
from gpt2_lightning.generation.beams import Beam
from gpt2_lightning.generation.decoder import Finish
from gpt2_lightning.generation.sampling import row_seed
from gpt2_lightning.generation.speculation.draft import Draft
from gpt2_lightning.generation.speculation.outcome import Acceptance
from gpt2_lightning.generation.start import empty_start, prompt_ids
from gpt2_lightning.generation.text import StoppableText, piece_of
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class Completion:
    """A text that follows a prompt."""

    pieces: tuple[Piece, ...]
    """What each token added, including an end-of-text token and the tokens of a stop string."""
    seed: int | None = None
    """Seed that reproduces this completion for the prompt alone; None for greedy decoding and beam search."""
    score: float | None = None
    """Score of a beam search; see `Beam`."""

    @property
    def text(self) -> str:
        """The text, without the prompt."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> list[Token]:
        """The tokens, with log-probabilities where `log_probabilities` is set."""
        return [piece.token for piece in self.pieces]

    @property
    def acceptance(self) -> Acceptance:
        """How many of the drafted tokens were accepted, and tokens per pass of the model; see `speculate`."""
        return Acceptance.of(token.outcome for token in self.tokens)

    @property
    def finish(self) -> Finish | None:
        """Why the text ended."""
        return self.pieces[-1].finished


class TextGenerator:
    """Generates text from prompts.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        settings: the settings.
        chat: renders prompts in the template of a model that was trained on instructions; None to continue them.
        slid: initial value of `slid`.
        ends: ids that end a text; None for the tokenizer's end of text.
        draft: what drafts tokens, as `settings.speculate` names it; see `Decoder`.

    Raises:
        UserError: if a setting does not fit the tokenizer or the template.
    """

    def __init__(
        self,
        model: GPT2,
        tokenizer: Tokenizer,
        settings: GenerationSettings,
        chat: Chat | None = None,
        slid: bool = False,
        ends: Collection[int] | None = None,
        draft: Draft | None = None,
    ) -> None:
        if chat is not None and settings.special_tokens:
            raise UserError("special_tokens: the text of a question is encoded as text; leave it out, or set raw=true")
        self.model, self.tokenizer, self.settings, self.chat = model, tokenizer, settings, chat
        self._sampling = with_token_ids(settings, tokenizer)
        self.slid = slid
        """Whether any text has outgrown the context."""
        own = () if tokenizer.end_of_text is None else (tokenizer.end_of_text,)
        self._model_ends = own if ends is None else ends
        self._draft = draft

    def with_settings(self, settings: GenerationSettings) -> TextGenerator:
        """Return a generator of the same model and conversation with other settings."""
        return TextGenerator(self.model, self.tokenizer, settings, self.chat, self.slid, self._model_ends, self._draft)

    @property
    def ends(self) -> Collection[int]:
        """Ids that end a text."""
        return () if self.settings.ignore_end_of_text else self._model_ends

    @property
    def streams(self) -> bool:
        """Whether there is one text for a prompt, generated token by token."""
        return self.settings.num_samples == 1 and self.settings.n_beams == 1

    @property
    def networks(self) -> list[GPT2]:
        """The model, and the one that drafts tokens, if there is one."""
        return [self.model, *([self._draft] if isinstance(self._draft, GPT2) else [])]

    @property
    def context(self) -> int:
        """Size of the model's context, in tokens."""
        return self.model.config.block_size

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a text: those of the settings and of the template."""
        return (*self.settings.stop, *(self.chat.template.stop if self.chat else ()))

    def encode(self, prompt: str) -> Tensor:
        """Encode a prompt, in the model's template if there is one.

        Returns:
            Token ids of shape (T,), T >= 1.

        Raises:
            UserError: if it has characters that the tokenizer lacks, or none that it has; see also `Chat.encode`.
        """
        if self.chat is not None:
            return self.chat.encode(prompt, self.settings.max_new_tokens)
        return prompt_ids(prompt, self.tokenizer, self.settings.special_tokens)

    def notes(self, prompt: str, ids: Tensor) -> Iterator[str]:
        """Notes about a prompt for the user."""
        if not prompt:
            yield f"the prompt is empty: the text starts from {empty_start(self.tokenizer)[1]}"
        if note := self.tokenizer.take_note():
            yield f"in the prompt, {note}"
        if len(ids) > self.context:
            yield (f"the prompt has {len(ids)} tokens and the context {self.context}: the last {self.context} are read")

    def slide_note(self) -> str:
        """Note for the user about texts that outgrew the context."""
        return (
            f"past the context of {self.context} tokens a window slid: whenever it was full, the text continued from "
            f"the last {max(1, 3 * self.context // 4)} tokens"
        )

    def stream(self, prompts: Sequence[Tensor], first_row: int = 0) -> Iterator[Piece]:
        """Generate token by token; see `generation.write`."""
        return write(
            self.model,
            self.tokenizer,
            prompts,
            self._sampling,
            self.settings.num_samples,
            self.stop,
            first_row,
            self._set_slid,
            self.ends,
            self._draft,
        )

    def complete(
        self, prompts: Sequence[Tensor], first_row: int = 0, on_token: Callable[[], None] = lambda: None
    ) -> list[list[Completion]]:
        """Generate the completions of each prompt; those of a beam search are sorted, best first.

        Args:
            prompts: token ids of each, (T,).
            first_row: number of the first text, from which its seed is derived.
            on_token: called for each token.
        """
        if self.settings.n_beams > 1:
            return [self._search(prompt, on_token) for prompt in prompts]
        count = self.settings.num_samples
        texts: list[list[Piece]] = [[] for _ in range(len(prompts) * count)]
        for piece in self.stream(prompts, first_row):
            texts[piece.row].append(piece)
            on_token()
        completions = [Completion(tuple(pieces), self._seed(first_row + row)) for row, pieces in enumerate(texts)]
        return [completions[i : i + count] for i in range(0, len(completions), count)]

    def _search(self, prompt: Tensor, on_token: Callable[[], None]) -> list[Completion]:
        prompt = prompt.to(self.model.wte.weight.device)
        beams = search(self.model, prompt, self._sampling, self.ends)[: self.settings.num_samples]
        completions = [Completion(tuple(self._decode(beam)), score=beam.score) for beam in beams]
        for completion in completions:
            read = min(len(prompt), self.context) + len(completion.pieces) - 1  # the last token is not read
            if read > self.context:
                self._set_slid()
            for _ in completion.pieces:
                on_token()
        return completions

    def _decode(self, beam: Beam) -> Iterator[Piece]:
        """Pieces up to the first stop string of the template: the search itself knows only the end of text."""
        text = StoppableText(self.tokenizer, self.stop)
        ids = [*beam.ids] if beam.end is None else [*beam.ids, beam.end]
        for number, token in enumerate(ids, start=1):
            finish: Finish | None = ("length" if beam.end is None else "end_of_text") if number == len(ids) else None
            piece = piece_of(Token(0, token, finish), text)
            yield piece
            if piece.finished:
                return

    def _seed(self, row: int) -> int | None:
        return None if self.settings.temperature == 0 else row_seed(self.settings.seed, row)

    def _set_slid(self) -> None:
        self.slid = True
