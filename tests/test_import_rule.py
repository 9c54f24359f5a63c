"""Imports run one way between packages and never in a circle between files; see docs/architecture.md."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "gpt2_lightning"

LEVELS = {
    PACKAGE: [
        {"errors"},
        {
            "atomic",
            "bootstrap",
            "config_folder",
            "gpus",
            "html_pages",
            "json_text",
            "memory",
            "process_folder",
            "regular_files",
            "settings",
            "signatures",
        },
        {"atomic_replace"},
        {"model", "tokenizers"},
        {"label_kinds"},
        {"checkpoints"},
        {"data", "generation", "huggingface"},
        {"evaluation", "inspection", "pretrained"},
        {"training"},
        {"conversion"},
        {"api"},
        {"serving"},
        {"app", "harness"},
        {"__main__"},
    ],
    f"{PACKAGE}.data": [
        {"corpus"},
        {"shards"},
        {"corpora", "sampling"},
        {"tables"},
        {"classification", "instruction"},
    ],
    f"{PACKAGE}.evaluation": [
        {"language_metrics", "subject"},
        {"answers", "likelihood", "linear_baseline", "parity", "predictions", "responses", "results"},
        {"benchmarks"},
        {"evaluate"},
        {"comparison"},
    ],
    f"{PACKAGE}.app": [
        {"early_interrupts", "output", "verbs"},
        {"config"},
        {"generation", "run"},
        {"evaluation", "finetuning", "launch", "reports"},
        {"sweeping"},
        {"commands", "main"},
    ],
}
"""Modules of a package from the lowest level to the highest: each imports those of lower levels only."""
OUTSIDE = {
    "torch": lambda module: not module.startswith(f"{PACKAGE}.tokenizers."),
    "lightning": lambda module: module.startswith(f"{PACKAGE}.training.") or module.endswith("datamodule"),
    "hydra": lambda module: module.startswith(f"{PACKAGE}.app."),
    "omegaconf": lambda module: module.startswith(f"{PACKAGE}.app."),
    **dict.fromkeys(
        ("fastapi", "starlette", "uvicorn", "sse_starlette", "prometheus_client"),
        lambda module: module.startswith(f"{PACKAGE}.serving."),
    ),
}
"""Which modules may import a library."""
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
"""Libraries that are imported in the function that uses them, except in `serving`, which is such an import itself."""
MOST_MODULES = 14
"""In one folder, beside `__init__.py`."""

Sources = Mapping[str, str]
"""Python code by the name of its module; that of a package is its `__init__.py`."""


@functools.cache
def sources() -> Sources:
    """The package as it is."""
    files = (ROOT / PACKAGE).rglob("*.py")
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f.read_text() for f in files}


@functools.lru_cache(maxsize=1024)
def imports(source: str) -> tuple[tuple[str, bool], ...]:
    """Names that code imports, also inside functions and for types only, and whether at the module's top level."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        names: Iterator[str] = iter(())
        if isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
        found += [(name, node in tree.body) for name in names]
    return tuple(found)


def graph(code: Sources) -> dict[str, set[str]]:
    """The modules of the package that each of its modules imports."""
    found = {}
    for module, source in code.items():
        parents = {(name if name in code else name.rpartition(".")[0]) for name, _ in imports(source)}
        found[module] = parents & code.keys() - {module}
    return found


def upward(package: str, code: Sources) -> list[str]:
    """Imports within a package that do not lead to a lower level of it."""
    level = {f"{package}.{name}": number for number, names in enumerate(LEVELS[package]) for name in names}

    def child(module: str) -> str:
        """The module directly in the package that a module is or is inside of."""
        return package + "." + module.removeprefix(f"{package}.").partition(".")[0]

    return [
        f"{importer} imports {imported}"
        for importer, modules in graph(code).items()
        for imported in modules
        if importer.startswith(f"{package}.") and imported.startswith(f"{package}.")
        if child(importer) != child(imported) and level[child(importer)] <= level[child(imported)]
    ]


def forbidden(room: str, code: Sources) -> list[str]:
    """Imports of libraries by the modules of a room that the rule does not allow."""
    found = []
    for module, source in code.items():
        if f"{module}.".startswith(f"{PACKAGE}.{room}."):
            for name, at_top in imports(source):
                library = name.partition(".")[0]
                if library in OUTSIDE and not OUTSIDE[library](module):
                    found.append(f"{module} imports {name}")
                if library in HEAVY and at_top and room != "serving":
                    found.append(f"{module} imports {name} before it is needed")
                if room == "model" and library not in {PACKAGE, "torch", *sys.stdlib_module_names}:
                    found.append(f"{module} imports {name}")
    return found


