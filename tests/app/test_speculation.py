"""`speculate` on the command line and in Python: the same texts, and a report of the acceptance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gpt2_lightning as g
from gpt2_lightning.api.settings import GenerationSettings
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, weights_alone
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer
from tests.app.made_checkpoints import LETTERS, save_base
from tests.huggingface.networks import lively
from tests.outcomes import Outcome

Run = Callable[..., Outcome]
SETTINGS: Any = {"max_new_tokens": 40, "temperature": 0.7, "seed": 3, "ignore_end_of_text": True}


@pytest.fixture
def checkpoint(workplace: Path) -> Path:
    return save_base(workplace / "base.ckpt")


@pytest.fixture
def draft(workplace: Path) -> Path:
    """Another random model of the same tokenizer, with a smaller context."""
    network = g.GPT2(g.GPT2Config(LETTERS.vocab_size, 8, n_layer=1, n_head=1, n_embd=4)).eval()
    return save_base(workplace / "draft.ckpt", network)


@pytest.mark.parametrize("kind", ["lookup", "draft.ckpt"])
def test_texts_are_those_without_speculation(checkpoint: Path, draft: Path, kind: str) -> None:
    model = g.load(checkpoint)
    expected = model.completions(["cab", "a"], num_samples=2, **SETTINGS)
    found = model.completions(["cab", "a"], num_samples=2, speculate=kind, **SETTINGS)
    assert [[one.text for one in each] for each in found] == [[one.text for one in each] for each in expected]
    assert "".join(model.stream("cab", speculate=kind, **SETTINGS)) == model.generate("cab", **SETTINGS)
    ids = LETTERS.encode("cab").tolist()
    assert model.generate(ids, speculate=kind, **SETTINGS) == model.generate(ids, **SETTINGS)
    counts = found[0][0].acceptance
    assert counts.tokens == 40
    assert counts.tokens_per_step == 40 / (40 - counts.accepted)
    assert expected[0][0].acceptance.tokens_per_step == 1


def test_a_draft_model_is_loaded_once(checkpoint: Path, draft: Path) -> None:
    model = g.load(checkpoint)
    text = model.generate("cab", speculate=str(draft), **SETTINGS)
    draft.unlink()
    assert model.generate("cab", speculate=str(draft), **SETTINGS) == text


def test_acceptance_is_reported_after_a_text(run_verb: Run, checkpoint: Path, draft: Path) -> None:
    words = [f"checkpoint={checkpoint}", "prompt=cabcabcabcab", "temperature=0", "max_new_tokens=60"]
    plain = run_verb("generate", *words)
    for kind in ("lookup", draft):
        outcome = run_verb("generate", *words, f"speculate={kind}")
        assert outcome.code == 0
        assert outcome.out == plain.out
        assert "tokens a step" in outcome.err
    assert "tokens a step" not in plain.err


def test_answers_are_those_without_speculation_and_continue_each_other(
    run_verb: Run, checkpoint: Path, draft: Path
) -> None:
    Path("p.txt").write_text("cab\nab\nac\na\n")
    words = [f"checkpoint={checkpoint}", "prompts=p.txt", "max_new_tokens=20", "batch_size=2"]
    run_verb("generate", *words, "output=plain.jsonl")
    outcome = run_verb("generate", *words, "output=out.jsonl", "speculate=lookup")
    assert "tokens a step" in outcome.err
    whole = Path("plain.jsonl").read_text()
    assert Path("out.jsonl").read_text() == whole
    Path("out.jsonl").write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert run_verb("generate", *words, "output=out.jsonl", f"speculate={draft}").code == 0
    assert Path("out.jsonl").read_text() == whole
    assert "speculate" not in json.loads(Path("out.jsonl.settings.json").read_text())


def test_a_draft_with_another_tokenizer_is_refused_with_both(checkpoint: Path, workplace: Path) -> None:
    other = CharTokenizer("abcdefghijklmnopqrstuw", end_of_text=True)  # as many characters
    network = lively()
    content = weights_alone(network, Description(network.config, other, {}))
    files.write(content, workplace / "other.ckpt")
    with pytest.raises(UserError, match="a draft needs the same tokenizer") as error:
        g.load(checkpoint).generate("cab", speculate="other.ckpt")
    for tokenizer in (LETTERS, other):
        assert tokenizer.hash()[:16] in str(error.value)


def test_models_without_a_tokenizer_need_vocabularies_of_one_size(draft: Path) -> None:
    torch.manual_seed(0)
    sizes = [LETTERS.vocab_size, LETTERS.vocab_size + 1]
    networks = [g.GPT2(g.GPT2Config(size, 30, n_layer=1, n_head=1, n_embd=4)) for size in sizes]
    same, larger = (g.LanguageModel(network) for network in networks)
    assert same.generate([1, 2], speculate=str(draft), **SETTINGS) == same.generate([1, 2], **SETTINGS)
    with pytest.raises(UserError, match=f"{sizes[0]} tokens .* has {sizes[1]} tokens"):
        larger.generate([1, 2], speculate=str(draft))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_beams": 2, "temperature": 0}, r"speculate: beam search \(n_beams=2\)"),
        ({"choices": ["a", "b"]}, "speculate: it does not go with choices"),
        ({"choices_ids": [[1]]}, "speculate: it does not go with choices"),
    ],
)
def test_what_cannot_be_combined_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationSettings(speculate="lookup", **settings)  # type: ignore[arg-type]
