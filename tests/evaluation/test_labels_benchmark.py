"""The benchmark of a classifier on labeled texts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.tables import LabeledText, LabeledTexts
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation import linear_baseline
from gpt2_lightning.evaluation.benchmarks import Labels
from gpt2_lightning.evaluation.benchmarks.benchmark import Items, Subject
from gpt2_lightning.evaluation.evaluate import evaluate
from gpt2_lightning.label_kinds import KINDS, Label
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import lively

LETTERS = CharTokenizer("abcdefgh ,")
LABELS = {"single": ("ham", "spam", "eggs"), "multi": ("ham", "spam", "eggs"), "regression": ()}


def subject_of(kind: str = "single", run_config: Mapping[str, Any] | None = None, **changes: Any) -> Subject:
    """A classifier of random weights with a context of nine tokens."""
    model = lively(GPT2Config(vocab_size=LETTERS.vocab_size, block_size=9, n_layer=2, n_head=3, n_embd=21))
    torch.manual_seed(2)
    task = LabelTask(LABELS[kind], kind, "mean", 9)
    classifier = Classifier(model, task.n_scores, "mean").eval()
    torch.nn.init.normal_(classifier.score.weight)
    subject = Subject(model, LETTERS, "RUN/best.ckpt", task=task.to_plain(), classifier=classifier)
    return dataclasses.replace(subject, run_config=run_config or {}, **changes)


def rows_of(kind: str, count: int) -> list[LabeledText]:
    dice = np.random.default_rng(count)
    rows = []
    for _ in range(count):
        text = "".join(dice.choice(list("abcdefgh "), dice.integers(1, 13))) + "a"
        chosen = tuple(sorted(dice.choice(["ham", "spam", "eggs"], dice.integers(0, 3), replace=False).tolist()))
        one, number = str(dice.choice(["ham", "spam", "eggs"])), float(dice.normal())
        label: dict[str, Label] = {"single": one, "multi": chosen, "regression": number}
        rows.append(LabeledText(text, label[kind]))
    return rows


def write(file: Path, rows: list[LabeledText]) -> Path:
    file.write_text("".join(json.dumps({"text": row.text, "label": row.label}) + "\n" for row in rows))
    return file


def one_by_one(subject: Subject, rows: list[LabeledText], kind: str) -> np.ndarray[Any, Any]:
    assert subject.classifier is not None
    found = []
    for row in rows:
        ids = torch.from_numpy(LETTERS.encode(row.text)[:9].astype(np.int64))[None]
        with torch.no_grad():
            found.append(KINDS[kind].outputs(subject.classifier(ids, torch.ones_like(ids, dtype=torch.bool)))[0])
    return torch.stack(found).numpy()


@pytest.mark.parametrize("kind", LABELS)
def test_metrics_are_those_of_the_report_of_training(tmp_path: Path, kind: str) -> None:
    rows, subject = rows_of(kind, 150), subject_of(kind, tokens_per_batch=40)
    result = next(evaluate({"labels": Labels(path=str(write(tmp_path / "new.jsonl", rows)))}, subject))
    report = KINDS[kind].report(rows, one_by_one(subject, rows, kind), LABELS[kind])
    assert result.n_items == 150
    assert result.metrics[0].name == KINDS[kind].headline
    for name, estimate in report.headline.items():
        metric = result[name]
        assert metric.value == pytest.approx(estimate.value, abs=1e-5)
        assert (metric.low, metric.high) == pytest.approx((estimate.low, estimate.high), abs=0.02)
    for name, value in report.further.items():
        assert result[name].value == pytest.approx(value, abs=1e-5)
    lower = {metric.name for metric in result.metrics if not metric.higher_is_better}
    assert lower == ({"mae", "rmse"} if kind == "regression" else {"calibration_error"})


def test_metrics_of_four_rows_by_hand(tmp_path: Path) -> None:
    rows = [LabeledText(text, label) for text, label in (("a", "ham"), ("b", "ham"), ("c", "spam"), ("d", "ham"))]
    records = [
        {"kind": "single", "text": row.text, "label": row.label, "probabilities": {"ham": p, "spam": 1 - p}}
        for row, p in zip(rows, (0.8, 0.1, 0.4, 0.7), strict=True)
    ]
    metrics = {metric.name: metric.value for metric in Labels().metrics(records)}
    assert metrics["accuracy"] == 3 / 4
    assert metrics["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert metrics["auroc"] == pytest.approx(2 / 3)
    assert metrics["calibration_error"] == pytest.approx((0.2 + 0.9 + 0.4 + 0.3) / 4)


@pytest.mark.parametrize("kind", LABELS)
def test_records_survive_json_and_state_what_predict_states(tmp_path: Path, kind: str) -> None:
    rows, subject, benchmark = rows_of(kind, 40), subject_of(kind), Labels(path=str(tmp_path / "new.jsonl"))
    write(tmp_path / "new.jsonl", rows)
    items = benchmark.items(subject, None)
    records = sorted(benchmark.records(subject, items.items), key=lambda record: int(record["id"]))
    assert [record["id"] for record in records] == [str(number) for number in range(1, 41)]
    assert json.loads(json.dumps(records)) == records
    for record, output in zip(records, one_by_one(subject, rows, kind), strict=True):
        label, probabilities = KINDS[kind].prediction(output.tolist(), LABELS[kind])
        assert (
            record["prediction"]
            == {
                "single": label,
                "multi": list(label) if isinstance(label, tuple) else None,
                "regression": pytest.approx(label, abs=1e-5),
            }[kind]
        )
        assert record.get("probabilities", {}) == pytest.approx(probabilities, abs=1e-5)
    right = [record[KINDS[kind].headline] for record in records]
    assert np.mean(right) == pytest.approx(benchmark.metrics(records)[0].value)


def trained_on(tmp_path: Path) -> dict[str, Any]:
    write(tmp_path / "all.jsonl", rows_of("single", 200))
    return {"_target_": "gpt2_lightning.data.tables.LabeledTexts", "path": str(tmp_path / "all.jsonl"), "test": 0.3}


def test_without_a_path_the_test_part_of_the_run_is_measured_beside_the_baseline_of_training(tmp_path: Path) -> None:
    data = trained_on(tmp_path)
    subject = subject_of(run_config={"data": data})
    result = next(evaluate({"labels": Labels()}, subject))
    splits = LabeledTexts(path=data["path"], test=0.3).read()
    assert (result.n_items, result.source) == (len(splits.test), f"the test part of {data['path']}")
    linear = linear_baseline.linear_outputs(
        KINDS["single"], LABELS["single"], splits.train, splits.val, [row.text for row in splits.test]
    )
    report = KINDS["single"].report(splits.test, linear, LABELS["single"])
    for name in ("accuracy", "macro_f1"):
        assert result[f"linear_{name}"].value == pytest.approx(report.headline[name].value)
    alone = next(evaluate({"labels": Labels(baseline=False)}, subject))
    assert not any(metric.name.startswith("linear_") for metric in alone.metrics)


def test_report_has_the_confusion_the_calibration_and_the_baseline(tmp_path: Path) -> None:
    subject, benchmark = subject_of(run_config={"data": trained_on(tmp_path)}), Labels(limit=30)
    records = list(benchmark.records(subject, benchmark.items(subject, None).items))
    (file,) = benchmark.write_report(records, tmp_path)
    page = file.read_text(encoding="utf-8")
    assert "# 30 labeled texts" in page
    for expected in (
        "linear model of TF-IDF features",
        "confusion.png",
        "reliability.png",
        "expected calibration error",
    ):
        assert expected in page
    assert (tmp_path / "confusion.png").exists()


def test_reason_for_an_absent_baseline_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Labels(path=str(write(tmp_path / "new.jsonl", rows_of("single", 5))))

    def notes(subject: Subject) -> str:
        return " ".join(benchmark.items(subject, None).notes)

    assert "no linear baseline: RUN/best.ckpt does not state the data that it was fine-tuned on" in notes(subject_of())
    gone = {"data": {"_target_": "gpt2_lightning.data.tables.LabeledTexts", "path": str(tmp_path / "gone.csv")}}
    assert "no linear baseline: the data that RUN/best.ckpt was fine-tuned on: data.path: there is no file" in notes(
        subject_of(run_config=gone)
    )
    monkeypatch.setattr(linear_baseline, "available", lambda: False)
    assert "no linear baseline: pip install 'gpt2-lightning[baseline]'" in notes(subject_of())


def test_rows_beyond_the_context_are_counted(tmp_path: Path) -> None:
    rows = [LabeledText("a" * length, "ham") for length in (3, 9, 10, 30)]
    benchmark, subject = Labels(path=str(write(tmp_path / "new.jsonl", rows))), subject_of()
    records = benchmark.records(subject, benchmark.items(subject, None).items)
    assert sorted((record["id"], record["cut"]) for record in records) == [("1", 0), ("2", 0), ("3", 1), ("4", 21)]


def test_limit_takes_evenly_spaced_rows_with_their_numbers(tmp_path: Path) -> None:
    rows = rows_of("single", 10)
    whole, part = (
        Labels(path=str(write(tmp_path / "new.jsonl", rows)), limit=limit).items(subject_of(), None)
        for limit in (None, 4)
    )
    assert [item.id for item in part.items] == ["1", "3", "6", "8"]
    assert [item.content.row for item in part.items] == [rows[i] for i in (0, 2, 5, 7)]
    assert whole.digest != part.digest


def test_digest_is_of_the_rows_and_not_of_the_baseline(tmp_path: Path) -> None:
    def items(label: str, subject: Subject) -> Items:
        return Labels(path=str(write(tmp_path / "new.jsonl", [LabeledText("a", label)]))).items(subject, None)

    assert items("ham", subject_of()).digest != items("spam", subject_of()).digest
    assert (
        items("ham", subject_of()).digest == items("ham", subject_of(run_config={"data": trained_on(tmp_path)})).digest
    )


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (
            '{"text": "a", "label": "ham"}\n{"text": "b", "label": "span"}\n{"text": "b", "label": "span"}\n',
            {},
            r"has labels that the classifier does not know: 'span' \(2 rows\); it answers with one of 3 labels",
        ),
        ('{"text": "a"}\n', {}, r"benchmarks.labels.label_column: .* has no column 'label', it has 'text'"),
        (
            '{"text": "a", "label": null}\n',
            {},
            r"labels.bad_rows=skip: 1 bad row:\n.*line 1: label is missing",
        ),
        ('{"body": "a", "label": "ham"}\n', {}, r"benchmarks.labels.text_column: .* has no column 'text'"),
        ("", {}, r"benchmarks.labels.path: .* is empty"),
        ("x", {"format": "csv", "delimiter": ",,"}, r"benchmarks.labels.delimiter: ',,' does not fit"),
        ("x", {"split": "test.tsv"}, r"benchmarks.labels.path: .* is a file; name the folder of test.tsv"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, content: str, settings: dict[str, Any], message: str) -> None:
    file = tmp_path / "new.jsonl"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        Labels(path=str(file), **settings).items(subject_of(), None)


def test_language_model_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "new.jsonl", rows_of("single", 5))
    subject = subject_of(classifier=None, task={})
    with pytest.raises(UserError, match=r"RUN/best\.ckpt is a language model without a classifier's head"):
        Labels(path=str(file)).items(subject, None)


def test_absent_data_of_the_run_is_named_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"does not state the data .*name other rows with benchmarks.labels.path=FILE"):
        Labels().items(subject_of(), None)


def test_outputs_that_are_nan_are_refused(tmp_path: Path) -> None:
    subject, benchmark = subject_of(), Labels(path=str(write(tmp_path / "new.jsonl", rows_of("single", 5))))
    items = benchmark.items(subject, None).items
    assert subject.classifier is not None
    torch.nn.init.constant_(subject.classifier.score.weight, float("nan"))
    with pytest.raises(UserError, match=r"outputs for row [1-5] are NaN"):
        list(benchmark.records(subject, items))