def circle(code: Sources) -> list[str]:
    """Modules that import each other; empty where there are none."""
    try:
        TopologicalSorter(graph(code)).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def crowded(code: Sources) -> list[str]:
    """Folders with too many modules."""
    packages = {module.rpartition(".")[0] for module in code}
    modules = Counter(module.rpartition(".")[0] for module in code.keys() - packages)
    return [package for package, count in modules.items() if count > MOST_MODULES]


def planted(module: str, source: str) -> Sources:
    """The package with one more import, in a module of its own or one that there is."""
    return {**sources(), module: f"{sources().get(module, '')}\n{source}"}


@pytest.mark.parametrize("package", LEVELS)
def test_imports_lead_to_lower_levels(package: str) -> None:
    assert upward(package, sources()) == []


@pytest.mark.parametrize("room", sorted(set().union(*LEVELS[PACKAGE])))
def test_libraries_are_imported_where_they_may_be(room: str) -> None:
    assert forbidden(room, sources()) == []


def test_no_files_import_each_other() -> None:
    assert circle(sources()) == []


def test_no_folder_is_crowded() -> None:
    assert crowded(sources()) == []


@pytest.mark.parametrize("package", LEVELS)
def test_every_module_has_a_level(package: str) -> None:
    children = {
        module.removeprefix(f"{package}.").partition(".")[0] for module in sources() if module.startswith(f"{package}.")
    }
    assert children == set().union(*LEVELS[package])


@pytest.mark.parametrize(
    ("package", "module", "source"),
    [
        ("", "model.gpt2", "from gpt2_lightning.training import trainer"),
        ("", "model.gpt2", "import gpt2_lightning.training.trainer"),
        ("", "generation.text", "def f():\n    from gpt2_lightning.data import corpus"),
        ("", "errors", "from gpt2_lightning import memory"),
        (".data", "data.shards.format", "from gpt2_lightning.data.corpora.text import TextCorpus"),
        (".data", "data.instruction.samples", "import gpt2_lightning.data.classification.batches"),
        (".app", "app.run.fit", "from gpt2_lightning.app import main"),
        (".app", "app.config.build", "if TYPE_CHECKING:\n    from gpt2_lightning.app.run.settings import RunSettings"),
    ],
)
def test_planted_import_of_a_higher_level_is_found(package: str, module: str, source: str) -> None:
    assert len(upward(PACKAGE + package, planted(f"{PACKAGE}.{module}", source))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.gpt2", "import numpy"),
        ("data.sampling.permutation", "import lightning"),
        ("training.trainer", "from omegaconf import DictConfig"),
        ("tokenizers.char", "def f():\n    import torch"),
        ("inspection.curves.loss_curve", "import matplotlib.pyplot"),
        ("errors", "from hydra import compose"),
    ],
)
def test_planted_library_is_found(module: str, source: str) -> None:
    assert len(forbidden(module.partition(".")[0], planted(f"{PACKAGE}.{module}", source))) == 1


@pytest.mark.parametrize(
    "source", ["from {} import x", "if TYPE_CHECKING:\n    from {} import x", "def f():\n    import {}"]
)
def test_planted_circle_is_found(source: str) -> None:
    one, other = f"{PACKAGE}.one", f"{PACKAGE}.other"
    code = {**planted(one, f"import {other}"), other: source.format(one)}
    assert set(circle(code)) == {one, other}


def test_planted_modules_crowd_their_folder() -> None:
    code = {f"{PACKAGE}.folder": "", **{f"{PACKAGE}.folder.m{i}": "" for i in range(MOST_MODULES + 1)}}
    assert crowded(code) == [f"{PACKAGE}.folder"]
    code.popitem()
    assert crowded(code) == []


def test_model_trains_with_torch_and_nothing_else() -> None:
    program = """
import sys
for name in ("lightning", "hydra", "omegaconf", "numpy", "pydantic", "rich", "torchmetrics"): sys.modules[name] = None
import warnings; warnings.simplefilter("ignore")
import torch
from gpt2_lightning.model import GPT2, GPT2Config
torch.manual_seed(0)
ids = torch.randint(7, (2, 6))
model = GPT2(GPT2Config(vocab_size=7, block_size=5, n_layer=1, n_head=1, n_embd=4))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
for _ in range(20):
    optimizer.zero_grad()
    loss = model(ids[:, :-1], ids[:, 1:])
    loss.backward()
    optimizer.step()
    print(loss.item())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    losses = [float(line) for line in done.stdout.split()]
    assert len(losses) == 20
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("unsafe", ["trust_remote_code", "weights_only=False"])
def test_nothing_runs_code_of_a_file(unsafe: str) -> None:
    assert [module for module, source in sources().items() if unsafe in source] == []


def test_no_test_imports_a_test_module() -> None:
    """What tests share has a module of its own."""
    code = {file: file.read_text() for file in (ROOT / "tests").rglob("*.py")}
    found = [(file.name, name) for file, source in code.items() for name, _ in imports(source)]
    assert [pair for pair in found if re.match(r"tests\..*\b(test_|conftest)", pair[1])] == []
