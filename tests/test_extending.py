"""The worked examples of docs/extending.md, added to a copy of the project and run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = re.compile(r'^```\w+ file=(\S+)(?: before="(.*?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
NAMES = {
    "gpt2_lightning/label_kinds/__init__.py": """\
from gpt2_lightning.label_kinds.count import Count

KINDS["count"] = Count()""",
    "gpt2_lightning/model/positions.py": 'POSITIONS["rotary"] = RotaryPositions',
    "gpt2_lightning/model/kernels/__init__.py": (
        "from gpt2_lightning.model.kernels import chunked\n\n"
        'KERNELS["chunked"] = Kernels(F.layer_norm, F.gelu, chunked.scaled_dot_product_attention)'
    ),
    "gpt2_lightning/generation/filters.py": 'FILTERS["top_n_sigma"] = keep_top_n_sigma',
}
"""What the page says to add to a table."""
BETWEEN = "==== the next command ===="


@pytest.fixture(scope="module")
def extended(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with every example added where it says."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("gpt2_lightning", "conf"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ("train.py", "finetune.py", "generate.py"):
        shutil.copy(root / script, copy)
    (copy / "diary.txt").write_text("Dear diary, the lamp went out again. " * 40)
    page = (root / "docs" / "extending.md").read_text()
    examples = EXAMPLE.findall(page)
    assert len(examples) == page.count(" file=")
    for file, before, content in examples:
        path = copy / file
        if before:
            path.write_text(path.read_text().replace(before, f"{content}\n{before}", 1))
        else:
            with path.open("a") as target:
                target.write("\n\n" + content if file.endswith(".py") else content)
    for file, line in NAMES.items():
        with (copy / file).open("a") as target:
            target.write(f"\n\n{line}\n")
    return copy


def run(project: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(extended: Path) -> dict[str, str]:
    """Output of `train` and `finetune` with the examples, by name; in one process, for the time."""
    choices = ["data=diary", "model=tiny_rotary", "optimizer=sgd", "schedule=inverse_root", "model.kernels=chunked"]
    choices += ["metrics=[entropy,top5]", "logger=[csv,json_lines]"]
    length = ["trainer=cpu", "trainer.max_steps=30", f"cache_dir={extended / 'cache'}", "trainer.val_check_interval=10"]
    rows = [{"instruction": f"What is {n}?", "input": "", "output": f"It is {n}."} for n in range(40)]
    (extended / "rows.json").write_text(json.dumps(rows))
    texts = [{"text": "tick " * n + "tock", "label": n} for n in range(7) for _ in range(6)]
    (extended / "ticks.json").write_text(json.dumps(texts))
    model = ["init_from=scratch", "model=tiny", "tokenizer=gpt2", f"cache_dir={extended / 'cache'}", "batch_size=4"]
    model += ["trainer=cpu", "trainer.max_epochs=1"]
    ticks = ["data=table", "data.path=ticks.json", *model]
    questions = [("The capital of France is", 0), ("Answer:", 1)]
    rows_of_questions = [{"context": text, "choices": ["Paris", "Rome"], "answer": right} for text, right in questions]
    (extended / "capitals.jsonl").write_text("\n".join(map(json.dumps, rows_of_questions)))
    finetunings = {
        "template": [
            "run_dir=quiz",
            "task=instruct",
            "data=instructions",
            "data.path=rows.json",
            "template=quiz",
            "task.answers=0",
        ],
        "label kind": ["task=classify", "data.kind=count", *ticks, "run_dir=ticks", "optimizer.lr=0.01"],
        "task": ["task=write_label", "template=quiz", *ticks],
    }
    finetunings["template"] += model
    commands = {"train": ("train", [*choices, *length])}
    commands |= {name: ("finetune", arguments) for name, arguments in finetunings.items()}
    commands["predict"] = ("predict", ["checkpoint=ticks", "text=tick tick tick tock"])
    commands["evaluate"] = ("evaluate", ["checkpoint=quiz", "benchmarks=[capitals]", "output=capitals"])
    program = f"""
import sys
from gpt2_lightning.app.main import main
for verb, arguments in {list(commands.values())}:
    sys.argv = [verb + ".py"]
    try:
        main(verb, arguments)
    except SystemExit as stop:
        assert stop.code == 0, (verb, arguments, stop.code)
    print("{BETWEEN}")
