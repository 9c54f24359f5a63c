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
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer

TheirModel: TypeAlias = Any
"""A GPT2LMHeadModel. Type checkers do not understand how transformers declares its methods."""
_SHAPE = {
    "vocab_size": "vocab_size",
    "block_size": "n_positions",
    "n_layer": "n_layer",
    "n_embd": "n_embd",
    "tied_head": "tie_word_embeddings",
}
"""What decides which tensors there are."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from warning of the defaults and slips that the report tells of, and from drawing bars."""
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
    """This project's model."""

    model: GPT2
    """In evaluation mode."""
    tokenizer: Tokenizer
    place: str
    """Where it was found, for the report."""

    def ids(self, prompt: str) -> Tensor:
        """Tokens of a prompt, (T,), T >= 1; see `generation.start.prompt_ids`."""
        return prompt_ids(prompt, self.tokenizer).to(self.model.wte.weight.device)


@dataclass(frozen=True)
class Theirs:
    """The model in transformers."""

    model: TheirModel
    """As its users have it: in the mode and the dtype in which it was loaded."""
    tokenizer: Any
    """A tokenizer of transformers'; None where the folder has none."""
    place: str

    def ids(self, prompt: str) -> Tensor | None:
        """Tokens that their tokenizer makes of a prompt, (T,); None without a tokenizer.

        An empty prompt is the token that `generate` begins with; no tokens, where it knows none.
        """
        if self.tokenizer is None:
            return None
        ids = self.tokenizer(prompt)["input_ids"]
        start = self.model.generation_config.bos_token_id
        if not ids and start is not None:
            ids = [start]
        return torch.tensor(ids, dtype=torch.int64, device=self.model.device)


def load_theirs(folder: Path, device: torch.device, place: str | None = None) -> Theirs:
    """What `from_pretrained` makes of a folder, without a word to it about dtype or anything else.

    Args:
        folder: a GPT-2 of any configuration: also one that `huggingface.folder.read` refuses, such as an exact GELU.
        device: where the model goes.
        place: what to call it; the folder by default.

    Raises:
        UserError: if transformers is not installed, the folder holds no GPT-2 as safetensors, or lacks tensors.
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


def require_same_shape(ours: GPT2, theirs: TheirModel) -> None:
    """Both must have the same tensors, whatever is in them.

    Raises:
        UserError: naming the sizes that differ.
    """
    config, their_config = ours.config, theirs.config
    pairs = {name: (getattr(config, name), getattr(their_config, field)) for name, field in _SHAPE.items()}
    pairs["inner width"] = (4 * config.n_embd, their_config.n_inner or 4 * their_config.n_embd)
    faults = [f"{name} is {one} here and {other} there" for name, (one, other) in pairs.items() if one != other]
    if faults:
        raise UserError(f"these are not two forms of one model: {', '.join(faults)}; name the one to compare with")
