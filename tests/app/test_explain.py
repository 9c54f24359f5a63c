"""The verb `explain`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt2_lightning.app.reports.attribution import colored
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.layers import LoRASpec
from tests.app.made_checkpoints import LETTERS, ONE_OF_THREE, save_adapter, save_base, save_classifier, some_score
from tests.outcomes import refused

Run = Callable[..., Any]

SEVERAL = LabelTask(("angry", "sad"), "multi", "mean", 13)
NUMBER = LabelTask((), "regression", "first", 13)
METHODS = ("gradient_x_input", "occlusion", "rollout")


@pytest.fixture
def explain(run_verb: Run, workplace: Path) -> Run:
    """Run the verb on classifiers of each kind, without pictures."""
    classifiers = {"spam": ONE_OF_THREE, "moods": SEVERAL, "number": NUMBER}
    made = {name: save_classifier(workplace / f"{name}.ckpt", task) for name, task in classifiers.items()}

    def run(*arguments: str) -> Any:
        given = {argument.partition("=")[0] for argument in arguments}
        defaults = {"checkpoint": "spam.ckpt", "pictures": "false"}
        return run_verb("explain", *(f"{k}={v}" for k, v in defaults.items() if k not in given), *arguments)

    run.classifiers = made  # type: ignore[attr-defined]
    return run


def found(folder: str = "explanation") -> Any:
    return json.loads((Path(folder) / "explanation.json").read_text(encoding="utf-8"))


def names() -> list[str]:
    return sorted(file.name for file in Path("explanation").iterdir())


@torch.no_grad()
def logits(classifier: Classifier, text: str) -> Tensor:
    ids = torch.tensor([LETTERS.encode(text).tolist()])
    return classifier(ids, torch.ones_like(ids, dtype=torch.bool))[0]


def test_a_text_is_explained_in_a_folder(explain: Run) -> None:
    outcome = explain("text=abcdefg", "pictures=true")
    assert outcome.code == 0, outcome.err
    assert names() == ["explanation.html", "explanation.json", "explanation.png"]
    assert all(name in outcome.out for name in names())
    (text,) = found()["texts"]
    probabilities = logits(explain.classifiers["spam"], "abcdefg").softmax(dim=0)
    best = ONE_OF_THREE.labels[int(probabilities.argmax())]
    assert (text["answer"], text["label"]) == (best, best)
    assert text["probability"] == pytest.approx(float(probabilities.max()), abs=1e-5)
    assert f"{best}: probability {text['probability']:.4f}" in outcome.out
    without_c = logits(explain.classifiers["spam"], "abdefg").softmax(dim=0)[int(probabilities.argmax())]
    assert text["tokens"][2]["token"] == "c"
    expected = float(probabilities.max().logit() - without_c.logit())
    assert text["tokens"][2]["occlusion"] == pytest.approx(expected, abs=1e-4)
    for method in METHODS:
        strongest = max(text["tokens"], key=lambda token: abs(token[method]))
        assert (
            f"{strongest['token']} {'' if method == 'rollout' else '+' if strongest[method] > 0 else '−'}"
            in outcome.out
        )
        assert f"{text['deletion'][method]['random_orders_beaten']} of 20" in outcome.out


def test_another_label_can_be_named(explain: Run) -> None:
    explain("text=abcdefg")
    answer = found()["texts"][0]["answer"]
    other = next(label for label in ("ham", "spam", "other mail") if label != answer)
    outcome = explain("text=abcdefg", f"label={other}", "output=other")
    assert outcome.code == 0, outcome.err
    (text,) = found("other")["texts"]
    assert (text["answer"], text["label"]) == (answer, other)
    probabilities = logits(explain.classifiers["spam"], "abcdefg").softmax(dim=0)
    assert text["probability"] == pytest.approx(float(probabilities[ONE_OF_THREE.labels.index(other)]), abs=1e-5)
    assert f"(the answer is {answer})" in outcome.out


def test_several_labels_and_numbers_are_explained(explain: Run) -> None:
    assert explain("checkpoint=moods.ckpt", "text=abcdefg").code == 0
    (text,) = found()["texts"]
    probabilities = logits(explain.classifiers["moods"], "abcdefg").sigmoid()
    assert text["label"] == SEVERAL.labels[int(probabilities.argmax())]
    assert text["probability"] == pytest.approx(float(probabilities.max()), abs=1e-5)
    assert explain("checkpoint=number.ckpt", "text=abcdefg", "output=number").code == 0
    (text,) = found("number")["texts"]
    number = float(logits(explain.classifiers["number"], "abcdefg"))
    assert text["label"] is None
    assert text["number"] == text["evidence"] == pytest.approx(number, abs=1e-5)
    assert [token["rollout"] for token in text["tokens"]] == [1, 0, 0, 0, 0, 0, 0], "it reads its first token alone"
    assert [round(token["gradient_x_input"], 5) != 0 for token in text["tokens"]] == [True] + [False] * 6


def test_several_texts_are_on_one_page(explain: Run) -> None:
    Path("new.csv").write_text("message\nabcdefg\nu\nbad egg\n".replace(" ", ""), encoding="utf-8")
    outcome = explain("texts=new.csv", "column=message", "pictures=true")
    assert outcome.code == 0, outcome.err
    assert "left out 'u': attribution needs 2 or more tokens" in outcome.out
    assert [text["text"] for text in found()["texts"]] == ["abcdefg", "badegg"]
    assert names()[:2] == ["explanation-1.png", "explanation-2.png"]
    page = Path("explanation/explanation.html").read_text(encoding="utf-8")
    assert page.count("<section data-text") == 2
    assert "all 2 texts, mean" in outcome.out
    assert outcome.out.index("\nabcdefg\n") < outcome.out.index("\nbadegg\n"), "without colors, the text itself"


def test_a_text_is_cut_where_the_classifier_stops_reading(explain: Run) -> None:
    outcome = explain("text=abcdefgabcdefg")
    assert "longer than the truncation of this classifier, 11 tokens: the first 11 are" in outcome.out
    (text,) = found()["texts"]
    assert len(text["tokens"]) == 11
    assert text["tokens_left_out"] == 3
    expected = logits(explain.classifiers["spam"], "abcdefgabcd").softmax(dim=0).max()
    assert text["probability"] == pytest.approx(float(expected), abs=1e-5)


def test_a_classifier_of_transformers_gets_the_same_explanation(explain: Run, run_verb: Run) -> None:
    assert run_verb("convert", "source=spam.ckpt", "target=spam").code == 0
    assert explain("text=abcdefg").code == 0
    outcome = explain("text=abcdefg", "checkpoint=spam", "output=theirs")
    assert outcome.code == 0, outcome.err
    ours, theirs = found()["texts"][0], found("theirs")["texts"][0]
    for one, other in zip(ours["tokens"], theirs["tokens"], strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_classifier_with_an_adapter_is_explained_as_a_whole(explain: Run, workplace: Path) -> None:
    base = save_base(workplace / "base.ckpt")
    adapted = save_adapter(workplace / "lora.ckpt", base, LoRASpec(rank=3, alpha=5.0), task=ONE_OF_THREE)
    classifier = Classifier(adapted, 3).eval()
    classifier.score.weight = torch.nn.Parameter(some_score(ONE_OF_THREE, adapted))
    outcome = explain("checkpoint=lora.ckpt", "text=abcdefg")
    assert outcome.code == 0, outcome.err
    expected = logits(classifier, "abcdefg").softmax(dim=0).max()
    assert found()["texts"][0]["probability"] == pytest.approx(float(expected), abs=1e-5)


def test_a_folder_of_this_verb_is_replaced_and_no_other(explain: Run) -> None:
    assert explain("text=abc").code == 0
    assert explain("text=abcd").code == 0
    assert found()["texts"][0]["text"] == "abcd"
    Path("explanation/mine.txt").write_text("mine", encoding="utf-8")
    refused(explain("text=abc", "overwrite=true"), "holds mine.txt, which this verb did not write")
    assert Path("explanation/mine.txt").exists()


def test_characters_outside_of_the_alphabet_are_replaced_and_counted(explain: Run) -> None:
    outcome = explain("text=abß")
    assert outcome.code == 0, outcome.err
    assert "1 character ('ß') is not in the tokenizer's alphabet" in outcome.out


def test_a_language_model_is_called_what_it_is(explain: Run, workplace: Path) -> None:
    save_base(workplace / "base.ckpt")
    refused(explain("checkpoint=base.ckpt", "text=abc"), "base.ckpt is a language model without a classifier's head")
    assert not Path("explanation").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "text: name one text with text=…, or a file of texts with texts=FILE, and not both"),
        (["text=abc", "texts=new.txt"], "and not both"),
        (["text= "], "text: it is empty; name a text"),
        (["text=a"], "text: 'a': attribution needs 2 or more tokens"),
        (["texts=short.txt"], "texts: 'a', 'b', 'c' and 1 more: attribution needs 2 or more tokens"),
        (["texts=blank.txt"], "texts: blank.txt holds no text"),
        (["texts=nowhere.txt"], "texts: nowhere.txt cannot be read"),
        (["text=abc", "label=spma"], "has no label 'spma', it has 'ham', 'spam', 'other mail'"),
        (["text=abc", "label=spma"], "did you mean spam?"),
        (["text=abc", "label=7"], "has no label '7'"),
        (
            ["text=abc", "label=ham", "checkpoint=number.ckpt"],
            "answers with a number and has no labels; leave label out",
        ),
        (["text=abc", "batch_size=0"], "batch_size: 0 is out of range, 1 or more is allowed"),
        (["text=abc", "output="], "output: it is empty"),
        (["text=abc", "output=short.txt"], "output: short.txt is a file; name a folder"),
        (["text=abc", "checkpoint=nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_bad_input_is_told(explain: Run, arguments: list[str], message: str) -> None:
    Path("short.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    Path("blank.txt").write_text("\n \n", encoding="utf-8")
    refused(explain(*arguments), message)
    assert not Path("explanation").exists()


def test_the_colors_of_a_terminal_tell_for_from_against() -> None:
    drawn = colored(["a", "b↵", "c"], [1.0, -1.0, 0.0], is_signed=True)
    assert drawn.plain == "ab↵\nc"
    grounds = [span.style.bgcolor.name for span in drawn.spans]
    assert grounds == ["#56b4e9", "#e69f00", "#262626"]
    assert [span.style.bgcolor.name for span in colored(["a"], [1.0], is_signed=False).spans] == ["#ebebeb"]