"""
    return dict(zip(commands, run(extended, "-c", program).split(BETWEEN), strict=False))


@pytest.mark.slow
def test_all_examples_train_together(trained: dict[str, str]) -> None:
    losses = [float(loss) for loss in re.findall(r"validation loss (\d\.\d+),", trained["train"])]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.slow
def test_a_metric_and_a_logger_get_every_validation(extended: Path, trained: dict[str, str]) -> None:
    (file,) = extended.glob("runs/*/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    validated = [row for row in rows if "val/loss" in row]
    assert [row["step"] for row in validated] == [10, 20, 30]
    assert all(0 < row["val/entropy"] < 4 and 0 < row["val/top5_accuracy"] <= 1 for row in validated)
    assert len(re.findall(r"\d\.\d{3} entropy, 0\.\d{3} top5 accuracy", trained["train"])) == 3


def test_model_size_extends_another(extended: Path) -> None:
    shown = run(extended, "train.py", "model=tall", "--cfg", "job", "--package", "model")
    assert "n_layer: 5" in shown
    assert "n_head: 2" in shown


@pytest.mark.slow
def test_template_is_learned_from(trained: dict[str, str]) -> None:
    assert "Question:·What·is" in trained["template"]
    assert "response loss" in trained["template"]


@pytest.mark.slow
def test_label_kind_is_trained_evaluated_and_predicted(trained: dict[str, str], extended: Path) -> None:
    assert "mae" in trained["label kind"]
    assert "| mean absolute error | " in (extended / "ticks" / "report.md").read_text()
    assert float(trained["predict"].split()[0]) > 0


def test_label_kind_has_the_likelihood_of_poisson(extended: Path) -> None:
    program = """
import torch
from gpt2_lightning.label_kinds import KINDS
scores, counts = torch.randn(7, 1), torch.tensor([0.0, 1, 2, 3, 5, 8, 13])
expected = -torch.distributions.Poisson(KINDS["count"].outputs(scores)).log_prob(counts) - torch.lgamma(counts + 1)
torch.testing.assert_close(KINDS["count"].losses(scores, counts, None, 0.0), expected)
print("equal")
"""
    assert run(extended, "-c", program).strip() == "equal"


@pytest.mark.slow
def test_benchmark_is_evaluated(trained: dict[str, str], extended: Path) -> None:
    """The gains of the second question are those of the premise over itself."""
    assert "acc_mutual_info" in trained["evaluate"]
    _, first, second = map(json.loads, (extended / "capitals" / "items" / "capitals.jsonl").read_text().splitlines())
    assert first["correct"] == (first["gains"][0] >= first["gains"][1])
    assert first["gains"] != pytest.approx([0, 0], abs=1e-3)
    assert second["gains"] == pytest.approx([0, 0], abs=1e-4)


@pytest.mark.slow
def test_task_is_trained(trained: dict[str, str]) -> None:
    assert "validation loss" in trained["task"]
    assert "perplexity" in trained["task"]


def test_rotary_products_depend_on_distances_and_agree_with_a_cache(extended: Path) -> None:
    program = """
import torch
from gpt2_lightning.model import GPT2, GPT2Config, KVCache
config = GPT2Config(11, 13, 2, 2, 12, positions="rotary")
torch.manual_seed(0)
model = GPT2(config).eval()
q, k = torch.randn(1, 2, 1, 6), torch.randn(1, 2, 1, 6)
def product(i, j):
    turned_q, _ = model.wpe.rotate(q, k, torch.tensor([i]))
    _, turned_k = model.wpe.rotate(q, k, torch.tensor([j]))
    return (turned_q * turned_k).sum(-1)
torch.testing.assert_close(product(7, 3), product(12, 8))
assert not torch.allclose(product(7, 3), product(7, 4))
ids = torch.randint(11, (2, 13))
cache = KVCache(config, 2, torch.device("cpu"), torch.float32)
parts = torch.cat([model(part, cache=cache) for part in ids.split([5, 1, 7], dim=1)], dim=1)
torch.testing.assert_close(parts, model(ids), atol=1e-5, rtol=0)
print("equal")
"""
    assert run(extended, "-c", program).strip() == "equal"


@pytest.mark.slow
def test_chunked_attention_is_that_of_torch(extended: Path) -> None:
    program = """
import torch
from gpt2_lightning.model.kernels import KERNELS
q, k, v = (torch.randn(2, 3, 150, 7, dtype=torch.float64, requires_grad=True) for _ in range(3))
seen = torch.randn(2, 3, 150, 7, dtype=torch.float64)
for arguments in ({"is_causal": True}, {"is_causal": False}, {"attn_mask": torch.rand(150, 150).tril() > 0}):
    found, expected = (
        torch.autograd.grad((KERNELS[name].attention(q, k, v, **arguments) * seen).sum(), (q, k, v))
        for name in ("chunked", "explicit")
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
print("equal")
"""
    assert run(extended, "-c", program).strip() == "equal"


@pytest.mark.slow
def test_a_filter_is_a_setting_of_the_command_line(extended: Path, trained: tuple[str, str]) -> None:
    program = """
import torch
from gpt2_lightning.generation import Sampling
logits = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4]]).log()
found = Sampling(temperature=1, top_n_sigma=1).filtered(logits)
print(found.isfinite().tolist(), Sampling(temperature=1).filtered(logits).isfinite().all().item())
"""
    assert run(extended, "-c", program).strip() == "[[True, True, False], [False, True, True]] True"
    always_the_likeliest = run(extended, "generate.py", "prompt=Dear", "max_new_tokens=20", "top_n_sigma=1e-9")
    assert always_the_likeliest == run(extended, "generate.py", "prompt=Dear", "max_new_tokens=20", "temperature=0")
