"""The verb `convert`, for classifiers: to transformers and back."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY, SCORE, Description
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.conversion import model_card
from gpt2_lightning.huggingface import folder
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.pretrained.load import load_pretrained
from gpt2_lightning.tokenizers import BPETokenizer, CharTokenizer
from gpt2_lightning.tokenizers.bpe_training import count_words, learn_merges
from tests.app.made_checkpoints import LETTERS, ONE_OF_THREE, save_classifier, some_score
from tests.app.tiny_runs import newest_run
from tests.huggingface.networks import CONFIG, lively
from tests.outcomes import refused

Run = Callable[..., Any]
SEVERAL = LabelTask(("angry", "sad"), "multi", "last", 13)
NUMBER = LabelTask((), "regression", "last", 13)
TEXTS = ["abcdefg", "u", "gfedcbabcdefgfedc", "ou"]


def scores(classifier: Classifier, text: str, truncation: int) -> Tensor:
    """One text by itself."""
    ids = torch.tensor([LETTERS.encode(text)[:truncation].tolist()])
    with torch.no_grad():
        found: Tensor = classifier(ids, torch.ones_like(ids, dtype=torch.bool))[0]
    return found


def test_transformers_gives_the_same_scores_to_padded_texts(run_verb: Run, workplace: Path) -> None:
    classifier = save_classifier(workplace / "spam.ckpt")
    outcome = run_verb("convert", "source=spam.ckpt", "target=spam")
    assert outcome.code == 0, outcome.err
    theirs = AutoModelForSequenceClassification.from_pretrained("spam")
    batch = AutoTokenizer.from_pretrained("spam")(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape == (4, 11), "the third text is cut off as here"
    assert batch["attention_mask"].sum() == 7 + 1 + 11 + 2
    with torch.no_grad():
        found = theirs(**batch).logits
    expected = torch.stack([scores(classifier, text, 11) for text in TEXTS])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.std(dim=0).min() > 0.1
    assert re.search(r"scores of padded texts in transformers: largest difference \d\.\de-1\d", outcome.out)
    assert "29 tensors are the same when read back, bit for bit" in outcome.out
    assert "23 tokens of the tokenizer are the same" in outcome.out


def test_transformers_begins_texts_with_a_space_where_training_did(run_verb: Run, workplace: Path) -> None:
    tokenizer = BPETokenizer(learn_merges(count_words(["the old man and the sea and the old"]), 270))
    spaced = dataclasses.replace(ONE_OF_THREE, add_prefix_space=True)
    model = lively(dataclasses.replace(CONFIG, vocab_size=tokenizer.vocab_size))
    classifier = save_classifier(workplace / "spam.ckpt", spaced, tokenizer, model)
    outcome = run_verb("convert", "source=spam.ckpt", "target=spam")
    assert outcome.code == 0, outcome.err
    ids = torch.from_numpy(tokenizer.encode(" the old").astype("int64"))[None]
    assert not torch.equal(ids[0], torch.from_numpy(tokenizer.encode("the old").astype("int64")))
    theirs = AutoTokenizer.from_pretrained("spam")
    assert theirs("the old")["input_ids"] == theirs(" the old")["input_ids"] == ids[0].tolist()
    with torch.no_grad():
        expected = classifier(ids, torch.ones_like(ids, dtype=torch.bool))[0].softmax(0)
    (found,) = pipeline("text-classification", "spam", top_k=None)(["the old"])
    assert {row["label"]: row["score"] for row in found} == pytest.approx(
        dict(zip(spaced.labels, expected.tolist(), strict=True)), abs=1e-5
    )
    assert (
        run_verb("predict", "checkpoint=spam", "text=the old").out
        == run_verb("predict", "checkpoint=spam.ckpt", "text=the old").out
    )


def test_the_folder_says_what_the_labels_are(run_verb: Run, workplace: Path) -> None:
    save_classifier(workplace / "spam.ckpt")
    run_verb("convert", "source=spam.ckpt", "target=spam")
    config = json.loads(Path("spam/config.json").read_text())
    assert (
        config.items()
        >= {
            "architectures": ["GPT2ForSequenceClassification"],
            "num_labels": 3,
            "id2label": {"0": "ham", "1": "spam", "2": "other mail"},
            "label2id": {"ham": 0, "spam": 1, "other mail": 2},
            "problem_type": "single_label_classification",
            "pad_token_id": 22,
            "eos_token_id": 22,
        }.items()
    )
    assert not Path("spam/generation_config.json").exists()
    tokenizer = AutoTokenizer.from_pretrained("spam")
    assert (tokenizer.pad_token_id, tokenizer.padding_side, tokenizer.model_max_length) == (22, "right", 11)


@pytest.mark.parametrize("task", [ONE_OF_THREE, SEVERAL, NUMBER], ids=lambda task: task.label_kind)
def test_the_pipeline_answers_as_predict_does(run_verb: Run, workplace: Path, task: LabelTask) -> None:
    save_classifier(workplace / "ours.ckpt", task)
    assert run_verb("convert", "source=ours.ckpt", "target=theirs").code == 0
    (workplace / "texts.txt").write_text("\n".join(TEXTS))
    answers = run_verb("predict", "checkpoint=ours.ckpt", "texts=texts.txt").out.splitlines()
    pipe = pipeline("text-classification", "theirs")
    found: Any = pipe(TEXTS, truncation=True, top_k=None, batch_size=4)
    for answer, theirs in zip(map(json.loads, answers), found, strict=True):
        named = {entry["label"]: entry["score"] for entry in theirs}
        if task is NUMBER:
            assert named == {"LABEL_0": pytest.approx(answer["label"], abs=1e-5)}
            continue
        assert named == pytest.approx(answer["probabilities"], abs=1e-5)
        if task is ONE_OF_THREE:
            assert max(named, key=named.__getitem__) == answer["label"]
    assert len(answers) == len(TEXTS)


def test_predict_reads_the_folder_itself(run_verb: Run, workplace: Path) -> None:
    save_classifier(workplace / "ours.ckpt")
    run_verb("convert", "source=ours.ckpt", "target=theirs")
    ours, theirs = (run_verb("predict", f"checkpoint={name}", "text=abcabc") for name in ("ours.ckpt", "theirs"))
    assert theirs.code == 0, theirs.err
    assert ours.out == theirs.out
    assert "it is a classifier of ham, spam, other mail" in theirs.err


@pytest.mark.parametrize("task", [ONE_OF_THREE, SEVERAL, NUMBER], ids=lambda task: task.label_kind)
def test_there_and_back_keeps_tensors_and_labels(run_verb: Run, workplace: Path, task: LabelTask) -> None:
    save_classifier(workplace / "ours.ckpt", task)
    assert run_verb("convert", "source=ours.ckpt", "target=theirs").code == 0
    assert run_verb("convert", "source=theirs", "target=back.ckpt").code == 0
    before, after = files.read(workplace / "ours.ckpt"), files.read(workplace / "back.ckpt")
    assert before["state_dict"].keys() == after["state_dict"].keys()
    assert all(torch.equal(before["state_dict"][key], tensor) for key, tensor in after["state_dict"].items())
    assert before[KEY]["task"] == after[KEY]["task"] == task.to_plain()


def test_a_copy_of_a_checkpoint_keeps_the_head(run_verb: Run, workplace: Path) -> None:
    save_classifier(workplace / "ours.ckpt")
    outcome = run_verb("convert", "source=ours.ckpt", "target=half.ckpt", "to=gpt2_lightning", "dtype=bf16")
    assert outcome.code == 0, outcome.err
    assert files.read(workplace / "half.ckpt")["state_dict"][SCORE].dtype == torch.bfloat16
    assert load_pretrained("half.ckpt").classifier().score.weight.dtype == torch.bfloat16


def test_a_tokenizer_without_end_of_text_reads_one_text_at_a_time(run_verb: Run, workplace: Path) -> None:
    save_classifier(workplace / "ours.ckpt", tokenizer=CharTokenizer("abcdefghijklmnopqrstuvw"))
    outcome = run_verb("convert", "source=ours.ckpt", "target=theirs", "dtype=fp16")
    assert outcome.code == 0, outcome.err
    assert "scores of single texts in transformers" in outcome.out
    assert json.loads(Path("theirs/config.json").read_text())["pad_token_id"] is None
    assert {tensor.dtype for tensor in load_file("theirs/model.safetensors").values()} == {torch.float16}


def test_a_head_of_its_own_is_left_out(run_verb: Run, workplace: Path) -> None:
    model = lively(dataclasses.replace(CONFIG, tied_head=False))
    tensors = model.state_dict() | {SCORE: some_score(ONE_OF_THREE, model)}
    plain = Description(model.config, LETTERS, {}, ONE_OF_THREE.to_plain()).to_plain()
    files.write({"state_dict": tensors, KEY: plain}, workplace / "ours.ckpt")
    outcome = run_verb("convert", "source=ours.ckpt", "target=theirs")
    assert outcome.code == 0, outcome.err
    assert "the language model's own head is left out" in outcome.out
    assert "lm_head.weight" not in load_file("theirs/model.safetensors")
    assert run_verb("convert", "source=theirs", "target=back.ckpt").code == 0


@pytest.mark.parametrize(("reads", "what"), [("mean", "the mean over a text"), ("first", "the first token of a text")])
def test_a_classifier_that_transformers_does_not_know_is_refused(
    run_verb: Run, workplace: Path, reads: Any, what: str
) -> None:
    save_classifier(workplace / "ours.ckpt", LabelTask(("x", "y"), "single", reads, 13))
    outcome = run_verb("convert", "source=ours.ckpt", "target=theirs")
    refused(outcome, f"reads {what}", "GPT2ForSequenceClassification reads the last token", "to=gpt2_lightning")
    assert not (workplace / "theirs").exists()
    assert run_verb("convert", "source=ours.ckpt", "target=copy.ckpt", "to=gpt2_lightning").code == 0


@pytest.mark.parametrize("fault", ["labels", "score", "padding"])
def test_a_classifier_that_is_written_wrongly_is_noticed(
    run_verb: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    save_classifier(workplace / "ours.ckpt")
    right = folder.write

    def wrong(*arguments: Any) -> None:
        right(*arguments)
        place = arguments[2]
        if fault == "score":
            tensors = load_file(place / "model.safetensors")
            save_file(tensors | {SCORE: tensors[SCORE].flip(0)}, place / "model.safetensors", {"format": "pt"})
            return
        config = json.loads((place / "config.json").read_text())
        change = (
            {"id2label": {"0": "spam", "1": "ham", "2": "other mail"}} if fault == "labels" else {"pad_token_id": 3}
        )
        (place / "config.json").write_text(json.dumps(config | change))

    monkeypatch.setattr(folder, "write", wrong)
    what = {
        "labels": "the labels read back differ",
        "score": SCORE,
        "padding": "scores of padded texts in transformers differ",
    }[fault]
    refused(run_verb("convert", "source=ours.ckpt", "target=theirs"), what)
    assert not (workplace / "theirs").exists()


@pytest.mark.slow
def test_a_run_becomes_a_folder_whose_card_has_its_report(
    run_verb: Run, tiny_run: Path, workplace: Path, tmp_path: Path
) -> None:
    with (workplace / "rows.csv").open("w", newline="") as file:
        rows = [
            ("ham" if i % 2 else "spam", f"the {'ship goes' if i % 2 else 'old sea'} {'over ' * (i % 5)}")
            for i in range(60)
        ]
        csv.writer(file).writerows([("label", "text"), *rows])
    settings = ["trainer=cpu", "trainer.max_epochs=1", "trainer.val_check_interval=2", "batch_size=8"]
    places = ["data.path=rows.csv", f"cache_dir={tmp_path / 'cache'}", "runs_dir=runs", "name=spam"]
    outcome = run_verb("finetune", "task=classify", "data=table", f"init_from={tiny_run}", *places, *settings)
    assert outcome.code == 0, outcome.err
    run = newest_run(workplace / "runs" / "spam")
    outcome = run_verb("convert", f"source={run}", "target=theirs")
    assert outcome.code == 0, outcome.err
    card = Path("theirs/README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "| classes | ham, spam |" in card
    assert "| answers with | one class |" in card
    assert re.search(r"\| validation accuracy \| [01]\.\d{4} \|", card)
    assert "per token" not in card
    report = (run / "report.md").read_text()
    (accuracy,) = re.findall(r"^\| accuracy \|.*$", report, re.MULTILINE)
    assert accuracy in card
    assert "### Classes" in card
    assert "Surest errors" not in card
    assert "![" not in card
    assert str(tiny_run) not in card
    assert 'pipeline("text-classification", "theirs")' in card


def test_a_report_is_cut_before_its_first_picture(tmp_path: Path) -> None:
    text = (
        "# A: the test part\n\n3 rows.\n\n| | figure |\n\n## Calibration\n\n![Reliability](x.png)\n\n## Surest errors\n"
    )
    (tmp_path / "report.md").write_text(text)
    assert model_card.report_of(tmp_path) == "### A: the test part\n\n3 rows.\n\n| | figure |"
    assert model_card.report_of(tmp_path / "nowhere") == ""
