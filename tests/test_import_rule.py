"""Imports run one way through the house; see docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gpt2_lightning"

LEVELS = [
    {"errors", "memory", "atomic", "settings"},
    {"model", "tokenizers"},
    {"checkpoints", "data", "generation", "huggingface"},
    {"evaluation", "inspection", "pretrained"},
    {"training"},
    {"api"},
    {"app"},
]
ALLOWED = {room: set().union(*LEVELS[:level]) | {room} for level, rooms in enumerate(LEVELS) for room in rooms}
OUTSIDE = {
    "torch": lambda room, _: room != "tokenizers",
    "lightning": lambda room, file: room == "training" or file.name.endswith("datamodule.py"),
    "hydra": lambda room, _: room == "app",
    "omegaconf": lambda room, _: room == "app",
}
HEAVY = {
    "aim",
    "datasets",
    "filelock",
    "huggingface_hub",
    "matplotlib",
    "mlflow",
    "optuna",
    "peft",
    "pyarrow",
    "pydantic",
    "requests",
    "safetensors",
    "tensorboard",
    "tiktoken",
    "tokenizers",
    "transformers",
    "wandb",
    "zstandard",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield (
                (f"{node.module}.{node.names[0].name}" if node.module == "gpt2_lightning" else node.module or ""),
                node,
            )


def breaches(file: Path, source: str) -> list[str]:
    """Imports of one file that break the rule."""
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    tree = ast.parse(source)
    found = []
    for name, node in imports(tree):
        parts = name.split(".")
        if parts[0] == "gpt2_lightning" and len(parts) > 1 and room in ALLOWED and parts[1] not in ALLOWED[room]:
            found.append(f"{room} imports {name}")
        if parts[0] in OUTSIDE and not OUTSIDE[parts[0]](room, file):
            found.append(f"{room} imports {name}")
        if parts[0] in HEAVY and node in tree.body:
            found.append(f"{file.name} imports {name} before it is needed")
        if room == "model" and parts[0] not in {"gpt2_lightning", "torch", *sys.stdlib_module_names}:
            found.append(f"model imports {name}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_file_keeps_the_rule(file: Path) -> None:
    assert breaches(file, file.read_text()) == []


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("model/gpt2.py", "from gpt2_lightning.training import trainer"),
        ("model/gpt2.py", "import numpy"),
        ("data/sampling/permutation.py", "import lightning"),
        ("generation/generate.py", "from gpt2_lightning.data import corpus"),
        ("training/trainer.py", "from omegaconf import DictConfig"),
        ("tokenizers/char.py", "def f():\n    import torch"),
        ("inspection/curves/loss_curve.py", "import matplotlib.pyplot"),
    ],
)
def test_planted_breach_is_found(place: str, source: str) -> None:
    assert breaches(PACKAGE / place, source) != []


def test_every_room_has_its_level() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(ALLOWED) - {"errors", "memory", "atomic", "settings"}


def test_model_needs_torch_and_nothing_else() -> None:
    program = (
        "import sys\n"
        "for name in ('lightning', 'hydra', 'omegaconf', 'numpy', 'rich', 'torchmetrics'): sys.modules[name] = None\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import torch\n"
        "from gpt2_lightning.model import GPT2, GPT2Config\n"
        "print(GPT2(GPT2Config(7, 5, 1, 1, 4))(torch.zeros(2, 3, dtype=torch.int64)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch.Size([2, 3, 7])"


def test_nothing_trusts_remote_code() -> None:
    assert [file for file in FILES if "trust_remote_code" in file.read_text()] == []


def test_nothing_loads_more_than_weights() -> None:
    assert [file for file in FILES if "weights_only=False" in file.read_text()] == []
