"""The verb `params`."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, load_model, weights_alone
from gpt2_lightning.huggingface import folder
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.tokenizers import CharTokenizer
from tests.app.made_checkpoints import save_adapter, save_base, save_classifier
from tests.huggingface.networks import lively
from tests.outcomes import refused

Run = Callable[..., Any]
LETTERS = CharTokenizer("abcdefghijklmnopqrstuv ")


def saved(path: Path, model: GPT2) -> Path:
    files.write(weights_alone(model, Description(model.config, LETTERS, {})), path)
    return path


def table(text: str) -> dict[str, list[str]]:
    """The cells of each line after its first word."""
    return {words[0]: words[1:] for words in map(str.split, text.splitlines()) if words}


def rows(text: str) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in csv.DictReader(io.StringIO(text))}


def test_the_latest_run_is_shown_with_its_sums(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("params", f"runs_dir={tiny_run.parent}")
    model, _ = load_model(tiny_run / "checkpoints" / "best.ckpt", torch.device("cpu"))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(str(tiny_run / "checkpoints" / "best.ckpt"))
    lines = table(outcome.out)
    assert lines["total"] == [f"{count:,}", "100.00%"]
    block = sum(parameter.numel() for parameter in model.h[0].parameters())
    assert lines["h.0"] == [f"{block:,}", f"{block / count:.2%}"]
    norm = model.ln_f.weight.detach().double().norm().item()
    assert lines["ln_f.weight"][-2:] == [f"{norm:.4g}", "trained"]
    assert "lm_head.weight is wte.weight" in outcome.out


def test_csv_has_every_tensor_in_full_and_nothing_else(run_verb: Run, workplace: Path) -> None:
    model = lively()
    found = rows(run_verb("params", f"checkpoint={saved(workplace / 'a.ckpt', model)}", "view=csv").out)
    assert list(found) == [name for name, _ in model.named_parameters()]
    weight = model.h[1].attn.c_attn.weight.detach().double()
    row = found["h.1.attn.c_attn.weight"]
    assert (row["shape"], row["dtype"], row["count"], row["kind"]) == ("105x35", "float32", "3675", "trained")
    assert float(row["mean"]) == pytest.approx(weight.mean().item())
    assert float(row["std"]) == pytest.approx(weight.std(correction=0).item())
    assert float(row["norm"]) == pytest.approx(weight.norm().item())
    assert (row["not_finite"], row["relative_change"]) == ("0", "")


def test_the_change_against_another_checkpoint(run_verb: Run, workplace: Path) -> None:
    tuned = lively()
    with torch.no_grad():
        tuned.ln_f.bias *= 1.5
    base, after = saved(workplace / "base.ckpt", lively()), saved(workplace / "tuned.ckpt", tuned)
    found = rows(run_verb("params", f"checkpoint={after}", f"compare={base}", "view=csv").out)
    assert float(found["ln_f.bias"]["relative_change"]) == pytest.approx(0.5)
    assert float(found["ln_f.bias"]["cosine"]) == pytest.approx(1)
    assert {row["relative_change"] for name, row in found.items() if name != "ln_f.bias"} == {"0.0"}
    outcome = run_verb("params", f"checkpoint={after}", f"compare={base}")
    assert table(outcome.out)["ln_f.bias"][5:7] == ["0.5", f"{(tuned.ln_f.bias / 3).abs().max().item():.4g}"]


def test_tensors_that_fit_no_partner_are_told(run_verb: Run, workplace: Path) -> None:
    base = saved(workplace / "base.ckpt", lively(GPT2Config(23, 13, 1, 5, 35)))
    outcome = run_verb("params", f"checkpoint={saved(workplace / 'a.ckpt', lively())}", f"compare={base}")
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    assert lines[0] == "not compared: 12 tensors without a counterpart of the same shape"
    assert lines[1] == "  h.1.attn.c_attn.bias: not in the other"
    assert len(lines) == 12
    assert lines[-1] == "  and 2 more"


def test_models_without_anything_in_common_are_refused_with_their_architectures(run_verb: Run, workplace: Path) -> None:
    base = saved(workplace / "base.ckpt", lively(GPT2Config(23, 11, 1, 3, 21)))
    outcome = run_verb("params", f"checkpoint={saved(workplace / 'a.ckpt', lively())}", f"compare={base}")
    refused(
        outcome,
        "no tensor of the two models has the same name and shape",
        "a.ckpt: n_layer=2 n_head=5 n_embd=35 block_size=13 vocab_size=23",
        "base.ckpt: n_layer=1 n_head=3 n_embd=21 block_size=11 vocab_size=23",
    )
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 4


def test_a_folder_of_hugging_faces_is_shown(run_verb: Run, workplace: Path) -> None:
    folder.write(lively(), LETTERS, workplace / "theirs", "", 10**9)
    theirs = run_verb("params", "checkpoint=theirs", "view=csv").out
    ours = run_verb("params", f"checkpoint={saved(workplace / 'a.ckpt', lively())}", "view=csv").out
    assert theirs == ours


def test_an_architecture_takes_its_vocabulary_from_the_tokenizer(run_verb: Run, small_text: Path) -> None:
    outcome = run_verb("params", "model=tiny", "data=text", f"data.path={small_text}", "cache_dir=cache")
    assert outcome.code == 0, outcome.err
    letters = len(set(small_text.read_text()))
    assert table(outcome.out)["wte.weight"][:4] == [f"{letters}", "×", "32", "float32"]
    assert "mean" not in outcome.out


def test_a_stated_vocabulary_needs_no_text(run_verb: Run) -> None:
    outcome = run_verb("params", "model=tiny", "model.vocab_size=101", "data=text", "data.path=nowhere")
    assert outcome.code == 0, outcome.err
    assert "vocabulary 101" in outcome.out


def test_a_tree_has_sums_of_modules(run_verb: Run) -> None:
    outcome = run_verb("params", "model=gpt2_124m", "view=tree", "cache_dir=cache")
    assert "0 to 11  12 × 7,087,872 = 85,054,464  68.3%" in outcome.out
    assert "c_attn  1,771,776" in outcome.out
    assert "124,475,904 trained, 0 frozen" in outcome.out


def test_costs_are_told(run_verb: Run) -> None:
    out = run_verb("params", "model=gpt2_124m", "cache_dir=cache").out
    assert "497.9 MB of weights" in out
    assert "995.8 MB of AdamW's state" in out
    assert "854.7 MFLOPs to train on a token" in out
    assert "73,728 bytes a token in float32 (75.5 MB for the whole context)" in out
    assert "36,864 bytes a token in bfloat16" in out


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a program alone is told by Linux")
def test_the_largest_size_is_not_allocated(root: Path) -> None:
    """1.6 billion parameters would take 6 GB."""
    program = (
        "import sys\nfrom gpt2_lightning.app.main import main\n"
        "try:\n    main('params', ['model=gpt2_1558m'])\n"
        "finally:\n    print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert table(done.stdout)["total"] == ["1,557,686,400", "100.00%"]
    assert 50_000 < int(done.stderr) < 1_000_000, "kB at the peak"


@pytest.mark.slow
def test_output_that_nobody_reads_on_is_no_fault(root: Path) -> None:
    command = f"{sys.executable} -m gpt2_lightning params model=gpt2_1558m | head -1"
    done = subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "an architecture, without values\n"
    assert done.stderr == ""


def test_settings_that_do_not_go_together_are_named(run_verb: Run) -> None:
    outcome = run_verb("params", "model=tiny", "checkpoint=a", "compare=b", "view=tree")
    refused(outcome, "checkpoint: a is given, and a model too", "compare: a tree", "compare: an architecture")
    refused(run_verb("params", "model.n_layer=3"), "model: ", "it has no _target_")
    refused(run_verb("params", "view=list"), "view: 'list' does not fit", "'table', 'tree' or 'csv'")


def test_a_checkpoint_that_is_not_there_is_named(run_verb: Run) -> None:
    refused(run_verb("params"), "there is no run with a checkpoint")
    refused(run_verb("params", "checkpoint=nothing.ckpt"), "nothing.ckpt")


def test_values_that_are_no_numbers_are_counted_beside_the_others(run_verb: Run, workplace: Path) -> None:
    model, whole = lively(), lively()
    with torch.no_grad():
        model.h[1].ln_1.weight[:2] = float("nan")
        model.ln_f.bias[3] = float("-inf")
    broken, sound = saved(workplace / "nan.ckpt", model), saved(workplace / "whole.ckpt", whole)
    outcome = run_verb("params", f"checkpoint={broken}")
    assert outcome.code == 0, outcome.err
    assert "h.1.ln_1.weight: 2 of 35 values are NaN or infinite" in outcome.out
    assert "ln_f.bias: 1 of 35 values are NaN or infinite" in outcome.out
    assert table(outcome.out)["h.1.ln_1.weight"][-2:] == ["nan", "trained"]
    found = rows(run_verb("params", f"checkpoint={broken}", "view=csv").out)
    assert {name: row["not_finite"] for name, row in found.items() if row["not_finite"] != "0"} == {
        "h.1.ln_1.weight": "2",
        "ln_f.bias": "1",
    }
    assert float(found["wte.weight"]["norm"]) == pytest.approx(whole.wte.weight.detach().double().norm().item())

    compared = rows(run_verb("params", f"checkpoint={sound}", f"compare={broken}", "view=csv").out)
    row = compared["h.1.ln_1.weight"]
    assert (row["not_finite"], row["other_not_finite"], row["largest_change"]) == ("0", "2", "nan")
    assert compared["wte.weight"]["relative_change"] == "0.0"
    outcome = run_verb("params", f"checkpoint={sound}", f"compare={broken}")
    assert "h.1.ln_1.weight in the other: 2 of 35 values are NaN or infinite" in outcome.out


def test_a_moved_base_of_an_adapter_is_named(run_verb: Run, workplace: Path) -> None:
    base, adapter, moved = (workplace / name for name in ("base.ckpt", "adapter.ckpt", "elsewhere.ckpt"))
    save_adapter(adapter, save_base(base), LoRASpec(rank=3, targets=["q", "v"]))
    base.rename(moved)
    refused(run_verb("params", f"checkpoint={adapter}"), "if it was moved, name it with base=")
    outcome = run_verb("params", f"checkpoint={adapter}", f"base={moved}", f"compare={moved}", "view=csv")
    assert outcome.code == 0, outcome.err
    changed = {name for name, row in rows(outcome.out).items() if row["relative_change"] != "0.0"}
    assert changed == {f"h.{layer}.attn.c_attn.weight" for layer in range(2)}


def test_a_diagram_of_any_source_is_drawn(run_verb: Run, workplace: Path) -> None:
    folder.write(lively(), LETTERS, workplace / "theirs", "", 10**9)
    base = save_base(workplace / "base.ckpt")
    save_adapter(workplace / "adapter.ckpt", base, LoRASpec(rank=3, targets=["q", "v"]))
    save_classifier(workplace / "classifier.ckpt")
    for source in ("base.ckpt", "adapter.ckpt", "classifier.ckpt", "theirs"):
        outcome = run_verb("params", f"checkpoint={source}", f"diagram={source}.svg", "view=csv")
        assert outcome.code == 0, outcome.err
        assert f"drew {source}.svg" in outcome.err
        assert outcome.out.startswith("name,shape")
        text = (workplace / f"{source}.svg").read_text(encoding="utf-8")
        count = sum(parameter.numel() for parameter in lively().parameters())
        assert f">GPT-2: {count:,} parameters</text>" in text


@pytest.mark.slow
def test_each_part_has_a_diagram(run_verb: Run, workplace: Path) -> None:
    command = ("params", "model=tiny", "model.vocab_size=23", "model.n_layer=7", "diagram=tiny-{part}.PNG")
    outcome = run_verb(*command)
    assert outcome.code == 0, outcome.err
    drawn = {file.name for file in workplace.glob("tiny-*")}
    assert drawn == {f"tiny-{part}.PNG" for part in ("network", "embeddings", "block", "attention", "gelu")}
    refused(run_verb(*command), "diagram: ", "tiny-block.PNG", "overwrite=true")
    (workplace / "tiny-block.PNG").write_bytes(b"old")
    assert run_verb(*command, "overwrite=true").code == 0
    assert (workplace / "tiny-block.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_diagram_that_cannot_be_written_is_named(run_verb: Run, workplace: Path) -> None:
    tiny = ("params", "model=tiny", "model.vocab_size=23")
    refused(run_verb(*tiny, "diagram=tiny.jpg"), "diagram: tiny.jpg", ".svg", ".png")
    refused(run_verb(*tiny, "diagram=tiny"), "diagram: tiny ", ".svg", ".png")
    refused(run_verb(*tiny, "diagram=nowhere/tiny.svg"), "diagram: ", "nowhere/tiny.svg", "No such file or directory")
    assert not list(workplace.rglob("*tiny*"))
