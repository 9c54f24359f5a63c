"""Conversion between `LoRASpec` and PEFT's adapter_config.json."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from gpt2_lightning.model.lora.layers import HEAD, TARGETS, LoRASpec

_FUSED = TARGETS["qkv"]
_READ: dict[str, tuple[type, ...]] = {
    "r": (int,),
    "lora_alpha": (int, float),
    "lora_dropout": (int, float),
    "use_rslora": (bool,),
    "rank_pattern": (dict, NoneType),
    "alpha_pattern": (dict, NoneType),
    "base_model_name_or_path": (str, NoneType),
}
_WITHOUT_EFFECT = {
    *("auto_mapping", "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode"),
    *("layers_pattern", "layers_to_transform", "megatron_core", "peft_version", "qalora_group_size", "revision"),
    *("target_modules", "task_type"),
}
"""Fields that do not affect what an adapter computes. Its layers are determined by its tensors."""
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),  # others change the base's weights
    "modules_to_save": (None, ["score"], ["classifier", "score"], ["score", "classifier"]),
}


def config_to_peft(spec: LoRASpec, base: str | None, classifies: bool) -> dict[str, Any]:
    """Create the content of adapter_config.json.

    Args:
        spec: settings of the adapter. In PEFT, the pairs for q, k and v are one pair of their summed rank.
        base: name or path of the base model.
        classifies: whether the model is a GPT2ForSequenceClassification.
    """
    places = Counter(TARGETS[target] for target in spec.targets)
    pairs = places[_FUSED] or 1
    common = pairs if len(places) == 1 else 1
    own = {} if pairs == common else {"c_attn": pairs}
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if classifies else "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": spec.rank * common,
        "lora_alpha": _alpha(spec, common),
        "rank_pattern": {name: spec.rank * pairs for name, pairs in own.items()},
        "alpha_pattern": {name: _alpha(spec, pairs) for name, pairs in own.items()},
        "lora_dropout": spec.dropout,
        "use_rslora": spec.rank_stabilised,
        "target_modules": sorted(places),
        "modules_to_save": ["score"] if classifies else None,
        "fan_in_fan_out": set(places) != {HEAD},  # whether weights are (in, out), as in all layers except the head
        "bias": "none",
        "inference_mode": True,
    }


def faults_of(config: Mapping[str, Any]) -> list[str]:
    """Return the fields that a LoRASpec cannot express, each as "field: what is wrong"."""
    known = _READ.keys() | _ALLOWED.keys() | _WITHOUT_EFFECT
    faults = [f"{field}: missing" for field in ("peft_type", "r", "lora_alpha") if field not in config]
    for field, value in config.items():
        if field in _ALLOWED and value not in _ALLOWED[field]:
            faults.append(f"{field}: {value!r} is not supported, only {' or '.join(map(repr, _ALLOWED[field]))}")
        if field in _READ and not isinstance(value, _READ[field]):
            faults.append(f"{field}: {value!r} has the wrong type")
        if field not in known and value:
            faults.append(f"{field}: {value!r} is not supported")
    return faults


def spec_from_peft(config: Mapping[str, Any], rank: int, alpha: float, targets: Sequence[str]) -> LoRASpec:
    """Create the settings of an adapter whose layers have this rank and alpha.

    Raises:
        ValueError: if a setting is out of range.
    """
    dropout, rank_stabilised = config.get("lora_dropout", 0.0), config.get("use_rslora", False)
    return LoRASpec(rank=rank, alpha=alpha, dropout=dropout, targets=targets, rank_stabilised=rank_stabilised)


def rank_and_alpha(config: Mapping[str, Any], layer: str, pairs: int) -> tuple[int, float]:
    """Return rank and alpha of each of the `pairs` pairs that are combined in a layer's pair in PEFT.

    Raises:
        ValueError: if the rank is not divisible by the number of pairs.
    """
    rank = int(_of_layer(config.get("rank_pattern"), layer, config["r"]))
    alpha = _of_layer(config.get("alpha_pattern"), layer, config["lora_alpha"])
    if rank % pairs:
        raise ValueError(f"rank {rank} is not that of {pairs} pairs")
    # Round to twelve digits, so that dividing by a square root and multiplying by it gives the same number.
    return rank // pairs, float(f"{alpha / (math.sqrt(pairs) if config.get('use_rslora') else pairs):.12g}")


def _alpha(spec: LoRASpec, pairs: int) -> float:
    """Return the alpha with which `pairs` times the rank has the same scale as the spec."""
    alpha = spec.alpha * (math.sqrt(pairs) if spec.rank_stabilised else pairs)
    return int(alpha) if alpha == int(alpha) else alpha


def _of_layer(patterns: Mapping[str, float] | None, layer: str, default: float) -> float:
    """Return the value of the first pattern that matches the end of the layer's name, as in PEFT."""
    return next((v for key, v in (patterns or {}).items() if re.fullmatch(rf"(.*\.)?({key})", layer)), default)
