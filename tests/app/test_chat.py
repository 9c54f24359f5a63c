"""A chat reads what was said as far as the context has room for it."""

from __future__ import annotations

import pytest
import torch

from gpt2_lightning.app.chat import Chat, converse, templated
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.tables import Message
from gpt2_lightning.data.templates import Template
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling, generate
from gpt2_lightning.model import GPT2, GPT2Config
from tests.data.conversations import BARE, LETTERS
from tests.huggingface.networks import lively

BLOCK = 29
CONFIG = GPT2Config(vocab_size=LETTERS.vocab_size, block_size=BLOCK, n_layer=2, n_head=3, n_embd=15, tied_head=False)
SINGLE = Template(name="single", question="{instruction}?")
WITH_SYSTEM = Template(name="roles", question="{instruction}?", system="{system}\n", between="\n")


@pytest.fixture(scope="module")
def model() -> GPT2:
    return lively(CONFIG)


class Transcript:
    """A chat, and what it shows and notes."""

    def __init__(
        self, model: GPT2, template: Template = BARE, max_new_tokens: int = 4, system: str | None = None
    ) -> None:
        description = Description(CONFIG, LETTERS, {}, {"kind": "instruct", "template": template.to_plain()})
        self.shown, self.notes = "", list[str]()
        self.chat = Chat(model, description, Sampling(max_new_tokens, 0), self.notes.append, system)

    def say(self, *lines: str) -> Transcript:
        converse(self.chat, lines, self._show, self.notes.append)
        return self

    def _show(self, text: str) -> None:
        self.shown += text

    def answers(self) -> list[str]:
        return [turn.content for turn in self.chat.turns if turn.role == "assistant"]


def greedy(model: GPT2, ids: list[int], count: int) -> str:
    return LETTERS.decode(list(generate(model, torch.tensor(ids), Sampling(count, 0), LETTERS.end_of_text)))


def encoded(text: str) -> list[int]:
    return LETTERS.encode(text).tolist()


def test_a_second_answer_follows_all_that_was_said_as_in_training(model: GPT2) -> None:
    chat = Transcript(model).say("ab", "cd")
    first, second = chat.answers()
    assert first == greedy(model, encoded("ab?"), 4)
    prompt = [*encoded("ab?" + first), LETTERS.end_of_text, *encoded("\ncd?")]
    assert second == greedy(model, prompt, 4)
    assert second != greedy(model, encoded("cd?"), 4), "what was said before matters"
    assert chat.shown == f"{first}\n{second}\n"
    assert chat.notes == []


def test_reset_forgets(model: GPT2) -> None:
    chat = Transcript(model).say("ab", "/reset", "cd")
    assert chat.answers() == [greedy(model, encoded("cd?"), 4)]
    assert chat.notes == ["forgotten"]


def test_quit_ends_and_blank_lines_are_passed_over(model: GPT2) -> None:
    chat = Transcript(model).say("", "  ", "ab", "/quit", "cd")
    assert len(chat.answers()) == 1


def test_an_unknown_command_is_told(model: GPT2) -> None:
    chat = Transcript(model).say("/rest now")
    assert chat.notes[0].startswith("/rest is no command: /reset forgets what was said, /quit ends")
    assert chat.chat.turns == []


def test_two_strokes_begin_a_question_with_one(model: GPT2) -> None:
    chat = Transcript(model).say("//ab")
    assert "lacks '/'" in chat.notes[0], "it is a question, and these letters have no stroke"


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said(model: GPT2) -> None:
    chat = Transcript(model)
    whole = greedy(model, encoded("ab?"), 4)

    def interrupted(text: str) -> None:
        chat.shown += text
        if len(chat.shown) == 2:
            raise KeyboardInterrupt

    converse(chat.chat, ["ab"], interrupted, chat.notes.append)
    assert chat.shown == f"{whole[:2]} …\n"
    assert chat.answers() == [whole[:2]]
    chat.say("cd")
    assert chat.answers()[1] == greedy(model, [*encoded("ab?" + whole[:2]), LETTERS.end_of_text, *encoded("\ncd?")], 4)


