"""YAML files and run folders of the version before the move name targets by paths that still resolve."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from gpt2_lightning.app.config.moved import MOVED, current, with_current_targets

PACKAGE = "gpt2_lightning"
OLD = """
app.adaptation.NoLoRA app.finetuning.classify.Classify app.finetuning.instruct.Instruct
app.finetuning.pretrain.Pretrain data.hub.HubCorpus data.mix.Mix data.tables.LabelledTexts
data.tables.instructions.Instructions data.templates.Template data.text.TextCorpus data.token_files.TokenFiles
data.web.GutenbergBooks data.web.WebText model.GPT2Config model.lora.LoRASpec tokenizers.bpe.from_corpus
tokenizers.char.from_corpus tokenizers.gpt2.from_corpus tokenizers.huggingface.from_corpus tokenizers.saved.from_corpus
training.callbacks.Attention training.callbacks.Checkpointing training.callbacks.EarlyStopping
training.callbacks.pruning.Pruning training.callbacks.Samples training.csv_logger.CSVLogger
training.loggers.AimLogger training.loggers.MLflowLogger
training.loggers.TensorBoardLogger training.loggers.WandbLogger training.optimizers.AdamW training.optimizers.Muon
training.schedules.Constant training.schedules.Cosine training.schedules.Linear training.schedules.WarmupStableDecay
training.trainer.TrainerSpec
""".split()  # noqa: SIM905  # as many as fit on a line
"""Every target in the YAML files of that version."""


def located(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", OLD)
def test_an_old_target_resolves(name: str) -> None:
    assert callable(located(current(f"gpt2_lightning.{name}")))


@pytest.mark.parametrize("name", MOVED.values())
def test_a_new_path_is_no_old_one(name: str) -> None:
    assert callable(located(f"gpt2_lightning.{name}"))
    assert name not in MOVED


def test_targets_are_found_wherever_they_stand() -> None:
    old = {
        "data": {"corpora": {"a": {"_target_": f"{PACKAGE}.data.text.TextCorpus", "path": "data.mix.Mix"}}},
        "n": [1],
    }
    data = {"corpora": {"a": {"_target_": f"{PACKAGE}.data.corpora.text.TextCorpus", "path": "data.mix.Mix"}}}
    new = {"data": data, "n": [1]}
    assert with_current_targets(old) == new
    assert current("torch.optim.Adam") == "torch.optim.Adam"


def test_a_command_with_an_old_target_runs_preflight(run_verb: Any) -> None:
    target = "data._target_=gpt2_lightning.data.text.TextCorpus"
    outcome = run_verb("train", "data=text", target, "data.path=none.txt", "model=tiny", "trainer=cpu")
    assert outcome.code == 2
    assert "no file or folder" in outcome.err
