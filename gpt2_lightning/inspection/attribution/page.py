"""Attributions of texts as a self-contained HTML page. All text from inputs is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.html_pages.join import fill
from gpt2_lightning.inspection.attribution.deletion import RANDOM_ORDERS, SHARES
from gpt2_lightning.inspection.attribution.export import (
    AttributedText,
    compared_name,
    format_value,
    mean_scores,
    scores,
)
from gpt2_lightning.inspection.attribution.methods import METHODS

_TEMPLATE = Path(__file__).with_suffix(".html")
_READS = {"last": "its last token", "first": "its first token alone", "mean": "the mean over its tokens"}
_IDLE = "Point at a token to read its values, or use the arrow keys in a text."
_CAPTION = "Without the tokens that each method ranks highest"
_READ_ALOUD = 5
_BEGINNING = 60
_CHART = (360, 18)


def write_attribution_page(texts: Sequence[AttributedText], name: str, task: LabelTask, page: Path) -> None:
    """Write the page.

    Args:
        texts: at least one.
        name: display name of the classifier.
        task: of the classifier.
        page: the file to write.
    """
    unit, explained = task.kind.unit, task.kind.evidence_name
    parts = {
        "title": escape(f"Explanations: {name}"),
        "about": escape(f"{name}. It pools {_READS[task.pooling]}. The attributed quantity is {explained}."),
        "legend": _legend(),
        "meanings": _meanings(unit),
        "summary": _summary(texts, unit) if len(texts) > 1 else "",
        "texts": "\n".join(_text(number, text, unit, len(texts) > 1) for number, text in enumerate(texts, start=1)),
    }
    template = _TEMPLATE.read_text(encoding="utf-8")
    page.write_text(fill(template, parts), encoding="utf-8")


def _legend() -> str:
    kinds = (("for", "evidence for"), ("against", "evidence against"), ("strong", "importance, without a sign"))
    format_value = "".join(f'<span class="{kind}" style="--s:100%">{words}</span>' for kind, words in kinds)
    return f"{format_value} Each method has its own scale: the strongest token of a text has the full color."


def _meanings(unit: str) -> str:
    *most, last = (f"{share:.0%}" for share in SHARES)
    trust = (
        f"The drop of the {unit}, and of the evidence, without the tokens that a method ranks highest, averaged over "
        f"{', '.join(most)} and {last} of the tokens; and the number of {RANDOM_ORDERS} random orders with a smaller "
        "drop of the evidence (Samek et al. 2017; DeYoung et al. 2020)."
    )
    terms = {**{known.name: known.meaning for known in METHODS.values()}, "how far each can be trusted": trust}
    return "\n".join(f"<div><dt>{escape(term)}</dt><dd>{escape(words)}</dd></div>" for term, words in terms.items())


def _summary(texts: Sequence[AttributedText], unit: str) -> str:
    """Mean scores over texts, and a link to each text."""
    rows = "".join(
        f'<tr><th scope="row">{escape(compared_name(name))}</th>'
        f"<td>{format_value(drop)}</td><td>{format_value(evidence)}</td></tr>"
        for name, (drop, evidence) in mean_scores(texts).items()
    )
    links = "".join(
        f'<li><a href="#text-{number}">{escape(text.heading)}</a> '
        f'<span class="faint">{escape(_beginning(text))}</span></li>'
        for number, text in enumerate(texts, start=1)
    )
    head = _head("method", f"{unit} falls", "evidence falls")
    return (
        f'<section aria-label="All texts"><h2>{len(texts)} texts, on average</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Mean scores">'
        f"<table><caption>{_CAPTION}</caption>{head}<tbody>{rows}</tbody></table></div>"
        f'<nav aria-label="Texts"><ol>{links}</ol></nav></section>'
    )


def _beginning(text: AttributedText) -> str:
    line = " ".join(text.text.split())
    return line if len(line) <= _BEGINNING else f"{line[: _BEGINNING - 1]}…"


def _text(number: int, text: AttributedText, unit: str, is_numbered: bool) -> str:
    read, left_out = len(text.tokens), text.n_left_out
    note = (
        f'<p class="faint">The classifier reads the first {read:,} of {read + left_out:,} tokens.</p>'
        if left_out
        else ""
    )
    heading = escape(f"{number}. {text.heading}" if is_numbered else text.heading)
    methods = "".join(_method(text, method) for method in METHODS)
    return (
        f'<section data-text aria-labelledby="text-{number}"><h2 id="text-{number}">{heading}</h2>{note}'
        f'<div class="methods">{methods}</div>'
        f'<p class="reading faint" role="status">{_IDLE}</p>'
        f"{_scores(text, unit)}{_values(text)}</section>"
    )


def _method(text: AttributedText, method: str) -> str:
    """The text colored by one method, with the strongest tokens as the label for screen readers."""
    known = METHODS[method]
    largest = text.strongest(method, _READ_ALOUD)
    strongest = ", ".join(f"{token} {format_value(value, known.is_signed)}" for token, value in largest)
    tokens = "<wbr>".join(
        f'<span class="{_kind(shade, known.is_signed)}" style="--s:{abs(shade):.0%}" data-token="{i}">{escape(token)}'
        f"</span>{'<br>' if token.endswith('↵') else ''}"
        for i, (token, shade) in enumerate(zip(text.tokens, text.shades(method), strict=True))
    )
    spoken = escape(f"The text by {known.name}. Strongest tokens: {strongest}. All values are in the table below.")
    text_element = f'<p class="tokens" tabindex="0" role="group" aria-label="{spoken}">{tokens}</p>'
    return f"<div><h3>{escape(known.name)}</h3>{text_element}</div>"


def _kind(shade: float, is_signed: bool) -> str:
    if not is_signed:
        return "strong"
    return "against" if round(100 * shade) < 0 else "for"


def _scores(text: AttributedText, unit: str) -> str:
    found = text.result
    others = [deletion.evidence_score for deletion in found.random_deletions]
    ends = [0.0, *others, *(deletion.evidence_score for deletion in found.deletions.values())]
    rows = ""
    for name, (drop, evidence) in scores(text).items():
        is_method = name in METHODS
        chart = _chart(evidence, others, min(ends), max(ends)) if is_method else ""
        beaten = f"{found.beaten(name)} of {RANDOM_ORDERS}" if is_method else ""
        cells = "".join(f"<td>{cell}</td>" for cell in (format_value(drop), format_value(evidence), chart, beaten))
        rows += f'<tr><th scope="row">{escape(compared_name(name))}</th>{cells}</tr>'
    drawn = f"evidence falls ◆, random orders ○, {format_value(min(ends))} to {format_value(max(ends))}"
    head = _head("method", f"{unit} falls", "evidence falls", drawn, "beats random orders")
    table = f'<table class="scores"><caption>{_CAPTION}</caption>{head}<tbody>{rows}</tbody></table>'
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Scores">{table}</div>'


def _head(*names: str) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return f"<thead><tr>{cells}</tr></thead>"


def _chart(score: float, others: Iterable[float], low: float, high: float) -> str:
    """Plot a score among those of random orders, on a line from low to high."""
    width, height = _CHART
    middle = height / 2

    def place(value: float) -> float:
        return width * (value - low) / ((high - low) or 1.0)

    rings = "".join(f'<circle cx="{place(other):.1f}" cy="{middle}" r="3.5"/>' for other in others)
    diamond = f'<path d="M{place(score):.1f} {middle - 6}l6 6l-6 6l-6 -6z"/>'
    line = f'<line x1="0" x2="{width}" y1="{middle}" y2="{middle}"/>'
    return f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{line}{rings}{diamond}</svg>'


def _values(text: AttributedText) -> str:
    """Table of all values of all tokens."""
    values = zip(*(text.result.attributions[method].tolist() for method in METHODS), strict=True)
    rows = "".join(
        f'<tr data-token="{i}"><td>{i}</td><th scope="row" class="code">{escape(token)}</th>'
        + "".join(
            f"<td>{format_value(value, METHODS[method].is_signed)}</td>"
            for value, method in zip(row, METHODS, strict=True)
        )
        + "</tr>"
        for i, (token, row) in enumerate(zip(text.tokens, values, strict=True))
    )
    head = _head("number", "token", *(known.name for known in METHODS.values()))
    return (
        '<details><summary>All values</summary><div class="scroll" tabindex="0" role="region" aria-label="All values">'
        f"<table>{head}<tbody>{rows}</tbody></table></div></details>"
    )
