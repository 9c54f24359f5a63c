"""The two sides of a comparison."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.huggingface.config import MODEL_TYPE
from gpt2_lightning.huggingface.folder import TOKENIZER_FILES
from gpt2_lightning.huggingface.weights import is_padded
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer

TheirModel: TypeAlias = Any
"""A GPT2LMHeadModel; `Any`, since type checkers cannot resolve the declarations of its methods in transformers."""
_SHAPE = {
    "vocab_size": "vocab_size",
    "block_size": "n_positions",
    "n_layer": "n_layer",
    "n_embd": "n_embd",
    "tied_head": "tie_word_embeddings",
}
"""Fields of the configurations that determine the shapes of the tensors."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context manager that disables progress bars of transformers, and its warnings on settings that are reported."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


@dataclass(frozen=True)
class Ours:
    """The model of this package."""

    model: GPT2
    """The model, in evaluation mode."""
    tokenizer: Tokenizer
    place: str
    """Path of the model, for the report."""

    def ids(self, prompt: str) -> Tensor:
        """Encode a prompt as ids (T,), T >= 1; see `generation.start.prompt_ids`."""
        return prompt_ids(prompt, self.tokenizer).to(self.model.wte.weight.device)


@dataclass(frozen=True)
class Theirs:
    """The model in transformers."""

    model: TheirModel
    """The model, in the mode and dtype in which `from_pretrained` loaded it."""
    tokenizer: Any
    """Tokenizer of transformers; None if the folder has none."""
    place: str

    def ids(self, prompt: str) -> Tensor | None:
        """Encode a prompt with their tokenizer as ids (T,); None without a tokenizer.

        An empty prompt is encoded as the start token of `generate`, or as no tokens if there is no such token.
        """
        if self.tokenizer is None:
            return None
        ids = self.tokenizer(prompt)["input_ids"]
        start = self.model.generation_config.bos_token_id
        if not ids and start is not None:
            ids = [start]
        return torch.tensor(ids, dtype=torch.int64, device=self.model.device)


def load_theirs(folder: Path, device: torch.device, place: str | None = None) -> Theirs:
    """Load a folder by `from_pretrained` with the defaults of transformers for dtype and all other settings.

    Args:
        folder: folder of a GPT-2 of any configuration, also one that `huggingface.folder.read` rejects.
        device: device of the model.
        place: name of the model in the report; None for the folder.

    Raises:
        UserError: if transformers is not installed, the folder contains no GPT-2 as safetensors, or tensors are absent.
    """
    try:
        import transformers
    except ImportError:
        raise UserError('comparing needs transformers: pip install "gpt2-lightning[huggingface]"') from None
    with quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            if config.model_type != MODEL_TYPE:
                raise UserError(f"with: {folder} is of the architecture {config.model_type!r}, and not {MODEL_TYPE!r}")
            loaded: Any = transformers.GPT2LMHeadModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            model, loading = loaded
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"with: {folder} is no GPT-2 that transformers can load: {reason}") from None
        if missing := sorted(loading["missing_keys"]):
            raise UserError(f"with: {folder} lacks {', '.join(missing)}; fetch it from where it came from")
        has_tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True) if has_tokenizer else None
    return Theirs(model.to(device), tokenizer, place or str(folder))


def remove_padding(ours: GPT2, theirs: Theirs) -> str | None:
    """Remove rows of their embedding and head that pad our vocabulary, and that their tokenizer does not use.

    Returns:
        A sentence for the user; None if there are no such rows.
    """
    rows, tokens = theirs.model.config.vocab_size, ours.config.vocab_size
    if not is_padded(rows, tokens) or (theirs.tokenizer is not None and len(theirs.tokenizer) > tokens):
        return None
    with quiet():
        theirs.model.resize_token_embeddings(tokens)
    return (
        f"its embedding was cut from {rows} to {tokens} rows for the comparison; the others represent no token, but "
        "transformers can choose them"
    )


def require_same_shape(ours: GPT2, theirs: TheirModel) -> None:
    """Check that both models have tensors of the same shapes.

    Raises:
        UserError: if sizes differ; the message contains them.
    """
    config, their_config = ours.config, theirs.config
    pairs = {name: (getattr(config, name), getattr(their_config, field)) for name, field in _SHAPE.items()}
    pairs["inner width"] = (4 * config.n_embd, their_config.n_inner or 4 * their_config.n_embd)
    faults = [f"{name} is {one} here and {other} there" for name, (one, other) in pairs.items() if one != other]
    if faults:
        raise UserError(f"these are not two forms of one model: {', '.join(faults)}; name the one to compare with")
