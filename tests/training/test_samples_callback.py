import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling, generate
from gpt2_lightning.tokenizers import CharTokenizer
from gpt2_lightning.training.callbacks import Samples
from tests.training.short_run import ALPHABET, CONFIG, Plan, Run, same_tensors

Train = Callable[..., Run]

WITH_DROPOUT = dataclasses.replace(CONFIG, embd_pdrop=0.3, attn_pdrop=0.3, resid_pdrop=0.3)


@pytest.fixture(scope="module")
def run(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run_dir = tmp_path_factory.mktemp("run")
    samples = Samples(run_dir, prompt="abc", max_new_tokens=23, temperature=1.3, seed=4)
    return train(Plan(run_dir, model=WITH_DROPOUT, callbacks=[samples]))


def texts_of(run: Run) -> dict[int, str]:
    entries = re.findall(
        r"## Step (\d+), validation loss [\d.]+\n\n~~~text\n(.*?)\n~~~\n\n",
        (run.run_dir / "samples.md").read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    return {int(step): text for step, text in entries}


def test_each_sample_is_what_the_checkpoint_of_its_step_writes(run: Run) -> None:
    """Without dropout, that is; it is on before and after."""
    tokenizer = CharTokenizer(ALPHABET)
    expected = {}
    for step in (4, 8, 12):
        model, _ = load_model(run.run_dir / "checkpoints" / f"step-{step:06d}.ckpt", torch.device("cpu"))
        prompt = torch.from_numpy(tokenizer.encode("abc").astype("int64"))
        ids = generate(model, prompt, Sampling(max_new_tokens=23, temperature=1.3, seed=4))
        expected[step] = ("abc" + tokenizer.decode(list(ids))).strip()
    assert texts_of(run) == expected
    assert len(set(expected.values())) == 3, "the model learns between them"


def test_headings_carry_the_validation_loss(run: Run) -> None:
    text = (run.run_dir / "samples.md").read_text(encoding="utf-8")
    for step, loss in run.column("val/loss").items():
        assert f"## Step {step}, validation loss {loss:.4f}\n" in text


def test_samples_do_not_change_what_is_learned(train: Train, run: Run, tmp_path: Path) -> None:
    without = train(Plan(tmp_path, model=WITH_DROPOUT))
    assert same_tensors(dict(without.model.state_dict()), dict(run.model.state_dict()))
    assert without.rows() == run.rows()


def test_a_sample_longer_than_the_context_is_written(train: Train, tmp_path: Path) -> None:
    samples = Samples(tmp_path, max_new_tokens=5 * CONFIG.block_size)
    train(Plan(tmp_path, 4, callbacks=[samples]))
    assert len(samples.latest) == 5 * CONFIG.block_size


def test_unknown_characters_of_the_prompt_are_named(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"in the prompt: .*'Q'"):
        train(Plan(tmp_path, 4, callbacks=[Samples(tmp_path, prompt="abcQ")]))


def _start_at(step: int, file: Path) -> None:
    """Call the callback as a run does that resumes at a step."""
    trainer = SimpleNamespace(is_global_zero=True, global_step=step)
    samples = Samples(file.parent)
    samples._prompt_ids = lambda _: torch.zeros(1)  # type: ignore[method-assign,assignment]
    samples.on_train_start(trainer, None)  # type: ignore[arg-type]


def test_a_kill_while_a_resumed_run_drops_entries_loses_none(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "samples.md"
    before = (run.run_dir / "samples.md").read_text()
    file.write_text(before)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            _start_at(8, file)
    assert file.read_text() == before
    _start_at(8, file)
    assert re.findall(r"^## Step (\d+)", file.read_text(), flags=re.MULTILINE) == ["4", "8"]


@pytest.mark.parametrize("torn", ["## Step 1", "## Step 1,0", "## Step 9, validation"])
def test_an_entry_that_a_kill_truncated_is_dropped(tmp_path: Path, torn: str) -> None:
    whole = "my notes\n\n## Step 1,000, validation loss 2.0000\n\n~~~text\nabc\n~~~\n\n"
    file = tmp_path / "samples.md"
    file.write_text(whole + torn)
    _start_at(1000, file)
    assert file.read_text() == whole
