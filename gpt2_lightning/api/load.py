"""`load`: a language model from a run, a checkpoint, a folder or the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.pretrained.devices import (
    Device,
    DType,
    Quantization,
    device_of,
    dtype_of,
    placed,
    require_quantizable,
)
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained


def load(
    source: str | os.PathLike[str] = "latest",
    *,
    device: Device = "auto",
    dtype: DType = "auto",
    quantize: Quantization = "none",
    runs_dir: str | os.PathLike[str] = "runs",
    base: str | None = None,
    tokenizer_from: str | None = None,
    n_head: int | None = None,
) -> LanguageModel:
    """Load a model.

    Args:
        source: a run's folder, of which the best checkpoint is taken, or `latest` for the run that saved last; a
            checkpoint of this program, nanoGPT or minGPT; a Hugging Face folder of a model or a PEFT adapter; or
            `hf:NAME@REVISION`. An adapter is merged into the model that it was trained on.
        device: `cpu`, `cuda` or `mps`; `auto` is the fastest device of the machine.
        dtype: what to compute in, `fp32`, `bf16` or `fp16`; `auto` is the dtype of the weights.
        quantize: `int8` for int8 weights, on a CPU: a third of the memory, and faster generation. The model can then
            neither be saved nor trained.
        runs_dir: the folder of all runs, for `latest`, here and in `speculate`.
        base: the model that an adapter was trained on, if it was moved; named like `source`.
        tokenizer_from: `gpt2`, a folder with tokenizer.json, or a text file whose characters are the tokens; None for
            the model's own.
        n_head: the number of attention heads, for minGPT's state dicts, which do not contain it.

    Returns:
        The model in evaluation mode.

    Raises:
        UserError: with the message of the command line, if there is no such model, it cannot be read, it is of another
            architecture, it does not fit its tokenizer, the device is not available, or
            does not support `quantize`.
    """
    on, computed_in = device_of(device), dtype_of(dtype)
    require_quantizable(quantize, on, computed_in)
    options = LoadOptions(Path(runs_dir).expanduser(), base, tokenizer_from, n_head)
    loaded = load_pretrained(os.fspath(source), options)
    model = placed(loaded.model, on, computed_in, quantize)
    return LanguageModel(model, loaded.tokenizer, loaded, options.runs_dir)
