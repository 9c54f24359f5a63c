"""Boxes, arrows and text on a white page, measured in points (1/72 inch) from its top left corner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

WIDTH = 500.0
"""Points: a page between its margins."""
INK, FAINT, LINE = "#1f2328", "#59636e", "#57606a"
Kind = Literal["embedding", "norm", "attention", "mlp", "head", "tensor"]
FILLS: dict[Kind, tuple[str, str]] = {
    "embedding": ("#dbeafe", "#2563eb"),
    "norm": ("#fef3c7", "#b45309"),
    "attention": ("#ffe4d6", "#c2410c"),
    "mlp": ("#dcfce7", "#15803d"),
    "head": ("#ede9fe", "#6d28d9"),
    "tensor": ("#f6f8fa", "#8c959f"),
}
"""Fill and edge of each kind of box; every box is named in words as well."""
_MARGIN = 4.0
"""Points between the edge of a box and its text."""
_LEADING = 1.35
"""Distance of lines, as a multiple of the font size."""


class Canvas:
    """A page that one diagram is drawn on.

    Args:
        height: in points.
        title: above the diagram.
        subtitle: a line below the title.
    """

    def __init__(self, height: float, title: str, subtitle: str = "") -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=200, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.axis("off")
        self.text(12, 16, title, size=11, bold=True, align="left", width=WIDTH - 24)
        self.text(12, 31, subtitle, size=8, color=FAINT, align="left", width=WIDTH - 24)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 8.0,
        color: str = INK,
        bold: bool = False,
        align: Literal["left", "center", "right"] = "center",
        width: float | None = None,
        rotation: float = 0.0,
    ) -> None:
        """Write a line, vertically centered at y.

        Args:
            x: of the side that `align` names, in points.
            y: in points.
            text: the line.
            size: of the font, in points.
            color: of the letters.
            bold: whether the letters are bold.
            align: the side of the line that stands at x.
            width: the most points that the line may take; its letters shrink to fit.
            rotation: in degrees, counterclockwise.
        """
        drawn = self.axes.text(
            x,
            y,
            text,
            fontsize=size,
            color=color,
            fontweight="bold" if bold else "normal",
            ha=align,
            va="center" if rotation else "center_baseline",
            rotation=rotation,
            parse_math=False,
        )
        if width is not None and (taken := self._width(drawn)) > width:
            drawn.set_fontsize(size * width / taken)

    def box(self, x: float, y: float, width: float, height: float, kind: Kind, lines: Sequence[str]) -> None:
        """Draw a rounded box with its top left corner at (x, y); the first of its lines is bold."""
        from matplotlib.patches import FancyBboxPatch

        fill, edge = FILLS[kind]
        style = "round,pad=0,rounding_size=3"
        patch = FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=0.9)
        self.axes.add_patch(patch)
        sizes = [8.0 if i == 0 else 7.0 for i in range(len(lines))]
        top = y + (height - _LEADING * sum(sizes)) / 2
        for i, (line, size) in enumerate(zip(lines, sizes, strict=True)):
            middle = top + _LEADING * (sum(sizes[:i]) + size / 2)
            self.text(x + width / 2, middle, line, size, bold=i == 0, width=width - 2 * _MARGIN)

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: str, edge: str = "none", hatch: str | None = None
    ) -> None:
        """Draw a rectangle with its top left corner at (x, y)."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(
            Rectangle((x, y), width, height, facecolor=fill, edgecolor=edge, linewidth=0.7, hatch=hatch, zorder=0.5)
        )

    def triangle(self, x: float, y: float, size: float, fill: str, edge: str) -> None:
        """Draw a square with its top left corner at (x, y), of which the lower triangle is filled."""
        from matplotlib.patches import Polygon

        self.axes.add_patch(Polygon([(x, y), (x, y + size), (x + size, y + size)], facecolor=fill, zorder=0.6))
        self.rectangle(x, y, size, size, "white", edge)

    def line(self, points: Sequence[tuple[float, float]], dashed: bool = False, thick: bool = False) -> None:
        """Connect points."""
        xs, ys = zip(*points, strict=True)
        style = (0, (3, 2)) if dashed else "solid"
        self.axes.plot(xs, ys, color=LINE, linewidth=1.8 if thick else 0.9, linestyle=style, solid_capstyle="butt")

    def arrow(self, points: Sequence[tuple[float, float]], dashed: bool = False) -> None:
        """Connect points, with a head at the last."""
        from matplotlib.patches import FancyArrowPatch

        if len(points) > 2:
            self.line(points[:-1], dashed)
        style = (0, (3, 2)) if dashed else "solid"
        head = FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle="-|>,head_length=3,head_width=1.6",
            mutation_scale=1,
            shrinkA=0,
            shrinkB=0,
            color=LINE,
            linewidth=0.9,
            linestyle=style,
        )
        self.axes.add_patch(head)

    def plus(self, x: float, y: float, radius: float = 7.0) -> None:
        """Draw the sign of an addition."""
        from matplotlib.patches import Circle

        self.axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=LINE, linewidth=0.9, zorder=3))
        arm = 0.5 * radius
        for dx, dy in ((arm, 0), (0, arm)):
            self.axes.plot([x - dx, x + dx], [y - dy, y + dy], color=LINE, linewidth=0.9, zorder=4)

    def _width(self, text: Text) -> float:
        """Points that a line takes."""
        return text.get_window_extent().width * 72 / self.figure.dpi


def save(figure: Figure, path: Path, format_: str) -> None:
    """Write a figure as `svg`, in which text stays text, or `png`; the same figure gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "the same file each time"}):
        figure.savefig(path, format=format_, metadata={"Date": None} if format_ == "svg" else {}, facecolor="white")
