"""A GPT-2 with its tokenizer: what `load` returns."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, cast, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2_lightning.api.chat import Chat
from gpt2_lightning.api.settings import GenerationOptions, GenerationSettings
from gpt2_lightning.api.text_generator import Completion, TextGenerator
from gpt2_lightning.conversion.convert import Target, convert
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.data.instruction.templates import template_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Decoder, search
from gpt2_lightning.inspection.attention.reading import attention_weights
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.pretrained.loaded_model import OURS, LoadedModel
from gpt2_lightning.tokenizers import Tokenizer

Ids = Tensor | list[int]
"""Token ids of one text, (T,); a tensor may also hold several texts of the same length, (B, T)."""

SavedAs = Literal["gpt2_lightning", "huggingface"]


class LanguageModel:
    """A GPT-2 with its tokenizer.

    Args:
        network: is put into evaluation mode.
        tokenizer: None for a network that only reads and generates token ids.
        loaded: what is known of the model besides, by default nothing; `load` passes it.
    """

    def __init__(self, network: GPT2, tokenizer: Tokenizer | None = None, loaded: LoadedModel | None = None) -> None:
        if loaded is None:
            loaded = LoadedModel(network, tokenizer, {}, OURS, "the model")
        self._loaded = dataclasses.replace(loaded, model=network.eval(), tokenizer=tokenizer)

    @property
    def network(self) -> GPT2:
        """The network, a `torch.nn.Module`."""
        return self._loaded.model

    @property
    def config(self) -> GPT2Config:
        """The network's architecture."""
        return self.network.config

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            UserError: if there is none.
        """
        return self._loaded.description().tokenizer

    @property
    def location(self) -> str:
        """The file, folder or Hub address that the model was loaded from."""
        return self._loaded.place

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about loading, such as that an adapter was merged."""
        return self._loaded.notes

    def __repr__(self) -> str:
        config, place = self.config, self.location
        shape = f"n_layer={config.n_layer}, n_head={config.n_head}, n_embd={config.n_embd}"
        return f"LanguageModel({place!r}, {shape}, block_size={config.block_size}, vocab_size={config.vocab_size})"

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
            tensor (T,) or (B, T) a tensor (T',) or (B, T'), with `num_samples` (B * num_samples, T'). Rows that ended
            earlier are padded with the end-of-text token.

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
        ids = self._ids(cast(Ids, prompt))
        rows = self._generate_ids(ids, self._settings(settings, changes, max_length, [ids.size(1)]))
        if isinstance(prompt, list):
            return rows if several else rows[0]
        end = self._loaded.tokenizer.end_of_text if self._loaded.tokenizer else None
        padded = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=float(end or 0))
        return (padded[0] if prompt.dim() == 1 and not several else padded).to(prompt.device)

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

    @torch.no_grad()
    def logits(self, text: str | Ids) -> Tensor:
        """Logits of the next token after each token of a text.

        Args:
            text: a text of T tokens, or token ids, (T,) or (B, T); T is at most `block_size`.

        Returns:
            (T, V), or (B, T, V) for ids (B, T), in the network's dtype and on its device.

        Raises:
            UserError: if the text is empty or too long, or has characters or ids that the model lacks.
        """
        ids = self._ids_in_context(text)
        logits: Tensor = self.network(ids)
        return logits if _is_batch(text) else logits[0]

    @torch.no_grad()
    def loss(self, text: str | Ids) -> float:
        """Mean cross-entropy of a text's tokens but the first, each given those before it, in nats per token.

        A text of more than `block_size` + 1 tokens is divided into consecutive windows of `block_size` predictions,
        each of which sees the tokens of its own window alone.

        Args:
            text: a text of T >= 2 tokens, or token ids, (T,) or (B, T).

        Raises:
            UserError: as `logits`, but for its length; also if there are less than two tokens.
        """
        ids = self._ids(text)
        length, block_size = ids.size(1), self.config.block_size
        if length < 2:
            raise UserError("loss: the text has 1 token, and its loss needs 2 or more")
        starts = range(0, length - 1, block_size)
        windows = (ids[:, start : start + block_size + 1] for start in starts)
        total = sum(float(self.network(window[:, :-1], targets=window[:, 1:])) for window in windows)
        return total / (len(ids) * (length - 1))

    def attention(self, text: str | Ids) -> Tensor:
        """Attention weights of every head.

        Args:
            text: as in `logits`, one text.

        Returns:
            (L, H, T, T), float32, on the CPU: layer, head, query, key. Rows sum to 1; a query attends to keys that are
            not after it.

        Raises:
            UserError: as `logits`.
        """
        ids = self._ids_in_context(text)
        if len(ids) > 1:
            raise UserError(f"attention: {len(ids)} texts were given, it is computed for one")
        return attention_weights(self.network, ids[0])

    def save(self, path: str | os.PathLike[str], to: SavedAs | None = None, overwrite: bool = False) -> Path:
        """Save the model, with merged adapters, and verify what was saved as the verb `convert` does.

        Args:
            path: a checkpoint file that `load` and every verb of the command line read, if its name ends in .ckpt or
                .pt; otherwise a Hugging Face folder, with tokenizer and model card.
            to: `gpt2_lightning` or `huggingface`, to choose by this instead of the name.
            overwrite: whether a path that exists is replaced, once the new one is verified.

        Returns:
            The absolute path.

        Raises:
            UserError: if the path exists or cannot be written, or the format cannot hold the model.
        """
        target = Target(Path(path).expanduser().resolve(), overwrite)
        target.require_free()
        network = copy.deepcopy(self.network).cpu()
        score = None if self._loaded.score is None else self._loaded.score.cpu()
        own = dataclasses.replace(
            self._loaded, model=network, score=score, program=OURS, network=None, adapter=None
        )  # as it is now, which need not be what its file held
        is_file = target.path.suffix in (".ckpt", ".pt")
        convert(own, target, to or ("gpt2_lightning" if is_file else "huggingface"))
        return target.path

    def text_generator(
        self, settings: GenerationSettings, notify: Callable[[str], None] = lambda note: None
    ) -> TextGenerator:
        """What `generate`, `stream` and the command line generate texts with.

        Args:
            settings: the settings.
            notify: called with notes for the user.

        Raises:
            UserError: if there is no tokenizer, or a system message has no place.
        """
        chat = None
        if self._loaded.task.get("kind") == INSTRUCT and not settings.raw:
            template = template_of(self._loaded.task)
            chat = Chat(template, self.tokenizer, self.config.block_size, notify, settings.system)
        else:
            _refuse_system(settings)
        return TextGenerator(self.network, self.tokenizer, settings, chat)

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
        generator = self.text_generator(self._settings(settings, changes, None, []))
        ids = [generator.encode(prompt) for prompt in prompts]
        if max_length is not None:
            generator = self.text_generator(self._settings(settings, changes, max_length, list(map(len, ids))))
        return generator, ids

    def _settings(
        self,
        settings: GenerationSettings | None,
        changes: dict[str, Any],
        max_length: int | None,
        lengths: Sequence[int],
    ) -> GenerationSettings:
        """The settings of a call, given the number of tokens of each prompt."""
        if max_length is not None:
            if "max_new_tokens" in changes:
                raise UserError(
                    f"max_length: {max_length} does not go with max_new_tokens={changes['max_new_tokens']}, choose one"
                )
            if len(set(lengths)) > 1:
                raise UserError(
                    f"max_length: {max_length} leaves different numbers of new tokens to prompts of "
                    f"{min(lengths)} to {max(lengths)} tokens; set max_new_tokens instead"
                )
            changes = {**changes, "max_new_tokens": max_length - lengths[0]}
            if max_length <= lengths[0]:
                raise UserError(f"max_length: {max_length} leaves no new token to a prompt of {lengths[0]} tokens")
        try:
            return dataclasses.replace(settings or GenerationSettings(), **changes)
        except ValueError as error:
            raise UserError(str(error)) from None

    def _generate_ids(self, prompts: Tensor, settings: GenerationSettings) -> list[list[int]]:
        """Ids of each text with its prompt, and with the end of text if that ended it."""
        if settings.stop:
            raise UserError("stop: it is for prompts that are texts; leave it out, or pass a string")
        _refuse_system(settings)
        tokenizer = self._loaded.tokenizer
        end = None if tokenizer is None or settings.ignore_end_of_text else tokenizer.end_of_text
        if settings.n_beams > 1:
            beams = [
                (prompt, beam)
                for prompt in prompts
                for beam in search(self.network, prompt, settings, end)[: settings.num_samples]
            ]
            ending = [] if end is None else [end]
            return [[*prompt.tolist(), *beam.ids, *(ending if beam.ended else [])] for prompt, beam in beams]
        rows = [prompt.tolist() for prompt in prompts for _ in range(settings.num_samples)]
        for step in Decoder(self.network, list(prompts), settings, settings.num_samples, end):
            for token in step:
                rows[token.row].append(token.id)
        return rows

    def _ids(self, text: str | Ids) -> Tensor:
        """Token ids (B, T), T >= 1, of a text or of ids, on the network's device."""
        if isinstance(text, str):
            ids = torch.from_numpy(self.tokenizer.encode(text).astype("int64"))
        else:
            ids = torch.as_tensor(text)
        if not ids.numel():
            raise UserError("the text is empty: one token or more is needed")
        if ids.is_floating_point() or ids.dim() not in (1, 2):
            raise UserError(f"ids: shape {tuple(ids.shape)} of {ids.dtype} is not (T,) or (B, T) of integers")
        lowest, highest = int(ids.min()), int(ids.max())
        if lowest < 0 or highest >= self.config.vocab_size:
            wrong = lowest if lowest < 0 else highest
            raise UserError(f"ids: {wrong} is out of range, 0 to {self.config.vocab_size - 1} are tokens")
        ids = ids.to(self.network.wte.weight.device, torch.int64)
        return ids if ids.dim() == 2 else ids.unsqueeze(0)

    def _ids_in_context(self, text: str | Ids) -> Tensor:
        ids = self._ids(text)
        if ids.size(1) > self.config.block_size:
            raise UserError(
                f"the text has {ids.size(1)} tokens, and the context (block_size) is {self.config.block_size}; "
                "pass a shorter one"
            )
        return ids


def _texts(completions: list[Completion], several: bool) -> str | list[str]:
    texts = [completion.text for completion in completions]
    return texts if several else texts[0]


def _is_batch(text: str | Ids) -> bool:
    return isinstance(text, Tensor) and text.dim() == 2


def _refuse_system(settings: GenerationSettings) -> None:
    if settings.system is not None:
        raise UserError("system: it is for a model trained on instructions, without raw=true; leave it out")
