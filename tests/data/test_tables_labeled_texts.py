"""Labels of three kinds, and every bad row told."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gpt2_lightning.app.config.preflight import preflight
from gpt2_lightning.app.config.targets import Data
from gpt2_lightning.data.tables import LabeledText, LabeledTexts, Splits
from gpt2_lightning.errors import UserError


def read(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> Splits[LabeledText]:
    """With every row that is not the first or the second in training."""
    for name, part in (("train", rows), ("val", rows[:1]), ("test", rows[1:2])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)), encoding="utf-8")
    given = {"train": "train.jsonl", "val": "val.jsonl", "test": "test.jsonl"}
    return LabeledTexts(path=str(folder), **{**given, **settings}).read()


def labeled(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]


def labels_of(rows: list[LabeledText]) -> list[Any]:
    return [row.label for row in rows]


@pytest.mark.parametrize(
    ("labels", "expected", "classes"),
    [
        (["b", "a", "b"], ["b", "a", "b"], ("a", "b")),
        ([10, 9, 2], ["10", "9", "2"], ("2", "9", "10")),
        ([True, False], ["true", "false"], ("false", "true")),
        (["10", "9", "x"], ["10", "9", "x"], ("10", "9", "x")),
    ],
)
def test_classes_become_text_and_are_found_and_sorted(
    tmp_path: Path, labels: list[Any], expected: list[str], classes: tuple[str, ...]
) -> None:
    train = read(tmp_path, labeled(*labels)).train
    assert labels_of(train) == expected
    assert LabeledTexts(path="unread").classes(train) == classes


def test_stated_classes_keep_their_order(tmp_path: Path) -> None:
    train = read(tmp_path, labeled(1, 0, 1), labels=[1, 0]).train
    assert LabeledTexts(path="unread", labels=[1, 0]).classes(train) == ("1", "0")


def test_several_labels_come_as_a_list_or_as_one_text(tmp_path: Path) -> None:
    as_lists = read(tmp_path, labeled(["x", "y"], [], ["y"]), kind="multi").train
    as_text = read(tmp_path, labeled("x| y", " ", "y"), kind="multi", separator="|").train
    assert labels_of(as_lists) == [("x", "y"), (), ("y",)]
    assert as_text == as_lists
    assert LabeledTexts(path="unread", kind="multi").classes(as_lists) == ("x", "y")


def test_numbers_come_as_numbers_or_as_text(tmp_path: Path) -> None:
    train = read(tmp_path, labeled(1, -2.5, "3e2"), kind="regression").train
    assert labels_of(train) == [1.0, -2.5, 300.0]
    assert LabeledTexts(path="unread", kind="regression").classes(train) == ()


BAD_VALUES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"label": "a"}, "text is missing"),
    ({}, {"text": None, "label": "a"}, "text is missing"),
    ({}, {"text": " \n", "label": "a"}, "text is empty"),
    ({}, {"text": 5, "label": "a"}, "text is 5 (int), and must be text"),
    ({}, {"text": "\ud83d", "label": "a"}, "text holds half of a surrogate pair"),
    ({}, {"text": "x"}, "label is missing"),
    ({}, {"text": "x", "label": ""}, "label is empty"),
    ({}, {"text": "x", "label": 0.5}, "label is 0.5 (float), and must be text or a count"),
    ({}, {"text": "x", "label": ["a"]}, "label is ['a'] (list)"),
    ({"labels": ["a", "bee"]}, {"text": "x", "label": "be"}, "label is 'be', and must be one of 'a', 'bee'; did"),
    ({"kind": "multi"}, {"text": "x", "label": "a|b"}, "label is 'a|b', and must be a list; set data.separator"),
    ({"kind": "multi", "labels": ["a", "b"]}, {"text": "x", "label": ["a", "c"]}, "label is 'c', and must be one of"),
    ({"kind": "multi"}, {"text": "x", "label": ["a", "a"]}, "label is ['a', 'a'], which names a class twice"),
    ({"kind": "multi", "separator": ","}, {"text": "x", "label": "a,,b"}, "label is empty"),
    ({"kind": "regression"}, {"text": "x", "label": "much"}, "label is 'much', and must be a finite number"),
    ({"kind": "regression"}, {"text": "x", "label": True}, "label is True, and must be a finite number"),
    ({"kind": "regression"}, {"text": "x", "label": float("nan")}, "label is nan, and must be a finite number"),
]  # fmt: skip
GOOD: dict[str, list[Any]] = {"single": ["a", "a"], "multi": [["a"], ["a"]], "regression": [1, 2]}


@pytest.mark.parametrize(("settings", "row", "reason"), BAD_VALUES)
def test_a_bad_row_is_told_with_its_line(
    tmp_path: Path, settings: dict[str, Any], row: dict[str, Any], reason: str
) -> None:
    good = GOOD[settings.get("kind", "single")]
    if settings.get("separator"):
        good = ["a", "a"]
    with pytest.raises(UserError) as error:
        read(tmp_path, [*labeled(*good), row], **settings)
    assert "mend these, or leave them out with data.bad_rows=skip: 1 bad row:" in str(error.value)
    assert f"{tmp_path / 'train.jsonl'}, line 3: {reason}" in str(error.value)


def write_with_faults(file: Path) -> None:
    """Thirteen bad rows of four sorts among twenty good ones."""
    lines = ["text,label", *(f"row {i},{'ab'[i % 2]}" for i in range(20)), *["too,many,columns"] * 9, ",a", "x,", "y,c"]
    file.write_bytes("\n".join([*lines, "caf"]).encode() + b"\xe9,a\n")


def test_all_bad_rows_are_counted_and_ten_are_shown(tmp_path: Path) -> None:
    write_with_faults(tmp_path / "a.csv")
    with pytest.raises(UserError) as error:
        LabeledTexts(path=str(tmp_path / "a.csv"), labels=["a", "b"]).read()
    title, *shown = str(error.value).splitlines()
    assert title.endswith("13 bad rows:")
    assert len(shown) == 11
    assert shown[0].strip().startswith(f"{tmp_path / 'a.csv'}, line 22: has 3 columns, and must have 2")
    assert shown[-2].strip().endswith("line 31: text is empty")
    assert shown[-1].strip() == "and 3 more"


def test_bad_rows_are_left_out_only_when_asked_and_never_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("gpt2_lightning"), "propagate", True)
    write_with_faults(tmp_path / "a.csv")
    splits = LabeledTexts(path=str(tmp_path / "a.csv"), labels=["a", "b"], bad_rows="skip").read()
    assert {row.text for row in splits.train + splits.val + splits.test} == {f"row {i}" for i in range(20)}
    assert "13 bad rows:" in caplog.text
    assert "line 31: text is empty" in caplog.text


def test_bad_rows_of_all_parts_come_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": "a"}\n{"text": "", "label": "b"}', encoding="utf-8")
    (tmp_path / "b.csv").write_text("text,label\nx,a\n,b\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"2 bad rows:\n.*a\.jsonl, line 2: text is empty\n.*b\.csv, line 3: text is"):
        LabeledTexts(path=str(tmp_path), train="a.jsonl", val="b.csv").read()


def test_an_unknown_column_is_told_with_those_there_are(tmp_path: Path) -> None:
    message = r"data.text_column: .*train.jsonl has no column 'txt', it has 'text', 'label'; .*did you mean text\?"
    with pytest.raises(UserError, match=message):
        read(tmp_path, labeled("a", "b"), text_column="txt")


def test_a_label_that_training_lacks_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n1,a\n2,b\n3,a\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("text,label\n1,a\n2,c\n3,c\n", encoding="utf-8")
    message = r"the validation part has labels that the training part lacks: 'c' \(2 rows\); mend them$"
    with pytest.raises(UserError, match=message):
        LabeledTexts(path=str(tmp_path), train="a.csv", val="b.csv", test=0).read()
    with pytest.raises(UserError, match=message):
        LabeledTexts(
            path=str(tmp_path), train="a.csv", val="b.csv", test=0, labels=["a", "b", "c"], columns=None
        ).read()


def test_a_label_that_a_cut_took_from_training_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("text,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate("abababababac")))
    faults = []
    for seed in range(20):
        try:
            LabeledTexts(path=str(file), split_seed=seed).read()
        except UserError as error:
            faults.append(str(error))
    assert faults
    assert all(
        fault.endswith("'c' (1 row); mend them, or cut each class by itself with data.stratify=true")
        for fault in faults
    )


def test_one_class_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"all 3 training rows have the same label, 'a'; there is nothing to learn"):
        read(tmp_path, labeled("a", "a", "a"))


def test_fewer_rows_than_classes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are 3 classes and only 2 rows to train on"):
        read(tmp_path, labeled("a", "b"), labels=["a", "b", "c"])


def test_balance_leaves_tables_of_their_own_alone(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n" + "x,a\n" * 30 + "y,b\n" * 10, encoding="utf-8")
    (tmp_path / "test.csv").write_text("text,label\n" + "x,a\n" * 5 + "y,b\n", encoding="utf-8")
    table = LabeledTexts(path=str(tmp_path), train="train.csv", val=0.1, test="test.csv", balance=True, stratify=True)
    splits = table.read()
    assert Counter(labels_of(splits.train)) == {"a": 9, "b": 9}
    assert Counter(labels_of(splits.val)) == {"a": 1, "b": 1}
    assert Counter(labels_of(splits.test)) == {"a": 5, "b": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ["a"]}, r"labels: \['a'\] does not fit; it must be 2 or more different names"),
        ({"labels": [1, "1"]}, r"labels: \[1, '1'\] does not fit"),
        ({"kind": "regression", "labels": [1, 2]}, r"labels: is of no use with kind=regression"),
        ({"separator": ","}, r"separator: ',' does not fit"),
        ({"kind": "multi", "separator": ""}, r"separator: '' does not fit"),
        ({"kind": "multi", "balance": True}, r"balance: is for kind=single alone"),
        ({"kind": "regression", "stratify": True}, r"stratify: is for kind=single alone"),
        ({"kind": "regression", "stratify": True, "val": 0}, r"val: 0 is out of range.*\nstratify: "),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabeledTexts(path="a.csv", **settings)


@dataclass(frozen=True)
class Config:
    data: Data


def test_a_yaml_is_checked_by_the_signature() -> None:
    target = "gpt2_lightning.data.tables.LabeledTexts"
    good = {"_target_": target, "path": "a.tsv", "columns": ["label", "text"], "quote": None, "labels": ["ham", 1]}
    assert preflight(OmegaConf.create({"data": good}), Config)[1] == []
    bad = {"_target_": target, "path": "a.tsv", "labels": "ham", "txt_column": "x", "kind": "many", "val": True}
    faults = "\n".join(preflight(OmegaConf.create({"data": bad}), Config)[1])
    assert "data.txt_column: unknown key; did you mean data.text_column?" in faults
    for key in ("data.labels: 'ham' does not fit", "data.kind: 'many' is not one of", "data.val: True does not fit"):
        assert key in faults
    settings = {"_target_": target, "path": "a.tsv", "val": 3.0, "balance": True, "kind": "multi"}
    assert [fault.partition(":")[0] for fault in preflight(OmegaConf.create({"data": settings}), Config)[1]] == [
        "data.val",
        "data.balance",
    ]


def test_the_sms_collection_has_its_published_counts(shared_data: Path) -> None:
    settings: dict[str, Any] = {
        "path": str(shared_data / "sms-spam" / "SMSSpamCollection"),
        "format": "tsv",
        "columns": ["label", "text"],
        "quote": None,
    }
    splits = LabeledTexts(**settings).read()
    assert Counter(labels_of(splits.train + splits.val + splits.test)) == {"ham": 4827, "spam": 747}
    splits = LabeledTexts(**settings, balance=True).read()
    assert Counter(labels_of(splits.train + splits.val + splits.test)) == {"ham": 747, "spam": 747}
    assert (len(splits.train), len(splits.val), len(splits.test)) == (1045, 149, 300)


def test_sst2_has_its_published_counts(shared_data: Path) -> None:
    table = LabeledTexts(
        path=str(shared_data / "sst2"),
        train="train.tsv",
        val="dev.tsv",
        test="test.tsv",
        columns=["text", "label"],
        quote=None,
        labels=["0", "1"],
    )
    splits = table.read()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6920, 872, 1821)
