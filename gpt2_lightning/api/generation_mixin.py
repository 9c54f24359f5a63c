"""The methods of a language model that generate."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack, cast, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2_lightning.api.chat import Chat
from gpt2_lightning.api.draft_models import DraftModels
from gpt2_lightning.api.settings import GenerationOptions, GenerationSettings, new_tokens, with_changes
from gpt2_lightning.api.text_generator import Completion, TextGenerator
from gpt2_lightning.api.token_ids import Ids, batch_of, generate_ids, refuse_system
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.data.instruction.templates import template_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.pretrained.loaded_model import LoadedModel


class GenerationMixin:
    """What `LanguageModel` generates with."""

    _loaded: LoadedModel
    _draft_models: DraftModels

    @overload
    def generate(
        self, prompt: str, *, num_samples: None = None, max_length: int | None = None,
        settings: GenerationSettings | None = None, **options: Unpack[GenerationOptions],
    ) -> str: ...  # fmt: skip
    @overload
    def generate(
        self, prompt: str, *, num_samples: int, max_length: int | None = None,
        settings: GenerationSettings | None = None, **options: Unpack[GenerationOptions],
    ) -> list[str]: ...  # fmt: skip
    @overload
    def generate(
        self, prompt: Tensor, *, num_samples: int | None = None, max_length: int | None = None,
        settings: GenerationSettings | None = None, **options: Unpack[GenerationOptions],
    ) -> Tensor: ...  # fmt: skip
    @overload
    def generate(
        self, prompt: list[int], *, num_samples: None = None, max_length: int | None = None,
        settings: GenerationSettings | None = None, **options: Unpack[GenerationOptions],
    ) -> list[int]: ...  # fmt: skip
    @overload
    def generate(
        self, prompt: list[str], *, num_samples: None = None, max_length: int | None = None,
        settings: GenerationSettings | None = None, **options: Unpack[GenerationOptions],
    ) -> list[str]: ...  # fmt: skip
    def generate(
        self,
        prompt: str | list[str] | Ids,
        *,
        num_samples: int | None = None,
        max_length: int | None = None,
        settings: GenerationSettings | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Any:
        """Generate what follows a prompt.

        Args:
            prompt: a text or a list of texts, which a model that was trained on instructions gets in its template
                (`raw=True` prevents it); or token ids, (T,) or (B, T).
            num_samples: texts for each prompt; None for one, without a list around it.
            max_length: tokens of the prompt and the text together, in place of `max_new_tokens`.
            settings: `GenerationSettings` in place of the defaults.
            **options: fields of `GenerationSettings`, which replace those of `settings`.

        Returns:
            For a string a string, without the prompt; for a list of strings a list. With `num_samples`, a list of
            strings takes the place of each string.

            For token ids token ids, with the prompt, as from `generate` in transformers: a list for a list; for a
            tensor or array (T,) or (B, T) a tensor (T',) or (B, T'), with `num_samples` (B * num_samples, T'). Rows
            that ended earlier are padded with the end-of-text token.

        Characters that the tokenizer lacks are replaced or left out, with a `UserWarning`.

        Raises:
            UserError: if a setting is out of range or the prompt cannot be used.
        """
        changes: dict[str, Any] = {**options, **({} if num_samples is None else {"num_samples": num_samples})}
        several = num_samples is not None or (settings is not None and settings.num_samples > 1)
        if isinstance(prompt, str):
            return _texts(self._complete([prompt], max_length, settings, changes)[0], several)
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
            texts = [text for text in prompt if isinstance(text, str)]
            return [_texts(found, several) for found in self._complete(texts, max_length, settings, changes)]
        ids = batch_of(cast(Ids, prompt), self._loaded.model)
        if max_length is not None:
            changes["max_new_tokens"] = new_tokens(max_length, [ids.size(1)], changes)
        chosen = with_changes(settings or GenerationSettings(), changes)
        end = self._loaded.tokenizer.end_of_text if self._loaded.tokenizer else None
        ends = () if chosen.ignore_end_of_text else self._loaded.ends_of_text()
        draft = self._draft_models.find(chosen.speculate, self._loaded)
        rows = generate_ids(self._loaded.model, ids, chosen, ends, draft)
        if isinstance(prompt, list):
            return rows if several else rows[0]
        padded = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=float(end or 0))
        found = padded[0] if prompt.ndim == 1 and not several else padded
        return found.to(prompt.device) if isinstance(prompt, Tensor) else found

    def completions(
        self, prompts: Sequence[str], settings: GenerationSettings | None = None, **options: Any
    ) -> list[list[Completion]]:
        """Generate texts with their tokens, log-probabilities, seeds and scores.

        Args:
            prompts: as in `generate`.
            settings: as in `generate`.
            **options: as in `generate`.

        Returns:
            `num_samples` completions for each prompt.

        Raises:
            UserError: as `generate`.
        """
        return self._complete(prompts, None, settings, options)

    def stream(
        self,
        prompt: str,
        *,
        max_length: int | None = None,
        settings: GenerationSettings | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Iterator[str]:
        """Generate what follows a prompt, and yield it in pieces of whole characters as soon as they are certain.

        Arguments and errors are those of `generate`, for one text and without beams. The pieces joined are the string
        that `generate` returns.
        """
        generator, (ids,) = self._prepare([prompt], max_length, settings, dict(options))
        if not generator.streams:
            raise UserError("stream: one text is generated at a time; set num_samples=1 and n_beams=1, or use generate")
        return (piece.text for piece in generator.stream([ids]) if piece.text)

    def text_generator(
        self, settings: GenerationSettings, notify: Callable[[str], None] = lambda note: None
    ) -> TextGenerator:
        """What `generate`, `stream` and the command line generate texts with.

        Args:
            settings: the settings.
            notify: called with notes for the user.

        Raises:
            UserError: if there is no tokenizer, a system message has no place, or there is no model to draft tokens.
        """
        tokenizer, chat = self._loaded.description().tokenizer, None
        if self._loaded.task.get("kind") == INSTRUCT and not settings.raw:
            template = template_of(self._loaded.task)
            chat = Chat(template, tokenizer, self._loaded.model.config.block_size, notify, settings.system)
        else:
            refuse_system(settings)
        draft = self._draft_models.find(settings.speculate, self._loaded)
        return TextGenerator(self._loaded.model, tokenizer, settings, chat, False, self._loaded.ends_of_text(), draft)

    def _complete(
        self,
        prompts: Sequence[str],
        max_length: int | None,
        settings: GenerationSettings | None,
        changes: dict[str, Any],
    ) -> list[list[Completion]]:
        generator, ids = self._prepare(prompts, max_length, settings, changes)
        return generator.complete(ids)

    def _prepare(
        self,
        prompts: Sequence[str],
        max_length: int | None,
        settings: GenerationSettings | None,
        changes: dict[str, Any],
    ) -> tuple[TextGenerator, list[Tensor]]:
        """A generator with the settings of a call, and the token ids of each prompt."""
        if not prompts:
            raise UserError("prompt: the list is empty, one prompt or more is needed")
        chosen = with_changes(settings or GenerationSettings(), changes)
        generator = self.text_generator(chosen)
        ids = [generator.encode(prompt) for prompt in prompts]
        self._warn_of_unknown_characters()
        if max_length is not None:
            room = new_tokens(max_length, list(map(len, ids)), changes)
            generator = self.text_generator(with_changes(chosen, {"max_new_tokens": room}))
        return generator, ids

    def _warn_of_unknown_characters(self) -> None:
        """Warn of characters of the encoded texts that the tokenizer lacks, and replaced or left out."""
        if self._loaded.tokenizer is not None and (note := self._loaded.tokenizer.take_note()):
            warnings.warn(f"{self._loaded.location}: {note}", stacklevel=2)


def _texts(completions: list[Completion], several: bool) -> str | list[str]:
    texts = [completion.text for completion in completions]
    return texts if several else texts[0]
