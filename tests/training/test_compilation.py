"""Compiled blocks, beside the network as it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.training.callbacks import Samples
from gpt2_lightning.training.performance.compilation import (
    Compile,
    as_written,
    compile_blocks,
    compile_fault,
    recompute_activations,
)
from tests.training.short_run import CONFIG, Plan, Run

LAST = "step-000004.ckpt"

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's compiler warns itself, of its own code
needs_compiler = pytest.mark.skipif(compile_fault(True) is not None, reason="there is no C++ compiler")


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_and_leaves_the_same_behind(
    train: Callable[..., Run], tokens: Tokens, tmp_path: Path
) -> None:
    """Steps have two micro-batches, the last batch of validation is smaller, and samples are written by growing texts.

    The graphs are run by torch's own kernels here: to make code of them takes a minute.
    """
    compiled_dir, plain_dir = tmp_path / "compiled", tmp_path / "plain"
    compiled = Run(
        Plan(compiled_dir, max_steps=4, batch_size=12, callbacks=[Samples(compiled_dir, prompt="ab")]), tokens
    )
    compile_blocks(compiled.model, True)
    counters.clear()
    with torch.compiler.set_stance(force_backend="aot_eager"):
        compiled.fit()
    assert counters["stats"]["unique_graphs"] == 3, "of all blocks together: to train, to validate, and of any size"
    plain = train(Plan(plain_dir, max_steps=4, batch_size=12, callbacks=[Samples(plain_dir, prompt="ab")]))
    for name in ("train/loss", "val/loss", "grad_norm"):
        assert compiled.column(name) == pytest.approx(plain.column(name), rel=1e-4)
    ours, theirs = (run.checkpoint(LAST)["state_dict"] for run in (compiled, plain))
    assert list(ours) == list(theirs) == list(GPT2(CONFIG).state_dict())
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-4, rtol=0, msg=name)
    samples = [(folder / "samples.md").read_text() for folder in (compiled_dir, plain_dir)]
    assert samples[0] == samples[1]


@pytest.mark.slow
def test_compiled_blocks_that_compute_again_have_the_same_gradients() -> None:
    ids = torch.randint(CONFIG.vocab_size, (3, 7), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = GPT2(CONFIG)
    found = []
    for speed_up in (
        lambda: None,
        lambda: recompute_activations(model, True),
        lambda: compile_blocks(model, "default"),
    ):
        speed_up()
        model.zero_grad()
        with torch.compiler.set_stance(force_backend="aot_eager"):
            model(ids, targets=ids).backward()
        found.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(found[1], found[0], atol=0, rtol=0)
    torch.testing.assert_close(found[2], found[0], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@needs_compiler
def test_torchs_own_compiler_makes_the_same_of_the_blocks() -> None:
    ids = torch.randint(CONFIG.vocab_size, (3, 7), generator=torch.Generator().manual_seed(0))
    model = GPT2(CONFIG).eval()
    with torch.no_grad():
        expected = model(ids)
        compile_blocks(model, True)
        counters.clear()
        torch.testing.assert_close(model(ids), expected, atol=1e-5, rtol=1e-5)
        assert counters["inductor"], "it was asked"
        with as_written():
            assert torch.equal(model(ids), expected)
            assert counters["stats"]["unique_graphs"] == 1
    assert list(model.state_dict()) == list(GPT2(CONFIG).state_dict())


@pytest.mark.parametrize("wanted", [True, "default", "max-autotune", "max-autotune-no-cudagraphs"])
def test_no_mode_captures_cuda_graphs(wanted: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are compiled one by one: the second replay of a graph would overwrite what the first returned."""
    modes: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, mode: modes.append(mode))
    compile_blocks(GPT2(CONFIG), wanted)
    options = torch._inductor.list_mode_options()
    assert len(modes) == CONFIG.n_layer
    assert not any(options[mode].get("triton.cudagraphs") for mode in modes)
    assert options["max-autotune"]["triton.cudagraphs"], "the same name in torch would"
    assert options[modes[0]].get("max_autotune", False) == (wanted not in (True, "default"))


def test_the_network_inside_a_classifier_is_meant() -> None:
    classifier = Classifier(GPT2(CONFIG), labels=3)
    recompute_activations(classifier, True)
    assert classifier.transformer.gradient_checkpointing
    recompute_activations(classifier, False)
    assert not classifier.transformer.gradient_checkpointing


def test_a_missing_compiler_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++-of-nowhere")
    assert compile_fault("max-autotune") == (
        "compile: there is no C++ compiler 'g++-of-nowhere' on this machine, which torch.compile needs; install it, "
        "name another in the environment variable CXX, or set compile=false"
    )
    assert compile_fault(False) is None
