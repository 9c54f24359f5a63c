"""Results of benchmarks in the model card of a later export, and comparisons of two evaluations."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import gpt2_lightning
from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.checkpoints.folder import evaluation_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks import MultipleChoice
from gpt2_lightning.evaluation.benchmarks.source import BenchmarkSource
from gpt2_lightning.evaluation.comparison import compare
from gpt2_lightning.evaluation.results.results_file import FILE, add_results, read_results

ROWS = [{"context": "the old", "choices": [" sea", " ship"], "answer": number % 2} for number in range(6)]


@pytest.fixture
def checkpoint(tiny_run: Path, tmp_path: Path) -> Path:
    """A checkpoint in the folder of a run that may be written to."""
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    shutil.copyfile(tiny_run / "checkpoints" / "best.ckpt", path)
    return path


@pytest.fixture
def mine(tmp_path: Path) -> MultipleChoice:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return MultipleChoice(path=str(file), accuracies=["acc"], delimiter="")


def evaluated(checkpoint: Path, benchmark: MultipleChoice) -> tuple[LanguageModel, Path]:
    """The model, and the folder of its results."""
    model, folder = gpt2_lightning.load(checkpoint), evaluation_of(checkpoint)
    model.evaluate({"mine": benchmark}, output=folder)
    return model, folder


def card(model: LanguageModel, folder: Path) -> str:
    return (model.save(folder / "export") / "README.md").read_text(encoding="utf-8")


def test_an_export_has_the_results_of_its_weights(checkpoint: Path, mine: MultipleChoice, tmp_path: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    model, folder = evaluated(checkpoint, mine)
    assert folder == tmp_path / "run" / "evaluation" / "best"
    text = card(model, tmp_path)
    assert "### Benchmarks" in text
    assert "| mine | acc ↑ | 50.00 % | 18.76 to 81.24 % |" in text
    assert "- mine: 6 items; " in text
    (result,) = huggingface_hub.ModelCard(text).data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("mine", "acc", 0.5)
    assert result.task_type == "text-generation"


def test_metadata_keeps_two_benchmarks_on_one_data_set_apart(
    checkpoint: Path, mine: MultipleChoice, tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml")
    model, folder = evaluated(checkpoint, mine)
    first = read_results(folder / FILE)
    source = {"hub": "who/x", "split": "test"}
    (result,) = first.benchmarks.values()
    others = {
        key: dataclasses.replace(result, name=key, settings={"source": source, "limit": None}) for key in ("a", "b")
    }
    add_results(folder / FILE, first.model, others)
    (index,) = yaml.safe_load(card(model, tmp_path).split("---")[1])["model-index"]
    found = [(entry["dataset"]["name"], len(entry["metrics"])) for entry in index["results"]]
    assert found == [("mine", 1), ("a", 1), ("b", 1)]


def test_metadata_does_not_state_a_part_or_an_own_file_as_the_data_set_on_the_hub(
    checkpoint: Path, mine: MultipleChoice, tmp_path: Path
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    source = BenchmarkSource(folder="x", file="*.jsonl", address="https://x", hub="who/x", revision="abc")
    model, _ = evaluated(checkpoint, dataclasses.replace(mine, source=source, limit=2))
    (result,) = huggingface_hub.ModelCard(card(model, tmp_path)).data.eval_results
    assert (result.dataset_name, result.dataset_type) == ("mine, 2 items", "mine")
    assert (result.dataset_revision, result.dataset_args) == (None, {"limit": 2})


def test_an_export_has_no_results_of_other_weights(checkpoint: Path, mine: MultipleChoice, tmp_path: Path) -> None:
    model, folder = evaluated(checkpoint, mine)
    results = read_results(folder / FILE)
    add_results(folder / FILE, dataclasses.replace(results.model, weights="0" * 64), results.benchmarks)
    text = card(model, tmp_path)
    assert "Benchmarks" not in text
    assert "model-index" not in text


def test_a_damaged_file_of_results_is_named(checkpoint: Path, mine: MultipleChoice, tmp_path: Path) -> None:
    model, folder = evaluated(checkpoint, mine)
    (folder / FILE).write_text("{")
    with pytest.raises(UserError, match=r"results\.json is not a file of results"):
        card(model, tmp_path)
    assert not (tmp_path / "export").exists()


def test_a_model_compared_with_itself_does_not_differ(checkpoint: Path, mine: MultipleChoice) -> None:
    _, folder = evaluated(checkpoint, mine)
    (found,) = compare({"mine": mine}, folder, folder)
    assert [pair.difference.value for pair in found.differences] == [0.0]
    assert found.changed == ()
