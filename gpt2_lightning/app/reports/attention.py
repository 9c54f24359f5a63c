"""Output of the verb `attention`: a summary on the terminal, and a folder of arrays, plots and a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import get_console
from rich.table import Table
from rich.text import Text

from gpt2_lightning.inspection.attention.explorer import explorer, explorer_bytes
from gpt2_lightning.inspection.attention.export import write_arrays, write_effects, write_summary
from gpt2_lightning.inspection.attention.measure import AttentionMeasurement
from gpt2_lightning.inspection.attention.reading import rollout
from gpt2_lightning.inspection.token_labels import text_labels, token_label
from gpt2_lightning.tokenizers import Tokenizer

SUMMARY, EFFECTS, EXPLORER = "attention.json", "ablation.csv", "explorer.html"
OUTPUT_FILES = re.compile(
    r"attention(-\d+)?\.npz|attention\.json|ablation\.csv|explorer\.html"
    r"|(heads|rollout|layer-\d+|head-\d+-\d+|token-\d+-head-\d+-\d+)\.(png|svg)"
)
"""Names of output files."""
_MOST_BYTES = 300_000_000
_RANKED = ("previous_token", "duplicate_token", "induction", "first_token")
_EFFECTS_SHOWN = 20


@dataclass(frozen=True)
class AttentionReport:
    """Measurements and the selection of plots."""

    inspected: Sequence[AttentionMeasurement]
    shown: int
    """Index of the measurement that is printed and plotted."""
    tokenizer: Tokenizer
    repeated: str
    """Description of the repeated sequence."""
    layer: int | None
    """The layer to plot; None for the default."""
    head: int | None
    """The head to plot; None for the default."""
    token: int | None
    """The query token to plot; None for the last."""

    @property
    def main(self) -> AttentionMeasurement:
        return self.inspected[self.shown]

    @property
    def plotted_head(self) -> tuple[int, int]:
        """Layer and head to plot."""
        layer, head = self.main.head_of_interest(self.layer)
        return layer, head if self.head is None else self.head

    @property
    def plotted_token(self) -> int:
        return len(self.main.reading.ids) - 1 if self.token is None else self.token

    def print_summary(self) -> None:
        """Print the measured checkpoints, the heads with the highest scores, and the ablation."""
        for inspected in self.inspected:
            layers, heads = inspected.reading.weights.shape[:2]
            loss = "" if inspected.reading.loss is None else f", loss {inspected.reading.loss:.3f} nats per token"
            shape = f"{_count(layers, 'layer')} of {_count(heads, 'head')}"
            print(f"read {inspected.name}: {shape}, {_count(len(inspected.reading.ids), 'token')}{loss}")
        get_console().print(_ranking(self.main))
        print(f"repeated: {self.repeated}")
        if self.main.effects:
            get_console().print(_ablation(self.main, self.tokenizer))
            if len(self.main.effects) > _EFFECTS_SHOWN:
                print(f"and {len(self.main.effects) - _EFFECTS_SHOWN} more in {EFFECTS}")

    def write(self, target: Path, with_plots: bool) -> None:
        """Write arrays, page and plots into a folder."""
        files = [target / self._arrays_name(i) for i in range(len(self.inspected))]
        for inspected, file in zip(self.inspected, files, strict=True):
            write_arrays(inspected, file)
        write_summary(list(zip(self.inspected, files, strict=True)), self.tokenizer, self.repeated, target / SUMMARY)
        if self.main.effects:
            write_effects(self.main, self.tokenizer, target / EFFECTS)
        size = len(self.inspected) * explorer_bytes(*self.main.reading.weights.shape[:3])
        if size <= _MOST_BYTES:
            page = explorer(
                self.inspected, self.tokenizer, self.repeated, self.plotted_head, self.plotted_token, self.shown
            )
            (target / EXPLORER).write_text(page, encoding="utf-8")
        else:
            print(f"{EXPLORER} is omitted: it would have {size / 1e6:,.0f} MB; choose a shorter prompt")
        if with_plots:
            self._plot(target)

    def _arrays_name(self, index: int) -> str:
        return "attention.npz" if len(self.inspected) == 1 else f"attention-{index}.npz"

    def _plot(self, target: Path) -> None:
        from gpt2_lightning.inspection.attention.plots import draw_head, draw_layer, draw_model, draw_text

        weights = self.main.reading.weights.numpy()
        labels = text_labels(self.main.reading.ids.tolist(), self.tokenizer)
        (layer, head), token = self.plotted_head, self.plotted_token
        of_head = f"layer {layer}, head {head}"
        draw_model(weights, "all heads", target / "heads")
        draw_layer(weights[layer], f"layer {layer}", target / f"layer-{layer}")
        draw_head(weights[layer, head], labels, of_head, target / f"head-{layer}-{head}")
        title = f"attention of token {token} in {of_head}"
        draw_text(weights[layer, head, token], token, labels, title, target / f"token-{token}-head-{layer}-{head}")
        flow = rollout(self.main.reading.weights).numpy()
        draw_head(flow, labels, "rollout of all layers", target / "rollout")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _ranking(inspected: AttentionMeasurement) -> Table:
    table = Table("kind of head", title="heads with the highest scores", title_justify="left")
    for name in ("in the text", "score", "repeated", "score"):
        table.add_column(name, justify="right")
    for kind in _RANKED:
        cells = []
        for scores in (inspected.scores, inspected.repeated_scores):
            score = scores[kind].nan_to_num(-1.0)
            layer, head = divmod(int(score.argmax()), score.size(1))
            best = float(score[layer, head])
            cells += ["–", "–"] if best < 0 else [f"layer {layer}, head {head}", f"{best:.3f}"]
        table.add_row(kind.replace("_", " "), *cells)
    return table


def _ablation(inspected: AttentionMeasurement, tokenizer: Tokenizer) -> Table:
    table = Table("head ablated", title="ablation of heads", title_justify="left")
    for name in ("loss, nats per token", "divergence", "next token", "before", "after"):
        table.add_column(name, justify="right")
    for effect in inspected.effects[:_EFFECTS_SHOWN]:
        change = "–" if effect.loss_change is None else f"{effect.loss_change:+.4f}"
        table.add_row(
            f"layer {effect.layer}, head {effect.head}",
            change,
            f"{effect.divergence:.4f}",
            Text(token_label(tokenizer.token_bytes(effect.most_changed))),
            f"{effect.before:.1%}",
            f"{effect.after:.1%}",
        )
    return table
