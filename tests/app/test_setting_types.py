"""Faults of settings: types, ranges and relations, and what can be said of the others in spite of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from hypothesis import given
from hypothesis import strategies as st

from gpt2_lightning.app.config.targets import Node
from gpt2_lightning.app.config.validation import type_faults
from gpt2_lightning.settings import (
    Advice,
    NonEmpty,
    OneOf,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
    Settings,
    allowed,
    checked,
    hints_of,
    range_faults,
    relation,
    relation_faults,
)
from tests.outcomes import refused

Run = Callable[..., object]


@pytest.mark.parametrize(
    ("hint", "value", "end"),
    [
        (list[str], "e", "it must be a list; write stop=[e]"),
        (list[str], "the end", """it must be a list; write 'stop=["the end"]'"""),
        (list[int] | None, 3, "it must be a list; write stop=[3]"),
        (list[str], {"a": 1}, "it must be a list"),
        (list[str], [3], "it must be a valid string"),
        (str, "a\udcff", "holds bytes that are no text in UTF-8; check how the terminal or file encodes it"),
        (int, True, "it must be a valid integer"),
        (PositiveInt | None, "many", "it must be a valid integer"),
    ],
)
def test_a_fault_says_what_to_write(hint: Any, value: Any, end: str) -> None:
    (fault,) = type_faults(hint, value, "stop")
    assert fault.startswith(f"stop: {value!r} ")
    assert fault.endswith(end)


def test_the_value_that_is_advised_fits() -> None:
    assert type_faults(list[str], ["e"], "stop") == []
    assert type_faults(str, "ā\u2028🙂", "prompt") == []


def test_ranges_are_no_matter_of_types() -> None:
    assert type_faults(PositiveInt, 0, "n") == []
    assert type_faults(Node, {"_target_": "x"}, "model") == []


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ([Ge(1)], "1 or more"),
        ([Gt(0)], "above 0"),
        ([Gt(0), Lt(math.inf)], "a finite number above 0"),
        ([Ge(0), Lt(math.inf)], "a finite number, 0 or more"),
        ([Ge(0), Le(1)], "0 to 1"),
        ([Ge(0), Lt(1)], "0 up to (not including) 1"),
        ([Gt(0), Le(1)], "above 0 up to 1"),
        ([Gt(0), Lt(1)], "above 0 and below 1"),
        ([Interval(ge=-2, le=2)], "-2 to 2"),
        ([Ge(0), Lt(2**63)], "0 up to (not including) 2**63"),
    ],
)
def test_a_range_in_words(marks: list[Any], words: str) -> None:
    assert allowed(marks) == words


@given(
    st.floats(allow_nan=True), st.sampled_from([PositiveFloat, Probability, Annotated[float, Interval(gt=-1, lt=2)]])
)
def test_ranges_agree_with_pydantic(value: float, hint: Any) -> None:
    import pydantic

    try:
        pydantic.TypeAdapter(hint).validate_python(value)
        fits = True
    except pydantic.ValidationError:
        fits = False
    assert (range_faults(hint, value, "x") == []) == fits


@pytest.mark.parametrize(
    ("hint", "value", "fault"),
    [
        (PositiveInt | None, None, None),
        (PositiveInt | None, 0, "x: 0 is out of range, 1 or more is allowed"),
        (PositiveInt | Literal["auto"], "auto", None),
        (PositiveInt | Literal["auto"], "some", "x: 'some' is not one of auto"),
        (str | Probability, "file.csv", None),
        (str | Probability, 2, "x: 2 is out of range, 0 to 1 is allowed"),
        (tuple[Probability, Probability], [0.5, 2], "x: [0.5, 2] is out of range, 0 to 1 is allowed"),
        (dict[str, dict[str, PositiveInt]], {"a": {"b": 0}}, "x.a.b: 0 is out of range, 1 or more is allowed"),
        (Annotated[str, OneOf({"one": 1, "two": 2})], "too", "x: 'too' is not one of one, two"),
        (list[NonEmpty], ["a", ""], "x: one of them is empty"),
        (Annotated[Seed, Advice("choose 0")], -1, "x: -1 is out of range, 0 up to (not including) 2**63 is allowed; choose 0"),  # noqa: E501  # a message in full
        (PositiveFloat, math.nan, "x: nan is out of range, a finite number above 0 is allowed"),
    ],
)  # fmt: skip
def test_a_value_against_its_range(hint: Any, value: Any, fault: str | None) -> None:
    assert range_faults(hint, value, "x") == ([] if fault is None else [fault])


@dataclass(frozen=True)
class Sizes(Settings):
    """Settings without defaults, of which some depend on each other."""

    way: Literal["short", "long"]
    batch: PositiveInt
    micro: PositiveInt
    share: Probability

    @relation
    def _micro_is_a_part_of_the_batch(self) -> Iterator[str]:
        if self.micro > self.batch:
            yield f"micro: {self.micro} is out of range, 1 to {self.batch} is allowed"

    @relation
    def _micro_suits_the_way(self) -> Iterator[str]:
        if self.way == "short" and self.micro > 5:
            yield f"micro: {self.micro} is too much for a short way"


VALUES = {"way": "short", "batch": 10, "micro": 2, "share": 0.5}


def test_construction_names_every_fault() -> None:
    assert Sizes(**VALUES).micro == 2
    with pytest.raises(ValueError, match="share: 2") as caught:
        Sizes("far", 0, 11, 2)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["way", "batch", "share"]
    with pytest.raises(ValueError, match="share: 2") as caught:
        Sizes("short", 10, 11, 2)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["share", "micro", "micro"]


@pytest.mark.parametrize(
    ("unusable", "values", "found"),
    [
        ([], {}, 0),
        ([], {"micro": 11}, 2),
        (["share"], {"share": None, "micro": 11}, 2),
        (["way"], {"way": "far", "micro": 11}, 1),  # the limit of an unknown way is unknown
        (["batch"], {"batch": "ten", "micro": 11}, 1),
        (["micro"], {"micro": "two"}, 0),
        (["micro", "way"], {}, 0),
    ],
)
def test_relations_of_faulty_fields_are_left_out(unusable: list[str], values: dict[str, Any], found: int) -> None:
    assert len(relation_faults(Sizes, VALUES | values, unusable)) == found


def test_an_heir_has_the_relations_of_its_base() -> None:
    @dataclass(frozen=True)
    class Heir(Sizes):
        @relation
        def _share_is_not_one(self) -> Iterator[str]:
            if self.share == 1:
                yield "share: 1 leaves nothing"

    assert relation_faults(Heir, VALUES | {"share": 1, "micro": 11}, []) == [
        "micro: 11 is out of range, 1 to 10 is allowed",
        "micro: 11 is too much for a short way",
        "share: 1 leaves nothing",
    ]


class Plain:
    """A class that is no dataclass."""

    @checked
    def __init__(self, keep: PositiveInt = 1, share: Probability | None = None) -> None:
        self.keep = keep


def test_arguments_of_a_function_are_checked_as_well() -> None:
    assert Plain(keep=2).keep == 2
    with pytest.raises(ValueError, match=r"keep: 0 .*\nshare: 2 "):
        Plain(0, share=2)
    assert set(hints_of(Plain)) == {"keep", "share", "return"}


def test_a_command_names_a_wrong_word_and_a_number_out_of_range_together(run_verb: Run) -> None:
    refused(
        run_verb("plot", "x=foo", "smoothing=2", "keys=loss"), "3 faults", "x: 'foo'", "smoothing: 2", "keys=[loss]"
    )


def test_a_prompt_that_is_no_text_is_named(run_verb: Run) -> None:
    refused(run_verb("generate", "prompt=a\udcff", "checkpoint=x"), r"prompt: 'a\udcff' holds bytes that are no text")
