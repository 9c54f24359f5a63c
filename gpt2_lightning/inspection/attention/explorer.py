"""A self-contained HTML page that shows the attention of a text interactively.

The page and its scripts are the files of `explorer_page/`. Attention weights are embedded as the bytes of their lower
triangles, tokens as JSON with `<` escaped.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.html_pages.join import embedded_json, join_page
from gpt2_lightning.inspection.attention.measure import AttentionMeasurement
from gpt2_lightning.inspection.attention.reading import Reading, rollout
from gpt2_lightning.inspection.colormaps import diverging, sequential
from gpt2_lightning.inspection.token_labels import text_labels, token_labels
from gpt2_lightning.tokenizers import Tokenizer

_PAGE = resources.files("gpt2_lightning.inspection.attention") / "explorer_page"
_SCRIPTS = ("data", "colors", "heads", "text", "matrix", "lines", "lens", "tables", "main")
_LARGEST = 255
_DIGITS = 4
TEXT, REPEATED = "on the text", "repeated"
_COLUMNS = (
    ("entropy", TEXT, "Entropy of a token's weights, in nats, on average: 0 for a head that attends to one token"),
    ("relative_entropy", TEXT, "The same as a share of the maximum: 1 for uniform attention"),
    ("distance", TEXT, "Tokens between a query and its keys, on average"),
    ("first_token", TEXT, "Weight on the first token"),
    ("previous_token", TEXT, "Weight on the token before"),
    ("duplicate_token", TEXT, "Weight on earlier occurrences of the same token"),
    ("induction", TEXT, "Weight on what came after earlier occurrences of the same token"),
    ("previous_token", REPEATED, "Weight on the token before, in a text for comparison"),
    ("duplicate_token", REPEATED, "Weight on earlier occurrences of the same token, in a text for comparison"),
    ("induction", REPEATED, "Weight on what came after earlier occurrences, in a text for comparison"),
)


def explorer(
    checkpoints: Sequence[AttentionMeasurement],
    tokenizer: Tokenizer,
    repeated: str,
    head: tuple[int, int],
    token: int,
    shown: int = 0,
) -> str:
    """Render the HTML page.

    Args:
        checkpoints: one or more measurements of the same tokens, with equal numbers of layers and heads.
        tokenizer: of all of them.
        repeated: a description of the repeated sequence.
        head: layer and head to show first.
        token: the token to show first.
        shown: the checkpoint to show first.
    """
    first = checkpoints[0].reading
    layers, heads = first.weights.shape[:2]
    predicted = np.unique(np.concatenate([checkpoint.reading.lens_ids.flatten().numpy() for checkpoint in checkpoints]))
    data = {
        "tokens": text_labels(first.ids.tolist(), tokenizer),
        "layers": layers,
        "heads": heads,
        "head": head[0] * heads + head[1],
        "token": token,
        "shown": shown,
        "kept": first.lens_ids.size(-1),
        "repeated": repeated,
        "ramps": {"weights": _in_both_themes(sequential), "differences": _in_both_themes(diverging)},
        "vocabulary": token_labels(predicted.tolist(), tokenizer),
        "scores": _columns(bool(checkpoints[0].effects)),
        "checkpoints": [_checkpoint(checkpoint, predicted, tokenizer) for checkpoint in checkpoints],
    }
    weights = (
        f'<script type="text/plain" id="weights-{i}">{pack(_all_matrices(checkpoint.reading))}</script>'
        for i, checkpoint in enumerate(checkpoints)
    )
    parts = {
        "title": html.escape(f"Attention: {checkpoints[0].name}"),
        "data": embedded_json(data),
        "weights": "\n".join(weights),
    }
    return join_page(_PAGE, _SCRIPTS, parts)


def explorer_bytes(layers: int, heads: int, tokens: int) -> int:
    """Size of the embedded weights of one checkpoint."""
    return (layers * heads + 1) * 4 * math.ceil(tokens * (tokens + 1) / 6)


def pack(matrices: NDArray[np.float32]) -> str:
    """Encode lower triangles (N, T, T), quantized to 8 bits, as base64 with equal length for each matrix."""
    lower = np.tril_indices(matrices.shape[-1])
    steps = np.round(_LARGEST * matrices[:, *lower].clip(0, 1)).astype(np.uint8)  # (N, T (T + 1) / 2)
    padded = np.pad(steps, ((0, 0), (0, -steps.shape[1] % 3)))
    return base64.b64encode(padded.tobytes()).decode()


def _in_both_themes(colors: Callable[[bool], NDArray[np.uint8]]) -> dict[str, str]:
    """Hexadecimal colors of the light and the dark theme."""
    return {"light": colors(False).tobytes().hex(), "dark": colors(True).tobytes().hex()}


def _all_matrices(reading: Reading) -> NDArray[np.float32]:
    """Attention weights of all heads, then the rollout, (L * H + 1, T, T)."""
    return np.concatenate([reading.weights.flatten(0, 1).numpy(), rollout(reading.weights)[None].numpy()])


def _columns(have_effects: bool) -> list[dict[str, str]]:
    columns = [{"name": "head", "where": "", "meaning": "Layer and head, from 0"}]
    columns += [{"name": n.replace("_", " "), "where": where, "meaning": meaning} for n, where, meaning in _COLUMNS]
    if have_effects:
        off = "switched off"
        columns.append({"name": "loss", "where": off, "meaning": "Change of the loss without the head, nats per token"})
        columns.append({"name": "divergence", "where": off, "meaning": "Change of all predictions, nats per token"})
    return columns


def _checkpoint(checkpoint: AttentionMeasurement, predicted: NDArray[np.int64], tokenizer: Tokenizer) -> dict[str, Any]:
    reading = checkpoint.reading
    by_head = sorted(checkpoint.effects, key=lambda effect: (effect.layer, effect.head))
    sources = {TEXT: checkpoint.scores, REPEATED: checkpoint.repeated_scores}
    columns = [sources[where][name].flatten().tolist() for name, where, _ in _COLUMNS]
    if by_head:
        columns += [[effect.loss_change for effect in by_head], [effect.divergence for effect in by_head]]
    return {
        "name": checkpoint.name,
        "loss": reading.loss,
        "lens": {
            "ids": np.searchsorted(predicted, reading.lens_ids.flatten().numpy()).tolist(),
            "probabilities": [_short(p) for p in reading.lens_probabilities.flatten().tolist()],
        },
        "next": {
            "probabilities": [_short(p) for p in reading.next_probabilities.tolist()],
            "ranks": reading.next_ranks.tolist(),
        },
        "scores": [[_short(value) for value in row] for row in zip(*columns, strict=True)],
        "effects": [
            {
                "loss_change": effect.loss_change,
                "token": token_labels([effect.most_changed], tokenizer)[0],
                "before": _short(effect.before),
                "after": _short(effect.after),
            }
            for effect in by_head
        ],
    }


def _short(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, _DIGITS)
