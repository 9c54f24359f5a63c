from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.tokenizers import CharTokenizer
from tests.data.token_sequences import sequence_of
from tests.training.short_run import ALPHABET, Plan, Run

# Each says what is so by design here, and the program does not show them to users either.
_EXPECTED_WARNINGS = (
    "ignore:.*does not have many workers",
    "ignore:.*available but not used",
    "ignore:The .srun. command is available",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for warning in _EXPECTED_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Random characters of one to three bytes; the next is often the neighbour in the alphabet."""
    dice = random.Random(0)
    places = [0]
    while len(places) < 420:
        places.append((places[-1] + dice.choice((1, 1, 1, 2, 5))) % len(ALPHABET))
    text = "".join(ALPHABET[place] for place in places)
    return {"train": text[:360], "val": text[360:]}


@pytest.fixture(scope="module")
def tokens(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """Their ids, in two files."""
    folder = tmp_path_factory.mktemp("tokens")
    ids = {part: CharTokenizer(ALPHABET).encode(text) for part, text in texts.items()}
    ratios = {part: len(text.encode()) / len(text) for part, text in texts.items()}
    return Tokens(sequence_of(folder, ids["train"], [200]), sequence_of(folder, ids["val"]), ratios)


@pytest.fixture(scope="module")
def train(tokens: Tokens) -> Callable[..., Run]:
    """Do a run: `train(Plan(folder, …))`, or `train(plan, resume=checkpoint)`."""

    def do(plan: Plan, resume: Path | None = None) -> Run:
        return Run(plan, tokens).fit(resume)

    return do
