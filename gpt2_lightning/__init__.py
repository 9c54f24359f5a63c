"""GPT-2 from scratch, on PyTorch Lightning and Hydra.

Load and use a model:

    >>> import gpt2_lightning as g
    >>> model = g.load("runs/scifi-char/2026-01-31_12-00-00")
    >>> print(model.generate("The airlock", max_new_tokens=50))

Names are imported on first use, so that importing this package is fast.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as in `typing`, which takes longer to import than this package

if TYPE_CHECKING:
    from typing import Any

    from gpt2_lightning.api.language_model import LanguageModel
    from gpt2_lightning.api.load import load
    from gpt2_lightning.api.settings import GenerationSettings
    from gpt2_lightning.data.classification.datamodule import LabelDataModule
    from gpt2_lightning.data.instruction.datamodule import InstructDataModule
    from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
    from gpt2_lightning.errors import UserError
    from gpt2_lightning.evaluation.benchmarks.configured import benchmark
    from gpt2_lightning.model import GPT2, GPT2Config
    from gpt2_lightning.model.classifier import Classifier
    from gpt2_lightning.training.classification import Classification
    from gpt2_lightning.training.instruction_tuning import InstructionTuning
    from gpt2_lightning.training.language_modeling import LanguageModeling
    from gpt2_lightning.training.optimizers import AdamW, Muon

__version__ = "0.1.0"
__all__ = [
    "GPT2",
    "AdamW",
    "Classification",
    "Classifier",
    "GPT2Config",
    "GenerationSettings",
    "InstructDataModule",
    "InstructionTuning",
    "LabelDataModule",
    "LanguageModel",
    "LanguageModeling",
    "Muon",
    "TokenDataModule",
    "UserError",
    "benchmark",
    "load",
]
_MODULES = {
    "load": "api.load",
    "LanguageModel": "api.language_model",
    "GenerationSettings": "api.settings",
    "GPT2": "model",
    "GPT2Config": "model",
    "Classifier": "model.classifier",
    "UserError": "errors",
    "benchmark": "evaluation.benchmarks.configured",
    "LanguageModeling": "training.language_modeling",
    "InstructionTuning": "training.instruction_tuning",
    "Classification": "training.classification",
    "AdamW": "training.optimizers",
    "Muon": "training.optimizers",
    "TokenDataModule": "data.sampling.corpus_datamodule",
    "InstructDataModule": "data.instruction.datamodule",
    "LabelDataModule": "data.classification.datamodule",
}
"""Submodule of each exported name."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
