"""The parts of a network that have a diagram, and the files that they are drawn into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_lightning.inspection.diagrams.architecture import Architecture
from gpt2_lightning.inspection.diagrams.attention import draw_attention
from gpt2_lightning.inspection.diagrams.block import draw_block
from gpt2_lightning.inspection.diagrams.canvas import save
from gpt2_lightning.inspection.diagrams.embeddings import draw_embeddings
from gpt2_lightning.inspection.diagrams.gelu import draw_gelu
from gpt2_lightning.inspection.diagrams.network import draw_network
from gpt2_lightning.model import GPT2Config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE = "network"
PARTS: dict[str, Callable[[Architecture], Figure]] = {
    WHOLE: draw_network,
    "embeddings": draw_embeddings,
    "block": draw_block,
    "attention": draw_attention,
    "gelu": draw_gelu,
}
FORMATS = ("svg", "png")
PLACEHOLDER = "{part}"


def diagram_format(path: str) -> str:
    """The suffix of a path, without its dot and in lower case."""
    return Path(path).suffix.lower().removeprefix(".")


def diagram_files(path: str) -> dict[str, Path]:
    """The file of each part: all of them where the path has `{part}` in it, else the whole network alone."""
    if PLACEHOLDER not in path:
        return {WHOLE: Path(path).expanduser()}
    return {part: Path(path.replace(PLACEHOLDER, part)).expanduser() for part in PARTS}


def draw_diagram(config: GPT2Config, part: str, path: Path, format_: str) -> None:
    """Draw a part of a network.

    Args:
        config: of the network.
        part: a name in `PARTS`.
        path: the file, whatever its suffix.
        format_: a name in `FORMATS`.
    """
    save(PARTS[part](Architecture.of(config)), path, format_)
