"""The models that a server has, by the names that its API has for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from gpt2_lightning.checkpoints.label_task import KIND as CLASSIFY
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.data.instruction.templates import Template, template_of
from gpt2_lightning.huggingface.hub import SCHEME
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.size import count_parameters
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.schemas import ModelInfo
from gpt2_lightning.tokenizers import Tokenizer

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}")
DEFAULT = "default"
"""Name that every server accepts for its first model."""


class ServedModel:
    """A model with what requests need of it.

    Args:
        name: `id` in the API.
        loaded: on the device and in the dtype in which it computes.

    Raises:
        UserError: if it has no tokenizer, or its template or head cannot be read.
    """

    def __init__(self, name: str, loaded: LoadedModel) -> None:
        self.name, self.loaded, self.model = name, loaded, loaded.model
        self.tokenizer: Tokenizer = loaded.description().tokenizer
        self.ends = loaded.ends_of_text()
        """Ids that end a text."""
        kind = loaded.task.get("kind")
        self.template: Template | None = template_of(loaded.task) if kind == INSTRUCT else None
        self.labels: LabelTask | None = LabelTask.from_plain(loaded.task) if kind == CLASSIFY else None
        """What a classifier predicts; None for a language model."""
        self.classifier: Classifier | None = None
        if self.labels is not None:
            weight = self.model.wte.weight
            self.classifier = loaded.classifier().to(weight.device, weight.dtype)

    @property
    def context(self) -> int:
        """Largest number of tokens that the model reads."""
        return self.model.config.block_size

    def token_text(self, token: int) -> str:
        """The characters of a token; bytes that are no whole characters as <0xE2>."""
        content = self.tokenizer.token_bytes(token)
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in content)

    @cached_property
    def info(self) -> ModelInfo:
        """The description of `GET /api/models`."""
        config, template, labels = self.model.config, self.template, self.labels
        return ModelInfo(
            id=self.name,
            kind="classifier" if labels else "instruct" if template else "language_model",
            parameters=count_parameters(config),
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            context=config.block_size,
            vocabulary=config.vocab_size,
            step=self.loaded.step,
            template=template.name if template else None,
            has_system=template is not None and template.system is not None,
            several_turns=template is not None and template.between is not None,
            stop=list(template.stop) if template else [],
            labels=list(labels.labels) if labels else [],
            label_kind=labels.label_kind if labels else None,
        )


class Models:
    """The models of a server by name.

    Args:
        loaded: models from the command line, one or more.
    """

    def __init__(self, loaded: Iterable[LoadedModel]) -> None:
        self.by_name: Mapping[str, ServedModel] = {}
        for each in loaded:
            name = wanted = model_name(each)
            number = 1
            while name in self.by_name:
                number += 1
                name = f"{wanted}-{number}"
            self.by_name = {**self.by_name, name: ServedModel(name, each)}

    def __getitem__(self, name: str) -> ServedModel:
        """The model that a request names.

        Raises:
            RequestError: 404, if there is none.
        """
        if name == DEFAULT:
            return next(iter(self.by_name.values()))
        if name not in self.by_name:
            known = ", ".join(self.by_name)
            raise RequestError(
                404, f"there is no model {name[:100]!r}; this server has {known}", "model", "model_not_found"
            )
        return self.by_name[name]

    def language_model(self, name: str, use: str) -> ServedModel:
        """The model that a request names, which is no classifier.

        Raises:
            RequestError: 400, if it is one; 404, if there is none.
        """
        found = self[name]
        if found.labels is not None:
            raise RequestError(
                400, f"{found.name} is a classifier, which does not {use}; use /v1/classify", "model", "wrong_model"
            )
        return found


def model_name(loaded: LoadedModel) -> str:
    """The name of a model in the API: that of its run, file or folder without the path, or of the Hub."""
    if loaded.location.startswith(SCHEME):
        return loaded.location.removeprefix(SCHEME).partition("@")[0]
    path = Path(loaded.location)
    if loaded.checkpoint is not None and path.parent.name == "checkpoints":
        run = path.absolute().parents[1]
        return run.parent.name if _TIME.match(run.name) else run.name  # of runs/NAME/TIME
    return path.stem if path.is_file() else path.absolute().name