def test_the_oldest_turns_are_dropped_and_that_is_said_once(model: GPT2) -> None:
    chat = Transcript(model)
    for number in range(9):
        chat.say("abc"[number % 3] * 3)
        prompt = sum(len(turn.content) for turn in chat.chat.turns) + 3 * len(chat.chat.turns) // 2
        assert prompt <= BLOCK + 1
    assert chat.notes == [f"the context of {BLOCK} tokens is full: the oldest turns are dropped from now on"]
    assert chat.chat.turns[-2] == Message("user", "ccc")
    assert chat.chat.turns[0].role == "user"
    assert 2 < len(chat.chat.turns) < 18


def test_the_message_of_the_system_stays(model: GPT2) -> None:
    chat = Transcript(model, WITH_SYSTEM, system="g").say(*["abc"] * 7)
    assert chat.notes[0].startswith("the context of")
    chat.say("/reset", "ab")
    assert chat.answers() == [greedy(model, encoded("g\nab?"), 4)]


def test_a_template_of_single_questions_answers_each_by_itself(model: GPT2) -> None:
    chat = Transcript(model, SINGLE).say("ab", "cd", "ab")
    first, second, third = chat.shown.splitlines()
    assert (first, second) == (greedy(model, encoded("ab?"), 4), greedy(model, encoded("cd?"), 4))
    assert third == first
    assert chat.notes == ["the template single is for single questions: each is answered by itself"]


def test_an_answer_ends_with_the_context(model: GPT2) -> None:
    question = "abcdefg" * 3 + "abcd"  # and the question mark: 26 of 29
    chat = Transcript(model, max_new_tokens=50).say(question)
    assert chat.answers() == [greedy(model, encoded(question + "?"), 4)]
    assert len(chat.answers()[0]) == 4


def test_a_question_longer_than_the_context_is_told_and_forgotten(model: GPT2) -> None:
    chat = Transcript(model).say("ab", "a" * BLOCK, "cd")
    assert chat.notes[-1] == f"the question takes {BLOCK + 1} tokens and the context holds {BLOCK}: ask a shorter one"
    assert [turn.content for turn in chat.chat.turns if turn.role == "user"] == ["ab", "cd"]


def test_a_character_that_the_tokenizer_lacks_is_told_and_forgotten(model: GPT2) -> None:
    chat = Transcript(model).say("xyz", "ab")
    assert "lacks 'x'" in chat.notes[0]
    assert len(chat.answers()) == 1


def test_answers_that_are_drawn_differ_from_turn_to_turn(model: GPT2) -> None:
    description = Description(CONFIG, LETTERS, {}, {"kind": "instruct", "template": SINGLE.to_plain()})

    def drawn(seed: int) -> list[str]:
        chat = Chat(model, description, Sampling(8, 2.0, seed=seed), lambda _: None)
        return ["".join(chat.reply("ab")) for _ in range(4)]

    assert len(set(drawn(0))) == 4
    assert drawn(0) == drawn(0) != drawn(1)


def test_a_model_without_a_template_cannot_chat(model: GPT2) -> None:
    description = Description(CONFIG, LETTERS, {})
    with pytest.raises(UserError, match="has no template; fine-tune it with task=instruct"):
        Chat(model, description, Sampling(), lambda _: None)
    with pytest.raises(UserError, match="has no template"):
        templated("ab", description)


def test_a_template_without_a_place_for_the_system_refuses_it_at_once(model: GPT2) -> None:
    with pytest.raises(UserError, match="the template single has no place for a message of the system"):
        Transcript(model, SINGLE, system="g")


def test_a_plain_prompt_becomes_the_templates() -> None:
    closing = Template(name="closing", question="{instruction}?", answer_end="gg")
    description = Description(CONFIG, LETTERS, {}, {"kind": "instruct", "template": closing.to_plain()})
    assert templated("ab", description) == ("ab?", ("gg",))
