"""The verb `predict`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY, Description
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.label_kinds import LabeledText
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.tokenizers import CharTokenizer

Run = Callable[..., Any]

TEXTS = ["abc", "h", "a bad, bad egg", 'he said "feed"', "ab", "gfedcba"]
TASKS = {
    "single": LabelTask(("ham", "spam", "text"), "single", "last", 11),
    "multi": LabelTask(("x", "y"), "multi", "mean", 11),
    "regression": LabelTask((), "regression", "last", 11),
}
TOKENIZER = CharTokenizer("".join(TEXTS))
CONFIG = GPT2Config(vocab_size=TOKENIZER.vocab_size, block_size=13, n_layer=2, n_head=3, n_embd=21)


@pytest.fixture
def classifiers(workplace: Path) -> dict[str, Classifier]:
    """A classifier of each kind, saved as KIND.ckpt."""
    made = {}
    for kind, task in TASKS.items():
        torch.manual_seed(1)
        model = Classifier(GPT2(CONFIG), task.n_scores, task.pooling).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(6)
        weights = {**model.transformer.state_dict(), "score.weight": model.score.weight.detach()}
        plain = Description(CONFIG, TOKENIZER, {}, task.to_plain()).to_plain()
        files.write({"state_dict": weights, KEY: plain}, workplace / f"{kind}.ckpt")
        made[kind] = model
    return made


def scores(model: Classifier, text: str) -> torch.Tensor:
    ids = torch.from_numpy(TOKENIZER.encode(text)[:11].astype(np.int64)).unsqueeze(0)
    return model(ids, torch.ones_like(ids, dtype=torch.bool))[0].detach()


def test_a_text_gets_its_label_and_probabilities(run_verb: Run, classifiers: dict[str, Classifier]) -> None:
    outcome = run_verb("predict", "checkpoint=single.ckpt", "text=a bad, bad egg")
    expected = scores(classifiers["single"], "a bad, bad egg").softmax(0)
    assert outcome.code == 0, outcome.err
    first, *rest = outcome.out.splitlines()
    assert first == ("ham", "spam", "text")[int(expected.argmax())]
    named = {line.split()[0]: float(line.split()[1]) for line in rest}
    assert list(named.values()) == sorted(named.values(), reverse=True)
    assert [named[name] for name in ("ham", "spam", "text")] == pytest.approx(expected.tolist(), abs=1e-4)


def test_int8_weights_predict_nearly_the_same(run_verb: Run, classifiers: dict[str, Classifier]) -> None:
    outcome = run_verb("predict", "checkpoint=single.ckpt", "text=a bad, bad egg", "quantize=int8")
    assert outcome.code == 0, outcome.err
    named = {line.split()[0]: float(line.split()[1]) for line in outcome.out.splitlines()[1:]}
    expected = scores(classifiers["single"], "a bad, bad egg").softmax(0).tolist()
    found = [named[name] for name in ("ham", "spam", "text")]
    assert found == pytest.approx(expected, abs=0.05)
    assert found != pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv"])
def test_a_file_gets_an_answer_for_each_text_in_its_order(
    run_verb: Run, classifiers: dict[str, Classifier], suffix: str
) -> None:
    file = Path(f"new.{suffix}")
    if suffix == "txt":
        file.write_text("\n".join(TEXTS[:2]) + "\r\n\n" + "\n".join(TEXTS[2:]), encoding="utf-8")
    elif suffix == "jsonl":
        file.write_text("".join(json.dumps({"text": text, "id": 3}) + "\n" for text in TEXTS), encoding="utf-8")
    else:
        with file.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened).writerows([["n", "text"], *enumerate(TEXTS)])
    outcome = run_verb("predict", "checkpoint=single.ckpt", f"texts={file}", "batch_size=2")
    assert outcome.code == 0, outcome.err
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [answer["text"] for answer in answers] == TEXTS
    for answer in answers:
        expected = scores(classifiers["single"], answer["text"]).softmax(0)
        assert list(answer["probabilities"]) == ["ham", "spam", "text"]
        assert list(answer["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert answer["label"] == ("ham", "spam", "text")[int(expected.argmax())]
    assert len({answer["label"] for answer in answers}) > 1


def test_a_table_without_a_header_is_read_as_it_is_trained_on(
    run_verb: Run, classifiers: dict[str, Classifier]
) -> None:
    Path("spam").write_text("".join(f"ham\t{text}\n" for text in TEXTS), encoding="utf-8")
    shape = ["format=tsv", "columns=[label,message]", "quote=null", "column=message"]
    outcome = run_verb("predict", "checkpoint=single.ckpt", "texts=spam", *shape)
    assert outcome.code == 0, outcome.err
    assert [json.loads(line)["text"] for line in outcome.out.splitlines()] == TEXTS


def test_a_csv_file_has_a_column_for_each_class(run_verb: Run, classifiers: dict[str, Classifier]) -> None:
    Path("new.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    outcome = run_verb("predict", "checkpoint=single.ckpt", "texts=new.txt", "output=answers.csv")
    assert (outcome.code, outcome.out) == (0, "wrote 6 answers to answers.csv\n")
    with Path("answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == TEXTS
    assert list(rows[0]) == ["text", "label", "p(ham)", "p(spam)", "p(text)"]
    for row in rows:
        expected = scores(classifiers["single"], row["text"]).softmax(0)
        assert [float(row[f"p({name})"]) for name in ("ham", "spam", "text")] == pytest.approx(
            expected.tolist(), abs=1e-5
        )


def test_several_labels_and_numbers(run_verb: Run, classifiers: dict[str, Classifier]) -> None:
    Path("new.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    lines = run_verb("predict", "checkpoint=multi.ckpt", "texts=new.txt").out.splitlines()
    for text, answer in zip(TEXTS, map(json.loads, lines), strict=True):
        expected = scores(classifiers["multi"], text).sigmoid().tolist()
        assert answer["label"] == [name for name, value in zip("xy", expected, strict=True) if value > 0.5]
        assert answer["probabilities"] == pytest.approx(dict(zip("xy", expected, strict=True)), abs=1e-5)
    lines = run_verb("predict", "checkpoint=regression.ckpt", "texts=new.txt").out.splitlines()
    for text, answer in zip(TEXTS, map(json.loads, lines), strict=True):
        assert answer == {
            "text": text,
            "label": pytest.approx(float(scores(classifiers["regression"], text)), abs=1e-5),
        }
    assert run_verb("predict", "checkpoint=multi.ckpt", "texts=new.txt", "output=several.csv").code == 0
    with Path("several.csv").open(newline="", encoding="utf-8") as file:
        assert all(isinstance(json.loads(row["label"]), list) for row in csv.DictReader(file))


def test_texts_that_are_cut_are_counted(run_verb: Run, classifiers: dict[str, Classifier]) -> None:
    Path("new.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    outcome = run_verb("predict", "checkpoint=single.ckpt", "texts=new.txt")
    assert "2 of 6 texts are longer than the 11 tokens that this classifier reads: 14.6% of all tokens" in outcome.err


def test_an_output_is_replaced_only_if_told(run_verb: Run, classifiers: dict[str, Classifier]) -> None:
    Path("answers.jsonl").write_text("old", encoding="utf-8")
    arguments = ("predict", "checkpoint=single.ckpt", "text=abc", "output=answers.jsonl")
    outcome = run_verb(*arguments)
    assert outcome.code == 2
    assert "output: answers.jsonl exists; name another, or add overwrite=true" in outcome.err
    assert Path("answers.jsonl").read_text(encoding="utf-8") == "old"
    assert run_verb(*arguments, "overwrite=true").code == 0
    assert json.loads(Path("answers.jsonl").read_text(encoding="utf-8"))["text"] == "abc"


def test_a_language_model_is_called_what_it_is(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("predict", f"checkpoint={tiny_run}", "text=abc")
    assert outcome.code == 2
    assert "best.ckpt is a language model without a classifier's head; fine-tune it with task=classify" in outcome.err


@pytest.mark.parametrize("kind", TASKS)
def test_labels_in_the_table_give_the_scores_of_the_report(
    run_verb: Run, classifiers: dict[str, Classifier], kind: str
) -> None:
    true: dict[str, list[Any]] = {
        "single": ["ham", "spam", "text"] * 2,
        "multi": [["x"], [], ["x", "y"]] * 2,
        "regression": [1, -2, 0.5] * 2,
    }
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, true[kind], strict=True)]
    unlabeled = [{"text": "abc"}, {"text": "abc", "label": None}]
    Path("new.jsonl").write_text("\n".join(map(json.dumps, rows + unlabeled)), encoding="utf-8")
    outcome = run_verb("predict", f"checkpoint={kind}.ckpt", "texts=new.jsonl")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 8
    task = TASKS[kind]
    outputs = task.kind.outputs(torch.stack([scores(classifiers[kind], text) for text in TEXTS])).numpy()
    labels = [tuple(label) if isinstance(label, list) else label for label in true[kind]]
    labeled = [LabeledText(text, label) for text, label in zip(TEXTS, labels, strict=True)]
    report = task.kind.report(labeled, outputs, task.labels)
    assert "scores of the 6 labeled texts" in outcome.err
    for name, estimate in report.headline.items():
        assert f"{report.names[name]:24} {estimate.value:.4f}" in outcome.err


def test_labels_that_give_no_scores_are_named_and_the_predictions_are_made(
    run_verb: Run, classifiers: dict[str, Classifier]
) -> None:
    Path("new.csv").write_text("text,kind\nabc,ham\nabc,sham\nh,sham\n", encoding="utf-8")
    outcome = run_verb("predict", "checkpoint=single.ckpt", "texts=new.csv", "label_column=kind")
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 3)
    assert "no scores: the column 'kind' has labels that this classifier does not know: 'sham' (2 rows)" in outcome.err
    outcome = run_verb("predict", "checkpoint=regression.ckpt", "texts=new.csv", "label_column=kind")
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 3)
    assert "no scores: a cell of the column 'kind' is 'ham', and must be a finite number" in outcome.err
    assert "scores" not in run_verb("predict", "checkpoint=single.ckpt", "texts=new.csv").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "text: name one text with text=…, or a file of texts with texts=FILE"),
        (["text=abc", "texts=new.txt"], "text: name one text with text=…, or a file of texts with texts=FILE"),
        (["text= "], "text: it is empty"),
        (["text=abc", "output=answers.html"], "output: answers.html must end in .jsonl or .csv"),
        (["text=abc", "batch_size=0"], "batch_size: 0 is out of range"),
        (["text=abc", "checkpoint=nowhere.ckpt"], "nowhere.ckpt"),
        (["texts=nowhere.txt"], "texts: nowhere.txt cannot be read: No such file"),
        (["texts=nowhere.csv"], "texts: there is no file"),
        (["texts=blank.txt"], "texts: blank.txt holds no text"),
        (["texts=latin.txt"], "texts: latin.txt is not UTF-8 text"),
        (["texts=unknown.xyz"], "format: the name of unknown.xyz does not tell its format; set format to one of"),
        (["texts=table.csv"], "column: table.csv has no column 'text', it has 'texts', 'n'"),
        (["texts=table.csv"], "did you mean texts?"),
        (
            ["texts=rows.jsonl"],
            "2 bad rows:\n  rows.jsonl, line 2: text is empty\n  rows.jsonl, line 3: text is missing",
        ),
    ],
)
def test_bad_input_is_told(
    run_verb: Run, classifiers: dict[str, Classifier], arguments: list[str], message: str
) -> None:
    Path("new.txt").write_text("abc", encoding="utf-8")
    Path("blank.txt").write_text("\n \n", encoding="utf-8")
    Path("latin.txt").write_bytes("é".encode("latin-1"))
    Path("unknown.xyz").write_text("abc", encoding="utf-8")
    Path("table.csv").write_text("texts,n\nabc,1\n", encoding="utf-8")
    Path("rows.jsonl").write_text('{"text": "abc"}\n{"text": " "}\n{"n": 1}\n', encoding="utf-8")
    outcome = run_verb(
        "predict", *(["checkpoint=single.ckpt"] if "checkpoint" not in str(arguments) else []), *arguments
    )
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
