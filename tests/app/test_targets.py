"""Targets of configurations: which objects each place accepts, and modules of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2_lightning.app.config.targets import Optimizer, Task, Tokenizer, kinds_of, locate
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PositiveInt
from tests.app.tiny_runs import TINY
from tests.outcomes import refused

Run = Callable[..., object]
OWN = """
import lightning as L

class Hello(L.Callback):
    def __init__(self, word: str = "hello") -> None:
        self.word = word

    def on_train_start(self, trainer, module) -> None:
        print(f"{self.word} from a callback")
"""


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("callbacks.x", "gpt2_lightning.atomic.write_text"),
        ("callbacks.x", "gpt2_lightning.app.output.exits.fail"),
        ("callbacks.x", "gpt2_lightning.model.GPT2Config"),
        ("callbacks.x", "lightning.pytorch.loggers.CSVLogger"),
        ("optimizer", "gpt2_lightning.training.schedules.Cosine"),
        ("schedule", "gpt2_lightning.training.optimizers.AdamW"),
        ("tokenizer", "gpt2_lightning.tokenizers.saved.write_tokenizer"),
        ("model", "gpt2_lightning.model.GPT2"),
        ("data", "gpt2_lightning.data.corpora.download.download"),
        ("trainer", "gpt2_lightning.training.probe"),
        ("metrics.x", "torchmetrics.functional.accuracy"),
    ],
)
def test_a_place_refuses_what_it_cannot_use(run_verb: Run, place: str, target: str) -> None:
    refused(run_verb("train", *TINY, f"{place}._target_={target}"), f"{place}._target_: '{target}' ")


def test_a_target_where_none_belongs_is_refused(run_verb: Run) -> None:
    metric = "metrics.x._target_=torchmetrics.classification.MulticlassAccuracy"
    refused(
        run_verb("train", *TINY, metric, "metrics.x.top._target_=os.getcwd"), "metrics.x.top: no _target_ is accepted"
    )
    refused(
        run_verb("train", *TINY, "optimizer.betas=[{_target_:os.getcwd}]"), "optimizer.betas: no _target_ is accepted"
    )


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("ModelCheckpoint", "callbacks.checkpoint saves"),
        ("BackboneFinetuning", "finetune's freeze"),
        ("TQDMProgressBar", "progress bar of its own"),
    ],
)
def test_a_callback_of_lightning_that_conflicts_is_refused_with_its_replacement(
    run_verb: Run, name: str, remedy: str
) -> None:
    target = f"callbacks.x._target_=lightning.pytorch.callbacks.{name}"
    refused(run_verb("train", *TINY, target), f"{name}' cannot be used", remedy)


def test_functions_and_protocols_are_known_by_what_they_make() -> None:
    assert callable(locate("gpt2_lightning.tokenizers.char.from_corpus", kinds_of(Tokenizer)))
    assert callable(locate("gpt2_lightning.app.finetuning.classify.Classify", kinds_of(Task)))
    assert kinds_of(PositiveInt | None) == ()
    with pytest.raises(UserError, match=r"it makes no .*Tokenizer"):
        locate("gpt2_lightning.tokenizers.saved.write_tokenizer", kinds_of(Tokenizer))


@pytest.fixture
def own_callback(workplace: Path) -> list[str]:
    """A module with a callback, and a YAML that names it; the settings that choose it."""
    (workplace / "own_callbacks.py").write_text(OWN)
    folder = workplace / "mine" / "callbacks"
    folder.mkdir(parents=True)
    (folder / "hello.yaml").write_text("defaults: [default]\nhello:\n  _target_: own_callbacks.Hello\n")
    return ["--config-dir", "mine", "callbacks=hello"]


def test_a_module_of_ones_own_is_trusted_by_the_command_line_alone(
    run_verb: Run, own_callback: list[str], workplace: Path, small_text: Path
) -> None:
    data = ["data=text", f"data.path={small_text}", "trainer.max_steps=2"]
    refused(
        run_verb("train", *TINY, *data, *own_callback),
        "'own_callbacks.Hello' is refused",
        "'trusted_modules=[own_callbacks]'",
    )
    trusted = ["trusted_modules=[own_callbacks]"]
    outcome = run_verb("train", *TINY, *data, *own_callback, *trusted, "name=own")
    assert outcome.code == 0, outcome.err
    assert "hello from a callback" in outcome.out
    (run,) = (workplace / "runs" / "own").iterdir()
    refused(run_verb("train", f"replay={run}"), "'own_callbacks.Hello' is refused")
    refused(
        run_verb("train", *TINY, *data, *own_callback, *trusted, "callbacks.hello.word=1"), "callbacks.hello.word: 1"
    )


@pytest.mark.parametrize("name", ["torch.optim.SGD", "transformers.Adafactor", "os.system", "builtins.eval"])
def test_trust_is_not_suggested_for_libraries_where_it_cannot_help(name: str) -> None:
    package = name.partition(".")[0]
    with pytest.raises(UserError, match=f"'{package}' has none, so write a class of your own") as caught:
        locate(name, kinds_of(Optimizer))
    assert "trusted_modules" not in str(caught.value)
