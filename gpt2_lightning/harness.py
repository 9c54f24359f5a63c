"""The model `gpt2-lightning` of lm-evaluation-harness: tasks of the harness on a checkpoint, without an export.

    lm_eval --model gpt2-lightning --model_args checkpoint=RUN --tasks lambada_openai,hellaswag

The harness imports this module when the model is chosen; see docs/evaluation.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from tqdm import tqdm

from gpt2_lightning.api.settings import GenerationSettings, with_changes
from gpt2_lightning.api.text_generator import TextGenerator
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.data.instruction.templates import template_of
from gpt2_lightning.data.tables.instructions import Message, Role
from gpt2_lightning.errors import UserError, did_you_mean
from gpt2_lightning.evaluation.likelihood.encoding import encode_pair, prefix_token
from gpt2_lightning.evaluation.likelihood.request import Likelihood, Request
from gpt2_lightning.evaluation.likelihood.scorer import Scorer
from gpt2_lightning.evaluation.likelihood.windows import disjoint_windows
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.huggingface.chat_template import as_jinja
from gpt2_lightning.pretrained.devices import Device, DType, device_of, dtype_of, other_devices
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained

_logger = logging.getLogger(__name__)
_DEFAULT_DEVICE = "cuda:0"
_MAX_GEN_TOKS = 256
"""Defaults of the harness. Its `hf` backend, too, takes another device where there is no `cuda:0`."""
_NAMES = {"num_beams": "n_beams"}
"""Settings of generation by their names in transformers, where those differ."""


@register_model("gpt2-lightning")
class HarnessModel(LM):
    """A model of this program in lm-evaluation-harness.

    Log-likelihoods, and texts without sampling, are those of the harness's `hf` backend on the export of the model.

    Args:
        checkpoint: a run, a checkpoint, a folder or `hf:NAME@REVISION`, as in `gpt2_lightning.load`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. None and `cuda:0`, the harness's default, are `auto`,
            with which all GPUs compute log-likelihoods.
        dtype: what to compute in, as in `gpt2_lightning.load`.
        tokens_per_batch: largest number of tokens of a forward pass, padding included.
        runs_dir: the folder of all runs, for `latest`.
        base: the model that an adapter was trained on, if it was moved.
        batch_size: unused, as is `max_batch_size`: the harness passes both, and batches are formed by tokens.

    Raises:
        UserError: as `gpt2_lightning.load`.
    """

    def __init__(
        self,
        checkpoint: str = "latest",
        device: str | None = None,
        dtype: DType = "auto",
        tokens_per_batch: int = 8192,
        runs_dir: str = "runs",
        base: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        name, _, number = ("auto" if device in (None, _DEFAULT_DEVICE) else device).partition(":")
        kind = cast(Device, name)
        self._device = torch.device(f"{kind}:{number}") if number else device_of(kind)
        source = str(checkpoint)  # the harness reads a name of digits as a number
        self._loaded = load_pretrained(source, LoadOptions(Path(runs_dir).expanduser(), base))
        model, tokenizer = self._loaded.model.to(self._device, dtype_of(dtype)), self._loaded.description().tokenizer
        self._subject = Subject(
            model,
            tokenizer,
            self._loaded.location,
            tokens_per_batch=tokens_per_batch,
            devices=() if number else other_devices(kind),
        )
        self._template = template_of(self._loaded.task) if self._loaded.task.get("kind") == INSTRUCT else None

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log-likelihoods of continuations, and whether greedy decoding generates them.

        Args:
            requests: with `args` of (context, continuation).

        Raises:
            UserError: if a continuation has no token, or logits are NaN.
        """
        by_context: dict[bytes, list[int]] = {}
        pairs = [encode_pair(self._subject.tokenizer, *request.args) for request in requests]
        for number, (context, _) in enumerate(pairs):
            by_context.setdefault(context.tobytes(), []).append(number)
        groups = list(by_context.values())
        items = [[Request(pairs[group[0]][0], tuple(pairs[number][1] for number in group))] for group in groups]
        results = [(0.0, False)] * len(requests)
        for item, (likelihoods,) in self._score(items, "loglikelihood"):
            for number, found in zip(groups[item], likelihoods, strict=True):
                results[number] = (found.log_likelihood, found.is_greedy)
                self.cache_hook.add_partial("loglikelihood", requests[number].args, results[number])
        return results

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihoods of whole documents, in windows of `block_size` tokens; see `disjoint_windows`.

        Args:
            requests: with `args` of (document,).

        Raises:
            UserError: if the tokenizer has no end-of-text token, or logits are NaN.
        """
        tokenizer, block_size = self._subject.tokenizer, self._subject.model.config.block_size
        documents = [tokenizer.encode_with_special_tokens(request.args[0]) for request in requests]
        items = [disjoint_windows(ids, block_size, prefix_token(tokenizer)) for ids in documents]
        results = [0.0] * len(requests)
        for item, windows in self._score(items, "loglikelihood_rolling"):
            results[item] = sum(likelihood.log_likelihood for (likelihood,) in windows)
            self.cache_hook.add_partial("loglikelihood_rolling", requests[item].args, results[item])
        return results

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Texts up to a stop string, the end of text or `max_gen_toks` tokens.

        Args:
            requests: with `args` of (prompt, options). Options are those of the harness and the settings of
                `gpt2_lightning.GenerationSettings`.

        Raises:
            UserError: if an option is unknown or out of range, or a prompt has no token.
        """
        by_options: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            by_options.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
        results = [""] * len(requests)
        with tqdm(total=len(requests), desc="generate_until") as progress:
            for group in by_options.values():
                prompts = {number: requests[number].args[0] for number in group}
                for number, text in self._generate(prompts, requests[group[0]].args[1]):
                    results[number] = text
                    self.cache_hook.add_partial("generate_until", requests[number].args, text)
                    progress.update()
        return results

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation in the template that the model was trained with.

        Args:
            chat_history: messages with `role` and `content`.
            add_generation_prompt: False to continue the last message, an answer.

        Raises:
            UserError: if the model was not trained on instructions, or its template does not support a message.
        """
        template = template_of(self._loaded.task)
        messages = [Message(cast(Role, message["role"]), message["content"]) for message in chat_history]
        if template.system is None and any(message.role == "system" for message in messages):
            _logger.warning("the template %s has no place for system messages; they are left out", template.name)
            messages = [message for message in messages if message.role != "system"]
        end = self._subject.tokenizer.decode([prefix_token(self._subject.tokenizer)])
        text = "".join(part.text + (end if part.ends_turn else "") for part in template.render(messages))
        return text if add_generation_prompt else text.removesuffix(end).removesuffix(template.answer_end)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template as Jinja, for the harness's records; None for a model that was not trained on instructions."""
        return None if self._template is None else as_jinja(self._template.to_plain())

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer and the template in the harness's caches of prompts."""
        text = self._subject.tokenizer.to_text() + (self.chat_template() or "")
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _score(self, items: Sequence[Sequence[Request]], name: str) -> Iterator[tuple[int, list[list[Likelihood]]]]:
        return iter(tqdm(Scorer(self._subject).score(items), total=len(items), desc=name))

    def _generate(self, prompts: Mapping[int, str], options: dict[str, Any]) -> Iterator[tuple[int, str]]:
        """Texts after prompts, by the numbers of the prompts; those of long prompts first."""
        settings = self._generation_settings(options)
        generator = TextGenerator(
            self._subject.model, self._subject.tokenizer, settings, ends=self._loaded.ends_of_text()
        )
        room = generator.context - settings.max_new_tokens
        ids = {number: generator.encode(prompt)[-room:] for number, prompt in prompts.items()}
        order = sorted(ids, key=lambda number: -len(ids[number]))
        rows = max(1, self._subject.tokens_per_batch // generator.context)
        for first in range(0, len(order), rows):
            batch = order[first : first + rows]
            completions = generator.complete([ids[number] for number in batch], first_row=first)
            yield from ((number, found.text) for number, (found,) in zip(batch, completions, strict=True))

    def _generation_settings(self, options: dict[str, Any]) -> GenerationSettings:
        block_size = self._subject.model.config.block_size
        chosen: dict[str, Any] = dict(normalize_gen_kwargs(options, min(_MAX_GEN_TOKS, max(1, block_size // 2))))
        if (max_new_tokens := chosen.pop("max_gen_toks")) >= block_size:
            raise UserError(
                f"max_gen_toks: {max_new_tokens} leaves no room for a prompt in the context of {block_size} tokens; "
                f"pass --gen_kwargs max_gen_toks={block_size // 2}"
            )
        chosen.pop("do_sample")  # the harness has set the temperature accordingly
        stop = [*filter(None, chosen.pop("until")), *(self._template.stop if self._template else ())]
        changes = {_NAMES.get(name, name): value for name, value in chosen.items()}
        known = {field.name for field in dataclasses.fields(GenerationSettings)}
        for name in changes.keys() - known:
            raise UserError(f"{name}: there is no such setting of generation{did_you_mean(name, known)}")
        fixed = {"max_new_tokens": max_new_tokens, "stop": stop, "special_tokens": True}
        seed = torch.initial_seed() % 2**63  # that of the harness's --seed
        return with_changes(GenerationSettings(temperature=0.0, seed=seed), {**changes, **fixed})
