"""Data sets through the `datasets` library: from a folder of files, and what is said where there is no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.tables import Alpaca, Instructions, LabeledText, LabeledTexts
from gpt2_lightning.data.tables.hub import read_dataset
from gpt2_lightning.errors import UserError

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "set"
    made.mkdir()
    return made


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def write_parquet(file: Path, rows: dict[str, list[Any]], features: Any) -> None:
    """Write a file as `Dataset.to_parquet` does, but without a `Dataset`: its fingerprint pickles the table, and dill
    warns of a class of pyarrow's that it cannot find."""
    parquet.write_table(pyarrow.table(rows, schema=features.arrow_schema), file)


def test_splits_are_named_and_classes_have_their_names(folder: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    for split, labels in (("train", [0, 1] * 10), ("test", [1, 0, 1])):
        rows = {"text": [f"{split} {i}" for i in range(len(labels))], "label": labels}
        write_parquet(folder / f"{split}.parquet", rows, features)
    splits = LabeledTexts(path=f"hf:{folder}", train="train", val=0.1, test="test").read()
    assert (len(splits.train), len(splits.val)) == (18, 2)
    assert splits.test == [LabeledText("test 0", "pos"), LabeledText("test 1", "neg"), LabeledText("test 2", "pos")]


def test_names_reach_lists_of_classes_and_labels_kept_back_are_missing(folder: Path) -> None:
    one = datasets.ClassLabel(names=["joy", "awe"])
    features = datasets.Features({"several": datasets.List(one), "one": one})
    rows = {"several": [[1, 0], []], "one": [-1, 1]}
    write_parquet(folder / "train.parquet", rows, features)
    found = list(read_dataset(str(folder), None, None)["train"])
    assert [record.values for record in found] == [
        {"several": ["awe", "joy"], "one": None},
        {"several": [], "one": "awe"},
    ]


def test_a_single_split_needs_no_name(folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", [{"instruction": f"{i}", "input": "", "output": "o"} for i in range(10)])
    splits = Instructions(path=f"hf:{folder}").read()
    rows = sorted((row.alpaca for row in splits.train + splits.val + splits.test), key=str)
    assert rows == [Alpaca(f"{i}", "", "o") for i in range(10)]


def test_bad_rows_are_told_with_split_and_row(folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", [{"text": "a", "label": 1}, {"text": "", "label": 0}, {"text": "c"}])
    with pytest.raises(UserError) as error:
        LabeledTexts(path=f"hf:{folder}").read()
    assert "2 bad rows:" in str(error.value)
    assert f"hf:{folder}, train, row 2: text is empty" in str(error.value)
    assert f"hf:{folder}, train, row 3: label is missing" in str(error.value)


def test_an_unknown_split_is_told_with_those_there_are(folder: Path) -> None:
    for split in ("train", "validation"):
        write_jsonl(folder / f"{split}.jsonl", [{"text": "a", "label": 1}])
    message = r"data.val: .* has no split valid; it has 'train', 'validation'; did you mean validation\?"
    with pytest.raises(UserError, match=message):
        LabeledTexts(path=f"hf:{folder}", train="train", val="valid").read()
    with pytest.raises(UserError, match=r"split.* 'train', 'validation'"):
        LabeledTexts(path=f"hf:{folder}").read()


def test_an_unknown_configuration_and_a_folder_without_data_are_told(folder: Path) -> None:
    with pytest.raises(UserError, match=r"hf:.*/set cannot be read: .*doesn't contain any data files"):
        LabeledTexts(path=f"hf:{folder}").read()
    write_jsonl(folder / "train.jsonl", [{"text": "a", "label": 1}])
    with pytest.raises(UserError, match=r"cannot be read: BuilderConfig 'other' not found"):
        LabeledTexts(path=f"hf:{folder}", config="other").read()


@pytest.mark.parametrize("revision", ["../../../x", "/etc", "a b", "", "-x"])
def test_a_revision_is_a_commit_tag_or_branch(revision: str) -> None:
    with pytest.raises(UserError, match=r"data.revision: .* is no commit, tag or branch"):
        LabeledTexts(path="hf:owner/name", revision=revision).read()


def test_a_data_set_of_the_hub_needs_a_revision() -> None:
    with pytest.raises(UserError, match=r"data.revision: hf:owner/name is no folder here.* set data.revision=COMMIT"):
        LabeledTexts(path="hf:owner/name").read()


def test_code_of_a_data_set_is_never_run(folder: Path) -> None:
    (folder / "set.py").write_text(f"open({str(folder / 'ran')!r}, 'w')", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be read"):
        LabeledTexts(path=f"hf:{folder}").read()
    assert not (folder / "ran").exists()


@pytest.mark.slow
def test_without_a_network_the_way_around_is_told(tmp_path: Path) -> None:
    program = (
        "from gpt2_lightning.data.tables import LabeledTexts\n"
        "LabeledTexts(path='hf:owner/name', revision='0123abc').read()\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert "UserError: data.path: hf:owner/name cannot be fetched: " in done.stderr
    assert "hf download --repo-type dataset owner/name --revision 0123abc --local-dir FOLDER" in done.stderr
    assert "set data.path=hf:FOLDER" in done.stderr
