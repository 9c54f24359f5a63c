"""Head scores and pictures while a model learns."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.attention.reading import attention_weights
from gpt2_lightning.inspection.attention.scores import SCORES, head_scores, repeated_sequence
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import CharTokenizer
from gpt2_lightning.training.callbacks import Attention
from gpt2_lightning.training.loggers import guard
from gpt2_lightning.training.optimizers import AdamW
from tests.inspection.planted import planted_network
from tests.training.attention_runs import scores_of
from tests.training.kept_logger import Kept
from tests.training.short_run import ALPHABET, BLOCK, CONFIG, Plan, Run, same_tensors

Train = Callable[..., Run]
WITH_DROPOUT = dataclasses.replace(CONFIG, embd_pdrop=0.3, attn_pdrop=0.3, resid_pdrop=0.3)
HEADS = [(layer, head) for layer in range(CONFIG.n_layer) for head in range(CONFIG.n_head)]


@pytest.fixture(scope="module")
def run(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Measured at steps 4, 8 and 12, drawn at 5, 10 and 12."""
    run_dir = tmp_path_factory.mktemp("run")
    attention = Attention(run_dir, 4, pictures_every_n_steps=5, prompts=["abc", "fgh fgh fgh"])
    return train(Plan(run_dir, model=WITH_DROPOUT, callbacks=[attention]))


def test_scores_are_those_of_the_checkpoint_of_the_step(run: Run) -> None:
    """Without dropout, that is; it is on before and after."""
    found = scores_of(run.run_dir)
    assert {step for step, _ in found} == {4, 5, 8, 10, 12}
    texts = {
        "repeated": repeated_sequence(CONFIG.vocab_size, BLOCK)[0],
        "prompt-0": torch.from_numpy(CharTokenizer(ALPHABET).encode("abc").astype("int64")),
        "prompt-1": torch.from_numpy(CharTokenizer(ALPHABET).encode("fgh fgh fgh").astype("int64"))[-BLOCK:],
    }
    for step in (4, 8, 12):
        model, _ = load_model(run.run_dir / "checkpoints" / f"step-{step:06d}.ckpt", torch.device("cpu"))
        for text, ids in texts.items():
            for name, expected in head_scores(attention_weights(model, ids), ids).items():
                of_heads = [found[step, text][place][name] for place in HEADS]
                assert of_heads == pytest.approx(expected.flatten().tolist(), rel=1e-4, nan_ok=True), (step, text, name)
    before, after = (found[step, "repeated"][1, 0]["induction"] for step in (4, 12))
    assert before != after, "the model learns between them"


def test_metrics_hold_the_largest_score_of_all_heads(run: Run) -> None:
    found = scores_of(run.run_dir)
    for name in SCORES:
        largest = run.column(f"attention/{name}/max")
        assert set(largest) == {4, 5, 8, 10, 12}
        for step, value in largest.items():
            expected = max(scores[name] for scores in found[step, "repeated"].values())
            assert value == pytest.approx(expected, rel=1e-4)
    columns = [name for name in run.rows()[0] if name.startswith("attention/")]
    assert len(columns) == len(SCORES), "a column for each head would make the file unreadable"
    assert run.column("tokens")[8] == 8 * 6 * BLOCK


def test_an_induction_head_shows_in_the_curves(tokens: Tokens, tmp_path: Path) -> None:
    """Of a network made by hand, which such small steps leave as it is; a random one has nothing like it."""
    planted = planted_network()
    plan = Plan(tmp_path, 4, model=planted.config, optimizer=AdamW(lr=1e-9), callbacks=[Attention(tmp_path, 2, None)])
    run = Run(plan, tokens)
    run.model.load_state_dict(planted.state_dict())
    run.fit()
    assert list(run.column("attention/induction/max").values()) == pytest.approx([1.0, 1.0], abs=0.02)
    found = scores_of(tmp_path)[4, "repeated"]
    assert found[1, 0]["induction"] > 0.98
    assert found[0, 0]["previous_token"] > 0.98
    ids = repeated_sequence(planted.config.vocab_size, planted.config.block_size)[0]
    assert head_scores(attention_weights(GPT2(planted.config).eval(), ids), ids)["induction"].max() < 0.2


def test_it_changes_nothing_of_what_is_learned(train: Train, run: Run, tmp_path: Path) -> None:
    without = train(Plan(tmp_path, model=WITH_DROPOUT))
    assert same_tensors(dict(without.model.state_dict()), dict(run.model.state_dict()))
    for column in ("train/loss", "val/loss", "grad_norm", "lr"):
        assert without.column(column) == run.column(column)
    ours, theirs = (of.checkpoint("step-000012.ckpt") for of in (run, without))
    for part in ("random_states", "optimizer_states", "loops", "TokenDataModule"):
        assert same_tensors(ours[part], theirs[part]), part


