"""The verb `attention`."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.inspection.attention.reading import read
from gpt2_lightning.model.lora.layers import LoRASpec
from tests.app.made_checkpoints import save_adapter, save_base
from tests.app.tiny_runs import TINY
from tests.outcomes import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def attend(run_verb: Run, tiny_run: Path) -> Run:
    """Run the verb on a checkpoint of the tiny model, without pictures."""

    def run(*arguments: str) -> Outcome:
        given = {argument.partition("=")[0] for argument in arguments}
        defaults = {"checkpoint": str(tiny_run), "prompt": "these lamp", "pictures": "false"}
        return run_verb("attention", *(f"{k}={v}" for k, v in defaults.items() if k not in given), *arguments)

    return run


def summary(folder: str = "attention") -> Any:
    return json.loads((Path(folder) / "attention.json").read_text(encoding="utf-8"))


def page_data(folder: str = "attention") -> Any:
    page = (Path(folder) / "explorer.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(data)


def test_one_token_is_told_as_one_and_no_file_as_nothing(attend: Run) -> None:
    outcome = attend("prompt=t")
    assert outcome.code == 0, outcome.err
    assert re.search(r"\d heads?, 1 token$", outcome.out, re.MULTILINE)
    sizes = re.findall(r"^  \S+ +([\d.,]+) kB$", outcome.out, re.MULTILINE)
    assert len(sizes) == 3
    assert all(float(size.replace(",", "")) > 0 for size in sizes)


def test_a_folder_of_numbers_and_a_page_is_written(attend: Run, tiny_run: Path) -> None:
    outcome = attend()
    assert outcome.code == 0, outcome.err
    names = sorted(file.name for file in Path("attention").iterdir())
    assert names == ["attention.json", "attention.npz", "explorer.html"]
    assert all(name in outcome.out for name in names)
    model, description = load_model(tiny_run / "checkpoints" / "best.ckpt", torch.device("cpu"))
    ids = torch.tensor(description.tokenizer.encode("these lamp").tolist())
    with np.load("attention/attention.npz") as arrays:
        expected = read(model, ids).weights.numpy()
        np.testing.assert_allclose(arrays["weights"], expected, atol=1e-6)
        assert arrays["ids"].tolist() == ids.tolist()
        assert arrays["rollout"].shape == (10, 10)
        layers, heads = expected.shape[:2]
        assert arrays["score_entropy"].shape == arrays["repeated_induction"].shape == (layers, heads)
        assert arrays["sources"].shape == arrays["target_weights"].shape == (layers, heads, 10, 3)
        row = expected[1, 0, 7]
        assert arrays["sources"][1, 0, 7].tolist() == np.argsort(-row)[:3].tolist()
        np.testing.assert_allclose(arrays["target_weights"][1, 0, 7], np.sort(expected[1, 0, :, 7])[:-4:-1], atol=1e-6)
        assert arrays["sources"][0, 0, 0].tolist() == [0, -1, -1], "the first token sees itself alone"


def test_the_summary_has_tokens_heads_and_predictions(attend: Run) -> None:
    attend()
    found = summary()
    assert "".join(token["text"] for token in found["tokens"]) == "these·lamp"
    assert set(found["scores"]) <= set(found["checkpoints"][0]["heads"][0])
    assert all(definition.endswith((".", ").")) for definition in found["scores"].values())
    (checkpoint,) = found["checkpoints"]
    assert checkpoint["arrays"] == "attention.npz"
    first, *_, last = checkpoint["tokens"]
    assert [source["token"] for source in first["sources"]] == [0]
    assert len(last["next"]) == 5
    assert "probability_of_next" in first
    assert "probability_of_next" not in last


def test_pictures_are_of_the_head_and_token_that_were_named(attend: Run) -> None:
    outcome = attend("pictures=true", "layer=1", "head=0", "token=4", "output=here")
    assert outcome.code == 0, outcome.err
    stems = {"heads", "layer-1", "head-1-0", "token-4-head-1-0", "rollout"}
    assert {file.name for file in Path("here").iterdir() if file.suffix in (".png", ".svg")} == {
        f"{stem}{suffix}" for stem in stems for suffix in (".png", ".svg")
    }
    data = page_data("here")
    assert (data["head"], data["token"]) == (data["heads"], 4)


def test_checkpoints_of_a_run_are_compared_over_time_and_with_another(
    attend: Run, run_verb: Run, small_text: Path
) -> None:
    short = ["trainer.max_steps=3", "callbacks.checkpoint.every_n_steps=1", "callbacks.checkpoint.keep=3"]
    given = ["data=text", f"data.path={small_text}", *TINY, "optimizer.lr=0.1", "callbacks.samples=null"]
    assert run_verb("train", *given, *short, "run_dir=kept").code == 0

    outcome = attend("checkpoint=kept", "steps=true")
    assert outcome.code == 0, outcome.err
    assert [c["name"] for c in summary()["checkpoints"]] == [f"kept at step {step}" for step in (1, 2, 3)]
    assert page_data()["shown"] == 2
    with np.load("attention/attention-0.npz") as first, np.load("attention/attention-2.npz") as last:
        assert np.abs(first["weights"] - last["weights"]).max() > 1e-4
        steps = first["weights"], last["weights"]

    one, three = (f"kept/checkpoints/step-00000{step}.ckpt" for step in (1, 3))
    assert attend(f"checkpoint={three}", f"compare={one}", "output=two").code == 0
    assert page_data("two")["shown"] == 0
    for i, expected in enumerate(reversed(steps)):
        with np.load(f"two/attention-{i}.npz") as arrays:
            np.testing.assert_allclose(arrays["weights"], expected, atol=1e-6)


def test_a_run_with_one_checkpoint_has_nothing_to_compare(attend: Run) -> None:
    outcome = attend("steps=true")
    assert outcome.code == 2
    assert "step-000012.ckpt is the only one of its run; callbacks.checkpoint.keep=10 keeps more" in outcome.err


def test_heads_are_ranked_by_what_switching_them_off_does(attend: Run) -> None:
    outcome = attend("ablate=true")
    assert outcome.code == 0, outcome.err
    with Path("attention/ablation.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    data = page_data()
    assert len(rows) == data["layers"] * data["heads"]
    changes = [float(row["loss_change"]) for row in rows]
    assert changes == sorted(changes, reverse=True)
    first = f"layer {rows[0]['layer']}, head {rows[0]['head']}"
    assert f"{first} │" in outcome.out
    assert f"{changes[0]:+.4f}" in outcome.out
    head = data["checkpoints"][0]["effects"][int(rows[0]["layer"]) * data["heads"] + int(rows[0]["head"])]
    assert head["loss_change"] == pytest.approx(changes[0])
    assert summary()["checkpoints"][0]["heads"][0]["switched_off"]["next_token"][0]["with"] > 0


def test_one_token_is_enough(attend: Run) -> None:
    outcome = attend("prompt=t", "ablate=true", "pictures=true")
    assert outcome.code == 0, outcome.err
    checkpoint = summary()["checkpoints"][0]
    assert checkpoint["loss"] is None
    assert checkpoint["heads"][0]["entropy"] is None


def test_characters_beyond_the_alphabet_are_counted(attend: Run) -> None:
    outcome = attend("prompt=Ω star")
    assert outcome.code == 0, outcome.err
    assert "in the prompt, 1 character ('Ω') is not in the tokenizer's alphabet and was replaced by" in outcome.out


def test_of_a_long_prompt_the_end_is_read(attend: Run) -> None:
    outcome = attend(f"prompt={'star ' * 10}")
    assert outcome.code == 0
    assert "the prompt has 50 tokens and the context 32: the last 32 are read" in outcome.out
    assert len(summary()["tokens"]) == 32


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (["prompt="], ["prompt: it is empty"]),
        (["layer=99"], ["layer: 99 is out of range, 0 to "]),
        (["layer=0", "head=99", "token=10"], ["head: 99 is out of range, 0 to ", "token: 10 is out of range, 0 to 9"]),
        (["layer=-1"], ["layer: -1 is out of range, 0 or more is allowed"]),
        (["head=0"], ["head: each layer has one of this number; name the layer too"]),
        (["steps=true", "compare=other"], ["compare: steps=true compares the checkpoints of one run"]),
        (["compare=other"], ["there is no run, checkpoint or folder other"]),
        (["output="], ["output: it is empty"]),
        (["laier=1"], ["laier: unknown key; did you mean layer?"]),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(attend: Run, settings: list[str], messages: list[str]) -> None:
    outcome = attend(*settings)
    assert outcome.code == 2
    assert all(message in outcome.err for message in messages), outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("attention").exists()


def test_a_prompt_is_needed(run_verb: Run) -> None:
    outcome = run_verb("attention")
    assert outcome.code == 2
    assert "prompt: missing; add prompt=VALUE" in outcome.err


def test_models_of_other_shapes_and_tokenizers_are_not_compared(attend: Run, run_verb: Run, tmp_path: Path) -> None:
    text = tmp_path / "other.txt"
    text.write_text("a keeper and the sea\n" * 300, encoding="utf-8")
    settings = ["data=text", f"data.path={text}", "model=tiny", "batch_size=2", "trainer=cpu", "trainer.max_steps=1"]
    heads = ["model.n_head=1", "callbacks.samples=null", "run_dir=other"]
    assert run_verb("train", *settings, *heads).code == 0
    outcome = attend("compare=other")
    assert outcome.code == 2
    assert "cannot be compared head by head" in outcome.err
    assert re.search(r"n_head: \d+ and 1", outcome.err)
    assert "they have different tokenizers" in outcome.err
    assert not Path("attention").exists()


def test_an_output_of_this_verb_is_replaced_and_no_other(attend: Run) -> None:
    assert attend().code == 0
    assert attend("prompt=star").code == 0
    assert len(summary()["tokens"]) == 4
    Path("attention/thesis.txt").write_text("all my work", encoding="utf-8")
    outcome = attend("overwrite=true")
    assert outcome.code == 2
    assert "attention holds thesis.txt, which this verb did not write" in outcome.err
    assert Path("attention/thesis.txt").read_text(encoding="utf-8") == "all my work"


def test_everything_that_is_written_can_be_replaced(attend: Run) -> None:
    assert attend("pictures=true", "ablate=true").code == 0
    assert attend("overwrite=true").code == 0
    assert not Path("attention/heads.png").exists()


def test_a_checkpoint_outside_a_run_has_no_steps(attend: Run, tiny_run: Path) -> None:
    alone = Path("alone.ckpt")
    alone.write_bytes((tiny_run / "checkpoints" / "best.ckpt").read_bytes())
    outcome = attend("checkpoint=alone.ckpt", "steps=true")
    assert outcome.code == 2
    assert "steps: alone.ckpt is no run with checkpoints of its steps" in outcome.err


def test_matplotlib_is_imported_for_pictures_alone(attend: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"matplotlib", *sys.modules}:
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    assert attend().code == 0
    with pytest.raises(ModuleNotFoundError):
        attend("pictures=true", "overwrite=true")


def test_the_folder_is_written_though_nobody_reads_on(tiny_run: Path, root: Path, workplace: Path) -> None:
    command = f"{sys.executable} -m gpt2_lightning attention checkpoint={tiny_run} prompt=t pictures=false"
    quoted = f"{command} output={workplace / 'unread'} | head -c 1"
    done = subprocess.run(quoted, shell=True, cwd=root, capture_output=True, text=True, check=True)
    assert (len(done.stdout), done.stderr) == (1, "")
    assert len(summary(str(workplace / "unread"))["tokens"]) == 1


def test_a_moved_base_of_an_adapter_is_named(attend: Run, workplace: Path) -> None:
    base, adapter, moved = (workplace / name for name in ("base.ckpt", "adapter.ckpt", "elsewhere.ckpt"))
    save_adapter(adapter, save_base(base), LoRASpec(rank=3, targets=["q", "v"]))
    base.rename(moved)
    outcome = attend(f"checkpoint={adapter}", "prompt=abcabc")
    assert outcome.code == 2
    assert "if it was moved, name it with base=" in outcome.err
    outcome = attend(f"checkpoint={adapter}", f"base={moved}", f"compare={moved}", "prompt=abcabc")
    assert outcome.code == 0, outcome.err
    with np.load("attention/attention-0.npz") as adapted, np.load("attention/attention-1.npz") as plain:
        assert np.abs(adapted["weights"] - plain["weights"]).max() > 1e-3
