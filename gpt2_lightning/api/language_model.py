"""A GPT-2 with its tokenizer: what `load` returns."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor

from gpt2_lightning.api.draft_models import DraftModels
from gpt2_lightning.api.generation_mixin import GenerationMixin
from gpt2_lightning.api.token_ids import Ids, batch_of
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.conversion.convert import Target, convert
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.errors import UserError, listed
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, Subject
from gpt2_lightning.evaluation.benchmarks.configured import benchmark
from gpt2_lightning.evaluation.evaluate import evaluate
from gpt2_lightning.evaluation.predictions import Prediction, predict, predictions_of
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.inspection.attention.reading import attention_weights
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.inference.quantized import is_quantized
from gpt2_lightning.pretrained.loaded_model import THIS_PROGRAM, LoadedModel
from gpt2_lightning.tokenizers import Tokenizer

SavedAs = Literal["gpt2_lightning", "huggingface"]


class LanguageModel(GenerationMixin):
    """A GPT-2 with its tokenizer.

    Args:
        network: is put into evaluation mode.
        tokenizer: None for a network that only reads and generates token ids.
        loaded: what is known of the model besides, by default nothing; `load` passes it.
        runs_dir: the folder of all runs, for `speculate="latest"`.
    """

    def __init__(
        self,
        network: GPT2,
        tokenizer: Tokenizer | None = None,
        loaded: LoadedModel | None = None,
        runs_dir: Path = Path("runs"),
    ) -> None:
        if loaded is None:
            loaded = LoadedModel(network, tokenizer, {}, THIS_PROGRAM, "the model")
        self._loaded = dataclasses.replace(loaded, model=network.eval(), tokenizer=tokenizer)
        self._draft_models = DraftModels(runs_dir)

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
        return self._loaded.location

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about loading, such as that an adapter was merged."""
        return self._loaded.notes

    def __repr__(self) -> str:
        config, place = self.config, self.location
        shape = f"n_layer={config.n_layer}, n_head={config.n_head}, n_embd={config.n_embd}"
        return f"LanguageModel({place!r}, {shape}, block_size={config.block_size}, vocab_size={config.vocab_size})"

    @torch.no_grad()
    def logits(self, text: str | Ids) -> Tensor:
        """Logits of the next token after each token of a text.

        Characters that the tokenizer lacks are replaced or left out, with a `UserWarning`.

        Args:
            text: a text of T tokens, or token ids, (T,) or (B, T); T is at most `block_size`.

        Returns:
            (T, V), or (B, T, V) for ids (B, T), in the network's dtype and on its device.

        Raises:
            UserError: if the text is empty or too long, or has characters or ids that the model lacks.
        """
        ids = self._ids_in_context(text)
        logits: Tensor = self.network(ids)
        return logits if isinstance(text, Tensor) and text.dim() == 2 else logits[0]

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

    @overload
    def predict(self, texts: str, batch_size: int = 16) -> Prediction: ...
    @overload
    def predict(self, texts: list[str], batch_size: int = 16) -> list[Prediction]: ...
    def predict(self, texts: str | list[str], batch_size: int = 16) -> Prediction | list[Prediction]:
        """Predict the labels of texts with a classifier.

        Args:
            texts: a text or several; of a long one, the tokens that the classifier reads are kept.
            batch_size: texts in a forward pass.

        Returns:
            A `Prediction` for a text; a list of them for a list.

        Raises:
            UserError: if the model is not a classifier, or a text cannot be encoded.
        """
        weight, task = self.network.wte.weight, self._loaded.task
        classifier = self._loaded.classifier().to(weight.device, weight.dtype)
        labels = LabelTask.from_plain(task)
        given = [texts] if isinstance(texts, str) else texts
        encoded = EncodedTexts(given, self.tokenizer, labels.truncation, labels.add_prefix_space)
        predictions = predictions_of(given, predict(classifier, encoded, labels.kind, batch_size), labels)
        self._warn_of_unknown_characters()
        return predictions[0] if isinstance(texts, str) else predictions

    def evaluate(
        self,
        benchmarks: str | Sequence[str] | Mapping[str, Benchmark],
        *,
        data_dir: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        output: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        tokens_per_batch: int = 8192,
    ) -> dict[str, BenchmarkResult]:
        """Measure the model on benchmarks, as the verb `evaluate` does.

        Args:
            benchmarks: names of benchmarks, such as `hellaswag`; or benchmarks by name, such as
                `{"first": benchmark("hellaswag", limit=100)}`.
            data_dir: a folder with a folder of data for each benchmark; None to fetch the data from the Hub.
            limit: number of items of each benchmark that is named, evenly spaced; None for all. Benchmarks that are
                given by name have their own.
            output: folder for results.json and the records of items, from which an interrupted evaluation continues;
                None to write nothing.
            overwrite: whether to measure again what is in `output`.
            tokens_per_batch: largest number of tokens of a forward pass.

        Returns:
            Results by name: `results["hellaswag"]["acc_norm"]` is a `Metric` with value, standard error and interval.

        Raises:
            UserError: if no benchmark is named, there is no such benchmark, its data is absent or invalid, or it does
                not apply to the model.
        """
        if not benchmarks:
            raise UserError("benchmarks: name one or more, such as lambada")
        if isinstance(benchmarks, Mapping):
            chosen = dict(benchmarks)
            if limit is not None:
                raise UserError("limit: set it for each benchmark, as in benchmark('hellaswag', limit=100)")
            if others := [name for name, each in chosen.items() if not isinstance(each, Benchmark)]:
                raise UserError(f"benchmarks: {listed(others)} must be a Benchmark, such as benchmark('hellaswag')")
        else:
            names = [benchmarks] if isinstance(benchmarks, str) else benchmarks
            settings = {} if limit is None else {"limit": limit}
            chosen = {name: benchmark(name, **settings) for name in names}
        data, folder = (None if path is None else Path(path).expanduser() for path in (data_dir, output))
        results = evaluate(chosen, self.subject(tokens_per_batch), data, folder, overwrite)
        return {result.name: result for result in results}

    def subject(self, tokens_per_batch: int = 8192, devices: tuple[torch.device, ...] = ()) -> Subject:
        """Return the model as the subject of benchmarks.

        Args:
            tokens_per_batch: largest number of tokens of a forward pass.
            devices: devices that compute besides that of the network.
        """
        weight, loaded = self.network.wte.weight, self._loaded
        classifier = None if loaded.score is None else loaded.classifier().to(weight.device, weight.dtype)
        return Subject(
            self.network,
            self.tokenizer,
            self.location,
            loaded.step,
            loaded.task,
            classifier,
            loaded.run_config,
            tokens_per_batch,
            devices,
        )

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
            UserError: if the path exists or cannot be written, the format cannot hold the model, or its
                weights were quantized.
        """
        if is_quantized(self.network):
            raise UserError("save: the weights were quantized when the model was loaded; load it without quantize")
        target = Target(Path(path).expanduser().resolve(), overwrite)
        target.require_free()
        network = copy.deepcopy(self.network).cpu()
        score = None if self._loaded.score is None else self._loaded.score.cpu()
        own = dataclasses.replace(
            self._loaded, model=network, score=score, program=THIS_PROGRAM, network=None, adapter=None
        )  # as it is now, which need not be what its file held
        is_file = target.path.suffix in (".ckpt", ".pt")
        convert(own, target, to or ("gpt2_lightning" if is_file else "huggingface"))
        return target.path

    def _ids(self, text: str | Ids) -> Tensor:
        """Token ids (B, T), T >= 1, of a text or of ids, on the network's device."""
        if not isinstance(text, str):
            return batch_of(text, self.network)
        if not text:
            raise UserError("the text is empty: one token or more is needed")
        ids = torch.from_numpy(self.tokenizer.encode(text).astype("int64"))
        self._warn_of_unknown_characters()
        return batch_of(ids, self.network)

    def _ids_in_context(self, text: str | Ids) -> Tensor:
        ids = self._ids(text)
        if ids.size(1) > self.config.block_size:
            raise UserError(
                f"the text has {ids.size(1)} tokens, and the context (block_size) is {self.config.block_size}; "
                "pass a shorter one"
            )
        return ids