def test_pictures_are_drawn_of_every_text_and_go_to_the_loggers(
    train: Train, tokens: Tokens, run: Run, tmp_path: Path
) -> None:
    texts = ("repeated", "prompt-0", "prompt-1")
    names = {f"step-{step:06d}-{text}.png" for step in (5, 10, 12) for text in texts}
    assert {file.name for file in (run.run_dir / "attention").iterdir()} == names
    kept = Kept()
    logged = Run(Plan(tmp_path, 4, callbacks=[Attention(tmp_path, 2)]), tokens)
    logged.trainer.loggers = [*logged.trainer.loggers, *guard([kept])]
    logged.fit()
    pictures = [what for method, what in kept.told if method == "log_picture"]
    assert [(key, step) for key, _, step in pictures] == [("attention/repeated", 4), ("attention/validation", 4)]
    assert all(file.read_bytes().startswith(b"\x89PNG") for _, file, _ in pictures)
    metrics = [what for method, what in kept.told if method == "log_metrics"]
    rows = {step: row for step, row in metrics if "attention/entropy/L0H0" in row}
    assert set(rows) == {2, 4}
    found = scores_of(tmp_path)
    for step, row in rows.items():
        for layer, head in HEADS:
            expected = found[step, "repeated"][layer, head]["induction"]
            assert row[f"attention/induction/L{layer}H{head}"] == pytest.approx(expected, rel=1e-4)


def test_the_beginning_of_the_validation_text_is_read_where_no_prompt_is_given(
    train: Train, tokens: Tokens, tmp_path: Path
) -> None:
    run = train(Plan(tmp_path, 4, callbacks=[Attention(tmp_path, 4, None)]))
    ids = torch.from_numpy(tokens.val.slice(0, BLOCK))
    expected = head_scores(attention_weights(run.model.eval(), ids), ids)["first_token"].flatten().tolist()
    found = scores_of(tmp_path)
    assert set(found) == {(4, "repeated"), (4, "validation")}
    assert [found[4, "validation"][place]["first_token"] for place in HEADS] == pytest.approx(expected, rel=1e-4)


def test_matplotlib_is_imported_for_pictures_alone(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {"matplotlib", *sys.modules}:
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    train(Plan(tmp_path, 4, callbacks=[Attention(tmp_path, 2, None)]))
    assert not (tmp_path / "attention").exists()
    with pytest.raises(ModuleNotFoundError):
        train(Plan(tmp_path, 4, callbacks=[Attention(tmp_path, 2, 2)]))


@pytest.mark.slow
def test_a_resumed_run_measures_what_it_does_again_once(train: Train, run: Run, tmp_path: Path) -> None:
    def plan(steps: int) -> Plan:
        attention = Attention(tmp_path, 4, pictures_every_n_steps=5, prompts=["abc", "fgh fgh fgh"])
        return Plan(tmp_path, steps, model=WITH_DROPOUT, callbacks=[attention])

    train(plan(10))
    with (tmp_path / "attention.csv").open("a", encoding="utf-8") as file:
        file.write("10,repeated,0,1,0.5")  # a crash in the middle of a row
    train(plan(12), resume=tmp_path / "checkpoints" / "step-000006.ckpt")
    assert (tmp_path / "attention.csv").read_bytes() == (run.run_dir / "attention.csv").read_bytes()
    assert sorted(file.name for file in (tmp_path / "attention").iterdir()) == sorted(
        file.name for file in (run.run_dir / "attention").iterdir()
    )


def test_a_context_too_small_to_repeat_anything_leaves_the_texts(train: Train, tmp_path: Path) -> None:
    small = dataclasses.replace(CONFIG, block_size=3)
    run = train(Plan(tmp_path, 4, model=small, callbacks=[Attention(tmp_path, 4, None)]))
    assert set(scores_of(tmp_path)) == {(4, "validation")}
    assert not any(name.startswith("attention/") for name in run.rows()[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_n_steps": 0}, r"every_n_steps: 0 is out of range, 1 or more is allowed"),
        ({"pictures_every_n_steps": -1}, r"pictures_every_n_steps: -1 is out of range"),
        ({"prompts": ["abc", ""]}, r"prompts: one of them is empty"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        Attention(tmp_path, **settings)


def test_unknown_characters_of_a_prompt_are_named(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"in the prompt: .*'Q'"):
        train(Plan(tmp_path, 4, callbacks=[Attention(tmp_path, prompts=["abcQ"])]))
