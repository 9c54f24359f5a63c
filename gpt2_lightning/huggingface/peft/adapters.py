"""Import and export of LoRA adapters as PEFT folders.

PEFT adapts the fused `c_attn` by one pair of matrices. Separate pairs for q, k and v are equivalent to one pair of
their summed rank: the As are concatenated by rows, and the Bs form a block matrix with zeros outside of their own
outputs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import weight_files
from gpt2_lightning.huggingface.peft.config import config_to_peft, faults_of, rank_and_alpha, spec_from_peft
from gpt2_lightning.huggingface.weight_files import read_json
from gpt2_lightning.huggingface.weights import PREFIX as TRANSFORMER
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.lora.layers import HEAD, TARGETS, THIRDS, LoRASpec, rows

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_SCORE = "score.weight"
_WHOLE = {place: target for target, place in TARGETS.items() if target not in THIRDS}
"""Target for a whole layer, by the name of the layer in a block."""
_IN_BLOCK = "|".join(re.escape(place) for place in _WHOLE if place != HEAD)
_MATRIX = re.compile(rf"((?:{re.escape(TRANSFORMER)})?h\.\d+\.(?:{_IN_BLOCK})|{HEAD})\.lora_([AB])\.weight")
_COPY_OF_BASE = re.compile(rf"(?:{re.escape(TRANSFORMER)})?(wte|{HEAD})(?:\.base_layer)?(\.weight)")

_REMEDY = (
    "Low-rank pairs of linear layers are read, with rank_pattern, alpha_pattern and layers_to_transform, and a "
    "classifier's head. Merge another adapter into its base with PEFT's merge_and_unload, save the model, and name its "
    "folder."
)

Pair = tuple[Tensor, Tensor]
"""A (rank, in) and B (out, rank)."""


@dataclass(frozen=True)
class PeftAdapter:
    """Content of a PEFT folder."""

    spec: LoRASpec
    state: Mapping[str, Tensor]
    """Tensors as returned by `model.adapters.adapter_state`."""
    base: str | None = None
    """Name or path of the base model for Hugging Face."""
    score: Tensor | None = None
    """Head of a classifier, (labels, C)."""
    base_hash: str | None = None
    """Hash of the weights of the base, in folders of this program."""


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder contains a PEFT adapter."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> str | None:
    """Return the name or path of the base model in a folder's adapter_config.json."""
    base = read_json(folder / CONFIG).get("base_model_name_or_path")
    return base if isinstance(base, str) else None


def unknown_files(folder: Path) -> list[str]:
    """Return the names of files in a folder that `write` does not write."""
    return sorted(file.name for file in folder.iterdir() if file.name not in (CONFIG, WEIGHTS))


def write(adapter: PeftAdapter, folder: Path) -> None:
    """Write an adapter in its dtype, for GPT2LMHeadModel, or with a `score` for GPT2ForSequenceClassification.

    Args:
        adapter: adapter to write.
        folder: folder to create.

    Raises:
        UserError: if the folder cannot be written.
    """
    tensors = {} if adapter.score is None else {_PREFIX + _SCORE: adapter.score.detach().clone()}
    for layer, pairs in _pairs_by_layer(adapter.state).items():
        path = _PREFIX + (layer if layer == HEAD else TRANSFORMER + layer)
        tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] = _stacked(pairs)
    noted = {"targets": ",".join(adapter.spec.targets)} | ({"base": adapter.base_hash} if adapter.base_hash else {})
    config = config_to_peft(adapter.spec, adapter.base, classifies=adapter.score is not None)
    try:
        folder.mkdir(parents=True)
        weight_files.save(tensors, folder / WEIGHTS, **noted)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}; free or change the folder") from None


def read(folder: Path, base: GPT2) -> PeftAdapter:
    """Read the adapter of a folder, written by this program or by PEFT.

    Separate pairs for q, k and v are restored from folders of this program; in others, `c_attn` is the target qkv.

    Args:
        folder: folder with adapter_config.json and adapter_model.safetensors.
        base: model to adapt. A folder with an adapted head contains the weight of the base's head, which must be equal.

    Raises:
        UserError: if files are missing or damaged, or with everything in them that a LoRASpec cannot express.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} has no {CONFIG}, so it is not a PEFT adapter; check the path")
    config = read_json(folder / CONFIG)
    if faults := faults_of(config):
        raise _refusal(folder / CONFIG, faults)
    tensors, metadata = _read_tensors(folder / WEIGHTS)
    noted = metadata.get("targets", "").split(",")
    score = tensors.pop(_PREFIX + _SCORE, None)
    matrices, faults = _matrices(tensors, base)
    if score is None and config.get("modules_to_save"):
        faults.append(f"{_PREFIX}{_SCORE}: missing, but {CONFIG} lists a saved classifier head")
    state: dict[str, Tensor] = {}
    settings: dict[str, tuple[int, float]] = {}
    for path, found in matrices.items():
        layer = path.removeprefix(TRANSFORMER)
        place = layer if layer == HEAD else layer.split(".", 2)[2]
        targets = [target for target in TARGETS if target in noted and TARGETS[target] == place] or [_WHOLE[place]]
        try:
            rank, alpha = rank_and_alpha(config, path, len(targets))
            pairs = _unstacked(found, targets, rank)
        except ValueError as error:
            faults.append(f"{path}: {error}")
            continue
        settings[layer] = (rank, alpha)
        for target, (a, b) in pairs.items():
            state |= {f"{layer}.lora_A.{target}": a, f"{layer}.lora_B.{target}": b}
    if not matrices:
        faults.append("no layer is adapted")
    if faults:
        raise _refusal(folder / WEIGHTS, faults)
    rank, alpha = max(settings.values())
    used = {key.rsplit(".", 1)[1] for key in state}
    try:
        spec = spec_from_peft(config, rank, alpha, [target for target in TARGETS if target in used])
    except ValueError as error:
        raise _refusal(folder / CONFIG, str(error).splitlines()) from None
    scales = {layer: _scale(config, *own) / _scale(config, rank, alpha) for layer, own in settings.items()}
    state = _uniform(state, scales, rank, base.config.n_layer)
    return PeftAdapter(spec, state, config.get("base_model_name_or_path"), score, metadata.get("base"))


def _scale(config: Mapping[str, Any], rank: int, alpha: float) -> float:
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _uniform(state: Mapping[str, Tensor], scales: Mapping[str, float], rank: int, n_layer: int) -> dict[str, Tensor]:
    """Express pairs of different ranks and scales, in some of the blocks, as pairs of one rank and scale in all blocks.

    Smaller pairs are filled up with zeros, B is scaled, and pairs of other blocks are zero, which changes no output.

    Args:
        state: tensors by name, as in `PeftAdapter.state`.
        scales: the factor for B of each layer.
        rank: the largest rank.
        n_layer: number of blocks of the base.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, letter, target = key.rsplit(".", 2)
        missing = rank - tensor.size(0 if letter == "lora_A" else 1)
        filled = F.pad(tensor, (0, 0, 0, missing) if letter == "lora_A" else (0, missing))
        found[key] = filled * scales[layer] if letter == "lora_B" and scales[layer] != 1 else filled
        _, dot, place = layer.partition("h.")
        for block in range(n_layer if dot else 0):
            found.setdefault(f"h.{block}.{place.partition('.')[2]}.{letter}.{target}", torch.zeros_like(filled))
    return found


