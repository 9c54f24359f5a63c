"""Answers: how they are written, scored and shown."""

from __future__ import annotations

import random
import re

import pytest
import torch

from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.data.tables import Alpaca, Conversation, Message
from gpt2_lightning.evaluation.answers import Answer, AnswerScores, answer, exact_match, rouge_l, score, side_by_side
from gpt2_lightning.generation import Sampling, generate
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.model import GPT2Config
from tests.data.conversations import BARE, LETTERS, conversations
from tests.huggingface.networks import lively

CONFIG = GPT2Config(vocab_size=LETTERS.vocab_size, block_size=31, n_layer=2, n_head=3, n_embd=15, tied_head=False)


@pytest.mark.parametrize(
    ("said", "reference", "expected"),
    [
        ("police killed the gunman", "police kill the gunman", 3 / 4),
        ("the gunman kill police", "police kill the gunman", 2 / 4),
        ("the the", "the", 2 * (1 / 2) * 1 / (1 / 2 + 1)),
        ("The CAT, sat!", "the cat sat", 1.0),
        ("a b c d", "b d e", 2 * 2 / 7),
        ("", "the cat", 0.0),
        ("...", "!", 0.0),
        ("Zürich", "zürich", 1.0),
    ],
)
def test_rouge_l_of_hand_worked_pairs(said: str, reference: str, expected: float) -> None:
    """The first two are of Lin 2004, section 3.1, where ROUGE-L tells apart what bigrams do not."""
    assert rouge_l(said, reference) == pytest.approx(expected)


def test_rouge_l_is_that_of_the_package() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    dice = random.Random(0)
    words = ["the", "The", "cat", "sat.", "on", "a", "mat,", "45", "it's", "x_y", "--", "end\n"]
    for _ in range(300):
        said, reference = (" ".join(dice.choices(words, k=dice.randint(0, 12))) for _ in range(2))
        assert rouge_l(said, reference) == pytest.approx(scorer.score(reference, said)["rougeL"].fmeasure)


def test_an_exact_match_is_to_the_letter_but_for_white_space_around_it() -> None:
    assert exact_match(" 45 km\n", "45 km")
    assert not exact_match("45 KM", "45 km")
    assert not exact_match("45  km", "45 km")


def test_scores_are_means() -> None:
    answers = [Answer("a b", True), Answer("c", False), Answer("e", True)]
    assert score(answers, ["a b", "c d", "x"]) == AnswerScores(
        pytest.approx(1 / 3), pytest.approx((1 + 2 / 3) / 3), pytest.approx(2 / 3)
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_is_what_follows_the_prompt_of_the_template(temperature: float) -> None:
    """One by one through another loop, whatever the batches, the reference answer not being read."""
    model, rows = lively(CONFIG), conversations(7)
    sampling = Sampling(max_new_tokens=11, temperature=temperature)
    answers = answer(model, LETTERS, BARE, rows, sampling, batch_size=3)
    assert answers == answer(model, LETTERS, BARE, rows, sampling, batch_size=7)
    if temperature == 0:
        for row, found in zip(rows, answers, strict=True):
            prompt = prompt_ids(row.messages[0].content + "?", LETTERS)
            ids = list(generate(model, prompt, sampling, LETTERS.end_of_text))
            assert found == Answer(LETTERS.decode(ids), ended=len(ids) < 11)
    changed = [Conversation((row.messages[0], Message("assistant", "g")), row.alpaca) for row in rows]
    assert answer(model, LETTERS, BARE, changed, sampling) == answers


def test_the_closing_text_ends_an_answer_and_is_no_part_of_it() -> None:
    model = lively(CONFIG)
    with torch.no_grad():  # says g and nothing else
        model.ln_f.weight.zero_()
        model.ln_f.bias.copy_(model.lm_head.weight[int(LETTERS.encode("g")[0])] * 100)
    sampling = Sampling(max_new_tokens=9, temperature=0)
    closing = Template(name="closing", question="{instruction}?", answer_end="gg")
    assert answer(model, LETTERS, BARE, conversations(1), sampling) == [Answer("g" * 9, False)]
    assert answer(model, LETTERS, closing, conversations(1), sampling) == [Answer("", True)]


def test_side_by_side_is_a_table_whatever_the_texts_hold() -> None:
    rows = [
        Conversation.from_alpaca(Alpaca("Add | these", "1\n2", "3")),
        Conversation.from_alpaca(Alpaca("*Say* <b>", "", "`x` \\|")),
    ]
    page = side_by_side(rows, [Answer("a|b\n\nc", False), Answer("", True)], [Answer("3", True)] * 2, "Answers")
    lines = page.splitlines()
    assert lines[0] == "# Answers"
    assert "| exact match | 0.0 % | 50.0 % |" in lines
    assert "| ended by itself | 50.0 % | 100.0 % |" in lines
    table = lines[lines.index("| question | reference | before | after |") :]
    assert len(table) == 4
    assert all(len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) == 5 for line in table)
    assert table[2] == "| Add \\| these<br><br>1<br>2 | 3 | a\\|b<br><br>c … | 3 |"
    assert table[3] == "| \\*Say\\* &lt;b> | \\`x\\` \\\\\\| |  | 3 |"
