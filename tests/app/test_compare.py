"""The verb `compare`."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt2_lightning.app.commands.evaluation import compare
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, weights_alone
from gpt2_lightning.evaluation.parity import load_theirs
from gpt2_lightning.huggingface import folder
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer
from tests.app.made_checkpoints import LETTERS, save_base
from tests.huggingface.networks import CONFIG as SHORT
from tests.huggingface.networks import lively
from tests.outcomes import refused

Run = Callable[..., object]
CONFIG = GPT2Config(vocab_size=50257, block_size=53, n_layer=2, n_head=3, n_embd=15)
FEW = ["max_new_tokens=7", "n_beams=3"]


@pytest.fixture
def ours(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = lively(CONFIG)
    files.write(weights_alone(model, Description(CONFIG, GPT2Tokenizer(), {})), workplace / "ours.ckpt")
    return workplace / "ours.ckpt"


@pytest.fixture
def theirs(ours: Path, workplace: Path) -> Path:
    folder.write(lively(CONFIG), GPT2Tokenizer(), workplace / "theirs", "# A card\n", 10**9)
    return workplace / "theirs"


def test_a_checkpoint_is_compared_with_itself_in_transformers(run_verb: Run, ours: Path, workplace: Path) -> None:
    outcome = run_verb("compare", f"checkpoint={ours}", "prompt=The airlock, {opened}", *FEW, "output=out/report.md")
    assert outcome.code == 0, outcome.err
    page = " ".join(outcome.out.split())
    assert "All 28 tensors are the same." in page
    assert "Both sides compute the same: logits differ by" in page
    assert "all 6 texts are the same, token for token." in page
    assert "pipeline(), called with only the seed, writes another text because of its defaults" in page
    assert "With all of our settings its text is the same, token for token." in page
    report = (workplace / "out" / "report.md").read_text()
    assert report.index("## Conclusion") < report.index("## The two sides")
    assert re.search(r"\| temperature \| 0\.8 \| not used \| \S+ \| ≠ \|", report)
    assert "| layer 2 |" in report
    widths = {len(line.split(" | ")) for line in report.splitlines() if line.startswith("| layer ")}
    assert widths == {5}


def test_texts_are_shortened_to_the_context_unless_their_length_was_asked_for(
    run_verb: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    letters = CharTokenizer("abcdefghijklmnopqrstuv ")
    files.write(weights_alone(lively(), Description(SHORT, letters, {})), workplace / "short.ckpt")
    command = ["compare", "checkpoint=short.ckpt", "prompt=hidden", "n_beams=2"]
    outcome = run_verb(*command)
    assert outcome.code == 0, outcome.err
    assert "texts have 7 new tokens: more do not fit into the context of 13\n" in outcome.out
    refused(run_verb(*command, "max_new_tokens=24"), "do not fit into the context of 13", "use max_new_tokens=7")
    refused(run_verb(*command, f"prompt={'hidden' * 3}"), "do not fit into the context of 13", "use a shorter prompt")


def test_characters_that_the_tokenizer_lacks_are_counted_once(
    run_verb: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_base(workplace / "letters.ckpt")
    texts = ["prompt=häd", "text=möö", "max_new_tokens=2", "n_beams=2"]
    outcome = run_verb("compare", "checkpoint=letters.ckpt", *texts)
    assert outcome.code == 0, outcome.err
    assert (
        "in the prompt, 1 character ('ä') is not in the tokenizer's alphabet and was replaced by 'a'\n" in outcome.out
    )
    assert "in the text, 2 characters (1 distinct: 'ö') are not in the tokenizer's alphabet" in outcome.out


@pytest.mark.slow
def test_an_exact_gelu_is_named(run_verb: Run, ours: Path, theirs: Path) -> None:
    file = theirs / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"activation_function": "gelu"}))
    outcome = run_verb("compare", f"checkpoint={ours}", f"with={theirs}", "prompt=Hello", *FEW)
    assert outcome.code == 0, outcome.err
    assert "First cause: theirs computes the exact GELU, and ours the tanh approximation" in outcome.out
    as_ours = run_verb("compare", f"checkpoint={theirs}", "prompt=Hello", *FEW)
    assert "exact GELU" not in as_ours.out, "such a folder is one of ours, too, and computes the same"


def test_slips_of_a_program_are_named(run_verb: Run, ours: Path, theirs: Path) -> None:
    file = theirs / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"attn_pdrop": 0.3, "resid_pdrop": 0.3}))
    slips = ["training_mode=true", "position_ids=false"]
    outcome = run_verb("compare", f"checkpoint={ours}", f"with={theirs}", "prompt=One two three four", *FEW, *slips)
    assert outcome.code == 0, outcome.err
    assert "First cause: dropout is left on there" in outcome.out
    assert "Then: prompts are padded on the left without position ids" in outcome.out


def test_the_tables_show_what_is_wrong_with_a_loop(run_verb: Run, theirs: Path) -> None:
    slips = ["position_ids=false", "temperature=0"]
    outcome = run_verb("compare", f"checkpoint={theirs}", "prompt=One two three four", *FEW, *slips, "output=a.md")
    assert outcome.code == 0, outcome.err
    report = Path("a.md").read_text()
    rows = re.findall(
        r"\| your loop, prompt of (\d) tokens? \| 7 \| (differ from token \d|the same) \| (≠?) \|", report
    )
    assert [tokens for tokens, *_ in rows] == ["1", "3", "4"]
    differing = [outcome for _, outcome, mark in rows if mark]
    assert differing == [outcome for _, outcome, _ in rows if outcome.startswith("differ")]
    assert differing
    assert f"{len(differing)} of 3 texts of a batch differ from ours" in report
    assert "| padding side | left | left |  |" in report
    assert "| attention mask | padding is masked | padding is masked |  |" in report
    assert "| position ids | each text's own | none, so padding is counted | ≠ |" in report


def test_the_tokenizers_are_told_by_what_they_are(run_verb: Run, theirs: Path) -> None:
    outcome = run_verb("compare", f"checkpoint={theirs}", "prompt=One", *FEW, "temperature=0", "output=a.md")
    assert outcome.code == 0, outcome.err
    report = Path("a.md").read_text()
    assert "| tokenizer | gpt2, 50,257 tokens | from tokenizer.json, 50,257 tokens |" in report
    assert "your loop" not in report


def test_a_folder_is_compared_as_transformers_reads_it(run_verb: Run, theirs: Path) -> None:
    outcome = run_verb("compare", f"checkpoint={theirs}", "prompt=", "text=One two three", *FEW, "temperature=0")
    assert outcome.code == 0, outcome.err
    assert "The prompt has 1 token." in outcome.out
    assert "all 5 texts are the same" in " ".join(outcome.out.split())
    assert "Loss on 2 tokens" in outcome.out
    assert "exported" not in outcome.out


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        (["with=nowhere"], ["with: there is no nowhere"]),
        (["with=ours.ckpt"], ["with: ours.ckpt is no folder of Hugging Face's", "convert source=ours.ckpt"]),
        (["with=hf:a/b/c"], ["hf:a/b/c", "hf:NAME@REVISION"]),
        (["max_new_tokens=60"], ["the context of 53", "max_new_tokens=50"]),
        (["text=a"], ["text: it has one token"]),
        (["n_beams=1", "temperature=-1"], ["n_beams: 1 is out of range", "temperature: -1"]),
        (["output=ours.ckpt/report.md"], ["output: ours.ckpt/report.md cannot be written"]),
    ],
)
def test_what_cannot_be_compared_is_refused(
    run_verb: Run, ours: Path, overrides: list[str], fragments: list[str]
) -> None:
    refused(run_verb("compare", f"checkpoint={ours}", "prompt=a", *FEW, *overrides), *fragments)


def test_without_transformers_it_says_what_to_install(
    run_verb: Run, ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    outcome = run_verb("compare", f"checkpoint={ours}", f"with={theirs}", "prompt=a", *FEW)
    refused(outcome, 'pip install "gpt2-lightning[huggingface]"')


@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_pad_the_vocabulary_have_no_part_in_it(
    run_verb: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = dataclasses.replace(SHORT, vocab_size=24, tied_head=tied)
    folder.write(lively(config), LETTERS, workplace / "padded", "", 10**9)
    assert run_verb("convert", "source=padded", "target=cut.ckpt").code == 0
    for checkpoint in ("padded", "cut.ckpt"):
        outcome = run_verb("compare", f"checkpoint={checkpoint}", "with=padded", "prompt=cab", "max_new_tokens=5")
        assert outcome.code == 0, outcome.err
        assert "padded: its embedding was cut from 24 to 23 rows for the comparison" in outcome.out
        assert "Both sides compute the same" in " ".join(outcome.out.split())
    more = CharTokenizer("abcdefghijklmnopqrstuvw", end_of_text=True)
    folder.write(lively(config), more, workplace / "other", "", 10**9)
    refused(run_verb("compare", "checkpoint=cut.ckpt", "with=other"), "vocab_size is 23 here and 24 there")


@pytest.mark.parametrize(
    ("letters", "is_told"), [("abcdefghijklmnopqrstuv ", False), ("abcdefghijklmnopqrstuv ;", True)]
)
def test_a_tokenizer_of_another_size_than_its_model_is_told(tmp_path: Path, letters: str, is_told: bool) -> None:
    folder.write(lively(), CharTokenizer(letters), tmp_path / "model", "", 10**9)
    note = compare._vocabulary_note(load_theirs(tmp_path / "model", torch.device("cpu"), "theirs"))
    told = "in transformers its tokenizer has 24 tokens, and its model 23"
    assert note == (told if is_told else None)