def _matrices(tensors: Mapping[str, Tensor], base: GPT2) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Return A and B of each layer by its name in PEFT, and the faults of all other tensors."""
    found: dict[str, dict[str, Tensor]] = {}
    faults = []
    for name, tensor in tensors.items():
        inner = name.removeprefix(_PREFIX)
        if match := _MATRIX.fullmatch(inner):
            found.setdefault(match[1], {})[match[2]] = tensor
        elif match := _COPY_OF_BASE.fullmatch(inner):
            if not torch.equal(tensor, base.state_dict()[match[1] + match[2]][: len(tensor)].to(tensor)):
                faults.append(f"{name}: differs from that weight of the base")
        else:
            faults.append(f"{name}: not part of an adapter of {', '.join(_WHOLE)}")
    return found, faults


def _split(path: str) -> tuple[str, str]:
    """Convert a name in PEFT to the name of a layer, and its name in a block, as in `TARGETS`."""
    layer = path.removeprefix(TRANSFORMER)
    return layer, layer if layer == HEAD else layer.split(".", 2)[2]


def _pairs_by_layer(state: Mapping[str, Tensor]) -> dict[str, dict[str, Pair]]:
    found: dict[str, dict[str, Pair]] = {}
    for key, tensor in state.items():
        layer, letter, target = key.rsplit(".", 2)
        if letter == "lora_A":
            found.setdefault(layer, {})[target] = (tensor, state[f"{layer}.lora_B.{target}"])
    return found


def _stacked(pairs: Mapping[str, Pair]) -> Pair:
    """Combine the pairs of a layer to one equivalent pair."""
    targets = [target for target in TARGETS if target in pairs]
    n_out, rank = pairs[targets[0]][1].shape
    if targets[0] in THIRDS:
        n_out *= len(THIRDS)
    a = torch.cat([pairs[target][0] for target in targets])  # (pairs * rank, in)
    b = a.new_zeros(n_out, len(a))
    for target, columns in zip(targets, b.split(rank, dim=1), strict=True):
        columns[rows(target, n_out)] = pairs[target][1]
    return a, b


def _unstacked(found: Mapping[str, Tensor], targets: Sequence[str], rank: int) -> dict[str, Pair]:
    """Divide a pair into those that `_stacked` combined.

    Raises:
        ValueError: if the matrices are not those of pairs of this rank for these targets.
    """
    if found.keys() != {"A", "B"}:
        raise ValueError("lora_A and lora_B are not both there")
    a, b = found["A"], found["B"]
    if not a.dim() == b.dim() == 2 or not len(a) == b.size(1) == rank * len(targets):
        raise ValueError(f"lora_A has shape {tuple(a.shape)}, lora_B {tuple(b.shape)}, and {CONFIG} another rank")
    pairs = {
        target: (part_a.contiguous(), part_b[rows(target, len(b))].contiguous())
        for target, part_a, part_b in zip(targets, a.split(rank), b.split(rank, dim=1), strict=True)
    }
    if not torch.equal(_stacked(pairs)[1], b):
        raise ValueError(f"lora_B changes other outputs than {' and '.join(targets)}, which the file names")
    return pairs


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a file, and its metadata."""
    if not path.is_file():
        raise UserError(f"{path} is missing; adapters are read from safetensors files alone")
    try:
        with _library().safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118  # not a mapping
    except Exception as error:  # damaged files raise various exceptions
        size = path.stat().st_size
        raise UserError(f"{path} ({size:,} bytes) is damaged or cut off: {error}; fetch it again") from None


def _library() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError:
        raise UserError('adapters of PEFT need pip install "gpt2-lightning[huggingface]"') from None
    return safetensors


def _refusal(path: Path, faults: Sequence[str]) -> UserError:
    return UserError("\n  ".join([f"{path} is not an adapter that can be read:", *faults, _REMEDY]))
