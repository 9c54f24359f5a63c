"""The texts of questions against the tasks of lm-evaluation-harness."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt2_lightning.evaluation.benchmarks.questions import ROW_FORMATS, Question


@pytest.fixture(scope="module")
def tasks() -> Path:
    """Folder of the tasks, without an import of the harness, which takes seconds."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        pytest.skip("lm_eval is not installed")
    return Path(found.submodule_search_locations[0]) / "tasks"


def rendered(template: str, row: dict[str, Any]) -> str:
    return str(_compiled(template).render(**row))


@functools.cache
def _compiled(template: str) -> Any:
    jinja2 = pytest.importorskip("jinja2")
    # The settings of lm_eval.utils.apply_template.
    return jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(template)


@pytest.mark.parametrize(
    ("name", "row_format", "row"),
    [
        (
            "arc/arc_easy.yaml",
            "arc",
            {
                "question": "Which is “hot”? 5 % of it\n is",
                "choices": {"text": ["ice", "the sun's core", " a "], "label": ["1", "2", "3"]},
                "answerKey": "2",
            },
        ),
        ("piqa/piqa.yaml", "piqa", {"goal": "To boil eggs,", "sol1": "use 'water'.", "sol2": "use sand.", "label": 1}),
    ],
)
def test_contexts_choices_and_answers_are_those_of_the_tasks(
    tasks: Path, name: str, row_format: str, row: dict[str, Any]
) -> None:
    task = yaml.safe_load((tasks / name).read_text())
    target = task["doc_to_target"]
    found = ROW_FORMATS[row_format](row)
    assert found.contexts == (rendered(task["doc_to_text"], row),)
    assert list(found.continuations) == ast.literal_eval(rendered(task["doc_to_choice"], row))
    assert found.answer == (row[target] if target in row else int(rendered(target, row)))


def test_winogrande_is_evaluated_partially_as_the_task(tasks: Path) -> None:
    row = {"sentence": "The _ was too big: it fell.", "option1": "cup", "option2": "box", "answer": "2"}
    task = runpy.run_path(str(tasks / "winogrande" / "preprocess_winogrande.py"))
    found = ROW_FORMATS["winogrande"](row)
    assert list(found.contexts) == task["doc_to_choice"](row)
    assert found.continuations == (task["doc_to_target"](row),)
    assert found.answer == task["doc_to_text"](row)
    assert found.choices == found.contexts


def test_minimal_pairs_have_no_context_as_in_the_tasks(tasks: Path) -> None:
    row = {"sentence_good": "Amy leaves.", "sentence_bad": "Amy leave."}
    task = yaml.safe_load((tasks / "blimp" / "_template_yaml").read_text())
    found = ROW_FORMATS["minimal_pair"](row)
    assert found.contexts == (task["doc_to_text"],)
    assert found.answer == task["doc_to_target"]
    assert list(found.continuations) == [row["sentence_good"], row["sentence_bad"]]


def test_headings_of_wikihow_are_removed_from_hellaswag() -> None:
    row = {
        "activity_label": "Work",
        "ctx_a": "[header] How to sit [title] Find a chair. [step] Sit.",
        "ctx_b": "the CHAIR",
        "endings": ["[substeps] Stand.", "rest [title] Again"],
        "label": "1",
    }
    assert ROW_FORMATS["hellaswag"](row) == Question(
        ("Work: How to sit. Find a chair. Sit. The chair",), (" Stand.", "rest. Again"), 1
    )


@pytest.mark.slow  # the task imports `datasets`
def test_all_shared_rows_of_hellaswag_have_the_texts_of_the_task(tasks: Path, shared_data: Path) -> None:
    pytest.importorskip("datasets")
    task = runpy.run_path(str(tasks / "hellaswag" / "utils.py"))
    for line in (shared_data / "hellaswag" / "hellaswag_val_1000.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        found = ROW_FORMATS["hellaswag"](row)
        context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        assert found == Question(
            (task["preprocess"](context),), tuple(map(task["preprocess"], row["endings"])), int(row["label"])
        )


def test_all_shared_rows_of_lambada_are_cut_as_the_task_cuts_them(tasks: Path, shared_data: Path) -> None:
    from gpt2_lightning.evaluation.benchmarks import Lambada

    task = yaml.safe_load((tasks / "lambada" / "lambada_openai.yaml").read_text())
    made = Lambada(path="rows.jsonl")
    for line in (shared_data / "lambada" / "lambada_openai.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        document = {"text": f"{row['context']} {row['continuation']}"}
        for found in (made.parse(row), made.parse(document)):
            assert found.context == rendered(task["doc_to_text"], document)
            assert f" {found.last_word}" == rendered(task["doc_to_target"], document)
